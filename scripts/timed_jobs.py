"""A job for a contestant of scripts/benchmark.py, and the clock that times it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader

# The rate counts only after this many photos. The largest batch has as many, and a run in bfloat16
# takes as many in float32 too.
WARM_UP = 64


@dataclass(frozen=True)
class Job:
    """What a contestant has to do."""

    contestant: str
    folder: str  # of photos
    weights: str
    means: str  # where vggnorm saves them
    size: int = 224
    batch_size: int = 32


@dataclass(frozen=True)
class Figures:
    """What one run of a contestant took.

    Attributes:
        rate: photos per second after the first `WARM_UP` photos.
        rate_of_cpu: the same per second of processor time, over all cores. Other programs on the
            machine hardly change it.
        first: seconds from the start of the process to the end of the first batch.
        whole: seconds that the whole process took.
        memory: the peak memory of the process, in MB.
    """

    rate: float
    rate_of_cpu: float
    first: float
    whole: float = 0.0
    memory: float = 0.0


class Clock:
    """Records how many photos are done after each batch, and computes the rates from that."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float, int]] = []

    def __call__(self, done: int, *_: object) -> None:
        """Record the time and the processor time, unless no photo is done yet."""
        if done:
            self.told.append((time.perf_counter(), time.process_time(), done))

    def rates(self) -> tuple[float, float]:
        """Give photos per second, and per second of processor time, after `WARM_UP` photos.

        Both are nan if no more came.
        """
        warm = [told for told in self.told if told[-1] >= WARM_UP]
        if len(warm) < 2:
            return float("nan"), float("nan")
        (start, cpu_start, before), (end, cpu_end, done) = warm[0], warm[-1]
        return (done - before) / (end - start), (done - before) / (cpu_end - cpu_start)


def paths(job: Job) -> list[str]:
    """Return the paths of the photos of a job."""
    return sorted(str(path) for path in Path(job.folder).iterdir())


def batches(job: Job) -> Iterator[Any]:
    """Yield batches of the photos of a job, `(photos, height, width, 3)` uint8."""
    reader = PhotoReader(find_photos(job.folder), Geometry(job.size))
    return (batch.pixels for batch in reader.batches(job.batch_size))
