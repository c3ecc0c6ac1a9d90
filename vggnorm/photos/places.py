"""Photos that are not loose files on this machine: each has a place, from which it can be read."""

import copy
import errno
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Self

from vggnorm.errors import PhotoError
from vggnorm.photos.source import Contents, Source, Stamp
from vggnorm.photos.stored_file import StoredFile, by_whole_path

# A photo of 100 million pixels takes less, unless it is hardly compressed.
MAX_SIZE = 256 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Place(ABC):
    """Where the bytes of one photo are.

    It can be sent to another process or machine, and read by any thread: it keeps no file open, and
    reading changes nothing.

    Attributes:
        name: of the photo, in its source.
        size: of the photo, in bytes.
        version: changes with the content.
    """

    name: str
    size: int
    version: int | str

    @abstractmethod
    def read(self) -> bytes:
        """Read the photo and check that it is the one that was listed.

        Raises:
            PhotoError: the photo is damaged or too large.
            PermissionError: the photo may not be read, but others may.
            ChangedError: the file that holds it is gone, or has changed since it was listed.
            OSError: the file cannot be read or fetched.
        """

    @abstractmethod
    def read_start(self, size: int) -> bytes:
        """Read the first bytes of the photo, and check less of it than `read` does.

        Raises:
            PhotoError, PermissionError, ChangedError, OSError: see `read`.
        """

    def by_whole_path(self) -> Self:
        """Give the place as a process in another working folder understands it."""
        return self

    def require_moderate_size(self, size: int) -> None:
        """Refuse to take that many bytes into memory."""
        if size > MAX_SIZE:
            raise PhotoError(f"is too large: {size:,} bytes; at most {MAX_SIZE:,} are read")


@dataclass(frozen=True, slots=True)
class Entry(Place):
    """A photo in an archive.

    Attributes:
        file: the archive.
        start: where its bytes in the archive begin, with the header before them.
        stop: where they end.
    """

    file: StoredFile
    start: int
    stop: int

    def read_range(self, size: int | None = None) -> bytes:
        """Read the bytes from `start` to `stop`, or only so many of them.

        Raises:
            PhotoError: they are too many.
            ChangedError: see `read`.
            OSError: the archive cannot be read. It has the number of an error of the system, since
                it is not this photo's alone.
        """
        stop = self.stop if size is None else min(self.stop, self.start + size)
        self.require_moderate_size(stop - self.start)
        try:
            return self.file.read(self.start, stop)
        except OSError as error:
            raise OSError(errno.EIO, error.strerror) from error

    def by_whole_path(self) -> Self:
        """Give the place in the archive by the archive's whole path."""
        return replace(self, file=by_whole_path(self.file))

    def damaged(self, how: str) -> PhotoError:
        """Make the error for bytes that are not as the archive says.

        Raises:
            ChangedError: another archive is in its place, and the photo is not to blame.
        """
        self.file.require_unchanged()
        return PhotoError(f"is damaged: {how}")


@dataclass(frozen=True)
class Listing:
    """What an archive holds.

    Attributes:
        places: the files that are not hidden.
        odd: how many entries are neither a file nor a folder: links and devices.
    """

    places: tuple[Place, ...]
    odd: int = 0


class Places(Source):
    """Photos that are read from places, such as the entries of an archive."""

    def __init__(
        self,
        places: Iterable[Place],
        *,
        label: str,
        root: str,
        above: str,
        is_remote: bool,
        odd: int = 0,
    ) -> None:
        """Name the places.

        Args:
            places: the files.
            label: see `label`.
            root: what messages call all of it.
            above: what messages write in front of a photo's name.
            is_remote: see `is_remote`.
            odd: how many entries were left out because they are neither files nor folders.

        Raises:
            PhotoError: two places have the same name.
        """
        self._label = label
        self._root = root
        self._above = above
        self._is_remote = is_remote
        self._odd = odd
        self._places = _by_name(places, root)

    @property
    def label(self) -> str:
        """The end of a path, or an address without what is secret in it."""
        return self._label

    @property
    def is_remote(self) -> bool:
        """Whether the photos are on another machine."""
        return self._is_remote

    @property
    def places(self) -> Mapping[str, Place]:
        """Name of a photo -> its place."""
        return self._places

    def locate(self, name: str = "") -> str:
        """Give the path or the address of a file: that of the archive, and the name in it."""
        return self._root if name in {"", "."} else f"{self._above}{name}"

    def contents(self) -> Contents:
        """List the files, and say how many entries were left out because of their kind."""
        remarks = []
        if self._odd:
            entries = "1 entry" if self._odd == 1 else f"{self._odd} entries"
            remarks.append(
                f"left out {entries} of {self._root}: links, devices and sparse files are not read"
            )
        return Contents(list(self._places), remarks)

    def stamp(self, name: str) -> Stamp:
        """Give the state of a file when it was listed. Reading it tells whether it has changed."""
        place = self._places[name]
        return Stamp(place.size, place.version)

    @property
    def how_to_take_a_folder(self) -> str:
        """What to do to take the photos of one of its folders alone."""
        return "make an archive of it alone to take them"

    def open(self, name: str) -> BinaryIO:
        """Read a file into memory: see `Place.read`."""
        return io.BytesIO(self._places[name].read())

    def start_of(self, name: str, size: int) -> bytes:
        """Read the first bytes of a file, without the rest of it."""
        return self._places[name].read_start(size)

    def identity(self) -> Hashable:
        """Give something that never changes: a place itself tells when its archive has changed."""
        return self._root

    def only(self, names: Collection[str]) -> Self:
        """Give some of the places, without the others, which may be millions."""
        chosen = copy.copy(self)
        places = {name: self._places[name].by_whole_path() for name in names}
        vars(chosen)["_places"] = places
        return chosen


def visible_name(name: str) -> str | None:
    """Give the name of an archive's entry as a folder would have it; None if it is hidden.

    A part that begins with a dot is hidden, as in a folder, and so `..` is. So is what macOS adds.
    """
    while name.startswith("./"):
        name = name[2:]
    parts = name.split("/")
    is_hidden = not name or any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return None if is_hidden else name


def _by_name(places: Iterable[Place], root: str) -> dict[str, Place]:
    named: dict[str, Place] = {}
    for place in places:
        if place.name in named:
            raise PhotoError(
                f"{root}: holds {place.name} twice; make the archive again, with each file once"
            )
        named[place.name] = place
    return named
