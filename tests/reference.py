"""The means by a naive loop over photos in float64 numpy, written from the formula alone."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

IMAGENET_BGR = np.array([103.939, 116.779, 123.68])  # Simonyan and Zisserman's mean colour

# A convolution is (name, kernel (h, w, in, out), bias (out,)); None stands for 2 x 2 max pooling.
Layer = tuple[str, np.ndarray, np.ndarray] | None

Around = Literal["constant", "reflect"]  # modes of np.pad: zeros, or the reflection


def filter_means(
    photos: Iterable[np.ndarray], layers: Sequence[Layer], around: Around = "constant"
) -> dict[str, np.ndarray]:
    """Return 1/(N M) sum over N photos X and M positions j of F_ij(X): layer -> (filters,)."""
    sums: dict[str, np.ndarray] = {}
    count = 0
    for photo in photos:
        count += 1
        for name, activation in activations(photo, layers, around).items():
            sums[name] = sums.get(name, 0.0) + activation.sum(axis=(0, 1)) / (
                activation.shape[0] * activation.shape[1]
            )
    return {name: total / count for name, total in sums.items()}


def activations(
    photo: np.ndarray, layers: Sequence[Layer], around: Around = "constant"
) -> dict[str, np.ndarray]:
    """Return the rectified activations of a photo: layer name -> (height, width, filters).

    The photo is (height, width, 3), RGB 0..255.
    """
    found = {}
    values = photo[:, :, ::-1].astype(np.float64) - IMAGENET_BGR
    for layer in layers:
        if layer is None:
            values = max_pool(values)
        else:
            name, kernel, bias = layer
            values = found[name] = np.maximum(convolve(values, kernel, bias, around), 0)
    return found


def convolve(
    values: np.ndarray, kernel: np.ndarray, bias: np.ndarray, around: Around = "constant"
) -> np.ndarray:
    """Cross-correlate with a kernel of odd size; what is put around makes the size stay."""
    height, width, _ = values.shape
    rows, columns, _, filters = kernel.shape
    widths = (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)
    padded = np.pad(values, widths, mode=around)
    result: np.ndarray = np.zeros((height, width, filters)) + bias
    for y in range(rows):
        for x in range(columns):
            result += padded[y : y + height, x : x + width] @ kernel[y, x].astype(np.float64)
    return result


def max_pool(values: np.ndarray) -> np.ndarray:
    """Return the largest of each 2 x 2 values, without an odd last row or column."""
    height, width, _ = values.shape
    even = values[: height // 2 * 2, : width // 2 * 2]
    top = np.maximum(even[0::2, 0::2], even[0::2, 1::2])
    bottom = np.maximum(even[1::2, 0::2], even[1::2, 1::2])
    largest: np.ndarray = np.maximum(top, bottom)
    return largest


def reference_layers(model: Any) -> list[Layer]:
    """Describe a Keras chain of convolutions and pooling for the functions above."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    return [(layer.name, *layer.get_weights()) if layer.weights else None for layer in layers]
