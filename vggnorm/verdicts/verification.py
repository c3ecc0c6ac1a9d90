"""What `verify` found: three checks of a normalized network, and their limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

PerPhoto = Mapping[str, NDArray[np.floating]]  # layer name -> (photos,)

# Relative to the layer's largest activation. float32 leaves about 2e-6.
ACTIVATION_TOLERANCE = 1e-5

# In standard errors. In 1,500 random splits of 100 COCO photos, no layer's median exceeded 2.9.
# A single filter that hardly ever fires may be far off on other photos. On a part of the photos
# that were measured it was off by 5.7 at most.
LAYER_LIMIT = 4.0
FILTER_LIMIT = 10.0


class PhotosUsed(StrEnum):
    """How the photos used here relate to those that the means were measured on."""

    ALL = "all"
    PART = "part"
    OTHER = "other"


@dataclass(frozen=True)
class MeansCheck:
    """Is every filter's mean activation 1?

    Attributes:
        photos: how the photos used here relate to those that the means were measured on.
        worst: the largest `|mean - 1|` over all filters that fire.
        worst_filter: which filter that is, as `layer[index]`.
        median: the median of `|mean - 1|` over all filters that fire.
        beyond: how many filters are further from 1 than rounding explains. This counts only if
            `photos` is `ALL`.
        worst_std_errors: the largest `|mean - 1|` in standard errors of the difference between the
            mean over the photos used here and the mean over those measured. None if `photos` is
            `ALL`, and if the means were measured on a single photo.
        layer_std_errors: layer name -> the layer's median of the same; empty where
            `worst_std_errors` is None.
    """

    photos: PhotosUsed
    worst: float
    worst_filter: str
    median: float
    beyond: int
    worst_std_errors: float | None = None
    layer_std_errors: dict[str, float] = field(default_factory=dict)

    @property
    def worst_layer(self) -> str:
        """The layer with the largest median in standard errors."""
        return max(self.layer_std_errors, key=lambda name: self.layer_std_errors[name])

    @property
    def passed(self) -> bool:
        """Whether every mean is 1: exactly on all photos measured, within chance on others."""
        if self.photos is PhotosUsed.ALL:
            return self.beyond == 0
        if self.worst_std_errors is None:
            return False
        if not self.layer_std_errors[self.worst_layer] <= LAYER_LIMIT:
            return False
        return self.photos is PhotosUsed.OTHER or self.worst_std_errors <= FILTER_LIMIT


@dataclass(frozen=True)
class ActivationsCheck:
    """Is every layer's activation, multiplied by its means, the original's?

    Attributes:
        deviation: layer name -> the largest absolute deviation over photos, positions and filters.
            The network's outputs are included, as `output 0 (layer name)`.
        largest: layer name -> the original's largest absolute activation.
    """

    deviation: dict[str, float]
    largest: dict[str, float]

    @classmethod
    def of(cls, deviation: PerPhoto, largest: PerPhoto) -> "ActivationsCheck":
        """Take the maxima over one batch. Both arguments map a layer name to `(photos,)`."""
        return cls(
            {layer: float(values.max()) for layer, values in deviation.items()},
            {layer: float(values.max()) for layer, values in largest.items()},
        )

    def __or__(self, other: "ActivationsCheck") -> "ActivationsCheck":
        """Join with what was found on other photos."""
        return ActivationsCheck(
            _larger(self.deviation, other.deviation), _larger(self.largest, other.largest)
        )

    @property
    def relative(self) -> dict[str, float]:
        """Layer name -> the deviation divided by the largest activation, if that is not 0."""
        return {
            layer: value / (self.largest[layer] or 1.0) for layer, value in self.deviation.items()
        }

    @property
    def worst_layer(self) -> str:
        """The layer with the largest relative deviation. nan counts as the largest."""
        relative = self.relative
        return max(relative, key=lambda layer: np.nan_to_num(relative[layer], nan=np.inf))

    @property
    def passed(self) -> bool:
        """Whether all layers agree to the accuracy of float32. A deviation of nan fails."""
        return all(value <= ACTIVATION_TOLERANCE for value in self.relative.values())


@dataclass(frozen=True)
class WeightsCheck:
    """Are all weights finite, and does every filter fire?

    Attributes:
        not_finite: the layers with a weight that is nan or infinite.
        silent: layer name -> indices of the filters that never fired.
    """

    not_finite: list[str]
    silent: dict[str, list[int]]

    @property
    def passed(self) -> bool:
        """Whether all weights are finite and every filter fires."""
        return not self.not_finite and not any(self.silent.values())


@dataclass(frozen=True)
class Verification:
    """What the photos showed.

    Attributes:
        photos: how many photos were used.
        skipped: how many photos could not be used.
        means: is every filter's mean 1?
        activations: does the network compute what the original computes?
        weights: are all weights finite, and does every filter fire?
    """

    photos: int
    skipped: int
    means: MeansCheck
    activations: ActivationsCheck
    weights: WeightsCheck

    @property
    def passed(self) -> bool:
        """Whether all three checks passed."""
        return self.means.passed and self.activations.passed and self.weights.passed


def _larger(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Take the larger of two values, layer by layer. Unlike `max`, this keeps nan."""
    return {layer: float(np.maximum(one[layer], other[layer])) for layer in one}
