"""Confidence intervals of means over photos, corrected for how skewed the photos are.

Most photos barely excite a filter and a few excite it much. A symmetric interval around the mean of
such a sample lies too low too often. Hall's transformation makes its upper side longer.
"""

from dataclasses import dataclass

import numpy as np

from vggnorm.means.moments import Float64, Moments, PerLayer, join_layers, split_layers

# A normal deviate is within 1.96 of 0 in 95 of 100 cases.
CONFIDENCE_95 = 1.96

# With fewer photos, the interval is symmetric. Up to there, the sample's skewness is mostly noise:
# the intervals of a normal population get wider by a tenth or more and cover no better. See
# docs/intervals.md.
CORRECTED_FROM = 10

# Of the mean. The length of the 95 % interval grows with it up to here, to 8.2 standard errors on
# the longer side; beyond, the formula would shorten the interval again.
LARGEST_SKEWNESS = 0.552


@dataclass(frozen=True, eq=False)
class Intervals:
    """The 95 % confidence interval of each mean. Both sides are nan for one photo.

    Attributes:
        below: layer name -> `(filters,)`, how far the interval reaches below the mean, 0 or more.
        above: layer name -> `(filters,)`, how far it reaches above the mean.
    """

    below: PerLayer
    above: PerLayer

    @property
    def longer(self) -> dict[str, Float64]:
        """The longer side of each interval: layer name -> `(filters,)`."""
        return {layer: np.maximum(below, self.above[layer]) for layer, below in self.below.items()}

    def relative_to(self, scales: PerLayer) -> "Intervals":
        """Divide both sides by positive numbers, such as the means."""
        below = {layer: values / scales[layer] for layer, values in self.below.items()}
        above = {layer: values / scales[layer] for layer, values in self.above.items()}
        return Intervals(below, above)


def confidence_intervals(
    moments: Moments, std_error: PerLayer, corrected_from: int = CORRECTED_FROM
) -> Intervals:
    """Give the 95 % confidence interval of each mean.

    The intervals are those of P. Hall, "On the removal of skewness by transformation", Journal of
    the Royal Statistical Society B 54, 1992, by his monotone cubic. They are symmetric where the
    cubes are not known or the photos are fewer than `corrected_from`.

    Args:
        moments: the moments of the photos.
        std_error: layer name -> `(filters,)`, the standard error of each mean. It may hold more
            than the spread of these photos; what it holds beside is taken as normal.
        corrected_from: a number of photos, 3 or more. Only simulations need another than the usual.
    """
    filters = {layer: len(values) for layer, values in std_error.items()}
    layers = list(filters)
    # One vector of all layers, since a run asks after each batch.
    error = join_layers(std_error, layers)
    skewness = np.zeros_like(error)
    if moments.cubed_deviation is not None and moments.count >= corrected_from:
        cubed_deviation = join_layers(moments.cubed_deviation, layers)
        skewness = skewness_of_mean(cubed_deviation, moments.count, error)
    below = error * _pivot(CONFIDENCE_95, skewness)
    above = -error * _pivot(-CONFIDENCE_95, skewness)
    return Intervals(split_layers(below, filters), split_layers(above, filters))


def skewness_of_mean(cubed_deviation: Float64, count: int, std_error: Float64) -> Float64:
    """Estimate the skewness of a mean over photos, at most `LARGEST_SKEWNESS` in size.

    It is `k / e^3`, where `e` is the standard error and `k` the third cumulant of the mean: the
    unbiased one of the photos, `N S / ((N - 1)(N - 2))` for a sum `S` of cubed deviations, over
    `N^2`.

    Args:
        cubed_deviation: `(filters,)`, `S`.
        count: `N`, the number of photos, 3 or more.
        std_error: `(filters,)`, `e`. Where it is 0, so is the skewness.
    """
    third_cumulant = cubed_deviation / (float(count) * (count - 1) * (count - 2))
    divisor = np.where(std_error > 0, std_error, np.inf)
    # One division after another, since the cube of a small or large number may leave float64.
    skewness = third_cumulant / divisor / divisor / divisor
    return np.clip(skewness, -LARGEST_SKEWNESS, LARGEST_SKEWNESS)


def difference_intervals(one: Intervals, other: Intervals) -> Intervals:
    """Give the 95 % confidence intervals of the differences `one - other` of independent means.

    They are those of Zou and Donner, "Construction of confidence limits about effect measures: a
    general approach", Statistics in Medicine 27, 2008.
    """
    below = {layer: np.hypot(values, other.above[layer]) for layer, values in one.below.items()}
    above = {layer: np.hypot(values, other.below[layer]) for layer, values in one.above.items()}
    return Intervals(below, above)


def _pivot(deviate: float, skewness: Float64) -> Float64:
    """Give how many standard errors a mean is off, for a normal deviate: Hall's inverse.

    With `g` the skewness of the mean, Hall's cubic `t + g t^2 / 3 + g^2 t^3 / 27 + g / 6` of the
    studentized mean `t` is nearly normal. Its inverse at `x` is `3 / g (c - 1)`, where `c` is the
    cube root of `1 + g (x - g / 6)`. As `c^3 - 1 = (c - 1)(c^2 + c + 1)`, it is written here
    without a division by `g`, which may be 0.
    """
    shifted = deviate - skewness / 6
    root: Float64 = np.cbrt(1 + skewness * shifted)
    return 3 * shifted / (root**2 + root + 1)
