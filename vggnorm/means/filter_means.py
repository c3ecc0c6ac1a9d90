"""The mean activation of every filter: what was measured, how well it is known, and the recipe."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import MeansError
from vggnorm.means.intervals import Intervals, confidence_intervals
from vggnorm.means.moments import (
    Float64,
    Moments,
    PerLayer,
    make_read_only,
    relative_to,
    std_deviation,
)
from vggnorm.means.recipe import Recipe
from vggnorm.means.sums import Sums, add_moments
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.photos.taken import Taken
from vggnorm.rule import scale_from_mean

# What `FilterMeans.uncertainty` is about.
KNOWN_SHARE = 0.95

# A mean is badly known if its interval reaches further than this, relative to the mean. From here
# on, the true mean may be more than twice the one measured.
BADLY_KNOWN = 1.0


@dataclass(frozen=True, eq=False)
class FilterMeans:
    """The mean activation of every filter over photos and positions, and its spread over photos.

    The arrays are read-only.

    Attributes:
        measured: the count, mean and spread over the photos of the mean over positions, in the
            precision in which all photos were run. Each photo counts once.
        recipe: how the means were measured.
        skipped: the photos that were found and could not be used, sorted by name.
        correction: the moments of the difference between float32 and the other precision, over the
            photos that were run in both; None if all photos were run in float32.
    """

    measured: Moments
    recipe: Recipe
    skipped: tuple[SkippedPhoto, ...] = ()
    correction: Moments | None = None

    @cached_property
    def mean(self) -> PerLayer:
        """The mean activation, corrected to float32: layer name -> `(filters,)`, in network order.

        The correction is a control variate: it is known from few photos, because it differs little
        from photo to photo. This is the two-level case of Giles, "Multilevel Monte Carlo Path
        Simulation", Operations Research 56(3), 2008.
        """
        if self.correction is None:
            return self.measured.mean
        means = {}
        for layer, mean in self.measured.mean.items():
            corrected = mean + self.correction.mean[layer]
            # A filter that fires must keep a positive mean.
            leaves_nothing = (mean > 0) & (corrected <= 0)
            means[layer] = np.where(leaves_nothing, mean, corrected)
        make_read_only(means)
        return means

    @cached_property
    def scales(self) -> PerLayer:
        """What each filter's activation is divided by, all positive: layer name -> `(filters,)`.

        It is the mean, as far as `with_max_scale` allows; 1 for the filters in `silent`, and for
        the filters of layers that give the output of the network where that is kept.
        """
        kept, largest = self.recipe.kept_layers, self.recipe.max_scale
        return {
            layer: np.ones_like(mean) if layer in kept else scale_from_mean(mean, largest)
            for layer, mean in self.mean.items()
        }

    def with_max_scale(self, max_scale: float | None) -> "FilterMeans":
        """Bound what a filter's activation may be multiplied by when the network is normalized.

        A filter that barely fires in the photos measured has a tiny mean, which is known badly. On
        other photos it may be far above 1. With a bound, it is left smaller than 1 instead: its
        mean becomes `max_scale` times what it was. The network still computes the same function.

        Args:
            max_scale: the bound, above 0; None for none.

        Raises:
            ValueError: the bound is not a positive number.
        """
        if max_scale is not None and not 0 < max_scale < math.inf:
            raise ValueError(f"max_scale is {max_scale}; it must be a positive number")
        return replace(self, recipe=replace(self.recipe, max_scale=max_scale))

    @property
    def left_smaller(self) -> int:
        """The number of filters that fire and that `max_scale` leaves with a mean below 1."""
        return sum(
            int(np.count_nonzero((mean > 0) & (mean < self.scales[layer])))
            for layer, mean in self.mean.items()
            if layer not in self.recipe.kept_layers
        )

    @property
    def taken(self) -> Taken:
        """Which photos the means cover, and which of them were skipped."""
        recipe = self.recipe
        return Taken(self.image_count, self.skipped, recipe.taken_sha256, recipe.photos_sha256)

    @property
    def sums(self) -> Sums:
        """What was measured, without the recipe."""
        return Sums(self.taken, self.measured, self.correction)

    def plus(self, sums: Sums) -> "FilterMeans":
        """Give the means over these photos and others."""
        taken = self.taken + sums.taken
        recipe = replace(
            self.recipe, taken_sha256=taken.names_sha256, photos_sha256=taken.photos_sha256
        )
        measured = self.measured if sums.measured is None else self.measured + sums.measured
        correction = add_moments(self.correction, sums.correction)
        return FilterMeans(measured, recipe, taken.skipped, correction)

    def of_layers(self, layers: Collection[str]) -> "FilterMeans":
        """Give the means of some of the layers alone."""
        correction = None if self.correction is None else self.correction.of_layers(layers)
        return replace(self, measured=self.measured.of_layers(layers), correction=correction)

    @property
    def squared_deviation(self) -> PerLayer:
        """The sum over photos of the squared deviation from the mean, like `mean`."""
        return self.measured.squared_deviation

    @property
    def image_count(self) -> int:
        """The number of photos that were measured."""
        return self.measured.count

    @property
    def std_error(self) -> PerLayer:
        """The standard error of each mean: layer name -> `(filters,)`; nan for one photo.

        It is `sqrt(s^2 / N + e^2)`, where `s` is the standard deviation over the `N` photos, and
        `e` is `correction_std_error`. (This is exact if `s` is that of float32. The one of another
        precision differs by less than a percent.)
        """
        spread = std_deviation(self.squared_deviation, self.image_count)
        correction, root = self.correction_std_error, np.sqrt(self.image_count)
        return {
            layer: np.hypot(values / root, correction[layer]) for layer, values in spread.items()
        }

    @cached_property
    def interval(self) -> Intervals:
        """The 95 % confidence interval of each mean, nan for one photo: see `Intervals`."""
        return confidence_intervals(self.measured, self.std_error)

    @property
    def correction_std_error(self) -> PerLayer:
        """How far each mean may be from float32's: layer name -> `(filters,)`.

        It is `e = d sqrt(1/n - 1/N)`, where `d` is the standard deviation of the difference over
        the `n` of `N` photos that were run in both precisions: the standard error of a mean over a
        sample from a finite population. It is 0 where all photos were run in float32, and nan where
        only one was.
        """
        if self.correction is None or self.correction.count == self.image_count:
            return {layer: np.zeros_like(values) for layer, values in self.mean.items()}
        spread = std_deviation(self.correction.squared_deviation, self.correction.count)
        share = 1 / self.correction.count - 1 / self.image_count
        return {layer: values * np.sqrt(share) for layer, values in spread.items()}

    @property
    def silent(self) -> Mapping[str, NDArray[np.intp]]:
        """The filters whose mean is not above 0: layer name -> indices. They keep the scale 1.

        They never fired; or they stand before a rectifier with a leak, and their mean activation is
        negative.
        """
        return {layer: np.flatnonzero(values <= 0) for layer, values in self.mean.items()}

    @property
    def badly_known(self) -> Mapping[str, NDArray[np.intp]]:
        """The filters that fire and may have twice the mean: layer name -> indices.

        The longer side of such a filter's interval is more than `BADLY_KNOWN` of its mean. Most of
        them fire in few of the photos. There are none where a single photo was measured, since that
        gives no interval.
        """
        return {
            layer: np.flatnonzero((mean > 0) & (self.interval.longer[layer] > BADLY_KNOWN * mean))
            for layer, mean in self.mean.items()
        }

    @property
    def filter_count(self) -> int:
        """The number of filters in all layers together."""
        return sum(len(values) for values in self.mean.values())

    @property
    def uncertainty(self) -> float | None:
        """How well most means are known: 95 of 100 filters that fire are known to this, relative.

        A mean is known to `e` if `e` is the longer side of its 95 % confidence interval, relative
        to the mean. None where this cannot be told: with one photo, or if no filter fires.
        """
        if self.image_count < 2:
            return None
        relative = relative_to(self.mean, self.interval.longer)
        if not np.isfinite(relative).all() or not relative.size:
            return None
        return float(np.quantile(relative, KNOWN_SHARE, method="inverted_cdf"))

    def require_whole(self) -> None:
        """Refuse means over one of several parts of the photos.

        Raises:
            MeansError: these are such means.
        """
        if self.recipe.shard is not None:
            number, count = self.recipe.shard
            raise MeansError(
                f"the means are those of part {number} of {count}; add up all parts with "
                "merge-means first"
            )

    def require_photos(self) -> None:
        """Refuse the means of a part that counts no photos.

        Raises:
            MeansError: these are such means.
        """
        if not self.image_count:
            self.require_whole()

    def require_control(self) -> None:
        """Refuse means if nobody knows how far they are from float32's.

        Raises:
            MeansError: too few of the photos were measured in float32, too.
        """
        count = 0 if self.correction is None else self.correction.count
        if self.recipe.control and count < min(2, self.image_count):
            raise MeansError(
                f"of the {self.recipe.control} photos that were to be run in float32 as well, "
                f"{count} could be used; give a larger --control"
            )

    def require_layers(self, filters: Mapping[str, int], source: str = "the network") -> None:
        """Refuse a network that has other layers.

        Args:
            filters: layer name -> number of filters, in network order.
            source: what to call the network in the error.

        Raises:
            MeansError: a layer is missing, additional or of another size.
        """
        measured = {layer: len(values) for layer, values in self.mean.items()}
        for layer in {**filters, **measured}:
            if measured.get(layer) != filters.get(layer):
                raise MeansError(
                    f"the means do not fit {source}: layer {layer} has "
                    f"{_count_filters(measured.get(layer))} in the means and "
                    f"{_count_filters(filters.get(layer))} in the network; measure this network "
                    "with compute-means"
                )


def require_not_negative(what: str, values: Float64) -> None:
    """Raise a ValueError that names the first negative value."""
    refuse(what, "negative", values, values < 0)


def require_vector(what: str, values: Any) -> None:
    """Raise a ValueError if this is not a vector of float64."""
    if (
        not isinstance(values, np.ndarray)
        or values.dtype != np.float64
        or values.ndim != 1
        or not values.size
    ):
        raise ValueError(f"{what} is not a vector of float64")


def refuse(what: str, trouble: str, values: Float64, at: NDArray[np.bool_]) -> None:
    """Raise a ValueError that names the first value at which there is trouble."""
    if at.any():
        index = np.flatnonzero(at)[0]
        raise ValueError(f"{what} is {trouble} at filter {index} ({values[index]})")


def _count_filters(count: int | None) -> str:
    return "no filters" if count is None else f"{count} filters"
