"""The loop over all photos."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import StoppedError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import relative_to, std_deviation
from vggnorm.network.instruments import Instruments
from vggnorm.photos.reader import Batch
from vggnorm.photos.taken import Taken
from vggnorm.run.checkpoint import Keeper
from vggnorm.run.measuring import control_count, measure_batch
from vggnorm.run.options import Watch

# The least number of photos after which a run may end because its means are known well enough.
# Where each photo's mean activation is distributed with skewness g, a 95 % interval needs more than
# 25 g^2 photos to be wrong in at most 6 of 100 cases (Cochran, "Sampling Techniques", 1977, section
# 2.15). So 100 photos are enough for the exponential distribution, whose skewness is 2. The run
# ends when the sample itself says so, which makes no difference as the tolerance gets small (Chow
# and Robbins, Annals of Mathematical Statistics 36, 1965).
TOLERANCE_PHOTOS = 100


def running_means(
    start: FilterMeans, batches: Iterable[Batch], instruments: Instruments
) -> Iterator[FilterMeans]:
    """Measure batch after batch, and give the means over all photos so far after each one.

    Args:
        start: what was measured before the first batch.
        batches: the photos that come next.
        instruments: the models that measure.

    Raises:
        NetworkError: an activation is not finite.
    """
    means = start
    for batch in batches:
        means = means.plus(measure_batch(batch, instruments, _choose_for_both(means, batch)))
        yield means


def run_to_end(
    start: FilterMeans,
    running: Iterable[FilterMeans],
    total: Callable[[Taken], int],
    keeper: Keeper,
    watch: Watch,
) -> FilterMeans:
    """Have the photos that are left measured, and keep what is measured now and then.

    Args:
        start: what was measured before.
        running: measures, and gives the means over all photos so far, again and again.
        total: tells how many photos will be taken in all, from what was taken so far.
        keeper: writes the checkpoint: when it is due, and in the end, however the run ends.
        watch: is shown the progress, and may end the run.

    Raises:
        StoppedError: `watch` ended the run.
        VggnormError: what `running` raises: see `PhotoReader.batches` and `running_means`.
    """
    means = start
    try:
        for means in chain([start], running):
            keeper.save_if_due(means)
            done, in_all = means.taken.count, total(means.taken)
            watch.progress(done, in_all, means.uncertainty)
            if done >= in_all or is_known_well(means):
                return means
            if watch.stop():
                raise _stopped(means, in_all, keeper)
    finally:
        keeper.save(means)
    raise RuntimeError("the photos ended before all of them were measured")


def _stopped(means: FilterMeans, total: int, keeper: Keeper) -> StoppedError:
    """Make the error that says how far the run came, and how to go on."""
    again = "the same again, without --fresh, goes on"
    if keeper.save(means):
        kept = f"{keeper.path} keeps them: {again}"
    elif keeper.kept_count:
        kept = f"{keeper.path} keeps {keeper.kept_count} of them: {again} from there"
    else:
        kept = "nothing was written"
    return StoppedError(f"stopped after {means.taken.count} of {total} photos; {kept}")


def _choose_for_both(means: FilterMeans, batch: Batch) -> NDArray[np.bool_]:
    """Choose the photos of a batch to run in both precisions: `(photos,)`."""
    chosen: NDArray[np.bool_] = batch.positions < control_count(means.recipe)
    if chosen.any() or means.recipe.accuracy is None or _correction_is_known(means):
        return chosen
    return np.ones_like(chosen)  # all of them, until the correction is known


def _correction_is_known(means: FilterMeans) -> bool:
    """Tell whether float32's correction is known as well as the recipe demands."""
    if means.correction is None:
        return False
    spread = std_deviation(means.correction.squared_deviation, means.correction.count)
    relative = relative_to(means.measured.mean, spread)
    std_error = np.median(relative) / np.sqrt(means.correction.count)
    return bool(std_error <= means.recipe.accuracy)


def is_known_well(means: FilterMeans) -> bool:
    """Tell whether the means are known as well as the recipe demands."""
    tolerance = means.recipe.tolerance
    if tolerance is None or means.image_count < TOLERANCE_PHOTOS:
        return False
    return means.uncertainty is not None and means.uncertainty <= tolerance
