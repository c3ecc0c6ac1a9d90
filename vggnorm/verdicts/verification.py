"""What `verify` found: three checks of a normalized network, and their limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

PerPhoto = Mapping[str, NDArray[np.floating]]  # layer name -> (photos,)

# Relative to the layer's largest activation. float32 leaves about 2e-6.
ACTIVATION_TOLERANCE = 1e-5

# How far off a mean may be, in multiples of what its 95 % interval reaches: the median filter of a
# layer, and a single filter. See docs/intervals.md for how often random halves of COCO photos were
# further off. A filter that hardly ever fires may be far off on other photos, so that a single one
# counts only on a part of the photos that were measured.
LAYER_LIMIT = 2.0
FILTER_LIMIT = 5.0


class PhotosUsed(StrEnum):
    """How the photos used here relate to those that the means were measured on."""

    ALL = "all"
    PART = "part"
    OTHER = "other"


@dataclass(frozen=True)
class BadlyKnown:
    """A filter of the normalized network whose mean is badly known from the photos measured.

    Attributes:
        name: as `layer[index]`.
        mean: its mean over the photos measured: 1, or less with a bound on the scales.
        interval: the 95 % interval of that mean.
        here: its mean over the photos used here.
        interval_here: the 95 % interval of that one; nan for a single photo.
    """

    name: str
    mean: float
    interval: tuple[float, float]
    here: float
    interval_here: tuple[float, float]


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
        firing: how many filters fire.
        left_smaller: how many of them the network was made to leave smaller than 1, by a bound on
            the scales. They are held to what that bound makes of them.
        agreeing: how many means are 1 within the 95 % interval of the difference between the mean
            over the photos used here and the mean over those measured. None if `photos` is `ALL`,
            and if the means were measured on a single photo.
        worst_reach: the largest `|mean - 1|`, divided by how far that interval reaches towards 1.
            None where `agreeing` is.
        layer_reach: layer name -> the layer's median of the same; empty where `agreeing` is None.
        symmetric: whether the intervals of the means over the photos measured, with which these
            were compared, are symmetric because their third moments are not known.
        badly_known: the filters that fire and may have twice the mean, by the interval of the
            photos measured, those first that fire most, or may.
    """

    photos: PhotosUsed
    worst: float
    worst_filter: str
    median: float
    beyond: int
    firing: int = 0
    left_smaller: int = 0
    agreeing: int | None = None
    worst_reach: float | None = None
    layer_reach: dict[str, float] = field(default_factory=dict)
    symmetric: bool = False
    badly_known: tuple[BadlyKnown, ...] = ()

    @property
    def worst_layer(self) -> str:
        """The layer whose median filter is furthest off, relative to its interval."""
        return max(self.layer_reach, key=lambda name: self.layer_reach[name])

    @property
    def passed(self) -> bool:
        """Whether every mean is 1: exactly on all photos measured, within chance on others."""
        if self.photos is PhotosUsed.ALL:
            return self.beyond == 0
        if self.worst_reach is None:
            return False
        if not self.layer_reach[self.worst_layer] <= LAYER_LIMIT:
            return False
        return self.photos is PhotosUsed.OTHER or self.worst_reach <= FILTER_LIMIT


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
class OutputScale:
    """What became of the network's output.

    Attributes:
        layers: the normalized layers whose filters give the output, if any do.
        kept: whether their filters keep the scale 1, so that the output is as it was. Otherwise, it
            is divided by their means.
    """

    layers: tuple[str, ...]
    kept: bool


@dataclass(frozen=True)
class Verification:
    """What the photos showed.

    Attributes:
        photos: how many photos were used.
        skipped: how many photos could not be used.
        means: is every filter's mean 1?
        activations: does the network compute what the original computes?
        weights: are all weights finite, and does every filter fire?
        output: what became of the network's output.
    """

    photos: int
    skipped: int
    means: MeansCheck
    activations: ActivationsCheck
    weights: WeightsCheck
    output: OutputScale

    @property
    def passed(self) -> bool:
        """Whether all three checks passed."""
        return self.means.passed and self.activations.passed and self.weights.passed


def _larger(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Take the larger of two values, layer by layer. Unlike `max`, this keeps nan."""
    return {layer: float(np.maximum(one[layer], other[layer])) for layer in one}
