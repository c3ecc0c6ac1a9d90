"""First convolutions that are recognized by their numbers, and those that must not be."""

import itertools
from typing import Any

import numpy as np
import pytest
from vgg_files import first_layers

from vggnorm.files.conventions import converted
from vggnorm.files.known_kernels import KNOWN, KnownConvolution, recognize_first_convolution
from vggnorm.files.tensor import Array

# Only VGG19 of torchvision has no biases that were made public.
WITH_BIASES = [known for known in KNOWN if all(one.bias is not None for one in known.filters)]


def ids(known: KnownConvolution) -> str:
    return known.source


def whole(known: KnownConvolution, seed: int = 0) -> tuple[Array, Array]:
    """Make a first convolution that has the known filters, and random numbers elsewhere."""
    random = np.random.default_rng(seed)
    kernel, bias = random.normal(0, 0.2, (3, 3, 3, 64)), random.normal(0, 1, 64)
    for one in known.filters:
        # Row by row, column by column, channel by channel.
        for place, number in zip(np.ndindex(3, 3, 3), one.kernel, strict=True):
            kernel[(*place, one.index)] = number
        if one.bias is not None:
            bias[one.index] = one.bias
    return kernel, bias


def test_whose_convolutions_are_known() -> None:
    assert [(known.source, known.convention) for known in KNOWN] == [
        ("Keras's and Caffe's VGG16", "caffe"),
        ("Keras's and Caffe's VGG19", "caffe"),
        ("torchvision's VGG16", "torch"),
        ("torchvision's VGG19", "torch"),
    ]
    assert all(len(one.kernel) == 27 for known in KNOWN for one in known.filters)
    assert all(0 <= one.index < 64 for known in KNOWN for one in known.filters)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("known", KNOWN, ids=ids)
def test_a_known_convolution_is_recognized(
    known: KnownConvolution, dtype: type[np.floating[Any]]
) -> None:
    kernel, bias = whole(known)
    found = recognize_first_convolution(kernel.astype(dtype), bias.astype(dtype))
    assert found == (known.convention, known.source)


@pytest.mark.parametrize("convention", ["caffe", "rgb255", "torch"])
@pytest.mark.parametrize("known", WITH_BIASES, ids=ids)
def test_it_is_recognized_in_any_convention(known: KnownConvolution, convention: str) -> None:
    kernel, bias = converted(*whole(known), known.convention, convention)
    assert recognize_first_convolution(kernel, bias) == (convention, known.source)


@pytest.mark.parametrize("known", WITH_BIASES, ids=ids)
def test_it_is_recognized_when_it_was_normalized(known: KnownConvolution) -> None:
    # Each filter is divided by its own mean, as different as they may be.
    mean = np.random.default_rng(1).uniform(0.01, 1000, 64)
    kernel, bias = whole(known)
    found = recognize_first_convolution(kernel / mean, bias / mean)
    assert found == (known.convention, known.source)


ORDERS = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("known", KNOWN, ids=ids)
def test_in_another_order_of_the_colours_it_is_not_the_same(
    known: KnownConvolution, order: tuple[int, ...]
) -> None:
    kernel, bias = whole(known)
    found = recognize_first_convolution(kernel[:, :, list(order)], bias)
    turned = {"caffe": "rgb255"}.get(known.convention)
    if order == (2, 1, 0) and turned is not None:
        assert found == (turned, known.source)
    else:
        assert found is None


@pytest.mark.parametrize("known", KNOWN, ids=ids)
@pytest.mark.parametrize("factor", [1 / 255, 0.8, 1.25, 255, -1])  # 58 would be torch's
def test_kernels_for_another_range_of_colours_are_not_the_same(
    factor: float, known: KnownConvolution
) -> None:
    kernel, bias = whole(known)
    assert recognize_first_convolution(kernel * factor, bias) is None


def test_torchvisions_vgg19_is_not_recognized_when_it_was_normalized() -> None:
    kernel, bias = whole(KNOWN[3])
    assert recognize_first_convolution(kernel / 2, bias / 2) is None


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("known", KNOWN, ids=ids)
def test_damaged_numbers_are_not_recognized(known: KnownConvolution, value: float) -> None:
    kernel, bias = whole(known)
    kernel[..., known.filters[0].index] = value
    assert recognize_first_convolution(kernel, bias) is None
    kernel, bias = whole(known)
    bias[known.filters[0].index] = value
    if known in WITH_BIASES:
        assert recognize_first_convolution(kernel, bias) is None


@pytest.mark.parametrize("known", WITH_BIASES, ids=ids)
def test_a_convolution_that_is_only_alike_is_not_the_same(known: KnownConvolution) -> None:
    # As a network that was trained on has it: noise of 0.2 of each kernel's length turns it by
    # 11 degrees, whose cosine is 0.98, and makes it 2% longer.
    kernel, bias = whole(known)
    noise = np.random.default_rng(3).normal(size=kernel.shape)
    noise *= 0.2 * np.sqrt((kernel**2).sum(axis=(0, 1, 2)) / (noise**2).sum(axis=(0, 1, 2)))
    assert recognize_first_convolution(kernel + noise, bias) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_numbers_are_not_recognized(seed: int) -> None:
    arrays = first_layers(seed=seed)
    kernel, bias = arrays["block1_conv1/kernel"], arrays["block1_conv1/bias"]
    assert recognize_first_convolution(kernel, bias) is None


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [((3, 3, 3, 32), (32,)), ((5, 5, 3, 64), (64,)), ((3, 3, 3, 64), (1, 64)), ((64,), (64,))],
)
def test_another_shape_is_not_recognized(kernel: tuple[int, ...], bias: tuple[int, ...]) -> None:
    assert recognize_first_convolution(np.ones(kernel), np.ones(bias)) is None


def test_kernels_that_were_rounded_to_8_bits_are_recognized() -> None:
    # The numbers of conv1_1 lie between about -0.7 and 0.6; 256 steps are 0.005 apart.
    kernel, bias = whole(KNOWN[0])
    rounded = np.round(kernel / 0.005) * 0.005
    assert recognize_first_convolution(rounded, bias) == ("caffe", "Keras's and Caffe's VGG16")
