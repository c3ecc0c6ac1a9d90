"""What a normalized network was made with, and whether its means are what that promises."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.intervals import (
    CONFIDENCE_95,
    CORRECTED_FROM,
    Intervals,
    confidence_intervals,
    difference_intervals,
)
from vggnorm.means.moments import Float64, Moments, PerLayer, std_deviation
from vggnorm.photos.geometry import Geometry, Preprocessing
from vggnorm.photos.taken import Taken
from vggnorm.rule import scale_from_mean
from vggnorm.verdicts.verification import (
    FILTER_LIMIT,
    ActivationsCheck,
    BadlyKnown,
    MeansCheck,
    PhotosUsed,
)

# On the photos measured, a mean may be off by MEAN_TOLERANCE. Where a filter hardly ever fires, it
# may be off by the rounding of float32, relative to the layer's largest activation: there the
# activation is a small difference of numbers that large.
MEAN_TOLERANCE, ROUNDING = 1e-4, 1e-6

# Relative to the mean. No interval is taken to be shorter.
FLOAT32_ROUNDING = 1e-7


@dataclass(frozen=True, eq=False)
class Promise:
    """What a normalized network was made with, and so what it is held to.

    Attributes:
        scales: layer name -> `(filters,)`, what each filter's activation was divided by.
        targets: layer name -> `(filters,)`, the mean that each filter was given: 1; less where a
            bound on the scales left it smaller; or its own, in the layers in `kept`. All that
            follows is relative to it.
        kept: the layers that give the output of the network, where that was kept.
        silent: layer name -> indices of the filters that never fired.
        spread: layer name -> `(filters,)`, the standard deviation of each activation over photos;
            None if a single photo was measured.
        interval: how far the 95 % interval of each mean reaches.
        symmetric: whether these intervals are symmetric because the third moments are not known.
        badly_known: layer name -> indices of the filters that may have twice the mean.
        unknown: layer name -> `(filters,)`, the standard error that is left of measuring in another
            precision than float32.
        count: how many photos the scales were measured on; infinite if that is not known.
        geometry: how a photo is resized.
        preprocessing: what the network takes photos as.
        seed: of the random order of the photos.
        measured: the photos that the scales were measured on; None if that is not known.
    """

    scales: PerLayer
    targets: PerLayer
    kept: tuple[str, ...]
    silent: Mapping[str, NDArray[np.intp]]
    spread: PerLayer | None
    interval: Intervals
    symmetric: bool
    badly_known: Mapping[str, NDArray[np.intp]]
    unknown: PerLayer
    count: float
    geometry: Geometry
    preprocessing: Preprocessing
    seed: int
    measured: Taken | None

    @property
    def fires(self) -> dict[str, NDArray[np.bool_]]:
        """Layer name -> `(filters,)`, which filters fire."""
        return {
            layer: ~np.isin(np.arange(len(scale)), self.silent[layer])
            for layer, scale in self.scales.items()
        }


def promise_of(means: FilterMeans) -> Promise:
    """Take what the means say."""
    units = {layer: scale_from_mean(mean) for layer, mean in means.mean.items()}
    deviation = std_deviation(means.squared_deviation, means.image_count)
    correction = means.correction_std_error
    recipe = means.recipe
    return Promise(
        scales=means.scales,
        targets=_divide(units, means.scales),
        kept=recipe.kept_layers,
        silent=means.silent,
        spread=None if means.image_count == 1 else _divide(deviation, units),
        interval=means.interval.relative_to(units),
        symmetric=means.measured.cubed_deviation is None,
        badly_known=means.badly_known,
        unknown=_divide(correction, units),
        count=means.image_count,
        geometry=recipe.geometry,
        preprocessing=recipe.preprocessing,
        seed=recipe.seed,
        measured=means.taken,
    )


def check_means(
    moments: Moments, promise: Promise, photos: PhotosUsed, activations: ActivationsCheck
) -> MeansCheck:
    """Check the normalized network's means.

    Args:
        moments: its moments over the photos used here, relative to what it was given.
        promise: what it is held to.
        photos: how these photos relate to those measured.
        activations: how large the activations are, which tells how far rounding may move a mean.
    """
    slack = _slack(promise, activations)
    fires = promise.fires
    off = {layer: np.where(fires[layer], mean - 1, 0.0) for layer, mean in moments.mean.items()}
    every = np.abs(np.concatenate(list(off.values())))
    names = [f"{layer}[{index}]" for layer, values in off.items() for index in range(len(values))]
    worst = int(np.argmax(every))  # the first nan, if there is one
    within = {
        layer: np.abs(values) <= np.maximum(MEAN_TOLERANCE, slack[layer])
        for layer, values in off.items()
    }
    firing = np.concatenate(list(fires.values()))
    smaller = [
        np.full(len(target), layer not in promise.kept) & (target < 1)
        for layer, target in promise.targets.items()
    ]
    check = MeansCheck(
        photos,
        worst=float(every[worst]),
        worst_filter=names[worst],
        median=float(np.median(every[firing])),
        beyond=sum(int((~values).sum()) for values in within.values()),
        firing=int(firing.sum()),
        left_smaller=int((firing & np.concatenate(smaller)).sum()),
        badly_known=_badly_known(moments, promise),
    )
    if photos is PhotosUsed.ALL or promise.spread is None:
        return check
    interval = _interval_of_difference(moments, promise, promise.spread, photos)
    reach = {}
    for layer, values in off.items():
        relative = _relative_reach(values, interval.below[layer], interval.above[layer])
        if fires[layer].any():
            reach[layer] = relative[fires[layer]]
    return replace(
        check,
        agreeing=sum(int((values <= 1).sum()) for values in reach.values()),
        worst_reach=max(float(values.max()) for values in reach.values()),
        layer_reach={layer: float(np.median(values)) for layer, values in reach.items()},
        symmetric=photos is PhotosUsed.OTHER and promise.symmetric,
    )


def _slack(promise: Promise, activations: ActivationsCheck) -> dict[str, Float64]:
    """Tell how far rounding may move each mean: layer name -> `(filters,)`."""
    slack = {}
    for layer, scale in promise.scales.items():
        rounding = ROUNDING * activations.largest[layer] / (scale * promise.targets[layer])
        unknown = FILTER_LIMIT * CONFIDENCE_95 * promise.unknown[layer]
        slack[layer] = np.maximum(rounding, unknown)
    return slack


def _interval_of_difference(
    moments: Moments, promise: Promise, spread: PerLayer, photos: PhotosUsed
) -> Intervals:
    """Give the 95 % interval of the mean over these photos minus that over those measured.

    For other photos, it follows from the intervals of both means. Where these photos are too few to
    tell how far they spread, the spread of those measured stands in. For a part of the photos
    measured it is symmetric, with the standard error `s sqrt(1/n - 1/N)` of `n` out of `N` photos.

    Args:
        moments: see `check_means`.
        promise: what the network is held to.
        spread: its `spread`, which is known.
        photos: how these photos relate to those measured.
    """
    share = 1 / moments.count - (1 / promise.count if photos is PhotosUsed.PART else 0)
    if photos is PhotosUsed.OTHER and moments.count >= CORRECTED_FROM:
        spread = std_deviation(moments.squared_deviation, moments.count)
    std_error = {layer: values * np.sqrt(share) for layer, values in spread.items()}
    if photos is PhotosUsed.OTHER:
        here = confidence_intervals(moments, std_error)
        return difference_intervals(here, promise.interval)
    sides = {
        layer: CONFIDENCE_95 * np.hypot(values, promise.unknown[layer])
        for layer, values in std_error.items()
    }
    return Intervals(sides, sides)


def _relative_reach(off: Float64, below: Float64, above: Float64) -> Float64:
    """Divide how far means are off by how far their intervals reach towards 0."""
    side = np.where(off > 0, below, above)
    return np.abs(off) / np.maximum(side, FLOAT32_ROUNDING)


def _badly_known(moments: Moments, promise: Promise) -> tuple[BadlyKnown, ...]:
    """Describe the filters whose means are badly known, those first that fire most, or may."""
    spread = std_deviation(moments.squared_deviation, moments.count)
    std_error = {layer: values / np.sqrt(moments.count) for layer, values in spread.items()}
    here = confidence_intervals(moments, std_error)
    found = []
    for layer, indices in promise.badly_known.items():
        for index in indices.tolist():
            target = float(promise.targets[layer][index])
            mean = target * float(moments.mean[layer][index])
            found.append(
                BadlyKnown(
                    name=f"{layer}[{index}]",
                    mean=target,
                    interval=_bounds(target, target, promise.interval, layer, index),
                    here=mean,
                    interval_here=_bounds(mean, target, here, layer, index),
                )
            )
    return tuple(sorted(found, key=lambda one: -max(one.here, one.interval[1])))


def _bounds(
    mean: float, unit: float, interval: Intervals, layer: str, index: int
) -> tuple[float, float]:
    """Give the ends of a filter's interval, whose sides are in units of `unit`."""
    below, above = interval.below[layer][index], interval.above[layer][index]
    return mean - unit * float(below), mean + unit * float(above)


def _divide(values: PerLayer, divisors: PerLayer) -> dict[str, Float64]:
    return {layer: values[layer] / divisor for layer, divisor in divisors.items()}
