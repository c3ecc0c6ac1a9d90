"""What `identify` found: the scales that a file's weights show, and what the file is."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggnorm.rule import Float64

Bools = NDArray[np.bool_]
Matched = Literal["name", "order"]


class Rounding(NamedTuple):
    """How much the format in which numbers were stored may have changed them.

    Attributes:
        format: its name.
        relative: the largest relative change.
        step: the distance between the smallest numbers.
    """

    format: str
    relative: float
    step: float

    def allows(self, off: Float64, size: Float64, count: int = 1) -> Bools:
        """Tell which deviations rounding explains.

        Args:
            off: `(filters,)`, the norms of the deviations.
            size: `(filters,)`, the norms of the vectors that deviate.
            count: how many numbers each vector has.

        Returns:
            `(filters,)`
        """
        limit = self.relative * size + self.step * np.sqrt(count)
        return np.asarray(np.isfinite(off) & (off <= limit))


@dataclass(frozen=True)
class LayerScales:
    """What one layer's weights show.

    Attributes:
        scale: `(filters,)`, what each filter is divided by; nan where the weights do not show it,
            because they are other weights or all zero.
        residual: `(filters,)`, the part of each filter's kernel that the scale does not explain: 0
            to 1, or above 1 if the kernel is unlike the original's.
        explained: `(filters,)`, whether rounding explains the residual.
        alike: `(filters,)`, whether the weights are the original's, up to a scale and small
            deviations.
        bias_deviation: `(filters,)`, `|b' s / b - 1|`; inf where only one of them is 0, nan where
            the scale is.
        bias_fits: `(filters,)`, whether rounding explains that deviation.
        incoming: `(channels,)`, what the layer assumes that the incoming channels are divided by;
            nan where the weights do not show it.
        link: `(channels,)`, `incoming` divided by what the layers before divide the channels by;
            nan where either is unknown.
        linked: `(channels,)`, whether `link` is 1 or unknown.
        norm: `(filters,)`, the norm of each filter's kernel.
        drift: `(filters,)`, the value before the rectifier if all incoming activations were 1:
            `sum_kc W' + b'`. None if the layer does not take rectified activations directly.
    """

    scale: Float64
    residual: Float64
    explained: Bools
    alike: Bools
    bias_deviation: Float64
    bias_fits: Bools
    incoming: Float64
    link: Float64
    linked: Bools
    norm: Float64
    drift: Float64 | None = None


@dataclass(frozen=True)
class Recovery:
    """The scales that a network's weights show.

    Attributes:
        layers: layer name -> what was found, in network order. Layers that were not given are left
            out.
        rounding: the format that the weights were stored in.
        takes_photos: whether the first of the layers is the network's first.
        colours: for each channel of the photo, which channel of the original's photo it is: `(0, 1,
            2)` if the order is the same.
        normalizations: name of a batch normalization -> the largest relative difference between
            one of its weights and what the scales before it make of the original's.
    """

    layers: dict[str, LayerScales]
    rounding: Rounding
    takes_photos: bool
    colours: tuple[int, ...]
    normalizations: dict[str, float]


class MeansRelation(Enum):
    """How scales relate to a set of means."""

    EQUAL = auto()
    """They are these means."""
    NEARLY_EQUAL = auto()
    """Almost all of them are close: other photos do not give means this close."""
    SIMILAR = auto()
    """They may be means of the same filters over other photos."""
    UNRELATED = auto()
    """They are not means of these filters."""


@dataclass(frozen=True)
class MeansComparison:
    """How scales compare with a set of means.

    Attributes:
        source: where the means come from.
        ratio: layer name -> `(filters,)`, each scale divided by the one that the means give; nan
            where the scale is unknown.
        correlation: layer name -> the correlation, over the layer's filters, of the logarithms of
            both; nan where either does not vary.
        close: ratios that differ from 1 by no more than this count as close.
        relation: how the scales relate to the means.
    """

    source: str
    ratio: dict[str, Float64]
    correlation: dict[str, float]
    close: float
    relation: MeansRelation

    @property
    def every_ratio(self) -> Float64:
        """The known ratios of all filters together."""
        every: Float64 = np.concatenate(list(self.ratio.values()))
        return every[np.isfinite(every)]

    @property
    def median(self) -> float:
        """The median ratio over all filters."""
        return float(np.median(self.every_ratio))

    @property
    def share_close(self) -> float:
        """The share of filters whose ratio is close to 1."""
        return float((np.abs(self.every_ratio - 1) <= self.close).mean())


class FileKind(StrEnum):
    """What a file of weights is."""

    ORIGINAL = "original"
    NORMALIZED = "normalized"
    POSSIBLY_NORMALIZED = "possibly normalized"
    RESCALED = "rescaled"
    SOMETHING_ELSE = "something else"


class LayerState(StrEnum):
    """What one layer is, by most of its filters."""

    ORIGINAL = "original"
    NEARLY_ORIGINAL = "nearly original"
    RESCALED = "rescaled"
    NEARLY_RESCALED = "nearly rescaled"
    OTHER_WEIGHTS = "other weights"

    @property
    def is_nearly(self) -> bool:
        """Whether the layer deviates by more than rounding explains."""
        return self in {LayerState.NEARLY_ORIGINAL, LayerState.NEARLY_RESCALED}


class Fault(Enum):
    """What keeps a layer, or a few of its filters, from being a pure rescaling."""

    OTHER_WEIGHTS = auto()
    NEGATIVE_SCALE = auto()
    UNKNOWN_SCALE = auto()
    BIAS_SCALE = auto()
    """The bias has another scale than the kernel."""
    CHANNEL_SCALE = auto()
    """A channel is taken in at another scale than the layers before give it."""
    TURNED_KERNELS = auto()
    """The kernels of the whole layer are turned by 180 degrees."""


@dataclass(frozen=True)
class Trouble:
    """A fault and where it is: the filters' or channels' indices, or none for the whole layer."""

    fault: Fault
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerVerdict:
    """What one layer is, by most of its filters, and what is wrong with the others."""

    state: LayerState
    troubles: tuple[Trouble, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether the layer or a part of it is not a rescaling."""
        return self.state is LayerState.OTHER_WEIGHTS or bool(self.troubles)


class Reason(Enum):
    """Why scales are not mean activations."""

    NEGATIVE = auto()
    CONSTANT = auto()
    """All filters of a layer have the same scale."""
    POWERS_OF_TWO = auto()
    EQUAL_NORMS = auto()
    """All kernels of a layer have the same norm."""
    LARGE_DRIFT = auto()
    """If all means were 1, many filters of a layer would have a larger mean."""


@dataclass(frozen=True)
class Objection:
    """A reason why scales are not mean activations, with its numbers.

    Attributes:
        reason: what it is.
        count: for `NEGATIVE`, how many scales are negative.
        layer: for `LARGE_DRIFT`, the worst layer.
        share: for `LARGE_DRIFT`, the share of that layer's filters.
        limit: for `LARGE_DRIFT`, the mean that these filters would exceed.
    """

    reason: Reason
    count: int = 0
    layer: str = ""
    share: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What a file is.

    Attributes:
        kind_of_scales: what the scales show, with turned kernels turned back.
        mostly_turned: whether most layers have their kernels turned by 180 degrees.
        objection: why the scales are not mean activations, if something in the weights shows it.
        layers: layer name -> what the layer is.
        normalizations: name of a batch normalization that does not fit the scales before it -> the
            relative difference.
        pixel_factors: what the pixels are divided by: nothing if the photos are as the original
            takes them, one factor for all channels, or one for each.
        intact: whether all layers that were compared are a pure rescaling of the original's.
    """

    kind_of_scales: FileKind
    mostly_turned: bool
    objection: Objection | None
    layers: dict[str, LayerVerdict]
    normalizations: dict[str, float]
    pixel_factors: tuple[float, ...]
    intact: bool

    @property
    def kind(self) -> FileKind:
        """What the file is, by the layers whose weights are the original's up to a scale."""
        return FileKind.SOMETHING_ELSE if self.mostly_turned else self.kind_of_scales


@dataclass(frozen=True)
class Findings:
    """What a file of weights is, and what that was concluded from.

    Attributes:
        original: the name of the original.
        matched: whether the file's layers were matched by `name` or by `order` and shape.
        names: layer name in the original -> its name in the file, for the layers compared.
        missing: layers of the original that the file lacks.
        extra: layers with weights in the file that the original lacks.
        prepended: which of the extra layers is a 1x1 convolution of the photo before the first
            layer.
        converted: what the file's network takes photos as, if the original takes them otherwise and
            was converted to that before the two were compared.
        recovery: the scales.
        turned: layers whose kernels are turned by 180 degrees. They were turned back before the
            scales were recovered.
        comparison: how the scales compare with means, if there are any.
        verdict: what the file is.
    """

    original: str
    matched: Matched
    names: dict[str, str]
    missing: list[str]
    extra: list[str]
    prepended: str | None
    converted: str | None
    recovery: Recovery
    turned: list[str]
    comparison: MeansComparison | None
    verdict: Verdict

    @property
    def kind(self) -> FileKind:
        """What the file is, by the layers whose weights are the original's up to a scale."""
        return self.verdict.kind

    @property
    def intact(self) -> bool:
        """Whether all layers that were compared are a pure rescaling of the original's."""
        return self.verdict.intact
