"""How many blocks a second one driver of --engine ray can hand out and add up.

`benchmark.py engine` calls this. The workers stand in for a VGG16 that takes no time: they
give sums of its size for each block, and read no photo. So the driver is what is measured, and with
it Ray. Where the workers run on the driver's own cores, the CPU time is the better figure.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vggnorm import vgg
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.means.sums import Sums
from vggnorm.photos.blocks import BATCH_SIZE, block_size
from vggnorm.photos.folder import Folder
from vggnorm.photos.noticed import NOTHING_NOTICED
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.source import Stamp
from vggnorm.photos.taken import Taken

NETWORK = "vgg16"
WARM_UP = 20  # blocks, in which the workers start


def filters() -> dict[str, int]:
    """Give the layers of VGG16: layer name -> number of filters."""
    return {
        f"block{block}_conv{number}": vgg.BLOCK_FILTERS[block - 1]
        for block, number in vgg.places_of(NETWORK)
    }


class StandIn:
    """Gives sums for a block at once."""

    def __init__(self) -> None:
        """Make the sums of a batch."""
        random = np.random.default_rng(0)
        photos = {layer: random.random((BATCH_SIZE, count)) for layer, count in filters().items()}
        self._measured = Moments.of(photos)

    def measure(self, block: Any) -> Any:
        """Give sums of the size of VGG16's for each batch."""
        from vggnorm.run.engine import Measured

        sums = []
        for first in range(0, len(block.photos.names), BATCH_SIZE):
            used = len(block.photos.names[first : first + BATCH_SIZE])
            sums.append(Sums(Taken(used), self._measured))
        return Measured(sums, NOTHING_NOTICED)


def make_photos(count: int) -> PhotoList:
    """List photos that are nowhere, with names as long as COCO's."""
    names = tuple(f"train2017/{number:012}.jpg" for number in range(count))
    stamps: dict[str, Stamp | None] = {name: Stamp(158_000, 0) for name in names}
    return PhotoList(Folder(Path("photos")), names, stamps=stamps, seed=0)


def make_recipe() -> Recipe:
    """Make a recipe, of which the driver needs few fields."""
    digest = "0" * 64
    return Recipe(
        network=NETWORK,
        include_top=False,
        weights="none",
        weights_sha256=digest,
        pooling="max",
        dense=False,
        preprocessing="caffe",
        size=224,
        fit="crop",
        interpolation="bilinear",
        precision="float32",
        control=0,
        accuracy=None,
        photos="photos",
        annotations="",
        categories=(),
        listed=0,
        listed_sha256=digest,
        limit=None,
        tolerance=None,
        shard=None,
        seed=0,
        batch_size=BATCH_SIZE,
        taken_sha256=digest,
        photos_sha256=digest,
        version="none",
    )


@dataclass(frozen=True)
class Cost:
    """What blocks took.

    Attributes:
        blocks: how many there were.
        seconds: of time.
        cpu: seconds of the driver's own processor time.
    """

    blocks: int
    seconds: float
    cpu: float


def measure_driver(blocks: int) -> Cost:
    """Have blocks measured by workers that stand in for VGG16."""
    from vggnorm.run.checkpoint import Keeper
    from vggnorm.run.engine import BlockReader, Job, adding_up
    from vggnorm.run.loop import run_to_end
    from vggnorm.run.options import Watch
    from vggnorm.run.ray import Ray

    class StandInJob(Job):
        def worker(self) -> Any:
            return StandIn()

    recipe = make_recipe()
    photos = make_photos((WARM_UP + blocks) * block_size(BATCH_SIZE))
    start = FilterMeans(Moments.of_none(filters()), recipe)
    warm_up = WARM_UP * block_size(BATCH_SIZE)
    began: list[float] = []

    def note(done: int, _total: int, _uncertainty: float | None) -> None:
        if done >= warm_up and not began:
            began[:] = time.perf_counter(), time.process_time()

    keeper, watch = Keeper(None, print), Watch(progress=note)
    with Ray().workers(StandInJob(None, recipe), print) as submit:
        running = adding_up(start, BlockReader(photos, recipe).sums(start.taken, submit))
        run_to_end(start, running, lambda _taken: len(photos.names), keeper, watch)
        seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return Cost(blocks, seconds, cpu)


def report_engine(blocks: int) -> str:
    """Measure the driver, and say what it can do as a text."""
    cost = measure_driver(blocks)
    rate, by_cpu = cost.blocks / cost.seconds, cost.blocks / cost.cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = block_size(BATCH_SIZE)
    return (
        f"{blocks} blocks of {size} photos in {cost.seconds:.1f} s, of which {cost.cpu:.1f} s are "
        f"the driver's processor time: {rate:.0f} blocks/s ({rate * size:.0f} photos/s); with a "
        f"core to itself, up to {by_cpu:.0f} blocks/s ({by_cpu * size:.0f} photos/s); peak memory "
        f"{memory:.0f} MB"
    )
