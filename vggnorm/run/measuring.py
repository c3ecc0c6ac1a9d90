"""The measuring of a batch: from pixels to sums that can be added up, on this machine or another.

What a batch gives depends on its photos alone, and not on what was measured before. So blocks of
photos may be measured apart; `FilterMeans.plus` adds up their batches, in the order of the photos.
"""

import numpy as np
from numpy.typing import NDArray

from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.means.sums import Sums
from vggnorm.network.instruments import Instruments
from vggnorm.photos.reader import Batch


def measure_batch(batch: Batch, instruments: Instruments, in_both: NDArray[np.bool_]) -> Sums:
    """Measure the photos of a batch.

    Args:
        batch: the photos. There may be none, where all that were left of a block were skipped.
        instruments: the models that measure.
        in_both: `(photos,)`, which of them to run in float32 as well, if `instruments` measure in
            another precision.

    Raises:
        NetworkError: an activation is not finite, or there is not enough memory.
    """
    if not len(batch.pixels):
        return Sums(batch.taken)
    position_means = instruments.measure(batch.pixels)
    correction = None
    if instruments.fast and in_both.any():
        exact = instruments.measure_exactly(batch.pixels[in_both])
        surplus = {layer: exact[layer] - position_means[layer][in_both] for layer in exact}
        correction = Moments.of(surplus)
    return Sums(batch.taken, Moments.of(position_means), correction)


def control_count(recipe: Recipe) -> int:
    """Give how many photos to run in both precisions: so many of the first ones of this run's list.

    They are the first ones in the order of all photos, of which the run may measure a part.
    """
    part = recipe.part
    return recipe.control if part is None else part.size(recipe.control)
