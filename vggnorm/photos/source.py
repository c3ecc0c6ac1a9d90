"""Where photos come from: the one door through which the rest of the program reaches them."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import BinaryIO, NamedTuple


class Stamp(NamedTuple):
    """What tells one state of a file from another.

    Attributes:
        size: in bytes.
        version: changes with the content; for a file on disk, the time of its last change.
    """

    size: int
    version: int | str


class Source(ABC):
    """A place that holds photos, such as a folder.

    Every file in it has a name: its path below the source, with forward slashes.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name of the source, which the recipe records."""

    @abstractmethod
    def locate(self, name: str = "") -> str:
        """Say in full where a file is, for messages; without a name, where the source is."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Give the names of all files that are not hidden, in any order.

        Raises:
            PhotoError: the source cannot be listed.
        """

    @abstractmethod
    def stamp(self, name: str) -> Stamp | None:
        """Give the size and the version of a file; None if the source cannot tell."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. The result can be sought in.

        Raises:
            OSError: the file is missing, may not be read, or is not a regular file.
        """

    @abstractmethod
    def identity(self) -> Hashable:
        """Tell the source from another one that has taken its place; None if it is gone."""
