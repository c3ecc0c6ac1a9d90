"""The loss is that of the paper: by hand, by a naive loop, and by how it scales."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from gatys_loss import Objective, Weights, content_loss, gram_matrix, style_loss
from reference import activations

from vggnorm.errors import NetworkError

LAYERS = ("conv1", "conv2", "conv3")
WEIGHTS = Weights(("conv2", "conv3"), {"conv1": 1.0, "conv3": 3.0}, content=2.0, style=1e-5)


def maps(*positions: list[float]) -> Any:
    """Return one row of positions, each with the activations of all filters."""
    return keras.ops.convert_to_tensor(np.array([[positions]], np.float32))


def picture(seed: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (height, width, 3))


@pytest.fixture
def chain(make_chain: Callable[..., Any]) -> Any:
    return make_chain()


def naive_loss(
    chain: Any, made: np.ndarray, content: np.ndarray, style: np.ndarray, weights: Weights
) -> float:
    """Compute the paper's equations 1, 3, 4, 5 and 7 in float64, for pictures of one size."""
    convolutions = [(name, *chain.get_layer(name).get_weights()) for name in LAYERS]
    layers = [*convolutions[:2], None, convolutions[2]]
    flat = [
        {
            name: values.reshape(-1, values.shape[-1]).T
            for name, values in activations(of, layers).items()
        }
        for of in (made, content, style)
    ]  # F, P and those of the style picture: layer -> (N, M)
    total = 0.0
    for name in weights.content_layers:
        f, p = flat[0][name], flat[1][name]
        total += weights.content * ((f - p) ** 2).sum() / 2 / f.size / len(weights.content_layers)
    for name, weight in weights.style_layers.items():
        f, s = flat[0][name], flat[2][name]
        n, m = f.shape
        loss = sum(
            ((f[i] * f[j]).sum() - (s[i] * s[j]).sum()) ** 2 / (4 * n**2 * m**2)
            for i in range(n)
            for j in range(n)
        )
        total += weights.style * loss * weight / sum(weights.style_layers.values())
    return total


def test_gram_matrix_by_hand() -> None:
    # 1*1 + 3*3 = 10, 1*2 + 3*4 = 14, 2*2 + 4*4 = 20, over 2 positions
    np.testing.assert_array_equal(gram_matrix(maps([1, 2], [3, 4])), [[5, 7], [7, 10]])


def test_style_loss_by_hand() -> None:
    # The squares of the differences are 16, 0, 0 and 4; divided by 4 * 2^2.
    assert float(style_loss(np.array([[5.0, 7], [7, 10]]), np.array([[1.0, 7], [7, 12]]))) == 1.25


def test_content_loss_by_hand() -> None:
    # (1^2 + 2^2) / 2, over 4 activations
    assert float(content_loss(maps([1, 2], [3, 4]), maps([0, 2], [3, 2]))) == 0.625


def test_the_loss_is_the_papers(chain: Any) -> None:
    made, content, style = picture(1), picture(2), picture(3)
    value, _ = Objective(chain, content, style, WEIGHTS).value_and_gradient(made)
    assert value == pytest.approx(naive_loss(chain, made, content, style, WEIGHTS), rel=1e-5)


def test_the_total_is_the_weighted_sum_of_the_parts(chain: Any) -> None:
    objective = Objective(chain, picture(2), picture(3), WEIGHTS)
    parts = objective.losses(picture(1))
    assert list(parts.content) == ["conv2", "conv3"]
    assert list(parts.style) == ["conv1", "conv3"]
    expected = 2.0 * (parts.content["conv2"] + parts.content["conv3"]) / 2
    expected += 1e-5 * (parts.style["conv1"] / 4 + parts.style["conv3"] * 3 / 4)
    assert objective.value_and_gradient(picture(1))[0] == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_the_derivative(chain: Any) -> None:
    """Compare with differences of the naive loss, which are small as it computes in float64."""
    made, content, style = picture(1), picture(2), picture(3)
    _, gradient = Objective(chain, content, style, WEIGHTS).value_and_gradient(made)
    assert gradient.shape == made.shape
    step = 1e-4
    for pixel in [(0, 0, 0), (3, 5, 1), (7, 11, 2), (4, 0, 0), (2, 8, 2)]:
        more, less = made.copy(), made.copy()
        more[pixel] += step
        less[pixel] -= step
        difference = naive_loss(chain, more, content, style, WEIGHTS) - naive_loss(
            chain, less, content, style, WEIGHTS
        )
        assert gradient[pixel] == pytest.approx(difference / (2 * step), rel=1e-3)


def test_a_picture_has_no_loss_against_itself(chain: Any) -> None:
    objective = Objective(chain, picture(1), picture(1), WEIGHTS)
    value, gradient = objective.value_and_gradient(picture(1))
    other, steep = objective.value_and_gradient(picture(2))
    # It is not exactly 0: compiled TensorFlow rounds differently from the run of the two pictures.
    assert value <= 1e-12 * other
    assert np.abs(gradient).max() <= 1e-5 * np.abs(steep).max()


def test_the_style_picture_may_be_of_another_size() -> None:
    """Filters that see one pixel have the same Gram matrix for a picture and for two of it."""
    pixels = keras.Input((None, None, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(4, 1, activation="relu", name="conv1")(pixels))
    weights = Weights(("conv1",), {"conv1": 1.0}, content=0.0, style=1.0)
    twice = np.concatenate([picture(1), picture(1)[::-1]])
    same = Objective(model, picture(1), twice, weights).losses(picture(1)).style["conv1"]
    other = Objective(model, picture(1), picture(2), weights).losses(picture(1)).style["conv1"]
    assert other > 0
    assert same <= 1e-9 * other


def test_a_layer_divided_by_c_has_its_style_loss_divided_by_the_fourth_power(
    make_chain: Callable[..., Any],
) -> None:
    """Normalizing scales the losses of a layer, and leaves those of its neighbours alone."""
    original, rescaled = make_chain(), make_chain()
    conv2, conv3 = rescaled.get_layer("conv2"), rescaled.get_layer("conv3")
    conv2.set_weights([array / 8 for array in conv2.get_weights()])
    kernel, bias = conv3.get_weights()
    conv3.set_weights([kernel * 8, bias])
    weights = Weights(LAYERS, dict.fromkeys(LAYERS, 1.0), content=1.0, style=1.0)
    before, after = (
        Objective(model, picture(2), picture(3), weights).losses(picture(1))
        for model in (original, rescaled)
    )
    for layer, c in (("conv1", 1), ("conv2", 8), ("conv3", 1)):
        assert after.content[layer] == pytest.approx(before.content[layer] / c**2, rel=1e-5)
        assert after.style[layer] == pytest.approx(before.style[layer] / c**4, rel=1e-5)


def test_a_layer_that_is_not_there(chain: Any) -> None:
    weights = Weights(("conv9",), {"conv1": 1.0}, content=1.0, style=1.0)
    with pytest.raises(
        NetworkError, match="chain: has no layer conv9; it has pixels, conv1, conv2, pool2, conv3"
    ):
        Objective(chain, picture(1), picture(2), weights)


def test_a_network_with_dense_layers() -> None:
    pixels = keras.Input((8, 12, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(4, 1, name="conv1")(pixels), name="fixed")
    with pytest.raises(
        NetworkError, match=r"fixed: takes pictures of 8 x 12 only; give a network without"
    ):
        Objective(model, picture(1), picture(2), WEIGHTS)


def test_another_backend(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NetworkError, match="Keras works with torch; set KERAS_BACKEND=tensorflow"):
        Objective(chain, picture(1), picture(2), WEIGHTS)
