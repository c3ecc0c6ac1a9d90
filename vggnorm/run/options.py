"""What a run may be told, as values: how to compute, when to end, and who watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from vggnorm.means.recipe import Precision
from vggnorm.photos.blocks import BATCH_SIZE

NO_RAY = "Ray is not installed; pip install '.[ray]' in vggnorm's own folder"

Say = Callable[[str], object]  # is given one line about what was decided
Stop = Callable[[], object]  # is asked between batches, and gives something true to end the run

# Is given the number of photos done, the number to do, and the uncertainty of the means if it is
# known: see `FilterMeans.uncertainty`. The first call says where the run begins.
Progress = Callable[[int, int, float | None], object]


@dataclass(frozen=True)
class Compute:
    """How the network is run.

    Attributes:
        precision: what the network computes in. `bfloat16` runs all photos in bfloat16 and some of
            them in float32 as well, and adds the mean difference. `auto` times both on this machine
            and takes the faster one. With `auto`, photos are run in both until the correction is
            known well: see `vggnorm.run.choosing.ACCURACY`.
        control: how many photos to run in both precisions, the first ones in the random order.
        batch_size: how many photos the network is given at a time. The means depend on it in their
            last digits only.
        threads: how many threads decode photos; by default one for each core.

    Raises:
        ValueError: a value is out of range.
    """

    precision: Precision | Literal["auto"] = "float32"
    control: int = 64
    batch_size: int = BATCH_SIZE
    threads: int | None = None

    def __post_init__(self) -> None:
        choices = (*get_args(Precision), "auto")
        if self.precision not in choices:
            raise ValueError(
                f"precision is {self.precision!r}; it must be one of {', '.join(choices)}"
            )
        if self.control < 2:
            raise ValueError(
                f"control is {self.control}; it must be at least 2, for a standard error"
            )


@dataclass(frozen=True)
class Until:
    """When a run ends, beside having measured all photos.

    Attributes:
        limit: after this many photos.
        tolerance: as soon as the means are known this well, relative: see
            `FilterMeans.uncertainty`. It is looked at after each batch, and not before
            `vggnorm.run.loop.TOLERANCE_PHOTOS` photos.
        strict: with an error at the first photo that cannot be used, which is otherwise skipped and
            listed.

    Raises:
        ValueError: a value is out of range.
    """

    limit: int | None = None
    tolerance: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; it must be between 0 and 1")


def _never() -> bool:
    return False


def _show_nothing(_done: int, _total: int, _uncertainty: float | None) -> None:
    pass


def _say_nothing(_line: str) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Who watches a run and may end it.

    Attributes:
        stop: is asked before every batch whether to end. The run then saves its checkpoint and
            raises a `StoppedError`.
        progress: is called at the start and after every batch, with how many photos are done, how
            many there are to do, and how surely the means are known.
        say: is given a line on each thing that a person should know while the run goes on.
    """

    stop: Stop = _never
    progress: Progress = _show_nothing
    say: Say = _say_nothing


@dataclass(frozen=True)
class Labels:
    """What the recipe calls the network and its weights, for people: digests identify them.

    Attributes:
        network: by default the model's name.
        weights: such as `imagenet`, or a file's name.
    """

    network: str | None = None
    weights: str = "unnamed"
