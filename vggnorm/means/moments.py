"""Count, mean and spread over photos, as running sums that merge."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
PerLayer = Mapping[str, Float64]  # layer name -> (filters,), in network order


@dataclass(frozen=True)
class Moments:
    """The count, mean and sum of squared deviations over photos. `+` merges two sets of photos.

    The arrays become read-only.

    Attributes:
        count: the number of photos.
        mean: layer name -> `(filters,)`, the mean over the photos.
        squared_deviation: layer name -> `(filters,)`, the sum over the photos of the squared
            deviation from the mean.
    """

    count: int
    mean: PerLayer
    squared_deviation: PerLayer

    def __post_init__(self) -> None:
        make_read_only(self.mean)
        make_read_only(self.squared_deviation)

    @classmethod
    def of(cls, per_photo: Mapping[str, NDArray[np.floating]]) -> Self:
        """Compute the moments of one batch.

        Args:
            per_photo: layer name -> `(photos, filters)`, each photo's mean activation over
                positions.
        """
        batch = {layer: values.astype(np.float64) for layer, values in per_photo.items()}
        mean = {layer: values.mean(axis=0) for layer, values in batch.items()}
        squared_deviation = {
            layer: ((values - mean[layer]) ** 2).sum(axis=0) for layer, values in batch.items()
        }
        return cls(len(next(iter(batch.values()))), mean, squared_deviation)

    @classmethod
    def of_none(cls, filters: Mapping[str, int]) -> Self:
        """Give the moments of no photo.

        Args:
            filters: layer name -> number of filters.
        """
        zeros = {layer: np.zeros(count) for layer, count in filters.items()}
        return cls(0, zeros, zeros)

    def of_layers(self, layers: Collection[str]) -> "Moments":
        """Give the moments of some of the layers alone."""
        mean = {layer: values for layer, values in self.mean.items() if layer in layers}
        deviation = {layer: self.squared_deviation[layer] for layer in mean}
        return Moments(self.count, mean, deviation)

    def __add__(self, other: "Moments") -> "Moments":
        """Merge two disjoint sets of photos.

        The formula is that of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
        for Computing Sample Variances", 1979. It is stable for any number of photos.
        """
        if not other.count:
            return self
        count = self.count + other.count
        mean, squared_deviation = {}, {}
        for layer in self.mean:
            delta = other.mean[layer] - self.mean[layer]
            mean[layer] = self.mean[layer] + delta * (other.count / count)
            squared_deviation[layer] = (
                self.squared_deviation[layer]
                + other.squared_deviation[layer]
                + delta**2 * (self.count * other.count / count)
            )
        return Moments(count, mean, squared_deviation)


def make_read_only(values: PerLayer) -> None:
    """Make the arrays of all layers read-only."""
    for array in values.values():
        array.flags.writeable = False


def relative_to(mean: PerLayer, values: PerLayer) -> Float64:
    """Divide values by means: one vector over the filters of all layers that fire."""
    ratios = []
    for layer, layer_mean in mean.items():
        fires = layer_mean > 0
        ratios.append(values[layer][fires] / layer_mean[fires])
    return np.concatenate(ratios)


def std_deviation(squared_deviation: PerLayer, count: int) -> PerLayer:
    """Give each filter's standard deviation over photos: the unbiased one; nan for one photo."""
    divisor = count - 1 if count > 1 else np.nan
    return {layer: np.sqrt(values / divisor) for layer, values in squared_deviation.items()}
