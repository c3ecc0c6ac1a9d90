"""The means by a naive loop: numpy, float64, one photo at a time, written from the formula alone."""

from collections.abc import Iterable, Sequence

import numpy as np

IMAGENET_BGR = np.array([103.939, 116.779, 123.68])  # Simonyan and Zisserman's mean colour

# A convolution is (name, kernel (h, w, in, out), bias (out,)); None stands for 2 x 2 max pooling.
Layer = tuple[str, np.ndarray, np.ndarray] | None


def filter_means(photos: Iterable[np.ndarray], layers: Sequence[Layer]) -> dict[str, np.ndarray]:
    """mu_i = 1/(N M) sum over N photos X and M positions j of F_ij(X): layer name -> (filters,)."""
    sums: dict[str, np.ndarray] = {}
    count = 0
    for photo in photos:
        count += 1
        for name, activation in activations(photo, layers).items():
            sums[name] = sums.get(name, 0.0) + activation.sum(axis=(0, 1)) / (activation.shape[0] * activation.shape[1])
    return {name: total / count for name, total in sums.items()}


def activations(photo: np.ndarray, layers: Sequence[Layer]) -> dict[str, np.ndarray]:
    """The rectified activations of one photo (h, w, 3), RGB 0..255: layer name -> (height, width, filters)."""
    found = {}
    values = photo[:, :, ::-1].astype(np.float64) - IMAGENET_BGR
    for layer in layers:
        if layer is None:
            values = max_pool(values)
        else:
            name, kernel, bias = layer
            values = found[name] = np.maximum(convolve(values, kernel, bias), 0)
    return found


def convolve(values: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Cross-correlate with zeros around, so that the size stays; odd kernels only."""
    height, width, _ = values.shape
    rows, columns, _, filters = kernel.shape
    padded = np.pad(values, ((rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    result = np.zeros((height, width, filters)) + bias
    for y in range(rows):
        for x in range(columns):
            result += padded[y : y + height, x : x + width] @ kernel[y, x].astype(np.float64)
    return result


def max_pool(values: np.ndarray) -> np.ndarray:
    """The largest of each 2 x 2; an odd last row or column is dropped."""
    height, width, _ = values.shape
    even = values[: height // 2 * 2, : width // 2 * 2]
    return np.maximum.reduce([even[y::2, x::2] for y in (0, 1) for x in (0, 1)])
