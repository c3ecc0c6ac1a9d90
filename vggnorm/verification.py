"""Does a normalized network do what it promises?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.geometry import Geometry, Preprocessing
from vggnorm.graph import read_graph
from vggnorm.images import PhotoList, PhotoReader, find_photos
from vggnorm.means import FilterMeans, Moments, PerLayer, std_deviation
from vggnorm.measure import Progress, compute_means, no_photo_usable
from vggnorm.network import comparing_model, layers_not_finite, photo_size, require_measured_on
from vggnorm.rescale import scale_from_mean

PerPhoto = Mapping[str, NDArray[np.floating]]  # layer name -> (photos,)

MEAN_TOLERANCE = 1e-4  # of |mean - 1|, on the photos measured; float32 is a hundred times better
ACTIVATION_TOLERANCE = 1e-5  # relative to the layer's largest activation; float32 gives about 2e-6
FLOAT32_ROUNDING = 1e-7  # relative
STD_ERRORS, SHARE_WITHIN = 3.0, 0.95  # on other photos, so many filters must be this near to 1


@dataclass(frozen=True)
class MeansCheck:
    """Is every filter's mean activation 1?

    Attributes:
        same_photos: whether the photos are those, and all those, that the means were measured on.
        worst: the largest `|mean - 1|` over all filters, silent ones left out.
        worst_filter: where it is.
        median: the median of `|mean - 1|`.
        worst_std_errors: the largest `|mean - 1|` in standard errors of the difference between the photos used here
            and those measured; None on the same photos.
        median_std_errors: its median.
        share_within: how many of the filters are within `STD_ERRORS`.
    """

    same_photos: bool
    worst: float
    worst_filter: str
    median: float
    worst_std_errors: float | None = None
    median_std_errors: float | None = None
    share_within: float | None = None

    @property
    def passed(self) -> bool:
        """On the same photos, every mean must be 1; on others, nearly all must be as near as chance lets them be."""
        if self.share_within is None:
            return self.worst <= MEAN_TOLERANCE
        return self.share_within >= SHARE_WITHIN

    def __str__(self) -> str:
        text = f"worst |mean - 1| {self.worst:.1e} ({self.worst_filter}), median {self.median:.1e}"
        if self.share_within is None:
            return f"{text}, on the photos measured"
        return (
            f"{text}, on other photos than those measured: worst {self.worst_std_errors:.1f} standard errors, "
            f"median {self.median_std_errors:.1f}; {self.share_within:.1%} of the filters within {STD_ERRORS:.0f}"
        )


@dataclass(frozen=True)
class ActivationsCheck:
    """Is every layer's activation, times its means, the original's?

    Attributes:
        deviation: layer name -> the largest absolute deviation over photos, positions and filters. The network's
            outputs are among them, as `output 0 (layer name)`.
        largest: layer name -> the largest absolute activation of the original.
    """

    deviation: dict[str, float]
    largest: dict[str, float]

    @classmethod
    def of(cls, deviation: PerPhoto, largest: PerPhoto) -> "ActivationsCheck":
        """Take the maxima over one batch, of layer name -> `(photos,)`."""
        return cls(
            {layer: float(values.max()) for layer, values in deviation.items()},
            {layer: float(values.max()) for layer, values in largest.items()},
        )

    def __or__(self, other: "ActivationsCheck") -> "ActivationsCheck":
        """Join with what was found on other photos."""
        return ActivationsCheck(_larger(self.deviation, other.deviation), _larger(self.largest, other.largest))

    @property
    def relative(self) -> dict[str, float]:
        """Layer name -> the largest deviation divided by the layer's largest activation, if any is above 0."""
        return {layer: value / (self.largest[layer] or 1.0) for layer, value in self.deviation.items()}

    @property
    def passed(self) -> bool:
        """Whether all layers agree to float32's accuracy."""
        return all(relative <= ACTIVATION_TOLERANCE for relative in self.relative.values())  # not so with nan

    def __str__(self) -> str:
        worst = max(self.relative, key=lambda layer: np.nan_to_num(self.relative[layer], nan=np.inf))
        return f"largest deviation {self.relative[worst]:.1e} of the layer's largest activation ({worst})"


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
        """Whether there is none of either."""
        return not self.not_finite and not any(self.silent.values())

    def __str__(self) -> str:
        not_finite = f"weights not finite: {', '.join(self.not_finite) or 'none'}"
        silent = {layer: len(indices) for layer, indices in self.silent.items() if indices}
        if not silent:
            return f"{not_finite}; silent filters: none"
        counts = ", ".join(f"{count} in {layer}" for layer, count in silent.items())
        return f"{not_finite}; silent filters, left at scale 1: {counts}; measure on more photos"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        photos: how many photos were used.
        skipped: how many could not be used.
        means: is every filter's mean 1?
        activations: does the network compute what it did?
        weights: is nothing broken or silent?
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

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as values that JSON can hold, with `passed` for each check and for the whole."""
        report: dict[str, Any] = {"passed": self.passed, **asdict(self)}
        report["activations"]["relative"] = self.activations.relative
        for check in "means", "activations", "weights":
            report[check]["passed"] = getattr(self, check).passed
        return dict(_without_nan(report))

    def __str__(self) -> str:
        lines = [f"{self.photos} photos, {self.skipped} skipped"]
        for check, question in (
            (self.means, "every filter's mean activation is 1"),
            (self.activations, "activations times means are the original's"),
            (self.weights, "weights are finite and every filter fires"),
        ):
            lines.append(f"{'pass' if check.passed else 'FAIL'}  {question}\n      {check}")
        return "\n".join(lines)


def verify(
    model: keras.Model,
    normalized: keras.Model,
    data: str | Path | PhotoList,
    means: FilterMeans | None = None,
    *,
    limit: int = 64,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run photos through the original and the normalized network, and compare.

    Args:
        model: the original.
        normalized: the network to be checked.
        data: a folder of photos, or the photos that were found there.
        means: what it was normalized with: the photos are taken in the same way and order, and the means' own standard
            error is taken into account. Without it the scales are recovered from the activations, and the photos taken
            as `compute_means` does by default.
        limit: use so many photos; all those measured, in the same folder, make the check an exact one.
        batch_size: how many photos both networks are given at a time.
        progress: called after every batch with the numbers of photos done with and to be done.

    Raises:
        PhotoError: no photos are found, or none can be used.
        NetworkError: the networks are not of the same architecture, or of a kind that cannot be measured.
        MeansError: the means were measured on another original.
    """
    dense = means is not None and means.recipe.dense
    preprocessing: Preprocessing = "caffe" if means is None else means.recipe.preprocessing
    original, rescaled = read_graph(model, dense=dense), read_graph(normalized, dense=dense)
    if original.filters != rescaled.filters:
        raise NetworkError("the two networks do not have the same layers")
    photos = data if isinstance(data, PhotoList) else find_photos(data)
    if means is None:
        geometry, seed = Geometry(photo_size(model) or 224), 0
        scales = _recover_scales(model, normalized, photos, limit)
    else:
        require_measured_on(original, means)
        geometry, seed = means.recipe.geometry, means.recipe.seed
        scales = {layer: scale_from_mean(mean) for layer, mean in means.mean.items()}
    photos = photos.shuffled(seed)
    reader = PhotoReader(photos, geometry, limit=limit)
    comparing = comparing_model(original, rescaled, scales, preprocessing)
    moments, activations = None, None
    for batch in reader.batches(batch_size):  # (photos, size, size, 3) uint8
        found = comparing.predict_on_batch(batch)
        batch_moments = Moments.of(found["mean"])
        moments = batch_moments if moments is None else moments + batch_moments
        batch_activations = ActivationsCheck.of(found["deviation"], found["largest"])
        activations = batch_activations if activations is None else activations | batch_activations
        if progress is not None:
            progress(reader.done, reader.total)
    if moments is None or activations is None:
        raise no_photo_usable(photos, reader)
    same_photos = means is not None and means.recipe.photos_sha256 == reader.sha256
    return VerifyReport(
        photos=moments.count,
        skipped=len(reader.skipped),
        means=_check_means(moments, means, same_photos=same_photos),
        activations=activations,
        weights=WeightsCheck(layers_not_finite(normalized), _silent(moments.mean if means is None else means.mean)),
    )


def _recover_scales(
    model: keras.Model, normalized: keras.Model, photos: PhotoList, limit: int
) -> dict[str, NDArray[np.float64]]:
    """Find what each filter's activation was divided by, from its means in the two networks."""
    before, after = (compute_means(network, photos, limit=limit).mean for network in (model, normalized))
    return {
        layer: np.divide(before[layer], mean, out=np.ones_like(mean), where=(mean > 0) & (before[layer] > 0))
        for layer, mean in after.items()
    }


def _check_means(moments: Moments, means: FilterMeans | None, *, same_photos: bool) -> MeansCheck:
    names = [f"{layer}[{index}]" for layer, values in moments.mean.items() for index in range(len(values))]
    mean = np.concatenate(list(moments.mean.values()))
    fires = mean > 0 if means is None else np.concatenate(list(means.mean.values())) > 0
    off = np.where(fires, np.abs(mean - 1), 0.0)
    worst = int(np.argmax(off))  # the first nan, if there is one
    check = MeansCheck(same_photos, float(off[worst]), names[worst], float(np.median(off[fires])))
    if same_photos:
        return check
    std_errors = off[fires] / _std_error_of_difference(moments, means)[fires]
    return replace(
        check,
        worst_std_errors=float(np.max(std_errors)),
        median_std_errors=float(np.median(std_errors)),
        share_within=float(np.mean(std_errors <= STD_ERRORS)),
    )


def _std_error_of_difference(moments: Moments, means: FilterMeans | None) -> NDArray[np.float64]:
    """Give the standard error of the mean over these photos minus that over those measured, `(filters,)`.

    For photos drawn alike it is `sqrt(s**2 * (1 / n_here + 1 / n_measured))`, with `s` the standard deviation of a
    filter over photos, relative to its mean. Where the photos measured tell `s`, they do it better than the few here.
    """
    if means is not None and means.image_count > 1:
        spread = std_deviation(means.squared_deviation, means.image_count)
        relative = np.concatenate([spread[layer] / scale_from_mean(means.mean[layer]) for layer in spread])
        share = 1 / moments.count + 1 / means.image_count
    else:
        relative = np.concatenate(list(std_deviation(moments.squared_deviation, moments.count).values()))
        share = 1 / moments.count
    std_error: NDArray[np.float64] = np.maximum(relative * np.sqrt(share), FLOAT32_ROUNDING)
    return std_error


def _without_nan(value: Any) -> Any:
    """Put None for every number that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _silent(mean: PerLayer) -> dict[str, list[int]]:
    return {layer: np.flatnonzero(values <= 0).tolist() for layer, values in mean.items()}


def _larger(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {layer: float(np.maximum(one[layer], other[layer])) for layer in one}  # max() would lose nan
