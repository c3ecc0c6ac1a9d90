"""Photos on another machine, fetched by threads of their own ahead of those that decode.

A thread that fetches mostly waits. If the few threads that decode also fetched, the latency of the
network would starve them.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO

from vggnorm.photos.fetchers import Fetched, Fetchers
from vggnorm.photos.places import MAX_SIZE
from vggnorm.photos.source import Contents, Source, Stamp

AT_A_TIME = 32  # photos
MAX_AHEAD = 64  # photos
MAX_AHEAD_SIZE = MAX_SIZE  # bytes; the photos that are asked for come in any case


@contextmanager
def fetched_ahead(source: Source, names: Sequence[str]) -> Iterator[Source]:
    """Give a source that fetches files before they are opened, if they are on another machine.

    Args:
        source: where the files are.
        names: of the files that will be opened, each once and about in this order.
    """
    if not source.is_remote:
        yield source
        return
    fetchers = Fetchers(AT_A_TIME, source.open)
    try:
        yield _Ahead(source, names, fetchers)
    finally:
        fetchers.close()


class _Ahead(Source):
    """A source that has its next files fetched while it opens one."""

    def __init__(self, source: Source, names: Sequence[str], fetchers: Fetchers) -> None:
        self._source = source
        self._sizes = ((name, self._size(name)) for name in names)
        self._fetchers = fetchers
        self._lock = Lock()
        self._fetching: dict[str, tuple[int, Fetched]] = {}
        self._size_ahead = 0

    @property
    def label(self) -> str:
        return self._source.label

    @property
    def is_remote(self) -> bool:
        return self._source.is_remote

    def locate(self, name: str = "") -> str:
        return self._source.locate(name)

    def contents(self) -> Contents:
        return self._source.contents()

    def stamp(self, name: str) -> Stamp | None:
        return self._source.stamp(name)

    def identity(self) -> Hashable:
        return self._source.identity()

    def open(self, name: str) -> BinaryIO:
        """Wait until a file is fetched. Its errors are those of the source."""
        with self._lock:
            # Another thread may open the file before this one a moment later.
            while name not in self._fetching:
                if not self._fetch_next():
                    raise ValueError(f"{name} was opened before, or is not in the list")
            size, file = self._fetching.pop(name)
            self._size_ahead -= size
            while self._has_room() and self._fetch_next():
                pass
        return file.result()

    def _has_room(self) -> bool:
        return len(self._fetching) < MAX_AHEAD and self._size_ahead < MAX_AHEAD_SIZE

    def _fetch_next(self) -> bool:
        """Have the next file fetched; tell whether there was one."""
        name, size = next(self._sizes, ("", 0))
        if name:
            self._fetching[name] = size, self._fetchers.fetch(name)
            self._size_ahead += size
        return bool(name)

    def _size(self, name: str) -> int:
        stamp = self._source.stamp(name)
        return 0 if stamp is None else stamp.size
