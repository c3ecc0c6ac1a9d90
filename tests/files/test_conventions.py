"""How a first convolution changes from one way of taking photos to another.

The truth is a convolution in plain loops over a photo that each network takes in its own way.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vggnorm.files.conventions import (
    colour_convolution,
    converted,
    recognize_colour_convolution,
)
from vggnorm.files.tensor import Array

# How networks take a photo of RGB, 0 to 255, written out from the programs that do it.


def as_caffe(photo: Array) -> Array:
    return photo[..., ::-1] - [103.939, 116.779, 123.68]


def as_rgb255(photo: Array) -> Array:
    return photo - [123.68, 116.779, 103.939]


def as_torch(photo: Array) -> Array:
    return (photo / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def as_tf(photo: Array) -> Array:
    return photo / 127.5 - 1


def as_none(photo: Array) -> Array:
    return photo


TAKEN: dict[str, Callable[[Array], Array]] = {
    "caffe": as_caffe,
    "rgb255": as_rgb255,
    "torch": as_torch,
    "tf": as_tf,
    "none": as_none,
}

PAIRS = list(itertools.permutations(TAKEN, 2))


def convolve(photo: Array, kernel: Array, bias: Array) -> Array:
    """Convolve in plain loops, at the positions where the kernel lies inside the photo."""
    height, width, _ = photo.shape
    rows, columns, channels, filters = kernel.shape
    result = np.zeros((height - rows + 1, width - columns + 1, filters))
    for top, left, filter_ in np.ndindex(result.shape):
        total = bias[filter_]
        for row, column, channel in np.ndindex(rows, columns, channels):
            weight = kernel[row, column, channel, filter_]
            total += weight * photo[top + row, left + column, channel]
        result[top, left, filter_] = total
    return result


def some_convolution(seed: int, filters: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    return random.normal(0, 0.2, (3, 3, 3, filters)), random.normal(0, 1, filters)


# By hand


def test_from_caffe_to_rgb255_the_colours_turn_round() -> None:
    kernel = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    found_kernel, found_bias = converted(kernel, np.array([0.5]), "caffe", "rgb255")
    assert found_kernel.ravel().tolist() == [3.0, 2.0, 1.0]
    assert found_bias.tolist() == [0.5]


def test_from_caffe_to_torch_by_hand() -> None:
    # Blue, green, red of 1, 10 and 100. The kernel of red is 100 * 255 * 0.229, and so on; the
    # bias grows by the distance of the mean colours, -0.005, -0.499 and -0.409, times the kernel.
    kernel = np.array([1.0, 10.0, 100.0]).reshape(1, 1, 3, 1)
    found_kernel, found_bias = converted(kernel, np.array([7.0]), "caffe", "torch")
    np.testing.assert_allclose(found_kernel.ravel(), [5839.5, 571.2, 57.375], rtol=1e-14)
    np.testing.assert_allclose(found_bias, [7 - 0.5 - 4.99 - 0.409], rtol=1e-12)


def test_from_torch_to_caffe_by_hand() -> None:
    kernel = np.array([58.395, 57.12, 57.375]).reshape(1, 1, 3, 1)  # 255 times the deviations
    found_kernel, found_bias = converted(kernel, np.array([0.0]), "torch", "caffe")
    np.testing.assert_allclose(found_kernel.ravel(), [1, 1, 1], rtol=1e-14)
    np.testing.assert_allclose(found_bias, [0.005 + 0.499 + 0.409], rtol=1e-12)


def test_the_bias_shifts_by_the_whole_kernel() -> None:
    kernel = np.zeros((3, 3, 3, 2))
    kernel[..., 1, 0] = 1  # nine times green
    kernel[0, 2, 0, 1] = 2  # once blue
    _, bias = converted(kernel, np.zeros(2), "caffe", "torch")
    np.testing.assert_allclose(bias, [9 * -0.499, 2 * -0.409], rtol=1e-12)


# On a photo


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_inside_the_photo_the_converted_convolution_gives_the_same(old: str, new: str) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.float64)
    kernel, bias = some_convolution(2)
    wanted = convolve(TAKEN[old](photo), kernel, bias)
    found = convolve(TAKEN[new](photo), *converted(kernel, bias, old, new))
    # Each sum has 27 products of up to 255 * kernel of the larger scale; rounding is far below.
    largest = 255 * np.abs(kernel).sum() * (255 if old in ("torch", "tf") else 1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=27 * 2**-52 * largest)


@pytest.mark.parametrize("convention", TAKEN)
def test_the_colour_convolution_gives_what_the_network_takes(convention: str) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (2, 3, 3)).astype(np.float64)
    kernel, bias = colour_convolution(convention)
    assert (kernel.shape, bias.shape) == ((1, 1, 3, 3), (3,))
    found = convolve(photo / 255, kernel, bias)
    np.testing.assert_allclose(found, TAKEN[convention](photo), rtol=0, atol=1e-12)


def test_at_the_border_the_colour_of_the_padding_changes() -> None:
    # A corner position has 5 of its 9 places outside. There stand zeros, which are the mean colour:
    # torch's is darker by 0.005, 0.499 and 0.409 than the other one.
    photo = np.random.default_rng(4).integers(0, 256, (3, 3, 3)).astype(np.float64)
    kernel, bias = np.ones((3, 3, 3, 1)), np.zeros(1)
    around = ((1, 1), (1, 1), (0, 0))
    own = convolve(np.pad(as_caffe(photo), around), kernel, bias)
    new = convolve(np.pad(as_torch(photo), around), *converted(kernel, bias, "caffe", "torch"))
    difference = (new - own)[..., 0]
    edge, corner = 3 * -0.913, 5 * -0.913
    wanted = [[corner, edge, corner], [edge, 0, edge], [corner, edge, corner]]
    np.testing.assert_allclose(difference, wanted, rtol=0, atol=1e-9)


# There and back

# The colour, of red, green and blue, that each network takes as zeros.
ZERO = {
    "caffe": (123.68, 116.779, 103.939),
    "rgb255": (123.68, 116.779, 103.939),
    "torch": (0.485 * 255, 0.456 * 255, 0.406 * 255),
    "tf": (127.5, 127.5, 127.5),
    "none": (0, 0, 0),
}


def there_and_back(kernel: Array, bias: Array, old: str, new: str) -> tuple[Array, Array]:
    there = [array.astype(kernel.dtype) for array in converted(kernel, bias, old, new)]
    back_kernel, back_bias = converted(there[0], there[1], new, old)
    return back_kernel.astype(kernel.dtype), back_bias.astype(kernel.dtype)


def size_of_shift(kernel: Array, old: str, new: str) -> Array:
    """Add up how far each weight moves the bias, without the signs."""
    shift = TAKEN[old](np.array(ZERO[new]))
    size: Array = np.einsum("yxci,c->i", np.abs(kernel), np.abs(shift))
    return size.astype(kernel.dtype)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_there_and_back_float32_moves_by_at_most_one_unit_in_the_last_place(
    old: str, new: str
) -> None:
    # A kernel is rounded twice, by half a unit each. What is rounded off 27 numbers of the kernel
    # moves the bias, too, and the bias is rounded twice.
    kernel, bias = (array.astype(np.float32) for array in some_convolution(5, filters=64))
    found_kernel, found_bias = there_and_back(kernel, bias, old, new)
    assert (np.abs(found_kernel - kernel) <= np.spacing(np.abs(kernel))).all()
    larger = np.maximum(np.abs(bias), size_of_shift(kernel, old, new))
    assert (np.abs(found_bias - bias) <= np.spacing(larger)).all()


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_there_and_back_float64_moves_by_what_float64_rounds(old: str, new: str) -> None:
    # Each way, a number of the kernel is multiplied by a ratio of two rounded factors. The mean
    # colours, of up to 128, are rounded before one is subtracted from the other.
    kernel, bias = some_convolution(5, filters=64)
    found_kernel, found_bias = there_and_back(kernel, bias, old, new)
    assert (np.abs(found_kernel - kernel) <= 4 * np.spacing(np.abs(kernel))).all()
    scale = np.abs(kernel).sum(axis=(0, 1, 2)) * 128 + np.abs(bias)
    assert (np.abs(found_bias - bias) <= 8 * np.spacing(scale)).all()


def test_what_was_given_stays_as_it_is() -> None:
    kernel, bias = some_convolution(7)
    kept = kernel.copy(), bias.copy()
    converted(kernel, bias, "caffe", "torch")
    np.testing.assert_array_equal(kernel, kept[0])
    np.testing.assert_array_equal(bias, kept[1])


# Which 1x1 convolution it is

# The first two are those that the programs of LAYOUTS.md have in their files: RGB, 0 to 1, is
# turned round, multiplied by 255, and the mean is taken off.
ADAIN_KERNEL = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]]).reshape(1, 1, 3, 3)
ADAIN_BIAS = np.array([-103.939, -116.779, -123.68])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_convolution_of_adain_is_recognized(dtype: type[np.floating[Any]]) -> None:
    kernel, bias = ADAIN_KERNEL.astype(dtype), ADAIN_BIAS.astype(dtype)
    assert recognize_colour_convolution(kernel, bias) == "caffe"


def test_standardizing_is_recognized_as_torch() -> None:
    deviation, mean = np.array([0.229, 0.224, 0.225]), np.array([0.485, 0.456, 0.406])
    kernel = np.diag(1 / deviation).reshape(1, 1, 3, 3)
    assert recognize_colour_convolution(kernel, -mean / deviation) == "torch"
    assert recognize_colour_convolution(kernel.astype(np.float32), -mean / deviation) == "torch"


def test_without_turning_round_it_is_rgb255() -> None:
    kernel = ADAIN_KERNEL[:, :, ::-1]
    assert recognize_colour_convolution(kernel, ADAIN_BIAS[::-1]) == "rgb255"


def changed(array: Array, place: tuple[int, ...], value: float) -> Array:
    result = array.astype(np.float64)
    result[place] = value
    return result


STRANGE = {
    "another mean": (ADAIN_KERNEL, changed(ADAIN_BIAS, (1,), -116.0)),
    "0 to 1 without the 255": (ADAIN_KERNEL / 255, ADAIN_BIAS),
    "the mean in the other order": (ADAIN_KERNEL, ADAIN_BIAS[::-1]),
    "the mean added": (ADAIN_KERNEL, -ADAIN_BIAS),
    "mixed colours": (changed(ADAIN_KERNEL, (0, 0, 0, 0), 1.0), ADAIN_BIAS),
    "zeros": (np.zeros((1, 1, 3, 3)), np.zeros(3)),
    "not a number": (changed(ADAIN_KERNEL, (0, 0, 0, 0), np.nan), ADAIN_BIAS),
    "no number at the mean": (ADAIN_KERNEL, changed(ADAIN_BIAS, (0,), np.nan)),
}


@pytest.mark.parametrize("which", STRANGE)
def test_another_convolution_is_not_recognized(which: str) -> None:
    assert recognize_colour_convolution(*STRANGE[which]) is None
