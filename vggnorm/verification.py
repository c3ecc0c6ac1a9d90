"""Does a normalized network do what it promises?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vggnorm.errors import NetworkError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.intervals import Intervals
from vggnorm.means.moments import Moments, std_deviation
from vggnorm.measure import compute_means
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.instruments import comparing_model
from vggnorm.network.memory import require_memory
from vggnorm.network.policies import in_float32
from vggnorm.network.precision import exact_float32, run_batch
from vggnorm.network.surroundings import require_ready
from vggnorm.network.weights import layers_not_finite
from vggnorm.normalization import require_measured_on, under_names_of
from vggnorm.photos.digests import names_sha256
from vggnorm.photos.finding import find_photos
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader, no_photo_usable
from vggnorm.photos.taken import NOTHING_TAKEN, Taken
from vggnorm.promise import Promise, check_means, promise_of
from vggnorm.report.verification import format_verification, verification_to_dict
from vggnorm.run.options import Progress, Until
from vggnorm.verdicts.verification import (
    ActivationsCheck,
    OutputScale,
    PhotosUsed,
    Verification,
    WeightsCheck,
)


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
    """Run photos through the original and the normalized network in float32, and compare.

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
    require_ready()
    model, normalized = in_float32(model), in_float32(normalized)
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
        means = under_names_of(whole, means)
        require_measured_on(whole, means)
        promise = promise_of(means.of_layers(original.filters))
    photos = photos.shuffled(promise.seed)
    reader = PhotoReader(photos, promise.geometry, limit=limit)
    comparing = comparing_model(
        original,
        rescaled,
        promise.scales,
        promise.preprocessing,
        (promise.geometry.height, promise.geometry.width),
    )
    largest = min(batch_size, max(reader.total(NOTHING_TAKEN), 1))
    require_memory(original.model, largest, (promise.geometry.height, promise.geometry.width))
    compared, taken = _compare(comparing, reader, batch_size, progress)
    if compared is None:
        raise no_photo_usable(photos, taken.skipped)
    used = _photos_used(promise, photos, taken)
    relative = compared.moments.relative_to(promise.targets)
    silent = {layer: indices.tolist() for layer, indices in promise.silent.items()}
    output_layers = original.output_layers
    return VerifyReport(
        photos=compared.moments.count,
        skipped=len(taken.skipped),
        means=check_means(relative, promise, used, compared.activations),
        activations=compared.activations,
        weights=WeightsCheck(layers_not_finite(rescaled.model), silent),
        output=OutputScale(output_layers, kept=set(output_layers) <= set(promise.kept)),
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


def _recover_promise(
    model: keras.Model, normalized: keras.Model, photos: PhotoList, limit: int
) -> Promise:
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
    nothing = {layer: np.zeros_like(scale) for layer, scale in scales.items()}
    return Promise(
        scales=scales,
        kept=(),
        targets={layer: np.ones_like(scale) for layer, scale in scales.items()},
        silent=after.silent,
        spread=None if after.image_count == 1 else deviation,
        interval=Intervals(nothing, nothing),  # there is no other set of photos
        symmetric=False,
        badly_known={},
        unknown=nothing,
        count=math.inf,
        geometry=after.recipe.geometry,
        preprocessing=after.recipe.preprocessing,
        seed=after.recipe.seed,
        measured=None,
    )


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


def _photos_used(promise: Promise, photos: PhotoList, taken: Taken) -> PhotosUsed:
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
