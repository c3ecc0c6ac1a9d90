"""A network that is loaded or copied computes the same; compared with Keras's own loading."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from reference import filter_means
from zoo import NETWORKS, chain, conv, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.network.copies import copy_network, require_same_outputs
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import comparing_model, measuring_model
from vggnorm.network.storage import require_as_keras_loads

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 40, 56, 3)).astype(np.float32)


def normalizing() -> Any:
    """A network with an adapted Normalization, whose mean and variance differ much from 0 and 1."""
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(90, 40, (4, 40, 56, 3)).astype(np.float32))
    return chain(normalization, conv(4, name="a"), layers.MaxPooling2D(), conv(5, name="b"))


def outputs_of(model: Any, pixels: np.ndarray) -> list[np.ndarray]:
    outputs = keras.Model(model.inputs[0], model.outputs)(pixels, training=False)
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("build", [normalizing, *NETWORKS.values()], ids=["normalizing", *NETWORKS])
def test_a_loaded_network_computes_what_keras_loads(
    build: Any, ending: str, tmp_path: Path
) -> None:
    model, path = build(), tmp_path / f"network{ending}"
    model.save(path)
    loaded = vggnorm.load_network(str(path))
    own = keras.saving.load_model(path, compile=False)
    shape = [1, *(64 if side is None else side for side in own.inputs[0].shape[1:])]
    pixels = np.random.default_rng(3).integers(0, 256, shape).astype(np.float32)
    for found, wanted in zip(outputs_of(loaded, pixels), outputs_of(own, pixels), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert require_as_keras_loads(loaded, path)


def test_an_adapted_normalization_stays_with_average_pooling(tmp_path: Path) -> None:
    model = normalizing()
    model.save(tmp_path / "network.h5")
    averaged = vggnorm.load_network(str(tmp_path / "network.h5"), pooling="avg")
    before, after = (
        keras.Model(one.inputs, one.get_layer("a").output) for one in (model, averaged)
    )
    np.testing.assert_allclose(
        after.predict(PIXELS, verbose=0), before.predict(PIXELS, verbose=0), rtol=1e-6
    )


def test_a_copy_that_computes_something_else_is_refused() -> None:
    model = settle(chain(conv(4), conv(5)))
    other = copy_network(model)
    require_same_outputs(model, other, "a copy")
    kernel, bias = other.layers[-1].get_weights()
    other.layers[-1].set_weights([kernel, bias * 1.001])
    with pytest.raises(
        NetworkError,
        match="a copy computes something else, from layer .* on; it differs by up to",
    ):
        require_same_outputs(model, other, "a copy")


def test_a_network_that_keras_loads_differently_is_refused(tmp_path: Path) -> None:
    model = normalizing()
    model.save(tmp_path / "network.h5")
    model.layers[-1].set_weights([array * 2 for array in model.layers[-1].get_weights()])
    with pytest.raises(
        NetworkError, match="what was loaded from .*network.h5 computes something else"
    ):
        require_as_keras_loads(model, tmp_path / "network.h5")


def test_a_difference_that_the_output_hides_is_found() -> None:
    """The output is 1 in float32 for every photo, whatever the layer before it gives."""
    saturated = conv(
        1,
        1,
        activation="sigmoid",
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Ones(),
    )
    model = chain(conv(4, name="a", kernel_initializer="ones"), saturated)
    other = copy_network(model)
    kernel, bias = other.get_layer("a").get_weights()
    other.get_layer("a").set_weights([kernel * 1.001, bias])
    noise = np.random.default_rng(0).integers(1, 256, (1, 40, 56, 3)).astype(np.float32)
    np.testing.assert_array_equal(other(noise), model(noise))
    with pytest.raises(NetworkError, match="from layer a on"):
        require_same_outputs(model, other, "a copy")


@keras.saving.register_keras_serializable("tests of copies")
class TwoNormalizations(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer made of two others, each with trained weights and other weights."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name=name, **options)
        self.one = layers.BatchNormalization(name="one")
        self.two = layers.BatchNormalization(name="two")

    def build(self, shape: Any) -> None:
        self.one.build(shape)
        self.two.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.two(self.one(inputs))


@pytest.mark.parametrize("writer", ["Keras", "vggnorm"])
def test_a_layer_made_of_layers_keeps_its_weights_in_a_file(writer: str, tmp_path: Path) -> None:
    """All eight weights are vectors of three numbers, so any two could be mixed up."""
    model, path = chain(TwoNormalizations(name="both"), conv(4)), tmp_path / "network.h5"
    random = np.random.default_rng(4)
    model.get_layer("both").set_weights([random.uniform(0.5, 2, 3) for _ in range(8)])
    if writer == "Keras":
        model.save(path)
    else:
        vggnorm.save_network(model, path)
    expected = model.predict(PIXELS, verbose=0)
    for loaded in vggnorm.load_network(str(path)), keras.saving.load_model(path, compile=False):
        np.testing.assert_allclose(loaded.predict(PIXELS, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_kernels_of_whole_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "network.h5"
    chain(conv(4, name="a")).save(path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/a"]
        group = group.get("a", group)
        found: list[str] = []
        group.visititems(
            lambda _, item: found.append(item.name) if isinstance(item, h5py.Dataset) else None
        )
        name = next(name for name in found if file[name].ndim == 4)
        kernel = file[name][()]
        del file[name]
        file[name] = (kernel * 100).astype(dtype)
    with pytest.raises(NetworkError, match=f"layer a has weights of type {dtype}"):
        vggnorm.load_network(str(path))


# Inputs


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
@pytest.mark.parametrize("preprocessing", ["caffe", "torch", "tf"])
def test_an_input_that_cannot_hold_the_prepared_photos_is_refused(
    dtype: str, preprocessing: Any
) -> None:
    pixels = keras.Input((8, 8, 3), dtype=dtype)
    model = keras.Model(
        pixels, layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    )
    with pytest.raises(
        NetworkError, match=f"its input is of type {dtype}, which cannot hold the numbers that"
    ):
        measuring_model(read_graph(model), preprocessing)


@pytest.mark.parametrize("dtype", ["int8", "bool"])
def test_an_input_that_cannot_hold_pixels_is_refused(dtype: str) -> None:
    pixels = keras.Input((8, 8, 3), dtype=dtype)
    model = keras.Model(
        pixels, layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    )
    with pytest.raises(NetworkError, match="cannot hold the numbers from 0 to 255"):
        measuring_model(read_graph(model), "none")


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16"])  # all hold 0 to 255
def test_an_input_that_holds_pixels_is_measured_without_preprocessing(dtype: str) -> None:
    pixels = keras.Input((8, 8, 3), dtype=dtype)
    model = keras.Model(
        pixels, layers.Conv2D(1, 1, activation="relu", name="a")(layers.Rescaling(1 / 255)(pixels))
    )
    model.get_layer("a").set_weights([np.ones((1, 1, 3, 1)), np.zeros(1)])
    photos = np.full((1, 8, 8, 3), 51, np.uint8)
    measured = measuring_model(read_graph(model), "none").predict_on_batch(photos)["a"]
    np.testing.assert_allclose(measured, [[0.6]], rtol=1e-6)  # 3 * 51 / 255


def test_keras_set_to_channels_first_does_not_change_the_means() -> None:
    """A map is 64 wide and has 64 filters, so width and channels could be mixed up silently."""
    model = settle(chain(conv(64, name="a"), height=64, width=64))
    photos = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = filter_means(photos, [("a", *model.get_layer("a").get_weights())])["a"]
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        measured = measuring_model(read_graph(model)).predict_on_batch(photos)["a"]
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(measured.mean(axis=0), expected, rtol=1e-5)


def channels_first(filters: int, height: int | None, width: int | None, **options: Any) -> Any:
    pixels = keras.Input((3, height, width))
    options = {
        "padding": "same",
        "activation": "relu",
        "data_format": "channels_first",
        "name": "a",
    } | options
    model = keras.Model(pixels, layers.Conv2D(filters, 3, **options)(pixels))
    random = np.random.default_rng(6)
    model.set_weights(
        [random.normal(0, 0.01 if weight.ndim > 1 else 1, weight.shape) for weight in model.weights]
    )
    return model


@pytest.mark.parametrize("setting", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("filters", "height", "width"), [(24, 24, 16), (24, 16, 32), (1, 8, 1)])
def test_networks_with_the_channels_first_are_measured_right_under_either_setting(
    setting: str, filters: int, height: int, width: int
) -> None:
    model = channels_first(filters, height, width)
    photos = np.random.default_rng(5).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    expected = filter_means(photos, [("a", *model.get_layer("a").get_weights())])["a"]
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(setting)
    try:
        measured = measuring_model(read_graph(model)).predict_on_batch(photos)["a"]
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(measured.mean(axis=0), expected, rtol=1e-5)


ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has this fault"
)


@ON_TENSORFLOW
@pytest.mark.parametrize("size", [None, (32, 24)])
def test_a_map_as_wide_as_it_has_filters_is_refused_with_the_channels_first(
    size: tuple[int, int] | None,
) -> None:
    """Keras would add the bias along the width, and every mean would be wrong."""
    model = channels_first(24, 32, 24) if size is None else channels_first(24, None, None)
    graph = read_graph(model)
    with pytest.raises(
        NetworkError,
        match="layer a: has the channels first and 24 filters, and gives a map 24 wide",
    ):
        measuring_model(graph, size=size)
    with pytest.raises(
        NetworkError,
        match="layer a: has the channels first and 24 filters, and gives a map 24 wide",
    ):
        comparing_model(graph, graph, {"a": np.ones(24)}, size=size)


@ON_TENSORFLOW
def test_without_a_bias_such_a_map_is_measured_right() -> None:
    model = channels_first(24, 32, 24, use_bias=False)
    photos = np.random.default_rng(5).integers(0, 256, (2, 32, 24, 3), dtype=np.uint8)
    expected = filter_means(photos, [("a", model.get_layer("a").get_weights()[0], np.zeros(24))])[
        "a"
    ]
    measured = measuring_model(read_graph(model)).predict_on_batch(photos)["a"]
    np.testing.assert_allclose(measured.mean(axis=0), expected, rtol=1e-5)


def test_a_network_that_cannot_take_a_photo_of_224_pixels_is_copied() -> None:
    """224 halved six times is 3.5, which is rounded, so doubling does not give 224 again.

    It does give 256 again.
    """
    tensor = pixels = keras.Input((None, None, 3))
    kept = []
    for _ in range(6):
        tensor = conv(2)(tensor)
        kept.append(tensor)
        tensor = layers.MaxPooling2D(2)(tensor)
    for earlier in reversed(kept):
        tensor = layers.Concatenate()([layers.UpSampling2D(2)(tensor), earlier])
    model = keras.Model(pixels, conv(2)(tensor))
    require_same_outputs(model, copy_network(model), "a copy")


def test_a_difference_that_only_small_numbers_show_is_found() -> None:
    """The network is for pixels from -1 to 1; with raw pixels, all its activations are 0."""
    model = chain(conv(4, name="a"), conv(4, name="b"))
    kernel, _ = model.get_layer("a").get_weights()
    model.get_layer("a").set_weights([-np.abs(kernel), np.full(4, 0.5)])
    other = copy_network(model)
    other.get_layer("b").set_weights([array * 3 for array in other.get_layer("b").get_weights()])
    with pytest.raises(NetworkError, match="computes something else, from layer b on"):
        require_same_outputs(model, other, "a copy")
