"""How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Writes whole lines, for log files."""

    shown: float = -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        if self.total is not None and self.n != self.shown:  # the total is told after the first batch
            print(self, file=sys.stderr)  # noqa: T201
            self.shown = self.n


@contextmanager
def progress_bar(unit: str = "photos") -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told how many photos, or others, are done with, and how many there are to do."""
    if sys.stderr.isatty():
        bar = tqdm(unit=f" {unit}", dynamic_ncols=True)
    else:
        bar = _Lines(
            unit=f" {unit}",
            file=io.StringIO(),  # for tqdm's own carriage returns
            mininterval=SECONDS_BETWEEN_LINES,
            bar_format=f"{{n_fmt}}/{{total_fmt}} {unit}, {{rate_fmt}}, {{remaining}} left",
        )

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield show
