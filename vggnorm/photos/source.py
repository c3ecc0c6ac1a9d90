"""Where photos come from: the one door through which the rest of the program reaches them."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable
from typing import BinaryIO, NamedTuple, Self


class Stamp(NamedTuple):
    """What tells one state of a file from another.

    Attributes:
        size: in bytes.
        version: changes with the content; for a file on disk, the time of its last change.
    """

    size: int
    version: int | str


class Contents(NamedTuple):
    """What a source holds.

    Attributes:
        names: of all files that are not hidden, in any order.
        remarks: lines that say what was left out because it is no such file, or cannot be listed.
    """

    names: list[str]
    remarks: list[str]


class ChangedError(Exception):
    """A photo is not as it was when the photos were listed; the text says how."""


class Source(ABC):
    """A place that holds photos, such as a folder.

    Every file in it has a name: its path below the source, with forward slashes.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name of the source, which the recipe records."""

    @property
    def is_remote(self) -> bool:
        """Whether opening a file takes time but no work, since it is fetched over a network."""
        return False

    @property
    def how_to_take_a_folder(self) -> str:
        """What to do to take the photos of one of its folders alone."""
        return "give it as the data to take them"

    @abstractmethod
    def locate(self, name: str = "") -> str:
        """Say in full where a file is, for messages; without a name, where the source is."""

    @abstractmethod
    def contents(self) -> Contents:
        """List the source.

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
            OSError: the file is missing, may not be read, or is not a regular file; or it cannot be
                fetched.
            PhotoError: the file is damaged or too large.
            ChangedError: what holds the file is gone, or has changed since the photos were listed.
        """

    def start_of(self, name: str, size: int) -> bytes:
        """Read the first bytes of a file; fewer if it ends before.

        Raises:
            OSError, PhotoError, ChangedError: see `open`.
        """
        with self.open(name) as file:
            return file.read(size)

    @abstractmethod
    def identity(self) -> Hashable:
        """Tell the source from another one that has taken its place; None if it is gone."""

    def only(self, names: Collection[str]) -> Self:  # noqa: ARG002
        """Give the source as another process or machine may use it, for some of its files alone."""
        return self
