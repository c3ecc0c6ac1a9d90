"""The dense layers of a VGG, which programs name, order and flatten in their own ways."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vgg_files import slots, unread

from vggnorm.errors import NetworkError
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.tensor import Array, Tensor, of_array
from vggnorm.files.vgg_weights import VggWeights, find_layout, in_layout

PATH = Path("vgg.file")

VGG11 = (0, 3, 6, 8, 11, 13, 16, 18)  # the slots of its convolutions in torchvision

# The channels and the filters of the dense layers of torchvision's networks for ImageNet.
DENSE = ((25088, 4096), (4096, 4096), (4096, 1000))


def torchvision() -> dict[str, Tensor]:
    return slots("vgg11", "features.", VGG11)


def dense(names: tuple[str, str, str]) -> dict[str, Tensor]:
    tensors = {}
    for name, (channels, units) in zip(names, DENSE, strict=True):
        tensors[f"{name}.weight"] = unread((units, channels))
        tensors[f"{name}.bias"] = unread((units,))
    return tensors


@pytest.mark.parametrize(
    "names",
    [
        ("classifier.0", "classifier.3", "classifier.6"),
        (
            "classifier.1",
            "classifier.4",
            "classifier.6",
        ),  # as jcjohnson's files and old torchvision
    ],
)
def test_dense_layers_under_either_name(names: tuple[str, str, str]) -> None:
    weights = find_layout(torchvision() | dense(names), PATH)
    assert weights.classes == 1000
    assert list(weights.surplus) == []
    shapes = [weights.layers[name][0].shape for name in ("fc1", "fc2", "predictions")]
    assert shapes == list(DENSE)


def test_a_dense_layer_of_another_name_is_surplus_and_named() -> None:
    tensors = torchvision() | dense(("classifier.0", "classifier.3", "head"))
    weights = find_layout(tensors, PATH)
    assert weights.classes is None
    assert set(weights.surplus) == set(dense(("classifier.0", "classifier.3", "head")))


@pytest.mark.usefixtures("small_vgg")
def test_torchvision_flattens_channels_first() -> None:
    # Keras counts the inputs of the first dense layer row by row, column by column, and channel by
    # channel, torchvision channel by channel, row by row, and column by column.
    filters, side, units = 6, 2, 4
    count = units * filters * side * side
    in_pytorch: Array = np.arange(count, dtype=np.float32).reshape(units, -1)
    tensors = small_whole()
    tensors["classifier.0.weight"] = of_array(in_pytorch)
    kernel = find_layout(tensors, PATH).layers["fc1"][0].read()
    assert kernel.shape == (filters * side * side, units)
    for row, column, channel, unit in np.ndindex(side, side, filters, units):
        in_keras = (row * side + column) * filters + channel
        there = (channel * side + row) * side + column
        assert kernel[in_keras, unit] == in_pytorch[unit, there]


@pytest.mark.usefixtures("small_vgg")
def test_matconvnet_keeps_dense_layers_as_convolutions() -> None:
    weights = find_layout(small_whole(), PATH)
    given = in_layout(weights, LAYOUTS["matconvnet"])
    assert given["fc6.weights.0"].shape == (2, 2, 6, 4)  # width, height, channels, filters
    assert given["fc7.weights.0"].shape == (1, 1, 4, 4)
    assert given["fc8.weights.0"].shape == (1, 1, 4, 7)
    kernel, in_mat = weights.layers["fc1"][0].read(), given["fc6.weights.0"].read()
    for row, column, channel, unit in np.ndindex(2, 2, 6, 4):
        assert in_mat[column, row, channel, unit] == kernel[(row * 2 + column) * 6 + channel, unit]


def small_whole() -> dict[str, Tensor]:
    """Make a whole small VGG11 with distinct numbers as torchvision has it."""
    tensors = {}
    count = 0
    channels = 3
    for slot, filters in zip(VGG11, (3, 4, 5, 5, 6, 6, 6, 6), strict=True):
        tensors[f"features.{slot}.weight"] = numbers((filters, channels, 3, 3), count)
        tensors[f"features.{slot}.bias"] = numbers((filters,), -count)
        channels = filters
        count += 1000
    for slot, shape in zip((0, 3, 6), ((4, 24), (4, 4), (7, 4)), strict=True):
        tensors[f"classifier.{slot}.weight"] = numbers(shape, count)
        tensors[f"classifier.{slot}.bias"] = numbers((shape[0],), -count)
        count += 1000
    return tensors


def numbers(shape: tuple[int, ...], first: int) -> Tensor:
    return of_array(first + np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


@pytest.mark.usefixtures("small_vgg")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_into_a_layout_and_out_of_it_gives_the_same_weights(layout: str) -> None:
    weights = find_layout(small_whole(), PATH)
    if not LAYOUTS[layout].dense:
        weights = without_dense(weights)
    given = in_layout(weights, LAYOUTS[layout])
    found = find_layout(given, PATH)
    assert (found.network, found.layout) == ("vgg11", layout)
    assert list(found.layers) == list(weights.layers)
    for layer, tensors in weights.layers.items():
        for tensor, wanted in zip(found.layers[layer], tensors, strict=True):
            np.testing.assert_array_equal(tensor.read(), wanted.read())


def without_dense(weights: VggWeights) -> VggWeights:
    layers = {name: found for name, found in weights.layers.items() if name.startswith("block")}
    return replace(weights, layers=layers)


def test_the_dense_layers_of_another_classifier_are_not_read() -> None:
    """As of a VGG that was trained on pictures of 32 pixels."""
    tensors = torchvision()
    for name, shape in (("0", (512, 512)), ("3", (512, 512)), ("6", (10, 512))):
        tensors[f"classifier.{name}.weight"] = unread(shape)
        tensors[f"classifier.{name}.bias"] = unread(shape[:1])
    found = find_layout(tensors, PATH)
    assert found.classes is None
    assert [name for name in found.surplus if name.endswith("weight")] == [
        "classifier.0.weight",
        "classifier.3.weight",
        "classifier.6.weight",
    ]


def test_a_dense_layer_with_a_bias_of_the_wrong_size_is_refused() -> None:
    tensors = torchvision() | dense(("classifier.0", "classifier.3", "classifier.6"))
    tensors["classifier.6.bias"] = unread((10,))
    with pytest.raises(NetworkError, match=r"classifier\.6\.bias has the shape 10, and .* 1000"):
        find_layout(tensors, PATH)
