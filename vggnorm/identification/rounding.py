"""In which format weights were stored, and how much that may have changed them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggnorm.network.steps import LayerWeights
from vggnorm.verdicts.identification import Rounding

# The relative change of 16-bit formats is twice the unit roundoff, which is 2^-11 for float16 and
# 2^-8 for bfloat16, because the scales come from rounded numbers, too. The unit roundoff of
# float32, 6e-8, enters with every step of a calculation; nothing else leaves as little as 1e-5.
FLOAT32 = Rounding("float32", 1e-5, 2.0**-149)
FLOAT16 = Rounding("float16", 2.0**-10, 2.0**-24)
BFLOAT16 = Rounding("bfloat16", 2.0**-7, 2.0**-133)


def rounding_of(found: Mapping[str, LayerWeights]) -> Rounding:
    """Find the smallest format that holds all these weights exactly, whatever the file's type."""
    arrays = [array.astype(np.float32) for weights in found.values() for array in weights.values()]
    if not any(np.isfinite(array).any() for array in arrays):
        return FLOAT32
    with np.errstate(over="ignore"):
        if all(_is_float16(array) for array in arrays):
            return FLOAT16
    if not any(_has_low_bits(array) for array in arrays):
        return BFLOAT16
    return FLOAT32


def _is_float16(array: NDArray[Any]) -> bool:
    return np.array_equal(array, array.astype(np.float16), equal_nan=True)


def _has_low_bits(array: NDArray[np.float32]) -> bool:
    """Tell whether any number uses the 16 bits of float32 that bfloat16 does not have."""
    return bool((array.view(np.uint32) & 0xFFFF).any())
