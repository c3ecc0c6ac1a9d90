"""A file on this machine or on another one, read by ranges."""

import errno
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from vggnorm.disk import require_regular_file
from vggnorm.errors import PhotoError
from vggnorm.photos import remote
from vggnorm.photos.addresses import Location
from vggnorm.photos.source import ChangedError


@dataclass(frozen=True)
class StoredFile:
    """A file as it was when it was found. It is opened anew for every read.

    Attributes:
        location: where it is.
        size: in bytes.
        version: changes with the content: the time of its last change, or a server's tag. Empty if
            the server tells none.
    """

    location: Location
    size: int
    version: str

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes from `start` to before `stop`, or to the end of the file.

        Raises:
            ChangedError: the file is gone, or is not what it was when it was found.
            PermissionError: it may not be read.
            OSError: it cannot be fetched, after several tries.
        """
        stop = min(stop, self.size)
        try:
            content = _read_range(self.location, start, stop)
        except PermissionError:
            raise
        except OSError:
            self.require_unchanged()  # it may be gone, or may have become shorter
            raise
        if len(content) < stop - start:
            self.require_unchanged()
            raise OSError(errno.EIO, "the file ends before its size says so")
        return content

    def require_unchanged(self) -> None:
        """Look at the file again.

        Raises:
            ChangedError: it is gone, or is not what it was when it was found.
            OSError: the system or the server fails to tell.
        """
        try:
            now = stat_file(self.location)
        except FileNotFoundError as error:
            raise ChangedError("is gone") from error
        if now != self:
            raise ChangedError("has changed")

    def open(self, buffer: int) -> BinaryIO:
        """Open the file for reading.

        Args:
            buffer: how many bytes to fetch at a time if the file is on another machine.

        Raises:
            OSError: it cannot be opened or fetched.
        """
        if isinstance(self.location, Path):
            return self.location.open("rb")
        remote.require_ranges(self.location, self.size)
        return io.BufferedReader(_Ranges(self), buffer)


@lru_cache(maxsize=1024)  # the photos of an archive share the file, and should when they are sent
def by_whole_path(file: StoredFile) -> StoredFile:
    """Give a file by its whole path, as a process in another working folder understands it."""
    if isinstance(file.location, Path):
        return replace(file, location=file.location.absolute())
    return file


def find_file(location: Location) -> StoredFile:
    """Note the state of a file.

    Raises:
        PhotoError: there is no such file, or it cannot be read.
    """
    try:
        return stat_file(location)
    except OSError as error:
        raise PhotoError(f"{location}: cannot be read: {error.strerror}") from error


def stat_file(location: Location) -> StoredFile:
    """Note the state of a file.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    if isinstance(location, Path):
        require_regular_file(location)
        status = location.stat()
        return StoredFile(location, status.st_size, str(status.st_mtime_ns))
    state = remote.stat(location)
    return StoredFile(location, state.size, state.version)


def _read_range(location: Location, start: int, stop: int) -> bytes:
    if not isinstance(location, Path):
        return remote.fetch(location, start, stop)
    require_regular_file(location)
    with location.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(stop - start)


class _Ranges(io.RawIOBase):
    """A file on another machine, as Python's own readers of archives want it: open."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        if self._position >= self._file.size:
            return 0
        try:
            content = self._file.read(self._position, self._position + len(buffer))
        except ChangedError as error:
            raise OSError(errno.EIO, f"it {error} since it was opened") from error
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
