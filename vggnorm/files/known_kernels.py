"""First convolutions that many files share, by which a file's convention is recognized.

A few filters of each suffice. What a normalized file has of them is the same numbers, divided
filter by filter, so that a filter's direction and its kernel's length by its bias are compared.
torchvision's numbers are those that users printed in public; of its VGG19, no biases are known, so
that only its original file is recognized.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggnorm.files.conventions import WRITTEN, converted
from vggnorm.files.tensor import Array

# The cosine of the angle between two kernels, from which on they are the same. Kernels rounded to
# 8 bits are at 0.9999; in another order of the colours, the filters below are at most at 0.98.
SAME_DIRECTION = 0.999

# How far the ratio of the kernel's length to the bias may be off. Between the conventions it
# differs by a factor of 57.
SAME_RATIO = 0.1

# How far a number may be off, where biases are not known and the kernels alone are compared. The
# ones below are rounded to 4 digits.
SAME_NUMBER = 1e-3


@dataclass(frozen=True)
class KnownFilter:
    """One filter of a known first convolution, in the convention that it has.

    Attributes:
        index: which of the 64 filters it is.
        kernel: 27 numbers, row by row, column by column, channel by channel.
        bias: its bias; None if it is not known.
    """

    index: int
    kernel: tuple[float, ...]
    bias: float | None


@dataclass(frozen=True)
class KnownConvolution:
    """A known first convolution.

    Attributes:
        source: whose it is, for people.
        convention: how it takes photos.
        filters: some of its filters.
    """

    source: str
    convention: str
    filters: tuple[KnownFilter, ...]


# fmt: off
KNOWN = (
    KnownConvolution("Keras's and Caffe's VGG16", "caffe", (
        KnownFilter(22, (
            0.1667, 0.0012, -0.1205, 0.1710, -0.0259, -0.1709, 0.1687, 0.0015, -0.1240,
            0.1791, -0.0191, -0.1637, 0.1793, -0.0516, -0.2193, 0.1702, -0.0304, -0.1779,
            0.1605, -0.0096, -0.1339, 0.1914, -0.0104, -0.1573, 0.1688, -0.0038, -0.1308,
        ), 0.3028),
        KnownFilter(29, (
            -0.1899, -0.0039, 0.2196, -0.1763, 0.0227, 0.2709, -0.1605, -0.0290, 0.1452,
            -0.1938, -0.0142, 0.2282, -0.1784, 0.0121, 0.2789, -0.1709, -0.0477, 0.1436,
            -0.1591, -0.0659, 0.1013, -0.1846, -0.0842, 0.1054, -0.1244, -0.0800, 0.0362,
        ), 0.6260),
        KnownFilter(36, (
            0.0609, 0.0506, -0.1716, 0.0691, 0.0409, -0.2039, 0.0601, 0.0520, -0.1731,
            0.0732, 0.0417, -0.2031, 0.0892, 0.0389, -0.2285, 0.0742, 0.0444, -0.2027,
            0.0619, 0.0493, -0.1741, 0.0754, 0.0450, -0.1998, 0.0665, 0.0547, -0.1703,
        ), 0.3905),
    )),
    KnownConvolution("Keras's and Caffe's VGG19", "caffe", (
        KnownFilter(22, (
            0.1482, 0.0626, -0.1459, 0.1528, 0.0359, -0.1921, 0.1455, 0.0543, -0.1524,
            0.1554, 0.0359, -0.1921, 0.1528, 0.0001, -0.2489, 0.1482, 0.0260, -0.2043,
            0.1317, 0.0403, -0.1612, 0.1528, 0.0288, -0.1948, 0.1410, 0.0430, -0.1583,
        ), 0.2701),
        KnownFilter(25, (
            0.1266, 0.0777, -0.1690, 0.1598, 0.1020, -0.1716, 0.1430, 0.0973, -0.1459,
            0.1765, 0.1175, -0.1583, 0.2095, 0.1410, -0.1645, 0.1888, 0.1349, -0.1422,
            0.1287, 0.0920, -0.1547, 0.1691, 0.1175, -0.1547, 0.1430, 0.1049, -0.1422,
        ), 0.6025),
        KnownFilter(29, (
            -0.1853, -0.0168, 0.2161, -0.1853, -0.0135, 0.2458, -0.1487, -0.0457, 0.1317,
            -0.2109, -0.0564, 0.2095, -0.2362, -0.0841, 0.2095, -0.1921, -0.1060, 0.1020,
            -0.1547, -0.0732, 0.1087, -0.1826, -0.1031, 0.1049, -0.1154, -0.0931, 0.0359,
        ), 0.5819),
    )),
    KnownConvolution("torchvision's VGG16", "torch", (
        KnownFilter(0, (
            -0.5537, 0.1755, 0.3130, 0.1427, 0.0099, -0.1659, 0.5290, -0.0814, -0.4275,
            -0.5831, 0.0441, 0.4752, 0.3566, -0.0703, -0.0827, 0.7657, -0.2604, -0.4870,
            -0.6902, 0.1324, 0.6320, -0.0480, -0.1728, 0.0193, 0.4841, -0.1323, -0.2775,
        ), 0.4034),
        KnownFilter(1, (
            0.2325, -0.1408, -0.3143, 0.1267, -0.2190, -0.3705, 0.1861, 0.1504, -0.1309,
            -0.4281, -0.8413, -0.4714, -0.2435, -0.3518, -0.1550, 0.2463, 0.5640, 0.3459,
            -0.2507, -0.2419, 0.0544, 0.1418, 0.5193, 0.5868, -0.0055, 0.5391, 0.4958,
        ), 0.3778),
        KnownFilter(2, (
            0.1772, 0.3092, 0.3157, 0.5215, 0.6707, 0.4233, 0.0099, 0.0205, -0.3498,
            -0.2718, -0.4661, 0.0864, -0.7171, -1.0697, -0.4646, 0.3129, 0.3350, 0.0118,
            -0.0758, -0.0803, 0.1048, -0.2208, -0.3052, -0.1458, 0.3346, 0.5446, -0.0158,
        ), 0.4644),
    )),
    KnownConvolution("torchvision's VGG19", "torch", (
        KnownFilter(0, (
            -0.0535, 0.0170, -0.0449, -0.0493, 0.0554, 0.0127, -0.0679, -0.0062, -0.0145,
            0.0153, 0.1416, 0.0597, 0.0451, 0.2271, 0.1396, 0.0021, 0.1376, 0.0541,
            0.0362, 0.1200, -0.0010, 0.0200, 0.2003, 0.0583, 0.0199, 0.0921, -0.0297,
        ), None),
        KnownFilter(63, (
            -0.8106, 0.0792, 0.5203, -0.7432, 0.2456, 0.7574, -0.7789, -0.1532, 0.6237,
            -0.1693, -0.0709, -0.1073, 0.3423, 0.4465, 0.1876, -0.0702, -0.3807, -0.1218,
            0.5249, -0.1531, -0.6641, 0.9599, 0.1243, -0.6489, 0.7621, -0.1107, -0.5536,
        ), None),
    )),
)
# fmt: on


def recognize_first_convolution(kernel: Array, bias: Array) -> tuple[str, str] | None:
    """Tell by its numbers how a first convolution takes photos.

    Args:
        kernel: `(3, 3, 3, 64)`.
        bias: `(64,)`.

    Returns:
        The convention, and whose numbers they are; None if they are not known.
    """
    if kernel.shape != (3, 3, 3, 64) or bias.shape != (64,):
        return None
    for known in KNOWN:
        convention = _convention_of(known, kernel, bias)
        if convention is not None:
            return convention, known.source
    return None


def _convention_of(known: KnownConvolution, kernel: Array, bias: Array) -> str | None:
    """Tell in which convention a first convolution is a known one; None if in none."""
    at = [one.index for one in known.filters]
    found_kernel = kernel[..., at].astype(np.float64)
    found_bias = bias[at].astype(np.float64)
    own_kernel = np.array([one.kernel for one in known.filters]).T.reshape(3, 3, 3, -1)
    biases = [one.bias for one in known.filters if one.bias is not None]
    if len(biases) < len(at):
        is_same = np.allclose(found_kernel, own_kernel, rtol=0, atol=SAME_NUMBER)
        return known.convention if is_same else None
    for convention in WRITTEN:
        wanted = converted(own_kernel, np.array(biases), known.convention, convention)
        if _is_same(found_kernel, found_bias, *wanted):
            return convention
    return None


Float64 = NDArray[np.float64]


def _is_same(kernel: Float64, bias: Float64, wanted_kernel: Float64, wanted_bias: Float64) -> bool:
    """Compare filters, up to one positive factor for each."""
    length = np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
    wanted_length = np.sqrt((wanted_kernel**2).sum(axis=(0, 1, 2)))
    if not (np.isfinite(length).all() and length.all() and bias.all()):
        return False
    cosine = np.einsum("yxci,yxci->i", kernel, wanted_kernel) / (length * wanted_length)
    ratio = (length / bias) / (wanted_length / wanted_bias)
    return bool((cosine >= SAME_DIRECTION).all() and (np.abs(ratio - 1) <= SAME_RATIO).all())
