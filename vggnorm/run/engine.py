"""The measuring of blocks of photos by an engine: by other processes, on this machine or others.

What a block gives depends on its photos alone. So an engine runs `Worker.measure` on block after
block wherever it can, and this process adds up what they give, batch by batch and in the order of
the photos, as it does with batches that it measures itself. The sums are the same, to the last bit,
on machines of one kind. A block that is lost with its worker is measured again, and nothing is
counted twice, because this process alone adds.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Protocol

import keras

from vggnorm.errors import NetworkError, PhotoError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.recipe import Recipe
from vggnorm.means.sums import Sums
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import read_graph
from vggnorm.network.precision import exact_float32
from vggnorm.network.weights import weights_sha256
from vggnorm.photos.blocks import block_size, cut_into_blocks
from vggnorm.photos.noticed import NOTHING_NOTICED, Noticed
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.taken import NOTHING_TAKEN, Taken
from vggnorm.run.choosing import choose_instruments
from vggnorm.run.measuring import measure_batch
from vggnorm.run.options import Compute, Say

# So many blocks are handed out at a time. One that takes long holds up the adding of those behind
# it, but not their measuring, until so many are waiting.
AHEAD = 256

TICK = 1.0  # seconds, in which whoever wants to end the run is asked at least once


@dataclass(frozen=True, eq=False)
class Job:
    """What all blocks of a run have in common.

    Attributes:
        model: the network.
        recipe: how it is to be measured.
        strict: whether a photo that cannot be used is an error.
        threads: how many threads decode photos in each worker; None to leave it to the engine.
    """

    model: keras.Model
    recipe: Recipe
    strict: bool = False
    threads: int | None = None

    def worker(self) -> "Worker":
        """Make what measures blocks in this process.

        Raises:
            NetworkError: see `Worker`.
        """
        return Worker(self)


@dataclass(frozen=True)
class Block:
    """Photos that are measured in one go.

    Attributes:
        photos: its photos, or those that are left of them where an earlier run has ended.
        limit: the largest number of usable photos to measure.
        in_both: so many of its first photos are run in both precisions, if there are two.
    """

    photos: PhotoList
    limit: int
    in_both: int


@dataclass(frozen=True, eq=False)
class Measured:
    """What a block gives.

    Attributes:
        sums: what was measured over each of its batches.
        noticed: what was noticed about its photos.
    """

    sums: list[Sums]
    noticed: Noticed


# Waits for a block at most so many seconds, and gives None if it is not done by then.
Pending = Callable[[float], Measured | None]

# Hands a block out to be measured.
Submit = Callable[[Block], Pending]


class Engine(Protocol):
    """Runs workers in other processes. Its text names it, for people."""

    def workers(self, job: Job, say: Say) -> AbstractContextManager[Submit]:
        """Have workers for a job as long as the block lasts.

        Args:
            job: what all blocks have in common.
            say: is given a line on each thing that a person should know.

        Raises:
            EngineError: there are no workers to be had. A `Pending` raises it when a worker fails.
        """


# In the process of a worker


class Worker:
    """Measures blocks, in any process."""

    def __init__(self, job: Job) -> None:
        """Build the models that measure.

        Raises:
            NetworkError: the network is not the one that the recipe names.
        """
        self._job = job
        recipe = job.recipe
        graph = read_graph(job.model, dense=recipe.dense)
        arrived = weights_sha256(job.model), architecture_sha256(graph)
        if arrived != (recipe.weights_sha256, recipe.architecture_sha256):
            raise NetworkError(
                f"{job.model.name}: a copy of it that was sent to a worker is another network; "
                "measure it without an engine"
            )
        self._instruments = choose_instruments(
            graph,
            preprocessing=recipe.preprocessing,
            dense=recipe.dense,
            geometry=recipe.geometry,
            compute=Compute(recipe.precision, batch_size=recipe.batch_size),
            share_in_both=0,
            say=lambda _line: None,
        )

    def measure(self, block: Block) -> Measured:
        """Measure the photos of a block, batch after batch.

        Raises:
            PhotoError: the photos are not there, or as for `PhotoReader.batches`.
            NetworkError: an activation is not finite, or there is not enough memory.
        """
        source = block.photos.source
        if source.identity() is None:
            raise PhotoError(
                f"{source.locate()}: is not there; every node must see the photos under this path"
            )
        job = self._job
        reader = PhotoReader(
            block.photos,
            job.recipe.geometry,
            limit=block.limit,
            strict=job.strict,
            threads=job.threads,
        )
        sums = []
        with exact_float32(), closing(reader.batches(job.recipe.batch_size)) as batches:
            for batch in batches:
                in_both = batch.positions < block.in_both
                sums.append(measure_batch(batch, self._instruments, in_both))
        return Measured(sums, reader.noticed)


# In the process that adds up


class BlockReader:
    """Has the blocks of a list measured, and gives what they give.

    Attributes:
        noticed: what was noticed about the photos given.
    """

    def __init__(self, photos: PhotoList, recipe: Recipe) -> None:
        """Prepare.

        Args:
            photos: the whole list, in its order.
            recipe: how they are to be measured.
        """
        self.noticed = NOTHING_NOTICED
        self._photos = photos
        self._wanted = recipe.limit or len(photos.names)
        self._control = recipe.control
        self._block = block_size(recipe.batch_size)

    def sums(self, after: Taken, submit: Submit) -> Iterator[Sums]:
        """Give what was measured over each batch, in the order of the photos.

        While no block is done, it gives the sums of no photo at least once in `TICK` seconds.

        Args:
            after: what was taken before.
            submit: hands out a block.
        """
        blocks = cut_into_blocks(len(self._photos.names), self._block, after.count)
        following = next(blocks, None)
        skipped = len(after.skipped)
        waiting = deque[Pending]()
        while following or waiting:
            while following and len(waiting) < AHEAD:
                # The limit cannot be in this block, however few photos are skipped before it. Where
                # it can, its place is known only when all blocks before are done.
                if waiting and following.stop - skipped > self._wanted:
                    break
                waiting.append(submit(self._cut(following, skipped)))
                following = next(blocks, None)
            measured = waiting[0](TICK)
            if measured is None:
                yield Sums(NOTHING_TAKEN)
                continue
            waiting.popleft()
            self.noticed += measured.noticed
            for sums in measured.sums:
                skipped += len(sums.taken.skipped)
                yield sums

    def _cut(self, positions: range, skipped: int) -> Block:
        """Cut out a block.

        Args:
            positions: where its photos are in the list.
            skipped: how many photos before it are known to be skipped.
        """
        return Block(
            self._photos.only(positions),
            limit=self._wanted - (positions.start - skipped),
            in_both=max(self._control - positions.start, 0),
        )


def adding_up(start: FilterMeans, sums: Iterator[Sums]) -> Generator[FilterMeans, None, None]:
    """Give the means over all photos so far, with each of the sums added in turn."""
    means = start
    for more in sums:
        means = means.plus(more)
        yield means
