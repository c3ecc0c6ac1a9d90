"""The scales are recovered from weights alone: by hand, on every kind of network, with damage."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
import zoo

from vggnorm.errors import NetworkError
from vggnorm.identification.recovery import recover_scales
from vggnorm.identification.rounding import rounding_of
from vggnorm.network.graph import read_graph
from vggnorm.verdicts.identification import Recovery

FLOAT32 = 1e-6  # relative: a few roundings
Found = dict[str, dict[str, Any]]


def weights_of(model: Any) -> Found:
    """Layer name -> weight name -> array."""
    return {
        layer.name: {
            weight.name: np.array(array)
            for weight, array in zip(layer.weights, layer.get_weights(), strict=True)
        }
        for layer in model.layers
        if layer.weights
    }


def divide(found: Found, scales: Mapping[str, Any], photo: Any = 1.0) -> Found:
    """Rescale a chain of convolutions by the formula, weight by weight.

    Args:
        found: the weights.
        scales: layer name -> `(filters,)`, what the activations are divided by.
        photo: what the photo is divided by, one number or one for each channel.
    """
    rescaled: Found = {}
    incoming = np.broadcast_to(photo, 3)
    for layer, weights in found.items():
        kernel, bias = (np.array(weights[name], np.float64) for name in ("kernel", "bias"))
        for y, x, c, i in np.ndindex(kernel.shape):
            kernel[y, x, c, i] *= incoming[c] / scales[layer][i]
        for i in range(len(bias)):
            bias[i] /= scales[layer][i]
        rescaled[layer] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
        incoming = scales[layer]
    return rescaled


@pytest.fixture
def chain(make_chain: Callable[..., Any]) -> Any:
    return make_chain((6, 8, 7, 5))


@pytest.fixture
def scales() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return {
        f"conv{k}": np.exp(random.normal(2, 1.5, count)) for k, count in enumerate((6, 8, 7, 5), 1)
    }


@pytest.fixture
def rescaled(chain: Any, scales: dict[str, Any]) -> Found:
    return divide(weights_of(chain), scales)


def assert_recovered(
    recovery: Recovery, scales: Mapping[str, Any], rtol: float = FLOAT32, without: Any = ()
) -> None:
    assert set(recovery.layers) == set(scales)
    for name, layer in recovery.layers.items():
        if name not in without:
            np.testing.assert_allclose(layer.scale, scales[name], rtol=rtol, err_msg=name)
            assert layer.explained.all(), name
            assert layer.bias_fits.all(), name


def test_a_network_worked_by_hand() -> None:
    # Two 1x1 filters on one channel have the weights 2 and -3 and the biases 1 and 6. Divided by 4
    # and 1/2 they become 0.5 and -6, 0.25 and 12. One filter on both has the weights 5 and 7 and
    # the bias -9. Divided by 10 they become 5 * 4/10 = 2, 7 * 0.5/10 = 0.35 and -0.9.
    pixels = keras.Input((4, 4, 1))
    tensor = keras.layers.Conv2D(2, 1, activation="relu", name="one")(pixels)
    model = keras.Model(pixels, keras.layers.Conv2D(1, 1, activation="relu", name="two")(tensor))
    model.set_weights(
        [
            np.array([[[[2.0, -3.0]]]]),
            np.array([1.0, 6.0]),
            np.array([[[[5.0], [7.0]]]]),
            np.array([-9.0]),
        ]
    )
    found = {
        "one": {"kernel": np.array([[[[0.5, -6.0]]]]), "bias": np.array([0.25, 12.0])},
        "two": {"kernel": np.array([[[[2.0], [0.35]]]]), "bias": np.array([-0.9])},
    }
    layers = recover_scales(model, found).layers
    np.testing.assert_allclose(layers["one"].scale, [4, 0.5], rtol=1e-12)
    np.testing.assert_allclose(layers["two"].scale, [10], rtol=1e-12)
    np.testing.assert_allclose(layers["two"].incoming, [4, 0.5], rtol=1e-12)
    assert layers["two"].drift is not None
    np.testing.assert_allclose(layers["two"].drift, [2 + 0.35 - 0.9], rtol=1e-12)
    assert layers["one"].drift is None
    # With the second weight of "two" doubled.
    found["two"]["kernel"][0, 0, 1, 0] = 0.7
    two = recover_scales(model, found).layers["two"]
    assert not two.linked.all()


def test_the_residual_is_what_is_not_explained(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    # An orthogonal kernel of 3 % of the length is added to a filter's kernel. The residual is then
    # 0.03 / sqrt(1 + 0.03^2).
    kernel = rescaled["conv2"]["kernel"][..., 5].astype(np.float64)
    other = np.random.default_rng(0).normal(size=kernel.shape)
    other -= kernel * (kernel * other).sum() / (kernel**2).sum()
    rescaled["conv2"]["kernel"][..., 5] += (
        0.03 * other / np.linalg.norm(other) * np.linalg.norm(kernel)
    )
    layer = recover_scales(chain, rescaled).layers["conv2"]
    assert layer.residual[5] == pytest.approx(0.03 / np.sqrt(1.0009), rel=1e-4)
    assert np.flatnonzero(~layer.explained).tolist() == [5]
    assert layer.scale[5] == pytest.approx(scales["conv2"][5], rel=1e-5)


def test_a_chain(chain: Any, scales: dict[str, Any], rescaled: Found) -> None:
    recovery = recover_scales(chain, rescaled)
    assert_recovered(recovery, scales)
    assert recovery.colours == (0, 1, 2)
    assert recovery.rounding.format == "float32"
    incoming = np.ones(3)
    for name, layer in recovery.layers.items():
        np.testing.assert_allclose(layer.incoming, incoming, rtol=1e-5)
        assert layer.linked.all()
        assert layer.residual.max() < FLOAT32
        incoming = scales[name]


def test_the_original_itself(chain: Any) -> None:
    found = weights_of(chain)
    for name, layer in recover_scales(chain, found).layers.items():
        assert (layer.scale == 1).all(), name
        assert (layer.residual == 0).all(), name
        assert (layer.bias_deviation == 0).all(), name


@pytest.mark.parametrize("name", [name for name in zoo.NETWORKS if "VGG" not in name])
def test_every_kind_of_network(name: str) -> None:
    model = zoo.settle(zoo.NETWORKS[name]())
    graph = read_graph(model, dense=True)
    random = np.random.default_rng(1)
    scales = {layer: np.exp(random.normal(1, 1, count)) for layer, count in graph.filters.items()}
    found = weights_of(model)
    for layer, changed in graph.rescale(scales).weights.items():
        found[layer] |= {weight: array.astype(np.float32) for weight, array in changed().items()}
    if any("pointwise_kernel" in weights for weights in found.values()):
        with pytest.raises(
            NetworkError,
            match="is a separable convolution, where any scale may be shared between its two",
        ):
            recover_scales(model, found)
        return
    recovery = recover_scales(model, found)
    for layer, scaled in recovery.layers.items():
        wanted = scales.get(layer, np.ones(len(scaled.scale)))
        np.testing.assert_allclose(scaled.scale, wanted, rtol=1e-5, err_msg=layer)
        assert scaled.explained.all(), layer
        assert scaled.bias_fits.all(), layer
        assert scaled.linked.all(), layer
    assert all(difference < FLOAT32 for difference in recovery.normalizations.values())


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv4"])
def test_a_layer_of_noise_does_not_spoil_the_others(
    layer: str, chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    random = np.random.default_rng(5)
    rescaled[layer] = {
        name: random.normal(size=array.shape) for name, array in rescaled[layer].items()
    }
    recovery = recover_scales(chain, rescaled)
    assert_recovered(recovery, scales, without=[layer])
    assert not recovery.layers[layer].alike.any()
    assert np.isnan(recovery.layers[layer].scale).all()
    assert all(found.linked.all() for name, found in recovery.layers.items() if name != layer)
    behind = list(scales)[list(scales).index(layer) + 1 :][:1]
    for name in behind:  # what it should have been
        np.testing.assert_allclose(recovery.layers[name].incoming, scales[layer], rtol=1e-5)


def test_damaged_filters_are_named_alone(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    random = np.random.default_rng(5)
    rescaled["conv2"]["kernel"][..., [1, 6]] = random.normal(size=(3, 3, 6, 2))
    recovery = recover_scales(chain, rescaled)
    assert np.flatnonzero(~recovery.layers["conv2"].alike).tolist() == [1, 6]
    assert np.flatnonzero(np.isnan(recovery.layers["conv2"].scale)).tolist() == [1, 6]
    good = [0, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(
        recovery.layers["conv2"].scale[good], scales["conv2"][good], rtol=FLOAT32
    )
    assert_recovered(recovery, scales, without=["conv2"])
    assert all(layer.linked.all() for layer in recovery.layers.values())


def test_a_missing_layer_in_between(chain: Any, scales: dict[str, Any], rescaled: Found) -> None:
    del rescaled["conv2"], scales["conv2"]
    assert_recovered(recover_scales(chain, rescaled), scales)


def test_a_channel_taken_at_another_scale(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    rescaled["conv3"]["kernel"][:, :, 4] *= 1.5
    recovery = recover_scales(chain, rescaled)
    assert np.flatnonzero(~recovery.layers["conv3"].linked).tolist() == [4]
    assert recovery.layers["conv3"].link[4] == pytest.approx(1.5, rel=1e-5)
    assert_recovered(recovery, scales)


def test_scales_that_the_next_layer_does_not_compensate(chain: Any, scales: dict[str, Any]) -> None:
    found = weights_of(chain)
    for name, weights in found.items():
        found[name] = {
            key: (array / scales[name]).astype(np.float32) for key, array in weights.items()
        }
    recovery = recover_scales(chain, found)
    assert_recovered(recovery, scales)
    for before, name in zip(scales, list(scales)[1:], strict=False):
        np.testing.assert_allclose(recovery.layers[name].link, 1 / scales[before], rtol=1e-5)
        assert not recovery.layers[name].linked.any()


def test_a_bias_of_another_scale(chain: Any, scales: dict[str, Any], rescaled: Found) -> None:
    rescaled["conv2"]["bias"][3] *= 1.01
    layer = recover_scales(chain, rescaled).layers["conv2"]
    assert np.flatnonzero(~layer.bias_fits).tolist() == [3]
    assert layer.bias_deviation[3] == pytest.approx(0.01, rel=1e-3)
    np.testing.assert_allclose(layer.scale, scales["conv2"], rtol=FLOAT32)


def test_a_negative_scale_of_one_filter(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    for array in rescaled["conv4"].values():
        array[..., 2] *= -1
    layer = recover_scales(chain, rescaled).layers["conv4"]
    np.testing.assert_allclose(layer.scale, scales["conv4"] * [1, 1, -1, 1, 1], rtol=FLOAT32)


def test_negative_scales_of_a_whole_layer(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    rescaled["conv4"] = {name: -array for name, array in rescaled["conv4"].items()}
    np.testing.assert_allclose(
        recover_scales(chain, rescaled).layers["conv4"].scale, -scales["conv4"], rtol=FLOAT32
    )


def test_filters_and_channels_without_weights(chain: Any, scales: dict[str, Any]) -> None:
    kernel, bias = chain.get_layer("conv2").get_weights()
    kernel[..., 0] = kernel[..., 1] = 0  # two filters without weights
    bias[1] = 0  # one of them without a bias, either
    kernel[:, :, 5] = 0  # a channel that no filter uses
    chain.get_layer("conv2").set_weights([kernel, bias])
    recovery = recover_scales(chain, divide(weights_of(chain), scales))
    assert np.isnan(recovery.layers["conv2"].incoming[5])
    assert np.isnan(recovery.layers["conv2"].scale[1])
    known = [0, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(
        recovery.layers["conv2"].scale[known], scales["conv2"][known], rtol=FLOAT32
    )
    np.testing.assert_allclose(recovery.layers["conv3"].incoming, scales["conv2"], rtol=1e-5)
    assert_recovered(recovery, scales, without=["conv2"])


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_another_order_of_colours(
    order: tuple[int, ...], chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    rescaled["conv1"]["kernel"] = rescaled["conv1"]["kernel"][:, :, list(order)]
    recovery = recover_scales(chain, rescaled)
    assert recovery.colours == order
    assert_recovered(recovery, scales)


@pytest.mark.parametrize("photo", [255.0, np.array([58.4, 57.1, 57.4])])
def test_other_units_of_pixels(photo: Any, chain: Any, scales: dict[str, Any]) -> None:
    recovery = recover_scales(chain, divide(weights_of(chain), scales, photo))
    np.testing.assert_allclose(recovery.layers["conv1"].link, np.broadcast_to(photo, 3), rtol=1e-5)
    assert_recovered(recovery, scales)


@pytest.mark.parametrize("photo", [1.0, 255.0])
def test_a_mean_colour_in_the_first_biases(
    photo: float, chain: Any, scales: dict[str, Any]
) -> None:
    found = divide(weights_of(chain), scales, photo)
    found["conv1"]["bias"] -= found["conv1"]["kernel"].sum(axis=(0, 1, 2)) * 110 / photo
    recovery = recover_scales(chain, found)
    assert not recovery.layers["conv1"].bias_fits.all()
    np.testing.assert_allclose(recovery.layers["conv1"].scale, scales["conv1"], rtol=1e-5)
    np.testing.assert_allclose(recovery.layers["conv1"].link, photo, rtol=1e-5)
    for name in "conv2", "conv3", "conv4":
        np.testing.assert_allclose(recovery.layers[name].scale, scales[name], rtol=FLOAT32)
        assert recovery.layers[name].bias_fits.all()


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_sixteen_bits(
    kind: str, tolerance: float, chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    import ml_dtypes

    to = np.float16 if kind == "float16" else ml_dtypes.bfloat16
    rescaled = {
        name: {key: array.astype(to).astype(np.float32) for key, array in weights.items()}
        for name, weights in rescaled.items()
    }
    recovery = recover_scales(chain, rescaled)
    assert recovery.rounding.format == kind
    assert_recovered(recovery, scales, rtol=tolerance)
    assert all(layer.linked.all() for layer in recovery.layers.values())


def test_the_numbers_show_the_format() -> None:
    def format_of(*values: float) -> str:
        return rounding_of({"layer": {"kernel": np.array(values, np.float32)}}).format

    assert format_of(1 + 2**-10, 3.0) == "float16"
    assert format_of(1 + 2**-7, 2.0**100) == "bfloat16"  # too large for float16
    assert format_of(1 + 2**-11) == "float32"
    assert format_of(1 + 2**-10, 2.0**100) == "float32"


def test_weights_that_are_not_finite_are_other_weights(
    chain: Any, scales: dict[str, Any], rescaled: Found
) -> None:
    rescaled["conv2"]["kernel"][1, 1, 2, 3] = np.nan
    rescaled["conv3"]["bias"][4] = np.inf
    recovery = recover_scales(chain, rescaled)
    assert np.flatnonzero(~recovery.layers["conv2"].explained).tolist() == [3]
    assert np.flatnonzero(~recovery.layers["conv3"].bias_fits).tolist() == [4]
    np.testing.assert_allclose(recovery.layers["conv3"].scale, scales["conv3"], rtol=FLOAT32)


def test_another_network_is_not_alike(chain: Any, make_chain: Callable[..., Any]) -> None:
    recovery = recover_scales(chain, weights_of(make_chain((6, 8, 7, 5), seed=1)))
    assert not any(layer.alike.any() for layer in recovery.layers.values())
    assert all(np.isnan(layer.scale).all() for layer in recovery.layers.values())
