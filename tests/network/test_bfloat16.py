"""The bfloat16 copy: numbers in two parts, and how exact the first convolution is."""

from collections.abc import Callable
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import zoo
from keras import layers, ops
from keras.applications.imagenet_utils import preprocess_input
from reference import Around, convolve

from vggnorm.means.recipe import Padding
from vggnorm.network.bfloat16 import bfloat16_copy, in_two_parts
from vggnorm.network.graph import read_graph
from vggnorm.network.padding import with_padding

MakeChain = Callable[..., Any]


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(ml_dtypes.bfloat16).astype(np.float64)


def output_of(model: Any, layer: str, photos: np.ndarray) -> np.ndarray:
    inner = keras.Model(model.inputs[0], model.get_layer(layer).output)
    return in_float64(inner(photos))


def in_float64(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")), np.float64)


def test_two_parts_by_hand() -> None:
    # bfloat16 keeps 8 bits. 257 is 256 + 1. 1 + 2^-8 lies halfway between 1 and 1 + 2^-7, and is
    # rounded to the even one, 1.
    values = np.array([257, 1 + 2**-8, -123.68, 3], np.float32)
    high, low = in_two_parts(ops.convert_to_tensor(values))
    np.testing.assert_array_equal(in_float64(high), [256, 1, -123.5, 3])
    np.testing.assert_allclose(in_float64(low), [1, 2**-8, -0.18, 0], rtol=2**-8)
    for part in high, low:
        assert keras.backend.standardize_dtype(part.dtype) == "bfloat16"


@pytest.mark.parametrize(("padding", "around"), [("zeros", "constant"), ("reflect", "reflect")])
def test_the_first_convolution_is_as_exact_as_its_output_can_be(
    padding: Padding, around: Around, make_chain: MakeChain
) -> None:
    model = with_padding(make_chain((6, 5)), padding)
    model.get_layer("conv1").set_weights([model.get_layer("conv1").get_weights()[0], np.zeros(6)])
    photos = np.random.default_rng(3).uniform(-124, 152, (2, 20, 24, 3)).astype(np.float32)
    found = output_of(bfloat16_copy(read_graph(model)), "conv1", photos)
    kernel, bias = model.get_layer("conv1").get_weights()
    exact = np.maximum(
        [convolve(photo.astype(np.float64), kernel, bias, around) for photo in photos], 0
    )
    plain = np.maximum(
        [convolve(rounded(photo), rounded(kernel), rounded(bias), around) for photo in photos], 0
    )
    fires = exact > 10
    # The output itself is rounded to 2^-8, and there is hardly any other error.
    assert np.abs(found[fires] / exact[fires] - 1).max() < 1.01 * 2**-8
    assert np.abs(rounded(plain)[fires] / exact[fires] - 1).max() > 2 * 2**-8


def test_the_rest_is_in_bfloat16_and_the_original_is_not_changed(make_chain: MakeChain) -> None:
    model = make_chain()
    before = [array.copy() for array in model.get_weights()]
    copy = bfloat16_copy(read_graph(model))
    assert {layer.compute_dtype for layer in copy.layers if layer.weights} == {"bfloat16"}
    assert copy.get_layer("conv1").get_weights()[0].shape == (3, 3, 9, 4)
    kernel = np.asarray(copy.get_layer("conv2").get_weights()[0], np.float64)
    np.testing.assert_array_equal(kernel, rounded(model.get_layer("conv2").get_weights()[0]))
    assert read_graph(copy).filters == read_graph(model).filters
    for array, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def two_takers() -> Any:
    photo = keras.Input((24, 24, 3))
    return keras.Model(photo, layers.Concatenate()([zoo.conv(3)(photo), zoo.conv(4)(photo)]))


def halved(tensor: Any) -> Any:
    """Operations between two filters, one of which names a type."""
    return ops.cast(ops.max_pool(tensor, 2) / 2, "float32")


@pytest.mark.parametrize(
    ("model", "split"),
    [
        (lambda: keras.Sequential([keras.Input((24, 24, 3)), zoo.conv(4), zoo.conv(3)]), True),
        (lambda: zoo.chain(zoo.conv(4, use_bias=False), zoo.conv(3)), True),
        (lambda: zoo.chain(layers.Rescaling(1 / 255), zoo.conv(4), zoo.conv(3)), False),
        (lambda: zoo.chain(preprocess_input, zoo.conv(4), halved, zoo.conv(3)), False),
        (lambda: zoo.chain(zoo.conv(6, groups=3), zoo.conv(3)), False),
        (lambda: zoo.chain(layers.DepthwiseConv2D(3, activation="relu"), zoo.conv(3)), False),
        (two_takers, False),
    ],
    ids=[
        "sequential",
        "no bias",
        "rescaled photos",
        "operations",
        "groups",
        "depthwise",
        "two first convolutions",
    ],
)
def test_any_network_can_be_copied(model: Callable[[], Any], split: bool) -> None:
    original = zoo.settle(model())
    copy = bfloat16_copy(read_graph(original))
    assert any(layer.name == "photos_in_two_parts" for layer in copy.layers) == split
    shape = (2, *original.inputs[0].shape[1:])
    photos = np.random.default_rng(4).uniform(0, 255, shape).astype(np.float32)
    found, expected = in_float64(copy(photos)), in_float64(original(photos))
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02 * expected.max())


def test_photos_with_the_channels_first() -> None:
    photo = keras.Input((3, 24, 20))
    conv = layers.Conv2D(4, 3, activation="relu", data_format="channels_first", name="conv1")
    copy = bfloat16_copy(read_graph(zoo.settle(keras.Model(photo, conv(photo)))))
    assert copy.get_layer("photos_in_two_parts").output.shape == (None, 9, 24, 20)
