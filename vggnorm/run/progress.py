"""The progress of a run, on stderr: a bar on a terminal, a line now and then elsewhere."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from vggnorm.means.filter_means import KNOWN_SHARE
from vggnorm.report.printable import printable
from vggnorm.run.options import Progress

SECONDS_BETWEEN_LINES = 10.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Writes whole lines, for log files."""

    shown: float = -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        is_known = self.total is not None  # the total comes with the first call
        if is_known and self.n != self.shown:
            _write(str(self))
            self.shown = self.n


@contextmanager
def progress_bar(unit: str = "photos") -> Iterator[Progress]:
    """Show the progress of a run, as long as the block lasts."""
    if sys.stderr.isatty():
        bar = tqdm(unit=f" {unit}", dynamic_ncols=True)
    else:
        bar = _Lines(
            unit=f" {unit}",
            file=io.StringIO(),  # for tqdm's own carriage returns
            mininterval=SECONDS_BETWEEN_LINES,
            bar_format=f"{{n_fmt}}/{{total_fmt}} {unit}, {{rate_fmt}}, {{remaining}} "
            "left{postfix}",
        )

    def show(done: int, total: int, uncertainty: float | None) -> None:
        if bar.total is None:  # photos of an earlier run do not count for the speed
            bar.initial = bar.n = done
        bar.total = total
        if uncertainty is not None:
            bar.set_postfix_str(
                f"{KNOWN_SHARE:.0%} of filters known to {uncertainty:.1%}", refresh=False
            )
        with suppress(OSError):
            bar.update(done - bar.n)

    with bar:
        yield show


def say(line: str) -> None:
    """Write a line to stderr, above the bar if there is one."""
    _write(printable(line))


def _write(line: str) -> None:
    """Write a line, unless nobody can read it any more: a run of hours is worth more."""
    with suppress(OSError):
        tqdm.write(line, file=sys.stderr)
