"""The loop over all photos."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import StoppedError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments, relative_to, std_deviation
from vggnorm.network.instruments import Instruments
from vggnorm.photos.reader import Batch, PhotoReader, Taken
from vggnorm.run.checkpoint import Keeper
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
        means = _add_batch(means, batch, instruments)
        yield means


def run_to_end(
    start: FilterMeans,
    reader: PhotoReader,
    instruments: Instruments,
    keeper: Keeper,
    watch: Watch,
) -> FilterMeans:
    """Measure the photos that are left, and keep what is measured now and then.

    Args:
        start: what was measured before.
        reader: where the photos come from.
        instruments: the models that measure.
        keeper: writes the checkpoint: when it is due, and in the end, however the run ends.
        watch: is shown the progress, and may end the run.

    Raises:
        StoppedError: `watch` ended the run.
        PhotoError: a photo or the system failed: see `PhotoReader.batches`.
        NetworkError: an activation is not finite.
    """
    means = start
    with closing(reader.batches(start.recipe.batch_size, taken_by(start))) as batches:
        try:
            for means in chain([start], running_means(start, batches, instruments)):
                keeper.save_if_due(means)
                taken = taken_by(means)
                done, total = taken.count, reader.total(taken)
                watch.progress(done, total, means.uncertainty)
                if done >= total or is_known_well(means):
                    return means
                if watch.stop():
                    raise _stopped(means, total, keeper)
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
    return StoppedError(f"stopped after {taken_by(means).count} of {total} photos; {kept}")


def _add_batch(means: FilterMeans, batch: Batch, instruments: Instruments) -> FilterMeans:
    """Give the means with one more batch. Some of its photos may be run in float32, too."""
    measured, correction = means.measured, means.correction
    if len(batch.pixels):
        position_means = instruments.measure(batch.pixels)
        measured += Moments.of(position_means)
        chosen = _choose_for_both(means, batch)
        if instruments.fast and chosen.any():
            exact = instruments.measure_exactly(batch.pixels[chosen])
            surplus = Moments.of(
                {layer: exact[layer] - position_means[layer][chosen] for layer in exact}
            )
            correction = surplus if correction is None else correction + surplus
    recipe = replace(
        means.recipe,
        taken_sha256=batch.taken.names_sha256,
        photos_sha256=batch.taken.photos_sha256,
    )
    return FilterMeans(measured, recipe, batch.taken.skipped, correction)


def _choose_for_both(means: FilterMeans, batch: Batch) -> NDArray[np.bool_]:
    """Choose the photos of a batch to run in both precisions: `(photos,)`."""
    number, count = means.recipe.shard or (1, 1)
    # Where each photo stands in the order of all photos, of which this run may measure a part.
    index = number - 1 + count * batch.positions
    chosen: NDArray[np.bool_] = index < means.recipe.control
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


def taken_by(means: FilterMeans) -> Taken:
    """Tell which photos a set of means covers."""
    recipe = means.recipe
    return Taken(means.image_count, means.skipped, recipe.taken_sha256, recipe.photos_sha256)
