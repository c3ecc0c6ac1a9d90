"""A limit on how many pixels are decoded at a time, over all threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class PixelBudget:
    """Makes large photos wait for each other, so that more threads do not take more memory."""

    def __init__(self, pixels: int) -> None:
        """Start with nothing held.

        Args:
            pixels: how many may be held at a time. A photo that is larger is decoded alone.
        """
        self._pixels = pixels
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for these pixels, and hold them while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
