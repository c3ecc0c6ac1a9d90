"""How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from vggnorm.means import KNOWN_SHARE
from vggnorm.printable import printable

SECONDS_BETWEEN_LINES = 10.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Writes whole lines, for log files."""

    shown: float = -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        if self.total is not None and self.n != self.shown:  # the total is told after the first batch
            print(self, file=sys.stderr)  # noqa: T201
            self.shown = self.n


# Is told how many photos are done with, how many there are to do, and how surely the means are known by now, if they
# are: see vggnorm.means.FilterMeans.uncertainty. First, it is told where the run begins.
Progress = Callable[[int, int, float | None], object]


@contextmanager
def progress_bar(unit: str = "photos") -> Iterator[Progress]:
    """Show a run's progress, as long as the block lasts."""
    if sys.stderr.isatty():
        bar = tqdm(unit=f" {unit}", dynamic_ncols=True)
    else:
        bar = _Lines(
            unit=f" {unit}",
            file=io.StringIO(),  # for tqdm's own carriage returns
            mininterval=SECONDS_BETWEEN_LINES,
            bar_format=f"{{n_fmt}}/{{total_fmt}} {unit}, {{rate_fmt}}, {{remaining}} left{{postfix}}",
        )

    def show(done: int, total: int, uncertainty: float | None) -> None:
        if bar.total is None:  # what was done in an earlier run is no matter of speed
            bar.initial = bar.n = done
        bar.total = total
        if uncertainty is not None:
            bar.set_postfix_str(f"{KNOWN_SHARE:.0%} of filters known to {uncertainty:.1%}", refresh=False)
        bar.update(done - bar.n)

    with bar:
        yield show


def say(line: str) -> None:
    """Write a line to stderr, above the bar if there is one."""
    tqdm.write(printable(line), file=sys.stderr)
