"""The signals that end a program early.

SIGINT is Ctrl-C, SIGTERM comes from batch systems and at shutdown, SIGHUP from a closed terminal.

Only the command line uses this module. The library leaves signals alone.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

Handler = Callable[[int, FrameType | None], object]
_Handler = Callable[[int, FrameType | None], object] | int | None  # as `signal.getsignal` gives it


class Interrupted(KeyboardInterrupt):
    """The program was told to end.

    Attributes:
        status: what to exit with: 128 and the signal's number, as shells count.
    """

    def __init__(self, number: int, text: str = "Interrupted; nothing was written") -> None:
        super().__init__(text)
        self.status = 128 + number


@contextmanager
def raising() -> Iterator[None]:
    """Make each of the signals raise `Interrupted` as long as the block lasts."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(interrupt):
        yield


@contextmanager
def noting() -> Iterator[Callable[[], int | None]]:
    """Note the first signal as long as the block lasts. A second one ends the process at once.

    Yields:
        A function that gives the number of the signal that has come, or None.
    """
    noted: int | None = None

    def note(number: int, _: FrameType | None) -> None:
        nonlocal noted
        noted = number
        for ending in ENDING:
            if signal.getsignal(ending) == note:
                signal.signal(ending, signal.SIG_DFL)

    with _handling(note):
        yield lambda: noted


@contextmanager
def kept() -> Iterator[None]:
    """Put back, at the end of the block, the handlers that a library sets in it."""
    before = _handlers()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Set a handler, except for signals that `nohup` or a shell has set to be ignored."""
    before = _handlers()
    handled = {number: earlier for number, earlier in before.items() if earlier != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in handled.items():
            signal.signal(number, earlier)


def _handlers() -> dict[signal.Signals, _Handler]:
    """Give the handlers that are set now; none where this thread may not change them."""
    if threading.current_thread() is not threading.main_thread():  # Python allows no other thread
        return {}
    return {number: signal.getsignal(number) for number in ENDING}
