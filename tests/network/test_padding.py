"""Reflection padding: by hand, against a naive loop, there and back, and what cannot have it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import zoo
from keras import layers, ops
from photo_files import decode_file
from PIL import Image
from reference import filter_means, reference_layers
from small_files import rewritten, saved

from vggnorm.errors import MeansError, NetworkError
from vggnorm.measure import compute_means
from vggnorm.network import padding
from vggnorm.network.applications import is_application
from vggnorm.network.bfloat16 import bfloat16_copy
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import read_graph
from vggnorm.network.padding import with_padding
from vggnorm.network.reflection import ReflectionPadding2D
from vggnorm.network.storage import load_network, save_network
from vggnorm.normalization import normalize
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Compute
from vggnorm.verification import verify

MakeChain = Callable[..., Any]

# A sum of 54 products in float32 is off by at most 55 * 2^-24 of the sum of their sizes, which is
# below 5 times a mean here; and a layer multiplies what was off before it by at most 3. Over three
# layers, that is 55 * 2^-24 * 5 * (1 + 3 + 9).
ROUNDING = 3e-4

SIDE = 32  # pixels; a side is a whole number of pools, as in tests/reference.py


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    """A small network like VGG: two convolutions, a pool, and a third convolution."""
    return zoo.settle(make_chain((6, 5, 4)))


@pytest.fixture(scope="module")
def reflecting(model: Any) -> Any:
    return with_padding(model, "reflect")


# The layer


def test_the_reflection_by_hand() -> None:
    """The outermost row and column are mirrors, and are not repeated."""
    maps = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    expected = [
        [5, 4, 5, 6, 5],
        [2, 1, 2, 3, 2],
        [5, 4, 5, 6, 5],
        [8, 7, 8, 9, 8],
        [5, 4, 5, 6, 5],
    ]
    padded = np.asarray(ops.convert_to_numpy(ReflectionPadding2D()(maps)))
    np.testing.assert_array_equal(padded[0, ..., 0], expected)
    first = ReflectionPadding2D(data_format="channels_first")
    padded = np.asarray(ops.convert_to_numpy(first(maps.reshape(1, 1, 3, 3))))
    np.testing.assert_array_equal(padded[0, 0], expected)
    wide = np.asarray(ops.convert_to_numpy(ReflectionPadding2D((0, 2))(maps)))
    np.testing.assert_array_equal(wide[0, 0, :, 0], [3, 2, 1, 2, 3, 2, 1])
    assert wide.shape == (1, 3, 7, 1)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_shape_that_it_says_is_the_shape_that_it_gives(data_format: str) -> None:
    layer = ReflectionPadding2D((2, 1), data_format=data_format)
    given = np.zeros((1, 4, 5, 6), np.float32)
    assert layer.compute_output_shape(given.shape) == tuple(layer(given).shape)
    unknown = (None, 4, None, None)
    expected = (None, 8, None, None) if data_format == "channels_last" else (None, 4, None, None)
    assert layer.compute_output_shape(unknown) == expected


def test_settings_that_are_no_padding_are_refused() -> None:
    with pytest.raises(ValueError, match=r"padding is \(-1, 1\); it must not be negative"):
        ReflectionPadding2D((-1, 1))
    with pytest.raises(TypeError):
        ReflectionPadding2D((1, 1.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data_format"):
        ReflectionPadding2D(data_format="channels_middle")


# The means


def test_the_means_are_those_of_a_naive_loop(
    model: Any, reflecting: Any, photo_folder: Path
) -> None:
    geometry = Geometry(SIDE)
    means = compute_means(reflecting, photo_folder, geometry=geometry)
    assert means.recipe.padding == "reflect"
    photos = [decode_file(path, geometry) for path in sorted(photo_folder.iterdir())]
    expected = filter_means(photos, reference_layers(model), "reflect")
    zeros = filter_means(photos, reference_layers(model))
    assert means.mean.keys() == expected.keys()
    for layer, values in expected.items():
        np.testing.assert_allclose(means.mean[layer], values, rtol=ROUNDING, err_msg=layer)
        assert np.abs(zeros[layer] / values - 1).max() > 1e-3  # zeros give something else


def test_wide_and_dilated_kernels_against_a_naive_loop(photo_folder: Path) -> None:
    wide = zoo.settle(zoo.chain(zoo.conv(4, (5, 3), name="wide"), height=SIDE, width=SIDE))
    means = compute_means(with_padding(wide, "reflect"), photo_folder)
    photos = [decode_file(path, Geometry(SIDE)) for path in sorted(photo_folder.iterdir())]
    expected = filter_means(photos, reference_layers(wide), "reflect")
    np.testing.assert_allclose(means.mean["wide"], expected["wide"], rtol=ROUNDING)
    # A dilated kernel of 3 is one of 5 with zeros between its values.
    kernel, bias = np.ones((3, 3, 3, 2), np.float32) / 999, np.ones(2, np.float32)
    spread = np.zeros((5, 5, 3, 2), np.float32)
    spread[::2, ::2] = kernel
    found = {}
    for name, weights, options in (
        ("dilated", kernel, {"dilation_rate": 2}),
        ("spread", spread, {"size": 5}),
    ):
        one = zoo.chain(zoo.conv(2, name=name, **options), height=SIDE, width=SIDE)
        one.layers[-1].set_weights([weights, bias])
        found[name] = compute_means(with_padding(one, "reflect"), photo_folder).mean[name]
    np.testing.assert_allclose(found["dilated"], found["spread"], rtol=1e-5)


@pytest.fixture
def plain_photo(tmp_path: Path) -> Path:
    """A folder of one photo of 4 x 4 pixels, all of them (90, 90, 90)."""
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (4, 4), (90, 90, 90)).save(tmp_path / "plain" / "plain.png")
    return tmp_path / "plain"


def test_the_mean_is_1_with_reflections_and_25_36ths_with_zeros(plain_photo: Path) -> None:
    """A kernel that averages 3 x 3 pixels gives the pixel where the photo is plain.

    So with reflections, every activation is 90, the mean as well, and 1 when normalized. Zeros
    leave 4 of 9 pixels at the four corners and 6 of 9 at the eight other places of the border:
    the mean over 16 places is (4 * 4/9 + 8 * 6/9 + 4) / 16 = 25/36. A sum of 27 positive products
    is off by at most 28 * 2^-24 of it, or 2e-6, the mean over 16 places by half as much again.
    """
    zeros = zoo.chain(zoo.conv(1, name="average"), height=4, width=4)
    zeros.layers[-1].set_weights([np.full((3, 3, 3, 1), 1 / 27, np.float32), np.zeros(1)])
    reflecting = with_padding(zeros, "reflect")
    options: dict[str, Any] = {"preprocessing": "none", "geometry": Geometry(4, "stretch")}
    means = compute_means(reflecting, plain_photo, **options)
    np.testing.assert_allclose(means.mean["average"], 90, rtol=1e-5)
    normalized = normalize(reflecting, means)
    again = compute_means(normalized, plain_photo, **options)
    np.testing.assert_allclose(again.mean["average"], 1, rtol=1e-5)
    other = compute_means(with_padding(normalized, "zeros"), plain_photo, **options)
    np.testing.assert_allclose(other.mean["average"], 25 / 36, rtol=1e-5)


def test_the_rule_holds(reflecting: Any, photo_folder: Path, tmp_path: Path) -> None:
    """Also after the normalized network went through a file, which holds zero padding."""
    means = compute_means(reflecting, photo_folder, geometry=Geometry(SIDE))
    normalized = normalize(reflecting, means)
    assert read_graph(normalized).padding == "reflect"
    save_network(normalized, tmp_path / "norm.h5", means)
    with h5py.File(tmp_path / "norm.h5") as file:
        assert "Reflection" not in file.attrs["model_config"]
        assert set(file["model_weights"]) == {layer.name for layer in load_zeros(tmp_path).layers}
    loaded = load_network(str(tmp_path / "norm.h5"), padding="reflect")
    for network in normalized, loaded:
        report = verify(reflecting, network, photo_folder, means)
        assert report.passed, report
        again = compute_means(network, photo_folder, geometry=Geometry(SIDE))
        for layer, mean in again.mean.items():
            np.testing.assert_allclose(mean, 1, atol=1e-4, err_msg=layer)
    with pytest.raises(NetworkError, match="the original has the padding reflect, and the norm"):
        verify(reflecting, load_zeros(tmp_path), photo_folder, means)


def load_zeros(folder: Path) -> Any:
    return load_network(str(folder / "norm.h5"))


def test_means_of_another_padding_are_refused(
    model: Any, reflecting: Any, photo_folder: Path
) -> None:
    for measured, other in (model, reflecting), (reflecting, model):
        means = compute_means(measured, photo_folder, geometry=Geometry(SIDE))
        names = means.recipe.padding, read_graph(other).padding
        text = "with the padding {}, and this network has the padding {}; load it".format(*names)
        with pytest.raises(MeansError, match=text):
            normalize(other, means)


def test_bfloat16_takes_the_photos_in_two_parts(model: Any, photo_folder: Path) -> None:
    """If every photo is run in float32, too, the correction makes both means the same."""
    reflecting = with_padding(model, "reflect")
    copy = bfloat16_copy(read_graph(reflecting))
    names = [layer.name for layer in copy.layers]
    assert names[1:4] == ["photos_in_two_parts", "conv1_padding", "conv1"]
    exact = compute_means(reflecting, photo_folder, geometry=Geometry(SIDE))
    both = Compute(precision="bfloat16", control=9)
    fast = compute_means(reflecting, photo_folder, geometry=Geometry(SIDE), compute=both)
    for layer, mean in exact.mean.items():
        np.testing.assert_allclose(fast.mean[layer], mean, rtol=1e-6, err_msg=layer)


# There and back


def branching() -> Any:
    """Branches of one and of two convolutions that pad, and one whose pooling does."""
    pixels = zoo.photo()
    tensor = zoo.conv(4)(pixels)
    pointwise = zoo.conv(3, 1)(zoo.conv(2, 1)(tensor))
    wide = zoo.conv(5)(zoo.conv(3, 5)(inputs=tensor))
    pooled = layers.MaxPooling2D(3, 1, padding="same")(tensor)
    joined = layers.Concatenate()([pointwise, pooled, wide, zoo.conv(2, dilation_rate=2)(tensor)])
    return keras.Model(pixels, zoo.conv(4)(joined))


NETWORKS = {
    name: zoo.NETWORKS[name]
    for name in ("VGG16 with top", "SqueezeNet-like", "separate activations", "leaky", "sequential")
} | {"branching": branching}


def digest(model: Any) -> str:
    found = architecture_sha256(read_graph(model))
    assert found is not None
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name: str) -> None:
    model = zoo.settle(NETWORKS[name]())
    reflecting = with_padding(model, "reflect")
    back = with_padding(reflecting, "zeros")
    assert digest(reflecting) != digest(model) == digest(back)
    noise = np.random.default_rng(1).uniform(0, 255, (2, *model.input_shape[1:])).astype("f4")
    np.testing.assert_allclose(back(noise), model(noise), rtol=1e-5)
    for layer in model.layers:
        for network in reflecting, back:
            same = network.get_layer(layer.name)
            assert same is not layer
            assert same.output.shape == layer.output.shape
            for array, another in zip(layer.get_weights(), same.get_weights(), strict=True):
                np.testing.assert_array_equal(array, another)
    padded = {layer.name for layer in model.layers if same_padding(layer)}
    added = {layer.name for layer in reflecting.layers if type(layer) is ReflectionPadding2D}
    assert added == {f"{name}_padding" for name in padded}
    assert not any(same_padding(layer) for layer in reflecting.layers)


def same_padding(layer: Any) -> bool:
    """Tell whether a layer is a convolution that pads: a kernel of 1 does not."""
    return type(layer) is layers.Conv2D and layer.padding == "same" and max(layer.kernel_size) > 1


def test_a_network_that_has_the_padding_is_left_as_it_is(model: Any, reflecting: Any) -> None:
    assert with_padding(model, "zeros") is model
    assert with_padding(reflecting, "reflect") is reflecting


def test_reflection_padding_is_not_what_keras_builds() -> None:
    model = keras.applications.VGG16(weights=None, include_top=False)
    reflecting = with_padding(model, "reflect")
    assert is_application(model)
    assert not is_application(reflecting)
    assert is_application(with_padding(reflecting, "zeros"))
    assert read_graph(reflecting).filters == read_graph(model).filters


def test_average_pooling_and_reflections_go_together(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "chain.keras")
    both = load_network(str(tmp_path / "chain.keras"), pooling="avg", padding="reflect")
    graph = read_graph(both)
    assert (graph.pooling, graph.padding) == ("avg", "reflect")


def test_a_copy_that_computes_something_else_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the way back gave another kernel, the same network would not come out."""
    undo = padding._padding_with_zeros  # noqa: SLF001

    def wrong(network: Any) -> Any:
        back = undo(network)
        kernel, bias = back.get_layer("conv2").get_weights()
        back.get_layer("conv2").set_weights([kernel[::-1], bias])
        return back

    monkeypatch.setattr(padding, "_padding_with_zeros", wrong)
    with pytest.raises(NetworkError, match="computes something else, from layer conv2 on"):
        with_padding(model, "reflect")


def test_a_file_that_keras_wrote_of_it_is_read_as_it_is(reflecting: Any, tmp_path: Path) -> None:
    """Keras's own saving writes the layer down; such a file keeps its reflections."""
    path = tmp_path / "reflecting.keras"
    reflecting.save(path)
    for padding_asked in "zeros", "reflect":
        loaded = load_network(str(path), padding=padding_asked)
        assert digest(loaded) == digest(reflecting)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        ([100_000, 100_000], "its activations would take .* GB for one input"),
        ([1, 1.5], "cannot be loaded as a Keras model"),
        (3, "cannot be loaded as a Keras model"),
    ],
)
def test_a_file_with_an_impossible_width_is_refused(
    width: Any, text: str, reflecting: Any, tmp_path: Path
) -> None:
    def change(config: Any) -> None:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "ReflectionPadding2D":
                layer["config"]["padding"] = width

    path = rewritten(saved(reflecting, tmp_path / "odd.keras"), change)
    with pytest.raises(NetworkError, match=text):
        load_network(str(path))


# What cannot have it


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (zoo.conv(4, strides=2, name="x"), r"has the strides \(2, 2\)"),
        (zoo.conv(4, (3, 2), name="x"), r"has a kernel of the even size \(3, 2\)"),
        (
            layers.DepthwiseConv2D(3, padding="same", name="x"),
            "is a DepthwiseConv2D and not a Conv2D",
        ),
        (
            layers.SeparableConv2D(4, 3, padding="same", name="x"),
            "is a SeparableConv2D and not a Conv2D",
        ),
        (
            layers.Conv2DTranspose(4, 3, padding="same", name="x"),
            "is a Conv2DTranspose and not a Conv2D",
        ),
        (layers.ZeroPadding2D(1, name="x"), "is a ZeroPadding2D and not a Conv2D"),
    ],
)
def test_what_pads_in_another_way_is_refused(layer: Any, reason: str) -> None:
    with pytest.raises(
        NetworkError,
        match=f"layer x: pads with zeros and {reason}, so it cannot have reflection padding; use "
        "padding with zeros$",
    ):
        with_padding(zoo.chain(zoo.conv(3), layer), "reflect")


def test_networks_without_padding_are_refused() -> None:
    model = zoo.chain(zoo.conv(3, padding="valid"), zoo.conv(3, 1), zoo.conv(2, 1, strides=2))
    with pytest.raises(NetworkError, match="has no convolution that pads with zeros"):
        with_padding(model, "reflect")


def test_an_unknown_padding_is_refused(model: Any) -> None:
    text = "the padding 'mirror' is not known; it must be one of zeros, reflect"
    with pytest.raises(NetworkError, match=text):
        with_padding(model, "mirror")  # type: ignore[arg-type]


def test_a_name_that_is_taken_is_refused() -> None:
    model = zoo.chain(zoo.conv(3, name="one"), layers.ReLU(name="one_padding"))
    with pytest.raises(NetworkError, match="layer one_padding: has the name that the reflection"):
        with_padding(model, "reflect")


def test_maps_too_small_to_reflect_are_refused(photo_folder: Path) -> None:
    """A side of two pixels has one to reflect, and a kernel of five needs two."""
    text = r"is given maps of 2 x 28 \(height x width\), too small to reflect 2 of their positions"
    fixed = zoo.chain(layers.MaxPooling2D((20, 2)), zoo.conv(3, 5, name="one"))
    with pytest.raises(NetworkError, match=f"layer one_padding: {text}"):
        with_padding(fixed, "reflect")
    pixels = keras.Input((None, None, 3))
    free = keras.Model(pixels, zoo.conv(3, 5, name="one")(layers.MaxPooling2D((20, 2))(pixels)))
    reflecting = with_padding(free, "reflect")
    with pytest.raises(NetworkError, match=f"layer one_padding: {text}"):
        compute_means(reflecting, photo_folder, geometry=Geometry((40, 56)))
    assert compute_means(reflecting, photo_folder, geometry=Geometry((60, 56))).image_count == 9


@pytest.mark.parametrize(
    ("behind", "name"),
    [
        ([layers.MaxPooling2D(2, name="pool")], "pool"),
        ([zoo.conv(3, 5, padding="valid", name="wide")], "wide"),
        ([zoo.conv(3, padding="valid", strides=2, name="strides")], "strides"),
        ([zoo.conv(3, padding="same", name="same")], "same"),
    ],
)
def test_reflections_that_zeros_cannot_replace(
    behind: list[Any], name: str, tmp_path: Path
) -> None:
    model = zoo.chain(ReflectionPadding2D(name="mirror"), *behind, zoo.conv(3, padding="valid"))
    text = f"layer mirror: does not pad as the convolution behind it would .{name}."
    with pytest.raises(NetworkError, match=text):
        save_network(model, tmp_path / "model.h5")
    assert not any(tmp_path.iterdir())
