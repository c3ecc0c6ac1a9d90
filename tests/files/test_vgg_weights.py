"""Reading a VGG out of arrays with any program's names, and refusing what is not one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from vgg_files import FILTERS, first_layers, gatys_layers, slots, unread

from vggnorm.errors import NetworkError
from vggnorm.files.tensor import Array, Tensor, of_array
from vggnorm.files.vgg_weights import find_layout

PATH = Path("vgg.file")

TORCHVISION = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
ADAIN = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)


def torchvision(network: str = "vgg16") -> dict[str, Tensor]:
    return slots(network, "features.", TORCHVISION[network])


def of_arrays(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: of_array(array) for name, array in arrays.items()}


def refusal(tensors: Mapping[str, Tensor]) -> str:
    """Say why the tensors are refused, in one line that names the file."""
    with pytest.raises(NetworkError) as caught:
        find_layout(tensors, PATH)
    text = str(caught.value)
    assert text.startswith(f"{PATH}: ")
    assert "\n" not in text
    return text


def test_weights_are_found_without_reading_them() -> None:
    weights = find_layout(torchvision(), PATH)
    assert (weights.network, weights.layout) == ("vgg16", "torchvision")
    assert weights.is_whole
    assert weights.classes is None
    assert not weights.has_batch_norm
    assert list(weights.surplus) == []
    assert list(weights.layers)[:3] == ["block1_conv1", "block1_conv2", "block2_conv1"]
    kernel, bias = weights.layers["block5_conv3"]
    assert (kernel.shape, bias.shape) == ((3, 3, 512, 512), (512,))


@pytest.mark.parametrize("network", TORCHVISION)
def test_a_network_is_known_by_its_filters(network: str) -> None:
    weights = find_layout(torchvision(network), PATH)
    assert weights.network == network
    assert len(weights.places) == len(FILTERS[network])


@pytest.mark.parametrize(
    ("count", "network"), [(2, "vgg16"), (4, "vgg16"), (7, "vgg16"), (8, "vgg19"), (9, "vgg19")]
)
def test_the_first_layers_of_a_network(count: int, network: str) -> None:
    # The first seven convolutions of VGG16 and VGG19 are the same; the eighth is not.
    tensors = dict(list(slots("vgg19", "", ADAIN).items())[: 2 * count])
    tensors |= {"0.weight": unread((3, 3, 1, 1)), "0.bias": unread((3,))}
    weights = find_layout(tensors, PATH)
    assert (weights.network, weights.layout) == (network, "adain")
    assert len(weights.places) == count
    assert not weights.is_whole
    assert weights.colours is not None
    assert weights.colours[0].shape == (3, 3, 1, 1)


def test_the_numbers_come_in_keras_axes() -> None:
    weights = find_layout(of_arrays(gatys_layers()), PATH)
    wanted = first_layers()
    for layer in ("block1_conv1", "block1_conv2"):
        kernel, bias = weights.layers[layer]
        np.testing.assert_array_equal(kernel.read(), wanted[f"{layer}/kernel"])
        np.testing.assert_array_equal(bias.read(), wanted[f"{layer}/bias"])


def test_layers_in_another_order_are_put_in_order() -> None:
    tensors = torchvision()
    weights = find_layout(dict(reversed(tensors.items())), PATH)
    assert list(weights.layers) == list(find_layout(tensors, PATH).layers)


def test_batch_normalizations_follow_their_convolutions() -> None:
    tensors = slots("vgg16", "features.", VGG16_BN)
    for number, filters in zip(VGG16_BN, FILTERS["vgg16"], strict=True):
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"features.{number + 1}.{part}"] = unread((filters,))
        tensors[f"features.{number + 1}.num_batches_tracked"] = unread((), "int64")
    weights = find_layout(tensors, PATH)
    assert weights.has_batch_norm
    assert list(weights.surplus) == []
    assert list(weights.layers)[:3] == ["block1_conv1", "block1_conv1_bn", "block1_conv2"]
    assert len(weights.layers["block5_conv3_bn"]) == 4
    del tensors["features.41.running_var"]
    assert "lacks features.41.running_var" in refusal(tensors)


# What is refused


def test_a_missing_layer_is_not_a_vgg() -> None:
    tensors = torchvision()
    del tensors["features.10.weight"], tensors["features.10.bias"]
    assert "are not those of a VGG (layout torchvision); a layer may be missing" in refusal(tensors)


def test_a_missing_layer_that_the_filters_hide_is_seen_by_the_slots() -> None:
    # Without the fourth convolution of block 3, the filters up to conv4_1 of VGG19 are VGG16's.
    tensors = slots("vgg16", "features.", (0, 2, 5, 7, 10, 12, 14, 19))
    text = refusal(tensors)
    assert "has a convolution features.19.weight where vgg16 has features.17.weight" in text


@pytest.mark.parametrize("name", ["features.7.bias", "features.28.bias"])
def test_a_missing_bias_is_named(name: str) -> None:
    tensors = torchvision()
    del tensors[name]
    assert f"lacks {name}" in refusal(tensors)


def test_another_number_of_filters_is_refused() -> None:
    tensors = torchvision()
    tensors["features.28.weight"] = unread((500, 512, 3, 3))
    assert "are not those of a VGG" in refusal(tensors)


@pytest.mark.parametrize(
    ("name", "shape", "found", "wanted"),
    [
        ("features.0.weight", (64, 4, 3, 3), "64x4x3x3", "64x3x3x3"),
        ("features.5.weight", (128, 64, 5, 5), "128x64x5x5", "128x64x3x3"),
        ("features.5.bias", (64,), "64", "128"),
        ("features.5.bias", (), "of one number", "128"),
    ],
)
def test_a_wrong_shape_is_named(name: str, shape: tuple[int, ...], found: str, wanted: str) -> None:
    text = refusal(torchvision() | {name: unread(shape)})
    assert f"{name} has the shape {found}, and a VGG has {wanted} there" in text


def test_a_surplus_convolution_is_refused() -> None:
    tensors = torchvision() | {"decoder.0.weight": unread((64, 3, 3, 3))}
    assert "has a layer decoder.0.weight that is not one of a VGG" in refusal(tensors)


def test_other_surplus_arrays_are_left_out_and_named() -> None:
    tensors = torchvision() | {"mean": unread((1, 3)), "epoch": unread(())}
    assert list(find_layout(tensors, PATH).surplus) == ["mean", "epoch"]


@pytest.mark.parametrize("dtype", ["int8", "int32", "bool", "f8_e4m3", "complex64"])
@pytest.mark.parametrize("name", ["features.5.weight", "features.5.bias"])
def test_weights_that_are_no_floating_point_numbers_are_refused(name: str, dtype: str) -> None:
    tensors = torchvision()
    tensors[name] = unread(tensors[name].shape, dtype)
    assert f"layer {name} has weights of type {dtype}, whose scale is not known" in refusal(tensors)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "n" * 1000])
def test_a_name_that_does_not_fit_into_a_line_is_refused(name: str) -> None:
    text = refusal(torchvision() | {name: unread((3,))})
    assert "which is no name of a layer; leave it out" in text
    assert len(text) < 200


def test_names_of_no_layout_are_said_with_the_layouts() -> None:
    tensors = {"encoder.w1": unread((3, 3, 3, 64)), "encoder.b1": unread((64,))}
    text = refusal(tensors)
    assert "the names of its 2 arrays (encoder.b1, encoder.w1 …)" in text
    assert "keras, gatys, torchvision, adain" in text


def test_a_file_without_arrays_is_refused() -> None:
    assert "its 0 arrays" in refusal({})


def test_a_convolution_in_front_of_the_wrong_shape_is_refused() -> None:
    tensors = slots("vgg19", "", ADAIN) | {"0.weight": unread((3, 3, 3, 3)), "0.bias": unread((3,))}
    assert "0.weight has the shape 3x3x3x3, and a VGG has 3x3x1x1 there" in refusal(tensors)
