"""The table of layouts, against the names and axes that the programs have."""

from typing import Any

import numpy as np
import pytest
from vgg_files import FILTERS, unread

from vggnorm.files.layouts import LAYOUTS, kernels_in, names_in
from vggnorm.files.tensor import Array, of_array
from vggnorm.files.vgg_weights import AXES

# The slots of the convolutions in a list of layers, with the rectifiers and poolings between them.
# Those of torchvision are what its networks print; the others are from the programs' code.
TORCHVISION = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg13": (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
TORCHVISION_BN = {
    "vgg11": (0, 4, 8, 11, 15, 18, 22, 25),
    "vgg13": (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    "vgg16": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    "vgg19": (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}
ADAIN = {
    "vgg16": (2, 5, 9, 12, 16, 19, 22, 26, 29, 32, 36, 39, 42),
    "vgg19": (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51),
}
# The convolutions in each block.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
PLACES = {
    network: [
        (block, number) for block in range(1, 6) for number in range(1, counts[block - 1] + 1)
    ]
    for network, counts in BLOCKS.items()
}


def names_of(layout: str, network: str, **options: Any) -> list[tuple[str, str]]:
    count = len(FILTERS[network])
    found = names_in(LAYOUTS[layout], network, count, **options)
    return [(names.kernel, names.bias) for names in found]


def test_every_layout_has_its_row() -> None:
    assert list(LAYOUTS) == [
        "keras",
        "gatys",
        "torchvision",
        "adain",
        "wct",
        "list",
        "list-oihw",
        "matconvnet",
        "features",
    ]
    assert all(name == layout.name for name, layout in LAYOUTS.items())


@pytest.mark.parametrize("network", TORCHVISION)
def test_torchvision_counts_rectifiers_and_poolings(network: str) -> None:
    wanted = [(f"features.{slot}.weight", f"features.{slot}.bias") for slot in TORCHVISION[network]]
    assert names_of("torchvision", network) == wanted


@pytest.mark.parametrize("network", TORCHVISION_BN)
def test_torchvision_counts_batch_normalizations(network: str) -> None:
    slots = TORCHVISION_BN[network]
    wanted = [(f"features.{slot}.weight", f"features.{slot}.bias") for slot in slots]
    assert names_of("torchvision", network, batch_norm=True) == wanted
    layout = LAYOUTS["torchvision"]
    behind = [
        names.normalization
        for names in names_in(layout, network, len(FILTERS[network]), batch_norm=True)
    ]
    # gamma, beta, mean and variance, in PyTorch's words
    parts = ("weight", "bias", "running_mean", "running_var")
    assert behind == [tuple(f"features.{slot + 1}.{part}" for part in parts) for slot in slots]


@pytest.mark.parametrize("network", ADAIN)
def test_adain_counts_paddings_too(network: str) -> None:
    wanted = [(f"{slot}.weight", f"{slot}.bias") for slot in ADAIN[network]]
    assert names_of("adain", network) == wanted


@pytest.mark.parametrize("network", BLOCKS)
@pytest.mark.parametrize(
    ("layout", "before", "kernel", "bias"),
    [
        ("gatys", "conv", ".weight", ".bias"),
        ("wct", "seq.conv", ".weight", ".bias"),
        ("matconvnet", "conv", ".weights.0", ".weights.1"),
    ],
)
def test_layouts_that_name_block_and_number(
    layout: str, before: str, kernel: str, bias: str, network: str
) -> None:
    places = [f"{before}{block}_{number}" for block, number in PLACES[network]]
    assert names_of(layout, network) == [(at + kernel, at + bias) for at in places]


@pytest.mark.parametrize("network", BLOCKS)
def test_the_layout_of_keras(network: str) -> None:
    places = [f"block{block}_conv{number}" for block, number in PLACES[network]]
    assert names_of("keras", network) == [(f"{at}/kernel", f"{at}/bias") for at in places]


def test_the_list_of_an_npz_begins_with_how_many_arrays_there_are() -> None:
    assert LAYOUTS["list"].count == "arr_0"
    names = names_of("list", "vgg19")
    assert names[:2] == [("arr_1", "arr_2"), ("arr_3", "arr_4")]
    assert names[-1] == ("arr_31", "arr_32")


def test_the_list_of_lasagne_does_not() -> None:
    assert LAYOUTS["list-oihw"].count is None
    names = names_of("list-oihw", "vgg19")
    assert names[:2] == [("arr_0", "arr_1"), ("arr_2", "arr_3")]
    assert names[-1] == ("arr_30", "arr_31")


def test_the_convolution_of_1x1_in_front() -> None:
    colours = {name: layout.colours for name, layout in LAYOUTS.items() if layout.colours}
    assert colours == {
        "adain": ("0.weight", "0.bias"),
        "wct": ("preprocess_weight", "preprocess_bias"),
    }


def test_what_each_layout_takes_photos_as() -> None:
    assert {name: layout.convention for name, layout in LAYOUTS.items()} == {
        "keras": "caffe",
        "gatys": "caffe",
        "torchvision": None,  # the network's own
        "adain": "adain",
        "wct": "adain",
        "list": "caffe",
        "list-oihw": "caffe",
        "matconvnet": "rgb255",
        "features": None,
    }


# Axes

H, W, IN, OUT = 2, 3, 5, 7  # all different, so that no axis can be taken for another

# Where a program finds the number at (row, column, channel, filter) of Keras.
SHAPES: dict[str, tuple[int, ...]] = {
    "keras": (H, W, IN, OUT),
    "gatys": (OUT, IN, H, W),
    "torchvision": (OUT, IN, H, W),
    "adain": (OUT, IN, H, W),
    "wct": (OUT, IN, H, W),
    "list": (H, W, IN, OUT),
    "list-oihw": (OUT, IN, H, W),
    "matconvnet": (W, H, IN, OUT),
    "features": (OUT, IN, H, W),
}


def place_in_file(layout: str, row: int, column: int, channel: int, filter_: int) -> Any:
    if layout in ("keras", "list"):
        return row, column, channel, filter_
    if layout == "matconvnet":
        return column, row, channel, filter_
    return filter_, channel, row, column


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_number_of_a_kernel_is_found_where_keras_has_it(layout: str) -> None:
    in_file: Array = np.arange(H * W * IN * OUT).reshape(SHAPES[layout])
    tensor = of_array(in_file).turned(AXES[LAYOUTS[layout].axes])
    kernel = tensor.read()
    assert tensor.shape == kernel.shape == (H, W, IN, OUT)
    for at in np.ndindex(H, W, IN, OUT):
        assert kernel[at] == in_file[place_in_file(layout, *at)]


# Which names are kernels


def test_kernels_are_found_in_network_order_whatever_the_files_order() -> None:
    # As text, features.10 stands before features.2.
    slots = (28, 10, 0, 2, 19, 5)
    shapes = {f"features.{slot}.weight": (8, 8, 3, 3) for slot in slots}
    found = kernels_in(LAYOUTS["torchvision"], shapes)
    assert found == [f"features.{slot}.weight" for slot in (0, 2, 5, 10, 19, 28)]


def test_blocks_and_numbers_are_ordered_as_numbers() -> None:
    shapes = {f"conv{at}.weight": (8, 8, 3, 3) for at in ("2_1", "1_10", "1_2", "10_1", "1_1")}
    found = kernels_in(LAYOUTS["gatys"], shapes)
    assert found == [f"conv{at}.weight" for at in ("1_1", "1_2", "1_10", "2_1", "10_1")]


def test_what_else_is_in_a_file_is_not_a_kernel() -> None:
    shapes = {
        "features.0.weight": (64, 3, 3, 3),
        "features.0.bias": (64,),
        "features.1.weight": (64,),  # of a batch normalization
        "classifier.0.weight": (8, 8, 3, 3),
        "old.features.0.weight": (64, 3, 3, 3),
        "features.0.weight.old": (64, 3, 3, 3),
        "featuresX0.weight": (64, 3, 3, 3),
        "features.x.weight": (64, 3, 3, 3),
    }
    assert kernels_in(LAYOUTS["torchvision"], shapes) == ["features.0.weight"]


def test_the_convolution_in_front_of_adain_is_not_one_of_the_network() -> None:
    shapes = {"0.weight": (3, 3, 1, 1), "2.weight": (64, 3, 3, 3), "5.weight": (64, 64, 3, 3)}
    assert kernels_in(LAYOUTS["adain"], shapes) == ["2.weight", "5.weight"]


def test_turning_a_tensor_does_not_read_it() -> None:
    assert unread((64, 3, 3, 3)).turned((2, 3, 1, 0)).shape == (3, 3, 3, 64)
    assert unread((4, 6)).reshaped((24,)).shape == (24,)
