"""Does a normalized network do what it promises?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.geometry import Geometry, Preprocessing
from vggnorm.graph import read_graph
from vggnorm.images import NOTHING_TAKEN, PhotoList, PhotoReader, Taken, find_photos, names_sha256
from vggnorm.means import FilterMeans
from vggnorm.measure import compute_means, no_photo_usable
from vggnorm.moments import Moments, PerLayer, std_deviation
from vggnorm.network import comparing_model, layers_not_finite, photo_size, require_measured_on
from vggnorm.precision import exact_float32, run_batch
from vggnorm.printable import join_lines
from vggnorm.progress import Progress
from vggnorm.rescale import scale_from_mean

PerPhoto = Mapping[str, NDArray[np.floating]]  # layer name -> (photos,)

# On the photos measured, a mean may be off by this, or by float32's rounding where a filter hardly fires: there its
# activation is a small difference of numbers as large as the layer's largest activation.
MEAN_TOLERANCE, ROUNDING = 1e-4, 1e-6
ACTIVATION_TOLERANCE = 1e-5  # relative to the layer's largest activation; float32 gives about 2e-6
FLOAT32_ROUNDING = 1e-7  # relative
# In standard errors. In 1,500 random splits of 100 COCO photos, no layer's median was above 2.9; single filters that
# hardly fire may be far off on other photos, but not, by 5.7 at most, on a part of those measured.
LAYER_LIMIT, FILTER_LIMIT = 4.0, 10.0

Photos = Literal["all", "part", "other"]  # of those measured


@dataclass(frozen=True)
class MeansCheck:
    """Is every filter's mean activation 1?

    Attributes:
        photos: whether the photos are `all` those that the means were measured on, a `part` of them, or `other` ones.
        worst: the largest `|mean - 1|` over all filters, silent ones left out.
        worst_filter: where it is.
        median: the median of `|mean - 1|`.
        beyond: how many filters are further from 1 than rounding lets them be; of meaning on `all` photos.
        worst_std_errors: the largest `|mean - 1|` in standard errors of the difference between the photos used here
            and those measured; None on `all`, and where a single photo does not tell.
        layer_std_errors: layer name -> its median; empty where `worst_std_errors` is None.
    """

    photos: Photos
    worst: float
    worst_filter: str
    median: float
    beyond: int
    worst_std_errors: float | None = None
    layer_std_errors: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """On all photos measured, every mean must be 1; on others, every layer as near as chance lets it be."""
        if self.photos == "all":
            return self.beyond == 0
        if self.worst_std_errors is None:
            return False
        near = max(self.layer_std_errors.values()) <= LAYER_LIMIT
        return near and (self.photos == "other" or self.worst_std_errors <= FILTER_LIMIT)

    def __str__(self) -> str:
        where = {
            "all": "the photos measured",
            "part": "a part of the photos measured",
            "other": "other photos than those measured",
        }[self.photos]
        text = f"worst |mean - 1| {self.worst:.1e} ({self.worst_filter}), median {self.median:.1e}, on {where}"
        if self.photos == "all":
            return f"{text}; {self.beyond} filters further off than rounding explains"
        if self.worst_std_errors is None:
            return f"{text}; of how many standard errors, a single photo does not tell"
        layer = max(self.layer_std_errors, key=lambda name: self.layer_std_errors[name])
        return (
            f"{text}; in standard errors: worst {self.worst_std_errors:.1f}, "
            f"worst layer's median {self.layer_std_errors[layer]:.1f} ({layer})"
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
            lines += [f"{'pass' if check.passed else 'FAIL'}  {question}", f"      {check}"]
        return join_lines(lines)


@np.errstate(invalid="ignore", over="ignore")  # a broken network's figures are inf or nan, which the report says
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
    comparing = comparing_model(original, rescaled, scales, preprocessing, (geometry.height, geometry.width))
    moments, activations, taken = None, None, NOTHING_TAKEN
    with exact_float32():
        for batch in reader.batches(batch_size):
            taken = batch.taken
            if len(batch.pixels):
                found = run_batch(comparing, batch.pixels)
                batch_moments = Moments.of(found["mean"])
                moments = batch_moments if moments is None else moments + batch_moments
                batch_activations = ActivationsCheck.of(found["deviation"], found["largest"])
                activations = batch_activations if activations is None else activations | batch_activations
            if progress is not None:
                progress(taken.count, reader.total(taken), None)
    if moments is None or activations is None:
        raise no_photo_usable(photos, taken.skipped)
    slack = {layer: ROUNDING * activations.largest[layer] / scales[layer] for layer in scales}
    if means is not None:  # measured in another precision, they may be off by what is not known of the correction
        unknown = means.correction_std_error
        slack = {layer: np.maximum(slack[layer], FILTER_LIMIT * unknown[layer] / scales[layer]) for layer in scales}
    return VerifyReport(
        photos=moments.count,
        skipped=len(taken.skipped),
        means=_check_means(moments, means, _compare_photos(photos, taken, means), slack),
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


def _compare_photos(photos: PhotoList, taken: Taken, means: FilterMeans | None) -> Photos:
    if means is None:
        return "other"
    if means.recipe.photos_sha256 == taken.photos_sha256:
        return "all"
    measured = means.image_count + len(means.skipped)
    # All of their names with other pixels, as another decoder may give them, are not all of them.
    is_part = taken.count < measured and means.recipe.taken_sha256 == names_sha256(photos.names[:measured])
    return "part" if is_part else "other"


def _check_means(moments: Moments, means: FilterMeans | None, photos: Photos, slack: PerLayer) -> MeansCheck:
    """Check the normalized network's means.

    Args:
        moments: its moments over the photos used here.
        means: what was measured.
        photos: how the photos relate to those measured.
        slack: layer name -> `(filters,)`, what rounding may do to each mean.
    """
    fires = {layer: (mean if means is None else means.mean[layer]) > 0 for layer, mean in moments.mean.items()}
    off = {layer: np.where(fires[layer], np.abs(mean - 1), 0.0) for layer, mean in moments.mean.items()}
    every = np.concatenate(list(off.values()))
    names = [f"{layer}[{index}]" for layer, values in off.items() for index in range(len(values))]
    worst = int(np.argmax(every))  # the first nan, if there is one
    within = {layer: values <= np.maximum(MEAN_TOLERANCE, slack[layer]) for layer, values in off.items()}
    check = MeansCheck(
        photos,
        worst=float(every[worst]),
        worst_filter=names[worst],
        median=float(np.median(every[np.concatenate(list(fires.values()))])),
        beyond=sum(int((~values).sum()) for values in within.values()),
    )
    if photos == "all" or (moments.count if means is None else means.image_count) == 1:
        return check
    std_error = _std_error_of_difference(moments, means, photos)
    std_errors = {layer: (off[layer] / std_error[layer])[fires[layer]] for layer in off if fires[layer].any()}
    return replace(
        check,
        worst_std_errors=max(float(values.max()) for values in std_errors.values()),
        layer_std_errors={layer: float(np.median(values)) for layer, values in std_errors.items()},
    )


def _std_error_of_difference(moments: Moments, means: FilterMeans | None, photos: Photos) -> PerLayer:
    """Give the standard error of the mean over these photos minus that over those measured: layer -> `(filters,)`.

    With `s` the standard deviation of a filter over photos, relative to its mean, it is `s * sqrt(1/n + 1/N)` for `n`
    photos here and `N` others measured, and `s * sqrt(1/n - 1/N)` if those here are `n` of the `N`. Where the photos
    measured tell `s`, they do it better than the few here.
    """
    if means is None:
        spread = std_deviation(moments.squared_deviation, moments.count)
        share = 1 / moments.count
    else:
        spread = {
            layer: values / scale_from_mean(means.mean[layer])
            for layer, values in std_deviation(means.squared_deviation, means.image_count).items()
        }
        share = 1 / moments.count + (-1 if photos == "part" else 1) / means.image_count
    std_error = {layer: values * np.sqrt(share) for layer, values in spread.items()}
    if means is not None:
        correction = means.correction_std_error
        std_error = {
            layer: np.hypot(values, correction[layer] / scale_from_mean(means.mean[layer]))
            for layer, values in std_error.items()
        }
    return {layer: np.maximum(values, FLOAT32_ROUNDING) for layer, values in std_error.items()}


def _without_nan(value: Any) -> Any:
    """Put None for every number that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _silent(mean: PerLayer) -> dict[str, list[int]]:
    return {layer: np.flatnonzero(values <= 0).tolist() for layer, values in mean.items()}


def _larger(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {layer: float(np.maximum(one[layer], other[layer])) for layer in one}  # max() would lose nan
