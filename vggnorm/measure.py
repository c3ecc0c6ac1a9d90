"""Measure the mean activation of every filter over photos: plan a run, then run it."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import keras

from vggnorm.errors import NetworkError
from vggnorm.files.means_npy import require_saveable
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import NUMERICS, Precision, Recipe
from vggnorm.network.applications import has_top
from vggnorm.network.description import architecture_sha256
from vggnorm.network.family import taken_as_by
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.instruments import Instruments, padded_size, photo_size
from vggnorm.network.memory import require_memory
from vggnorm.network.policies import in_float32
from vggnorm.network.precision import exact_float32
from vggnorm.network.repeatable import require_repeatable
from vggnorm.network.storage import require_network_saveable
from vggnorm.network.surroundings import require_ready, unused_gpu_line
from vggnorm.network.weights import weights_sha256
from vggnorm.photos.blocks import BATCHES_PER_BLOCK, block_size
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import ColorProfiles, Fit, Geometry, Interpolation, Preprocessing
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader, no_photo_usable
from vggnorm.photos.taken import NOTHING_TAKEN
from vggnorm.run.checkpoint import Checkpoint, Keeper
from vggnorm.run.choosing import ACCURACY, choose_instruments
from vggnorm.run.engine import BlockReader, Engine, Job, adding_up
from vggnorm.run.loop import run_to_end, running_means
from vggnorm.run.machine import describe_machine
from vggnorm.run.options import Compute, Labels, Say, Until, Watch
from vggnorm.run.remarks import empty_part_line, going_on, noticed_lines
from vggnorm.version import __version__

DEFAULT_SIZE = 224  # pixels, where the network takes photos of any size


def compute_means(
    model: keras.Model,
    photos: str | Path | PhotoList,
    *,
    preprocessing: Preprocessing | None = None,
    dense: bool = False,
    geometry: Geometry | None = None,
    compute: Compute | None = None,
    until: Until | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
    labels: Labels | None = None,
    engine: Engine | None = None,
) -> FilterMeans:
    """Measure the mean activation of every filter over photos and positions.

    Memory does not grow with the number of photos. A run that was ended early goes on from its
    checkpoint, and gives what it would have given, to the last bit, on a machine of the same kind.

    Args:
        model: the network, see `vggnorm.load_network`. It is left as it is.
        photos: where they are, as for `vggnorm.find_photos`: a folder, an archive or an address; or
            what `vggnorm.find_photos` found, with `.shuffled(seed)` for another random order than
            that of seed 0, and `.shard(3, 16)` for the third of sixteen parts, see
            `vggnorm.merge_means`. A part may hold no photo that can be used; its means count none.
        preprocessing: what the network takes photos as, see `vggnorm.photos.geometry`; by default
            what the numbers of its first convolution show, if they are known ones; `none` if the
            network prepares the photos itself; or else `caffe`.
        dense: whether hidden dense layers are measured, too, and so normalized.
        geometry: what the photos are made into; by default see `geometry_for`.
        compute: the precision, the batch size and the threads, see `Compute`.
        until: when to end before all photos are measured, see `Until`.
        checkpoint: where to keep what is measured, and to go on from; by default nowhere.
        watch: who is shown the progress, is told what is decided, and may end the run.
        labels: what the recipe calls the network and its weights.
        engine: what measures the photos, such as `vggnorm.Ray`; by default this process does.

    Raises:
        PhotoError: the photos cannot be found, or none of all can be used, or with `until.strict`
            one cannot be used; or the folder has gone.
        MeansError: the checkpoint is damaged, or is of another recipe, other weights or other
            photos.
        StoppedError: `watch` ended the run.
        EngineError: the engine cannot be reached, or one of its workers fails.
        NetworkError: the network is of a kind that cannot be measured, it does not take photos of
            this size, its activations are not finite, or there is not enough memory; or Keras
            cannot compute here.
        ValueError: an option is out of range, or does not go with a part of the photos or with an
            engine.
    """
    require_ready()
    model = in_float32(model)
    graph = read_graph(model, dense=dense)
    geometry = geometry or Geometry(_size_for(model, None))
    geometry = replace(geometry, size=_size_for(model, geometry.size))
    if not isinstance(photos, PhotoList):
        photos = find_photos(photos)
    if photos.seed is None:
        photos = photos.shuffled(0)
    plan = _Plan(
        model=model,
        graph=graph,
        photos=photos,
        preprocessing=preprocessing or _taken_by_default(graph.model),
        dense=dense,
        geometry=geometry,
        compute=compute or Compute(),
        until=until or Until(),
        labels=labels or Labels(),
        engine=engine,
    )
    return _run(plan, checkpoint, watch or Watch())


def _taken_by_default(model: keras.Model) -> Preprocessing:
    return cast("Preprocessing", taken_as_by(model).convention or "caffe")


def geometry_for(
    model: keras.Model,
    size: int | tuple[int, int] | None = None,
    *,
    fit: Fit = "crop",
    interpolation: Interpolation = "bilinear",
    color_profiles: ColorProfiles = "ignore",
) -> Geometry:
    """Give what photos are made into for a network.

    Args:
        model: the network.
        size: side of the photos in pixels, or their `(height, width)`; by default what the network
            takes, or 224 where it takes any.
        fit: `crop` or `stretch`, see `Geometry`.
        interpolation: one of Pillow's filters.
        color_profiles: what to do with a colour profile that a photo carries.

    Raises:
        NetworkError: the network does not take photos of this size, or takes no photos.
    """
    return Geometry(_size_for(model, size), fit, interpolation, color_profiles)


def _size_for(model: keras.Model, size: int | tuple[int, int] | None) -> int | tuple[int, int]:
    """Give the size of photos for a network, and refuse a size that the network does not take."""
    taken = photo_size(model)
    if taken is None:
        return DEFAULT_SIZE if size is None else size
    height, width = taken
    own = height if height == width else taken
    if size not in (None, own, taken):
        raise NetworkError(
            f"{model.name}: takes photos of {height} x {width} pixels (height x width), not of "
            f"{size}"
        )
    return own


@dataclass(frozen=True)
class _Plan:
    """All that decides what a run measures."""

    model: keras.Model
    graph: Graph
    photos: PhotoList
    preprocessing: Preprocessing
    dense: bool
    geometry: Geometry
    compute: Compute
    until: Until
    labels: Labels
    engine: Engine | None

    def __post_init__(self) -> None:
        for name in self.graph.sites:
            computed_in = self.graph.model.get_layer(name).compute_dtype
            if computed_in != "float32":
                raise NetworkError(
                    f"layer {name}: computes in {computed_in}; build or load the network in float32"
                )
        ends_early = self.until.limit is not None or self.until.tolerance is not None
        if self.photos.part and (ends_early or self.compute.precision == "auto"):
            raise ValueError(
                "a part of the photos must be measured completely and in a named precision; "
                "leave out the limit, the tolerance and auto"
            )
        if self.engine and (self.photos.part or self.compute.precision == "auto"):
            raise ValueError(
                "an engine measures all photos, in a named precision; leave out the part and auto"
            )
        batch_size = self.compute.batch_size
        if self.photos.part and self.photos.part.block != block_size(batch_size):
            raise ValueError(
                "the part was cut for batches of another size; cut it with "
                f"shard(..., batch_size={batch_size})"
            )

    def reader(self) -> PhotoReader:
        """Make what reads the photos."""
        return PhotoReader(
            self.photos,
            self.geometry,
            limit=self.until.limit,
            strict=self.until.strict,
            threads=self.compute.threads,
        )

    def choose_instruments(
        self, precision: Precision | None, reader: PhotoReader, say: Say
    ) -> Instruments:
        """Make the models that measure, in `precision`, or else in the one that was asked for."""
        compute = replace(self.compute, precision=precision or self.compute.precision)
        share_in_both = compute.control / max(reader.total(NOTHING_TAKEN), 1)  # of an empty part
        return choose_instruments(
            self.graph,
            preprocessing=self.preprocessing,
            dense=self.dense,
            geometry=self.geometry,
            compute=compute,
            share_in_both=share_in_both,
            say=say,
        )

    def require_memory(self, photos: int, *, in_bfloat16: bool) -> str | None:
        """Refuse batches that cannot fit into memory, before any photo is read.

        Returns:
            A line for the user where they may not fit.
        """
        largest = padded_size(max(photos, 1), self.compute.batch_size)
        size = self.geometry.height, self.geometry.width
        return require_memory(self.graph.model, largest, size, in_bfloat16=in_bfloat16)

    def recipe(self, *, is_fast: bool) -> Recipe:
        """Write down what decides the means.

        Args:
            is_fast: whether the photos are run in bfloat16, and some in float32 as well.
        """
        photos, part = self.photos, self.photos.part
        auto = self.compute.precision == "auto"
        return Recipe(
            network=self.labels.network or self.model.name,
            include_top=has_top(self.model),
            weights=self.labels.weights,
            weights_sha256=weights_sha256(self.model),
            pooling=self.graph.pooling,
            dense=self.dense,
            preprocessing=self.preprocessing,
            size=self.geometry.size,
            fit=self.geometry.fit,
            interpolation=self.geometry.interpolation,
            precision="bfloat16" if is_fast else "float32",
            control=self.compute.control if is_fast else 0,
            accuracy=ACCURACY if is_fast and auto else None,
            photos=photos.source.label,
            annotations="" if photos.annotations is None else photos.annotations.name,
            categories=photos.categories,
            listed=photos.listed,
            listed_sha256=photos.listed_sha256,
            limit=self.until.limit,
            tolerance=self.until.tolerance,
            shard=None if part is None else (part.number, part.count),
            seed=photos.seed or 0,
            batch_size=self.compute.batch_size,
            taken_sha256=NOTHING_TAKEN.names_sha256,
            photos_sha256=NOTHING_TAKEN.photos_sha256,
            version=__version__,
            numerics=NUMERICS,
            color_profiles=self.geometry.color_profiles,
            architecture_sha256=architecture_sha256(self.graph),
            machine=self._describe_machines(),
            padding=self.graph.padding,
            batches_per_block=BATCHES_PER_BLOCK,
            output_layers=self.graph.output_layers,
        )

    def job(self, recipe: Recipe) -> Job:
        """Say what the engine's workers are to do."""
        return Job(self.model, recipe, self.until.strict, self.compute.threads)

    def _describe_machines(self) -> str:
        """Name this machine and, if other processes measure, what runs them."""
        machine = describe_machine(keras.backend.backend())
        return machine if self.engine is None else f"{self.engine} from {machine}"


def _run(plan: _Plan, checkpoint: Checkpoint | None, watch: Watch) -> FilterMeans:
    reader = plan.reader()
    known = taken_as_by(plan.graph.model)
    if known.convention not in (None, plan.preprocessing):
        watch.say(
            f"warning: {plan.model.name} takes photos as {known.convention}, according to "
            f"{known.source}; it is given them as {plan.preprocessing}"
        )
    for layer, reason in plan.graph.kept.items():
        watch.say(f"{layer} will not be normalized: {reason}")
    if plan.engine is None and (line := unused_gpu_line()):
        watch.say(line)
    keeper = Keeper(checkpoint, watch.say)
    kept = keeper.load()
    # On another day, the timing of `auto` might say otherwise: a run goes on as it began.
    precision = kept.recipe.precision if kept and plan.compute.precision == "auto" else None
    with exact_float32():
        instruments = plan.choose_instruments(precision, reader, watch.say)
        size = plan.geometry.height, plan.geometry.width
        require_repeatable(plan.graph, instruments, size)
        is_fast = instruments.fast is not None
        recipe = plan.recipe(is_fast=is_fast)
        keeper.require_room(require_saveable(plan.graph.filters, recipe))
        require_network_saveable(plan.model)
        start = FilterMeans(Moments.of_none(plan.graph.filters), recipe)
        if kept is not None:
            keeper.require_same_run(kept, recipe)
            kept.require_layers(plan.graph.filters)
            start = going_on(kept, recipe, watch.say)
            total = reader.total(start.taken)
            watch.say(f"{keeper.path}: goes on after {start.taken.count} of {total} photos")
        if plan.engine is None:
            line = plan.require_memory(reader.total(start.taken), in_bfloat16=is_fast)
            if line is not None:
                watch.say(line)
            with closing(reader.batches(recipe.batch_size, start.taken)) as batches:
                running = running_means(start, batches, instruments)
                means = run_to_end(start, running, reader.total, keeper, watch)
            noticed = reader.noticed
        else:
            blocks = BlockReader(plan.photos, recipe)
            with plan.engine.workers(plan.job(recipe), watch.say) as submit:
                running = adding_up(start, blocks.sums(start.taken, submit))
                means = run_to_end(start, running, reader.total, keeper, watch)
            noticed = blocks.noticed
    for line in noticed_lines(noticed, means):
        watch.say(line)
    if not means.image_count:
        if plan.photos.part is None:
            raise no_photo_usable(plan.photos, means.skipped)
        watch.say(empty_part_line(plan.photos, plan.photos.part))
    if is_fast and plan.photos.part is None:
        means.require_control()
    return means
