"""How networks take photos, and how the first convolution changes from one way to another.

A convention says in which order a network takes the colours, and in which numbers. All are of one
form. With `v` a colour's value from 0 to 255, the network takes

    x[c] = factor[c] * v[c] - offset[c]

So a first convolution with the kernel `W` and the bias `b`, which takes `x`, is the same as one
which takes `x'` of another convention with the kernel and bias

    ratio[c] = factor[c] / factor'[c]
    W'[..., c, :] = W[..., c, :] * ratio[c]
    b' = b + sum over y, x, c of W[y, x, c, :] * (ratio[c] * offset'[c] - offset[c])

This is exact where the kernel lies inside the photo. At the border, zeros are put around the
photo. They stand for the colour `offset / factor`: the mean colour for `caffe` and `rgb255`, nearly
the same for `torch`, grey for `tf` and black for `none`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggnorm.files.tensor import Array

Float64 = NDArray[np.float64]

CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue: the mean colour of ImageNet
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Convention:
    """How a network takes photos: see the module.

    Attributes:
        reverses: whether it takes blue first.
        factor: of red, green and blue.
        offset: of red, green and blue.
    """

    reverses: bool
    factor: tuple[float, float, float]
    offset: tuple[float, float, float]

    def in_own_order(self, values: Sequence[float]) -> Float64:
        """Put values of red, green and blue into the order in which the network takes them."""
        array = np.array(values, dtype=np.float64)
        return array[::-1] if self.reverses else array


def _standardized(mean: Sequence[float], deviation: Sequence[float]) -> Convention:
    """Make a convention of colours from 0 to 1, minus a mean, divided by a standard deviation."""
    red, green, blue = (1 / (255 * each) for each in deviation)
    offsets = [center / each for center, each in zip(mean, deviation, strict=True)]
    return Convention(False, (red, green, blue), (offsets[0], offsets[1], offsets[2]))


ONES = (1.0, 1.0, 1.0)

# The names are those of `vggnorm.photos.geometry.Preprocessing`.
CONVENTIONS = {
    "caffe": Convention(True, ONES, CAFFE_MEAN),
    "rgb255": Convention(False, ONES, CAFFE_MEAN),
    "torch": _standardized(TORCH_MEAN, TORCH_DEVIATION),
    "tf": _standardized((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": Convention(False, ONES, (0.0, 0.0, 0.0)),
}

# What files are written in, besides `ADAIN`.
WRITTEN = ("caffe", "rgb255", "torch")

# A convolution of 1x1 in front takes RGB from 0 to 1, and gives what the network takes.
ADAIN = "adain"

# How far the numbers of a colour convolution may be off, relative to the largest, beside what their
# type rounds.
RECOGNIZED = 1e-5


def converted(kernel: Array, bias: Array, old: str, new: str) -> tuple[Float64, Float64]:
    """Convert a first convolution to another convention: see the module.

    Args:
        kernel: `(height, width, 3, filters)`.
        bias: `(filters,)`.
        old: the convention that it is in, a name of `CONVENTIONS`.
        new: the convention that it shall be in.

    Returns:
        The kernel and the bias, of the same shapes, in float64.
    """
    before, after = CONVENTIONS[old], CONVENTIONS[new]
    kernel, bias = kernel.astype(np.float64), bias.astype(np.float64)
    if before.reverses:
        kernel = kernel[:, :, ::-1]  # now in the order red, green, blue
    ratio = np.array(before.factor) / np.array(after.factor)
    shift = ratio * np.array(after.offset) - np.array(before.offset)
    bias = bias + np.einsum("yxci,c->i", kernel, shift)
    kernel = kernel * ratio[:, np.newaxis]
    if after.reverses:
        kernel = kernel[:, :, ::-1]
    return kernel, bias


def has_other_border(old: str, new: str) -> bool:
    """Tell whether zeros around a photo stand for different colours in two conventions."""
    before, after = CONVENTIONS[old], CONVENTIONS[new]
    colour_before = np.divide(before.offset, before.factor)
    colour_after = np.divide(after.offset, after.factor)
    return not np.allclose(colour_before, colour_after, rtol=RECOGNIZED)


def colour_convolution(convention: str) -> tuple[Float64, Float64]:
    """Give the convolution from RGB, 0 to 1, to what a network of a convention takes.

    Returns:
        The kernel `(1, 1, 3, 3)`, from channel in to channel out, and the bias `(3,)`.
    """
    known = CONVENTIONS[convention]
    kernel = np.diag(255 * np.array(known.factor))
    if known.reverses:
        kernel = kernel[:, ::-1]
    return kernel[np.newaxis, np.newaxis], -known.in_own_order(known.offset)


def recognize_colour_convolution(kernel: Array, bias: Array) -> str | None:
    """Tell which convention the network behind a 1x1 convolution of the photo has.

    Args:
        kernel: `(1, 1, 3, 3)`, from channel in to channel out.
        bias: `(3,)`.

    Returns:
        The name of the convention; None if it is another.
    """
    for name in CONVENTIONS:
        known_kernel, known_bias = colour_convolution(name)
        if _is_close(kernel, known_kernel) and _is_close(bias, known_bias):
            return name
    return None


def _is_close(array: Array, known: Float64) -> bool:
    relative = RECOGNIZED
    if array.dtype.kind not in "iu":
        info: Any = ml_dtypes.finfo  # the library has no types
        relative = max(relative, float(info(array.dtype).eps))
    allowed = relative * float(np.abs(known).max())
    return bool(np.allclose(array.astype(np.float64), known, rtol=0, atol=allowed))
