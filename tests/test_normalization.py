"""The rule on networks of all kinds keeps their function and gives each filter the mean 1."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from zoo import HEIGHT, NETWORKS, WIDTH, chain, conv, head, photo, settle

import vggnorm
from vggnorm.errors import MeansError
from vggnorm.measure import compute_means
from vggnorm.network.graph import read_graph
from vggnorm.network.storage import save_network
from vggnorm.normalization import normalize
from vggnorm.verification import verify


def pixels_for(model: Any, count: int = 3, seed: int = 0) -> np.ndarray:
    shape = (count, *model.inputs[0].shape[1:])
    return np.random.default_rng(seed).uniform(-120, 120, shape).astype(np.float32)


def outputs_of(model: Any, pixels: np.ndarray) -> list[np.ndarray]:
    formats = {getattr(layer, "data_format", None) for layer in model.layers}
    if "channels_first" in formats:  # TensorFlow may have no such convolution on a CPU; XLA has one
        model = tf.function(model, jit_compile=True)
    outputs = keras.tree.flatten(model(pixels, training=False))
    return [np.asarray(output, dtype=np.float64) for output in outputs]


def assert_same_function(model: Any, normalized: Any, means: Any) -> None:
    """The outputs, times what they are divided by, equal the original's to 1e-5 of their range."""
    scales = {layer: np.where(mean > 0, mean, 1) for layer, mean in means.mean.items()}
    divisors = read_graph(model, dense=means.recipe.dense).rescale(scales).outputs
    pixels = pixels_for(model)
    for before, after, divisor in zip(
        outputs_of(model, pixels), outputs_of(normalized, pixels), divisors, strict=True
    ):
        assert np.abs(after * divisor - before).max() <= 1e-5 * np.ptp(before)
        if before.ndim == 2:  # class scores, which stay as they are
            np.testing.assert_array_equal(divisor, 1)


def assert_means_are_1(normalized: Any, means: Any, folder: Path) -> None:
    again = compute_means(normalized, folder, dense=means.recipe.dense)
    counted = 0
    for layer, values in again.mean.items():
        fires = means.mean[layer] > 0
        np.testing.assert_allclose(values[fires], 1, atol=1e-4, err_msg=layer)
        counted += fires.sum()
    assert counted >= means.filter_count / 2


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest, photo_folder: Path) -> tuple[Any, Any, Any]:
    """A network, its means, and the normalized network."""
    model = settle(NETWORKS[request.param]())
    means = compute_means(model, photo_folder)
    return model, means, normalize(model, means)


def test_the_function_is_kept(case: tuple[Any, Any, Any]) -> None:
    model, means, normalized = case
    assert_same_function(model, normalized, means)
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(model.get_weights(), normalized.get_weights(), strict=True)
    ]
    assert any(changed)


def test_every_mean_becomes_1(case: tuple[Any, Any, Any], photo_folder: Path) -> None:
    _, means, normalized = case
    assert_means_are_1(normalized, means, photo_folder)


def test_verify_passes_and_names_stay(case: tuple[Any, Any, Any], photo_folder: Path) -> None:
    model, means, normalized = case
    assert [layer.name for layer in normalized.layers] == [layer.name for layer in model.layers]
    report = verify(model, normalized, photo_folder, means)
    assert report.means.passed, report
    assert report.activations.passed, report
    assert len(report.activations.relative) == len(means.mean) + len(model.outputs)


KERAS_2 = """
import sys
import numpy as np
import tf_keras
model = tf_keras.models.load_model(sys.argv[1], compile=False)
pixels = np.load(sys.argv[2])
outputs = model(pixels, training=False)
outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
np.savez(sys.argv[3], *[np.asarray(output) for output in outputs])
"""


# Keras 2 calls negative_slope so.
@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated:UserWarning")
def test_saved_it_loads_in_keras_3_and_keras_2(case: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, means, normalized = case
    save_network(normalized, tmp_path / "norm.h5", means)
    loaded = keras.models.load_model(tmp_path / "norm.h5", compile=False)
    for one, other in zip(loaded.get_weights(), normalized.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    pixels = pixels_for(model)
    expected = outputs_of(normalized, pixels)
    for found, output in zip(outputs_of(loaded, pixels), expected, strict=True):
        np.testing.assert_array_equal(found, output)

    np.save(tmp_path / "pixels.npy", pixels)
    files = [tmp_path / name for name in ("norm.h5", "pixels.npy", "outputs.npz")]
    done = subprocess.run(
        [sys.executable, "-c", KERAS_2, *files],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    with np.load(files[-1]) as found:
        for index, output in enumerate(expected):
            np.testing.assert_allclose(
                found[f"arr_{index}"], output, rtol=1e-4, atol=1e-5 * np.abs(output).max()
            )


def test_hidden_dense_layers_are_normalized_on_request(photo_folder: Path) -> None:
    model = settle(chain(conv(4), *head()))
    means = compute_means(model, photo_folder, dense=True)
    assert [len(values) for values in means.mean.values()] == [4, 7]
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)
    assert verify(model, normalized, photo_folder, means).passed
    assert len(compute_means(model, photo_folder).mean) == 1


def test_flattening_keeps_the_order_of_channels_first(photo_folder: Path) -> None:
    """After `Flatten`, the features of one channel may or may not lie side by side."""
    options: dict[str, Any] = {"data_format": "channels_first"}
    pixels = keras.Input((3, HEIGHT, WIDTH), name="photo")
    tensor = conv(5, strides=2, **options)(pixels)
    tensor = layers.MaxPooling2D(2, **options)(tensor)
    tensor = layers.BatchNormalization(axis=1)(conv(4, **options)(tensor))
    tensor = layers.Flatten(**options)(tensor)
    model = settle(keras.Model(pixels, layers.Dense(3, activation="softmax")(tensor)))
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)


def test_global_pooling_leaves_the_channels_first(photo_folder: Path) -> None:
    options: dict[str, Any] = {"data_format": "channels_first"}
    pixels = keras.Input((3, HEIGHT, WIDTH), name="photo")
    tensor = layers.GlobalMaxPooling2D(keepdims=True, **options)(
        conv(4, strides=2, **options)(pixels)
    )
    tensor = layers.Flatten(**options)(conv(5, 1, **options)(tensor))
    model = settle(keras.Model(pixels, layers.Dense(3)(tensor)))
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"photo": x}], ids=["list", "dict"])
def test_inputs_in_a_list_or_dict_as_in_files_of_keras_2(wrap: Any, photo_folder: Path) -> None:
    pixels = photo()
    model = settle(
        keras.Model(wrap(pixels), layers.Dense(3)(layers.Flatten()(conv(3)(conv(4)(pixels)))))
    )
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert verify(model, normalized, photo_folder, means).passed
    assert [layer.name for layer in normalized.layers] == [layer.name for layer in model.layers]


def test_an_adapted_normalization_in_front(photo_folder: Path) -> None:
    pixels, prepared = photo(), layers.Normalization()
    model = keras.Model(pixels, conv(3, name="two")(conv(4, name="one")(prepared(pixels))))
    prepared.adapt(np.random.default_rng(0).normal(80, 30, (8, HEIGHT, WIDTH, 3)))
    means = compute_means(model, photo_folder, preprocessing="none")
    normalized = normalize(model, means)
    report = verify(model, normalized, photo_folder, means)
    assert report.activations.passed, report
    assert report.means.passed, report


# Means that do not fit


def test_means_of_another_pooling_are_refused(photo_folder: Path) -> None:
    max_pooled, avg_pooled = (
        settle(chain(conv(4), kind(2), conv(3)))
        for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
    )
    means = compute_means(max_pooled, photo_folder)
    assert means.recipe.pooling == "max"
    for one, other in zip(max_pooled.layers, avg_pooled.layers, strict=True):
        if one.weights:
            other.name = one.name
    with pytest.raises(
        MeansError,
        match="measured with max pooling, and this network has avg pooling; give the same",
    ):
        normalize(avg_pooled, means)


def test_a_negative_mean_is_possible_behind_a_leak_only(photo_folder: Path) -> None:
    def network(activation: str) -> Any:
        model = settle(
            chain(
                conv(4, name="first"),
                conv(3, activation=activation, name="second"),
                layers.MaxPooling2D(2),
            )
        )
        kernel, _ = model.get_layer("second").get_weights()
        model.get_layer("second").set_weights([kernel, np.array([-50.0, 1.0, 1.0])])
        return model

    model = network("leaky_relu")
    means = compute_means(model, photo_folder)
    assert means.mean["second"][0] < 0
    assert means.silent["second"].tolist() == [0]
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    vggnorm.save_means(means, photo_folder.parent / "leaky.npy", force=True)
    assert vggnorm.load_means(photo_folder.parent / "leaky.npy").mean["second"][0] < 0

    rectified = compute_means(network("relu"), photo_folder)
    negative = {"second": np.array([-1.0, 1.0, 1.0])}
    measured = replace(rectified.measured, mean={**rectified.mean, **negative})
    with pytest.raises(MeansError, match="the mean of second is negative at filter 0"):
        normalize(network("relu"), replace(rectified, measured=measured))


# Random networks


def random_network(seed: int) -> Any:
    """Build a random network of supported layers, with branches and any kind of end."""
    random = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    def activated(tensor: Any, make: Any) -> Any:
        """Call a layer with its rectifier inside, behind it, or behind a batch normalization."""
        kind = random.integers(4)
        if kind == 0:
            return make(activation=pick("relu", "leaky_relu"))(tensor)
        tensor = make(activation=None, use_bias=bool(random.integers(2)))(tensor)
        if kind == 1:
            tensor = layers.BatchNormalization(epsilon=float(random.uniform(1e-3, 0.5)))(tensor)
        rectifier = pick(
            layers.ReLU(), layers.LeakyReLU(0.3), layers.PReLU(), layers.Activation("relu")
        )
        tensor = rectifier(tensor)
        return layers.BatchNormalization()(tensor) if kind == 2 else tensor

    def filtered(tensor: Any) -> Any:
        filters, channels = int(random.integers(2, 6)), tensor.shape[-1]
        same = {"padding": "same"}
        return activated(
            tensor,
            pick(
                lambda **options: layers.Conv2D(filters, 3, **same, **options),
                lambda **options: layers.Conv2D(
                    channels * 2, 3, groups=channels, **same, **options
                ),
                lambda **options: layers.DepthwiseConv2D(3, depth_multiplier=2, **same, **options),
                lambda **options: layers.SeparableConv2D(
                    filters, 3, depth_multiplier=2, **same, **options
                ),
                lambda **options: layers.Conv2DTranspose(filters, 3, **same, **options),
            ),
        )

    def passed(tensor: Any) -> Any:
        return pick(
            layers.MaxPooling2D(2, 1),
            layers.AveragePooling2D(3, 1),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(1),
            layers.UpSampling2D(1),
            layers.Dropout(0.3),
        )(tensor)

    tensor = pixels = keras.Input(
        (int(random.integers(14, 18)), int(random.integers(14, 18)), 3), name="photo"
    )
    tensor = conv(4)(tensor)
    for _ in range(random.integers(2, 5)):
        step = random.integers(3)
        if step == 0:
            tensor = layers.Concatenate()([filtered(tensor), filtered(filtered(tensor)), tensor])
        else:
            tensor = filtered(tensor) if step == 1 else passed(tensor)
    end = random.integers(4)
    if end == 0:
        tensor = layers.Dense(3, activation="softmax")(layers.Flatten()(tensor))
    elif end == 1:
        tensor = layers.Dense(3)(
            layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(tensor))
        )
    elif end == 2:
        tensor = layers.Softmax()(layers.GlobalMaxPooling2D()(conv(3, 1)(tensor)))
    return settle(keras.Model(pixels, tensor), seed)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_keep_their_function_and_get_means_of_1(
    seed: int, photo_folder: Path
) -> None:
    model = random_network(seed)
    means = compute_means(model, photo_folder, dense=bool(seed % 2))
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)
