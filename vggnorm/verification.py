"""Does a normalized network do what it promises?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Float64, Moments, PerLayer, std_deviation
from vggnorm.measure import compute_means
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.instruments import comparing_model
from vggnorm.network.precision import exact_float32, run_batch
from vggnorm.network.weights import layers_not_finite
from vggnorm.normalization import require_measured_on
from vggnorm.photos.digests import names_sha256
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry, Preprocessing
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader, no_photo_usable
from vggnorm.photos.taken import NOTHING_TAKEN, Taken
from vggnorm.report.verification import format_verification, verification_to_dict
from vggnorm.rule import scale_from_mean
from vggnorm.run.options import Progress, Until
from vggnorm.verdicts.verification import (
    FILTER_LIMIT,
    ActivationsCheck,
    MeansCheck,
    PhotosUsed,
    Verification,
    WeightsCheck,
)

# On the photos measured, a mean may be off by MEAN_TOLERANCE. Where a filter hardly ever fires, it
# may be off by the rounding of float32, relative to the layer's largest activation: there the
# activation is a small difference of numbers that large.
MEAN_TOLERANCE, ROUNDING = 1e-4, 1e-6

# Relative to the mean. No standard error is taken to be smaller.
FLOAT32_ROUNDING = 1e-7


class VerifyReport(Verification):
    """What `verify` found. `print` shows the three checks.

    The attributes are those of `vggnorm.verdicts.verification.Verification`.
    """

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as values that JSON can hold, with `passed` for each check and overall."""
        return verification_to_dict(self)

    def __str__(self) -> str:
        return format_verification(self)


@dataclass(frozen=True, eq=False)
class _Promise:
    """What a normalized network was made with, and so what it is held to.

    Attributes:
        scales: layer name -> `(filters,)`, what each filter's activation was divided by.
        silent: layer name -> indices of the filters that never fired.
        spread: layer name -> `(filters,)`, the standard deviation over photos of each normalized
            activation; None if a single photo was measured.
        unknown: layer name -> `(filters,)`, the standard error, relative to the scale, that is left
            of measuring in another precision than float32.
        count: how many photos the scales were measured on; infinite if that is not known.
        geometry: how a photo is resized.
        preprocessing: what the network takes photos as.
        seed: of the random order of the photos.
        measured: the photos that the scales were measured on; None if that is not known.
    """

    scales: PerLayer
    silent: Mapping[str, NDArray[np.intp]]
    spread: PerLayer | None
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


@dataclass(frozen=True, eq=False)
class _Compared:
    """What photos gave in both networks.

    Attributes:
        moments: the means of the normalized network.
        activations: how far its activations are from the original's.
    """

    moments: Moments
    activations: ActivationsCheck

    def __add__(self, other: "_Compared") -> "_Compared":
        """Add what other photos gave."""
        return _Compared(self.moments + other.moments, self.activations | other.activations)


# The figures of a broken network are inf or nan, which the report shows.
@np.errstate(invalid="ignore", over="ignore")
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
        normalized: the network to check, or its first layers.
        data: where photos are, as for `vggnorm.find_photos`, or the photos that were found there.
        means: the means it was normalized with. The photos are then taken in the same way and
            order as when they were measured, and the standard error of the means counts. Without
            means, the scales are recovered from the activations of both networks, and the photos
            are taken as `compute_means` takes them by default.
        limit: the number of photos to use. If these are all the photos that were measured, in the
            same folder, the check is exact.
        batch_size: how many photos both networks are given at a time.
        progress: called after every batch with the number of photos done and the number to do.

    Raises:
        PhotoError: no photos are found, or none can be used.
        NetworkError: the networks have different architectures or padding, or cannot be measured.
        MeansError: the means were measured on another original.
    """
    dense = means is not None and means.recipe.dense
    original, rescaled = read_graph(model, dense=dense), read_graph(normalized, dense=dense)
    whole = original
    if original.filters != rescaled.filters:
        original = _cut_like(original, rescaled, dense=dense)
    if original.padding != rescaled.padding:
        raise NetworkError(
            f"the original has the padding {original.padding}, and the normalized network "
            f"{rescaled.padding}; load both with the same padding (a saved network has zeros)"
        )
    photos = data if isinstance(data, PhotoList) else find_photos(data)
    if means is None:
        promise = _recover_promise(original.model, normalized, photos, limit)
    else:
        require_measured_on(whole, means)
        promise = _promise_of(means.of_layers(original.filters))
    photos = photos.shuffled(promise.seed)
    reader = PhotoReader(photos, promise.geometry, limit=limit)
    comparing = comparing_model(
        original,
        rescaled,
        promise.scales,
        promise.preprocessing,
        (promise.geometry.height, promise.geometry.width),
    )
    compared, taken = _compare(comparing, reader, batch_size, progress)
    if compared is None:
        raise no_photo_usable(photos, taken.skipped)
    used = _photos_used(promise, photos, taken)
    slack = _slack(promise, compared.activations)
    silent = {layer: indices.tolist() for layer, indices in promise.silent.items()}
    return VerifyReport(
        photos=compared.moments.count,
        skipped=len(taken.skipped),
        means=_check_means(compared.moments, promise, used, slack),
        activations=compared.activations,
        weights=WeightsCheck(layers_not_finite(normalized), silent),
    )


def _cut_like(original: Graph, rescaled: Graph, *, dense: bool) -> Graph:
    """Cut the original behind the last layer that a normalized part of it has.

    Raises:
        NetworkError: the other network is not the first layers of the original.
    """
    first = list(original.filters.items())[: len(rescaled.filters)]
    last = rescaled.layer_giving(rescaled.model.outputs[0]).name
    names = [layer.name for layer in original.model.layers]
    if dict(first) != rescaled.filters or last not in names:
        raise NetworkError("the two networks do not have the same layers")
    model = original.model
    part = keras.Model(model.inputs[0], model.get_layer(last).output, name=model.name)
    return read_graph(part, dense=dense)


def _promise_of(means: FilterMeans) -> _Promise:
    """Take what the means say."""
    scales = {layer: scale_from_mean(mean) for layer, mean in means.mean.items()}
    deviation = std_deviation(means.squared_deviation, means.image_count)
    correction = means.correction_std_error
    recipe = means.recipe
    return _Promise(
        scales=scales,
        silent=means.silent,
        spread=None if means.image_count == 1 else _divide(deviation, scales),
        unknown=_divide(correction, scales),
        count=means.image_count,
        geometry=recipe.geometry,
        preprocessing=recipe.preprocessing,
        seed=recipe.seed,
        measured=means.taken,
    )


def _recover_promise(
    model: keras.Model, normalized: keras.Model, photos: PhotoList, limit: int
) -> _Promise:
    """Recover the scales from the means of both networks over the same photos."""
    before = compute_means(model, photos, until=Until(limit=limit))
    after = compute_means(normalized, photos, until=Until(limit=limit))
    scales = {
        layer: np.divide(
            before.mean[layer],
            mean,
            out=np.ones_like(mean),
            where=(mean > 0) & (before.mean[layer] > 0),
        )
        for layer, mean in after.mean.items()
    }
    deviation = std_deviation(after.squared_deviation, after.image_count)
    return _Promise(
        scales=scales,
        silent=after.silent,
        spread=None if after.image_count == 1 else deviation,
        unknown={layer: np.zeros_like(scale) for layer, scale in scales.items()},
        count=math.inf,
        geometry=after.recipe.geometry,
        preprocessing=after.recipe.preprocessing,
        seed=after.recipe.seed,
        measured=None,
    )


def _divide(values: PerLayer, scales: PerLayer) -> dict[str, Float64]:
    return {layer: values[layer] / scale for layer, scale in scales.items()}


def _compare(
    comparing: keras.Model, reader: PhotoReader, batch_size: int, progress: Progress | None
) -> tuple[_Compared | None, Taken]:
    """Run the photos through both networks.

    Returns:
        What they gave, None if no photo could be used; and what became of the photos.
    """
    compared: _Compared | None = None
    taken = NOTHING_TAKEN
    with exact_float32():
        for batch in reader.batches(batch_size):
            taken += batch.taken
            if len(batch.pixels):
                found = run_batch(comparing, batch.pixels)
                activations = ActivationsCheck.of(found["deviation"], found["largest"])
                new = _Compared(Moments.of(found["mean"]), activations)
                compared = new if compared is None else compared + new
            if progress is not None:
                progress(taken.count, reader.total(taken), None)
    return compared, taken


def _photos_used(promise: _Promise, photos: PhotoList, taken: Taken) -> PhotosUsed:
    """Tell how the photos used here relate to those measured."""
    measured = promise.measured
    if measured is None:
        return PhotosUsed.OTHER
    if measured.photos_sha256 == taken.photos_sha256:
        return PhotosUsed.ALL
    # All of the names with other pixels, as another decoder may give them, are other photos.
    first_names = names_sha256(photos.names[: measured.count])
    is_part = taken.count < measured.count and measured.names_sha256 == first_names
    return PhotosUsed.PART if is_part else PhotosUsed.OTHER


def _slack(promise: _Promise, activations: ActivationsCheck) -> dict[str, Float64]:
    """Tell how far rounding may move each mean: layer name -> `(filters,)`."""
    slack = {}
    for layer, scale in promise.scales.items():
        rounding = ROUNDING * activations.largest[layer] / scale
        slack[layer] = np.maximum(rounding, FILTER_LIMIT * promise.unknown[layer])
    return slack


def _check_means(
    moments: Moments, promise: _Promise, photos: PhotosUsed, slack: PerLayer
) -> MeansCheck:
    """Check the normalized network's means.

    Args:
        moments: its moments over the photos used here.
        promise: what it is held to.
        photos: how these photos relate to those measured.
        slack: layer name -> `(filters,)`, how far rounding may move each mean.
    """
    fires = promise.fires
    off = {
        layer: np.where(fires[layer], np.abs(mean - 1), 0.0) for layer, mean in moments.mean.items()
    }
    every = np.concatenate(list(off.values()))
    names = [f"{layer}[{index}]" for layer, values in off.items() for index in range(len(values))]
    worst = int(np.argmax(every))  # the first nan, if there is one
    within = {
        layer: values <= np.maximum(MEAN_TOLERANCE, slack[layer]) for layer, values in off.items()
    }
    check = MeansCheck(
        photos,
        worst=float(every[worst]),
        worst_filter=names[worst],
        median=float(np.median(every[np.concatenate(list(fires.values()))])),
        beyond=sum(int((~values).sum()) for values in within.values()),
    )
    if photos is PhotosUsed.ALL or promise.spread is None:
        return check
    std_error = _std_error_of_difference(promise, promise.spread, moments.count, photos)
    std_errors = {
        layer: (off[layer] / std_error[layer])[fires[layer]] for layer in off if fires[layer].any()
    }
    return replace(
        check,
        worst_std_errors=max(float(values.max()) for values in std_errors.values()),
        layer_std_errors={layer: float(np.median(values)) for layer, values in std_errors.items()},
    )


def _std_error_of_difference(
    promise: _Promise, spread: PerLayer, count: int, photos: PhotosUsed
) -> PerLayer:
    """Compute the standard error of the mean over these photos minus that over those measured.

    With `s` the standard deviation of a filter over photos, relative to its mean, it is `s *
    sqrt(1/n + 1/N)` for `n` photos here and `N` others measured, and `s * sqrt(1/n - 1/N)` if those
    here are `n` of the `N`. `s` comes from the photos measured where they are known, because they
    are more than the few used here.

    Args:
        promise: what the network is held to.
        spread: layer name -> `(filters,)`, `s`.
        count: the number of photos used here.
        photos: how these relate to those measured.

    Returns:
        Layer name -> `(filters,)`.
    """
    share = 1 / count + (-1 if photos is PhotosUsed.PART else 1) / promise.count
    root = np.sqrt(share)
    return {
        layer: np.maximum(np.hypot(values * root, promise.unknown[layer]), FLOAT32_ROUNDING)
        for layer, values in spread.items()
    }
