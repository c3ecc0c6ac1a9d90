"""From photos to means: the one loop over all photos."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
from numpy.typing import NDArray

import vggnorm
from vggnorm.bfloat16 import bfloat16_copy
from vggnorm.checkpoint import Checkpoint
from vggnorm.description import architecture_sha256
from vggnorm.errors import NetworkError, PhotoError, StoppedError
from vggnorm.geometry import ColorProfiles, Fit, Geometry, Interpolation, Preprocessing
from vggnorm.graph import Graph, read_graph
from vggnorm.images import NOTHING_TAKEN, Batch, PhotoList, PhotoReader, Pixels, Taken, find_photos
from vggnorm.machine import describe_machine, join_machines
from vggnorm.means import FilterMeans, SkippedPhoto, require_saveable
from vggnorm.moments import Moments, relative_to, std_deviation
from vggnorm.network import has_top, measuring_model, photo_size, require_network_saveable, weights_sha256
from vggnorm.precision import exact_float32, photos_per_second, run_batch
from vggnorm.progress import Progress
from vggnorm.recipe import Precision, Recipe

# How many photos to measure at least before the means may be known well enough. Where each photo's mean activation is
# distributed with skewness g, a 95 % interval needs more than 25 g^2 photos to be wrong in 6 of 100 cases at most
# (Cochran, "Sampling Techniques", 1977, section 2.15): 100 are enough for the exponential distribution, of skewness 2.
# That the run stops where the sample itself says so makes no difference as the tolerance gets small (Chow and Robbins,
# Annals of Mathematical Statistics 36, 1965).
TOLERANCE_PHOTOS = 100

# With `auto`, float32's correction must be known this well: its standard error relative to the mean, in the median over
# the filters. Half of the filters are then within 3e-4 of float32's mean.
ACCURACY = 4e-4

AGAIN = "the same again, without --fresh, goes on"

PositionMeans = Mapping[str, NDArray[Any]]  # layer name -> (photos, filters)
Say = Callable[[str], object]  # is told, in a line, what was decided
Stop = Callable[[], object]  # is asked between batches; what it gives is true if the run shall end


def compute_means(
    model: keras.Model,
    data: str | Path | PhotoList,
    *,
    annotations: str | Path | None = None,
    categories: Sequence[str] = (),
    network: str | None = None,
    weights: str = "unnamed",
    preprocessing: Preprocessing = "caffe",
    dense: bool = False,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    interpolation: Interpolation = "bilinear",
    color_profiles: ColorProfiles = "ignore",
    limit: int | None = None,
    tolerance: float | None = None,
    shard: tuple[int, int] | None = None,
    seed: int = 0,
    precision: Precision | Literal["auto"] = "float32",
    control: int = 64,
    batch_size: int = 32,
    threads: int | None = None,
    strict: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    fresh: bool = False,
    stop: Stop | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> FilterMeans:
    """Measure the mean activation of every filter over photos and positions.

    Memory does not grow with the number of photos. A run that was ended goes on from its checkpoint, and gives what it
    would have given, to the last bit, on a machine of the same kind.

    Args:
        model: the network, see `vggnorm.load_network`. It is left as it is.
        data: a folder of photos, see `vggnorm.images.find_photos`; or the photos that were found there.
        annotations: a COCO annotation file; only the photos it lists are taken.
        categories: COCO categories; only photos that show any of them are taken.
        network: what to call the network in the recipe; by default the model's name.
        weights: what to call the weights in the recipe; their SHA-256 stands beside it.
        preprocessing: what the network takes photos as, see `vggnorm.geometry`.
        dense: whether hidden dense layers are measured, too, and so normalized.
        size: side of the photos in pixels, or their `(height, width)`. By default what the network takes, or 224 where
            it takes any.
        fit: `crop` or `stretch`, see `vggnorm.geometry.Geometry`.
        interpolation: `bilinear`, `nearest`, `bicubic` or `lanczos`.
        color_profiles: `ignore` takes all photos as sRGB; `convert` converts those that carry another colour profile.
        limit: measure so many photos.
        tolerance: stop as soon as the means are known this well, relative: see `FilterMeans.uncertainty`; and at least
            `TOLERANCE_PHOTOS` are measured. It is looked at after each batch.
        shard: `(3, 16)` measures the third of sixteen parts of the photos, see `vggnorm.merging`. Not with `limit`,
            `tolerance` or `auto`, which depend on what the others measure.
        seed: of the random order in which photos are taken.
        precision: what the network computes in. `bfloat16` runs all photos in bfloat16 and some of them in float32 as
            well, and adds the mean difference. `auto` times both here and takes the faster; it goes on running photos
            in both until the correction is known as well as `ACCURACY` says.
        control: how many photos to run in both precisions, the first in the random order of all.
        batch_size: how many photos the network is given at a time; the means depend on it in their last digits only.
        threads: how many threads decode photos; by default one for each core.
        strict: whether a photo that cannot be used is an error; else it is skipped and listed.
        checkpoint: the file to keep the running sums in, and to go on from if it is there. It is left in the end, for
            the caller to remove when the result is safe.
        checkpoint_every: seconds from one checkpoint to the next. There is one more at the end, whatever brings it.
        fresh: whether to start over, whatever the checkpoint holds.
        stop: asked before every batch whether to end; then there is a checkpoint, and a `StoppedError`.
        progress: called at the start and after every batch with the numbers of photos done with and to be done, and how
            surely the means are known, see `vggnorm.progress`.
        say: called with a line on what `auto` took, and why; where the run goes on from; that there is no checkpoint.

    Raises:
        PhotoError: the photos cannot be found, or none, or with `strict` any, cannot be used; or the folder has gone.
        MeansError: the checkpoint is damaged, or is of another recipe, other weights or other photos.
        StoppedError: `stop` said so.
        NetworkError: the network is of a kind that cannot be measured, or its activations are not finite.
        ValueError: an option is out of range, or `annotations` are given for photos that were found already.
    """
    _check_options(precision, control, limit=limit, tolerance=tolerance, shard=shard)
    say = say or _say_nothing
    graph = read_graph(model, dense=dense)
    _require_float32(graph)
    geometry = Geometry(_size(model, size), fit, interpolation, color_profiles)
    if not isinstance(data, PhotoList):
        data = find_photos(data, annotations=annotations, categories=categories)
    elif annotations is not None or categories:
        raise ValueError("photos that were found already are not chosen anew: leave out annotations and categories")
    photos = data.shuffled(seed)
    if shard is not None:
        photos = photos.shard(*shard)
    reader = PhotoReader(photos, geometry, limit=limit, strict=strict, threads=threads)
    keeper = Checkpoint(checkpoint, every=checkpoint_every, say=say)
    kept = None if fresh else keeper.load()
    recipe = Recipe(
        network=network or model.name,
        include_top=has_top(model),
        weights=weights,
        weights_sha256=weights_sha256(model),
        pooling=graph.pooling,
        dense=dense,
        preprocessing=preprocessing,
        size=geometry.size,
        fit=fit,
        interpolation=interpolation,
        precision="float32",
        control=0,
        accuracy=None,
        photos="/".join(photos.folder.resolve().parts[-2:]),
        annotations="" if photos.annotations is None else photos.annotations.name,
        categories=photos.categories,
        listed=len(data.names),
        listed_sha256=data.sha256(),
        limit=limit,
        tolerance=tolerance,
        shard=shard,
        seed=seed,
        batch_size=batch_size,
        taken_sha256=NOTHING_TAKEN.names_sha256,
        photos_sha256=NOTHING_TAKEN.photos_sha256,
        version=vggnorm.__version__,
        color_profiles=color_profiles,
        architecture_sha256=architecture_sha256(graph),
        machine=describe_machine(keras.backend.backend()),
    )
    auto = precision == "auto"
    if auto and kept is not None:
        precision = kept.recipe.precision  # on another day, timing might say otherwise
    with exact_float32():
        networks = _choose_networks(graph, recipe, precision, control / reader.total(NOTHING_TAKEN), say)
        if networks.fast:
            recipe = replace(recipe, precision="bfloat16", control=control, accuracy=ACCURACY if auto else None)
        require_saveable(graph.filters, recipe)
        require_network_saveable(model)
        means = FilterMeans(Moments.of_none(graph.filters), recipe)
        if kept is not None:
            keeper.require(kept, recipe)
            kept.require_layers(graph.filters)
            machines = join_machines([kept.recipe.machine, recipe.machine])
            goes_on = replace(kept.recipe, machine=machines, architecture_sha256=recipe.architecture_sha256)
            means = replace(kept, recipe=goes_on)
            if kept.recipe.machine not in ("", recipe.machine):
                say(f"the last bits may differ: begun on {kept.recipe.machine}, goes on on {recipe.machine}")
            say(f"{keeper.path}: goes on after {_taken(means).count} of {reader.total(_taken(means))} photos")
        means = _run(means, reader, networks, keeper, stop=stop or _never, progress=progress or _show_nothing)
    if reader.profile_count:
        say(_profiles_line(reader.profile_count, means))
    if not means.image_count:
        raise no_photo_usable(photos, means.skipped)
    if networks.fast and shard is None:
        means.require_control()
    return means


def _profiles_line(count: int, means: FilterMeans) -> str:
    """Say how many of the photos measured in this run carry a colour profile, and what was done with it."""
    carry = "1 photo carries" if count == 1 else f"{count} photos carry"
    if means.recipe.color_profiles == "convert":
        return f"{carry} another colour profile than sRGB; converted to sRGB"
    return f"{carry} another colour profile than sRGB; taken as sRGB, which --color-profiles convert makes of them"


def _check_options(
    precision: str, control: int, *, limit: int | None, tolerance: float | None, shard: tuple[int, int] | None
) -> None:
    if precision not in (*get_args(Precision), "auto"):
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(get_args(Precision))}, auto")
    if control < 2:
        raise ValueError(f"control is {control}; it must be at least 2, for a standard error")
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must be between 0 and 1")
    if shard is not None and (limit is not None or tolerance is not None or precision == "auto"):
        raise ValueError("a shard is measured whole, in a precision that is named: no limit, tolerance or auto")


def _run(
    means: FilterMeans,
    reader: PhotoReader,
    networks: "_Networks",
    keeper: Checkpoint,
    *,
    stop: Stop,
    progress: Progress,
) -> FilterMeans:
    """Measure the photos that are left to measure. `means` is all that changes, once for each batch."""
    taken = _taken(means)
    progress(taken.count, reader.total(taken), means.uncertainty)
    with closing(reader.batches(means.recipe.batch_size, taken)) as batches:
        try:
            while taken.count < reader.total(taken) and not _known_well(means):
                if stop():
                    if keeper.save(means):
                        kept = f"{keeper.path} keeps them: {AGAIN}"
                    elif keeper.holds_something:
                        kept = f"{keeper.path} keeps {keeper.kept_count} of them: {AGAIN} from there"
                    else:
                        kept = "nothing was written"
                    raise StoppedError(f"stopped after {taken.count} of {reader.total(taken)} photos; {kept}")
                batch = next(batches)
                means, taken = networks.measure(means, batch), batch.taken
                keeper.save_if_due(means)
                progress(taken.count, reader.total(taken), means.uncertainty)
        finally:
            keeper.save(means)
    return means


@dataclass(frozen=True)
class _Networks:
    """The models that measure.

    Attributes:
        exact: in float32.
        fast: in another precision, if there is one.
    """

    exact: keras.Model
    fast: keras.Model | None

    def measure(self, means: FilterMeans, batch: Batch) -> FilterMeans:
        """Give the means with one more batch, of which none, some or all photos are run in both precisions."""
        measured, correction = means.measured, means.correction
        if len(batch.pixels):
            position_means = _measure_photos(self.fast or self.exact, batch.pixels, means.recipe.batch_size)
            measured += Moments.of(position_means)
        if self.fast and (chosen := _in_both(means, batch)).any():
            exact = _measure_photos(self.exact, batch.pixels[chosen], means.recipe.batch_size)
            surplus = Moments.of({layer: exact[layer] - position_means[layer][chosen] for layer in exact})
            correction = surplus if correction is None else correction + surplus
        taken = batch.taken
        recipe = replace(means.recipe, taken_sha256=taken.names_sha256, photos_sha256=taken.photos_sha256)
        return FilterMeans(measured, recipe, taken.skipped, correction)


def _choose_networks(
    graph: Graph, recipe: Recipe, precision: Precision | Literal["auto"], share_in_both: float, say: Say
) -> _Networks:
    """Make the models that measure; with `auto` the fast one only if it pays here, with that share run in both."""
    shape = recipe.geometry.height, recipe.geometry.width
    exact = measuring_model(graph, recipe.preprocessing, shape)
    if precision == "float32":
        return _Networks(exact, None)
    fast = measuring_model(read_graph(bfloat16_copy(graph), dense=recipe.dense), recipe.preprocessing, shape)
    if precision == "auto" and not _pays(fast, exact, shape, share_in_both, say):
        return _Networks(exact, None)
    return _Networks(exact, fast)


def _measure_photos(measuring: keras.Model, pixels: Pixels, batch_size: int) -> PositionMeans:
    """Measure photos in a batch whose size depends on their own number alone.

    It is the next power of two, or a full batch. So the network does the same for a batch, whether it is the last of
    a run or of a part, and meets few sizes.
    """
    count = len(pixels)
    padded = padded_size(count, batch_size)
    if count < padded:  # a full batch is not copied
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], padded - count, axis=0)])
    return {layer: values[:count] for layer, values in _position_means(measuring, pixels).items()}


def padded_size(count: int, batch_size: int) -> int:
    """Give the number of photos that a batch of `count` is filled up to: a power of two, or `batch_size`."""
    return min(1 << (count - 1).bit_length(), batch_size)


def _in_both(means: FilterMeans, batch: Batch) -> NDArray[np.bool_]:
    """Choose the photos to run in both precisions: `(photos,)`."""
    number, count = means.recipe.shard or (1, 1)
    index = number - 1 + count * batch.positions  # in the order of all photos, of which this may be a part
    chosen = index < means.recipe.control
    if chosen.any() or means.recipe.accuracy is None or _correction_known(means):
        return chosen
    return ~chosen


def _correction_known(means: FilterMeans) -> bool:
    """Tell whether float32's correction is known as well as the recipe asks for."""
    if means.correction is None:
        return False
    spread = std_deviation(means.correction.squared_deviation, means.correction.count)
    std_error = np.median(relative_to(means.measured.mean, spread)) / np.sqrt(means.correction.count)
    return bool(std_error <= means.recipe.accuracy)


def _known_well(means: FilterMeans) -> bool:
    """Tell whether the means are known as well as the recipe asks for."""
    tolerance = means.recipe.tolerance
    if tolerance is None or means.image_count < TOLERANCE_PHOTOS:
        return False
    return means.uncertainty is not None and means.uncertainty <= tolerance


def _taken(means: FilterMeans) -> Taken:
    recipe = means.recipe
    return Taken(means.image_count, means.skipped, recipe.taken_sha256, recipe.photos_sha256)


def _pays(fast: keras.Model, exact: keras.Model, shape: tuple[int, int], share_in_both: float, say: Say) -> bool:
    """Time both precisions, and tell whether the fast one is the faster if that share of photos is run in both."""
    fast_rate, exact_rate = photos_per_second(fast, *shape), photos_per_second(exact, *shape)
    pays = 1 / fast_rate + min(share_in_both, 1) / exact_rate < 1 / exact_rate
    say(
        f"precision {'bfloat16' if pays else 'float32'}: the network alone runs {fast_rate:.1f} photos/s in bfloat16 "
        f"here and {exact_rate:.1f} in float32, in which {min(share_in_both, 1):.0%} of them would have to run as well"
    )
    return pays


def _say_nothing(_: str) -> None:
    pass


def _show_nothing(*_: object) -> None:
    pass


def _never() -> bool:
    return False


def _position_means(measuring: keras.Model, batch: Pixels) -> PositionMeans:
    position_means: PositionMeans = run_batch(measuring, batch)
    for layer, values in position_means.items():
        if not np.isfinite(values).all():
            raise NetworkError(f"layer {layer} has activations that are not finite; the weights are damaged")
    return position_means


def _size(model: keras.Model, size: int | tuple[int, int] | None) -> int | tuple[int, int]:
    taken = photo_size(model)
    if taken is None:
        return 224 if size is None else size
    height, width = taken
    own = height if height == width else taken
    if size not in (None, own, taken):
        raise NetworkError(f"{model.name}: takes photos of {height} x {width} pixels (height x width), not of {size}")
    return own


def no_photo_usable(photos: PhotoList, skipped: Sequence[SkippedPhoto]) -> PhotoError:
    """Make the error for a folder, or a part of one, of which not one photo could be used."""
    return PhotoError(
        f"{photos.folder}: none of its {len(photos.names)} photos can be used; the first, {skipped[0].photo}, "
        f"{skipped[0].reason}"
    )


def _require_float32(graph: Graph) -> None:
    for name in graph.sites:
        computed_in = graph.model.get_layer(name).compute_dtype
        if computed_in != "float32":
            raise NetworkError(f"layer {name}: computes in {computed_in}; build or load the network in float32")
