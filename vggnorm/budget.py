"""How many pixels may be decoded at a time, over all threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class PixelBudget:
    """Makes large photos wait for each other, so that memory does not grow with the number of threads."""

    def __init__(self, pixels: int) -> None:
        """Begin with nothing held.

        Args:
            pixels: how many may be held at a time. A photo that is larger is decoded alone.
        """
        self._pixels = pixels
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, and keep it as long as the block lasts."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
