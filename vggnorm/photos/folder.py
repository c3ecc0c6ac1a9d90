"""A folder on disk, with all folders in it."""

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Self

from vggnorm.disk import require_regular_file
from vggnorm.errors import PhotoError
from vggnorm.photos.source import Contents, Source, Stamp

# COCO's own folders of masks: pictures of the classes of pixels, not photos. Shell patterns, in
# lower case.
MASK_FOLDERS = ("annotations", "stuffthingmaps*", "panoptic_*", "pixelmaps_*", "*_pixelmaps")

FOLDERS_SHOWN = 5  # of those that may not be listed, so many are named


@dataclass(frozen=True)
class Folder(Source):
    """A folder on disk, with all folders in it. Links to folders are followed."""

    path: Path

    @property
    def label(self) -> str:
        """The last two parts of the folder's path."""
        return end_of_path(self.path)

    def locate(self, name: str = "") -> str:
        """Give the path of a file or, without a name, of the folder."""
        return str(self.path / name)

    def contents(self) -> Contents:
        """List all files that are not hidden; those in folders of masks come last.

        A folder that may not be listed is left out, unless it is this folder itself.

        Raises:
            PhotoError: the folder cannot be listed, or one in it for another reason than a lack of
                rights.
        """
        names: list[str] = []
        masks, refused = list[Path](), list[str]()
        for parent, folders, files in _walk(self.path, refused):
            for folder in [folder for folder in folders if is_mask_folder(folder)]:
                folders.remove(folder)
                masks.append(Path(parent, folder))
            names += self._names(parent, files)
        # Each of them is walked through by itself. If it is a link to a folder of photos, the
        # photos are still found in their own folder.
        for mask_folder in masks:
            for parent, _, files in _walk(mask_folder, refused):
                names += self._names(parent, files)
        if str(self.path) in refused:
            raise PhotoError(f"{self.path}: cannot be listed: {os.strerror(errno.EACCES)}")
        return Contents(names, _describe_refused(refused))

    def _names(self, parent: str, files: Iterable[str]) -> Iterator[str]:
        below = Path(parent).relative_to(self.path).as_posix()
        for file in files:
            yield file if below == "." else f"{below}/{file}"

    def stamp(self, name: str) -> Stamp | None:
        """Give the size of a file and the time of its last change, in nanoseconds."""
        try:
            status = (self.path / name).stat()
        except OSError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    def open(self, name: str) -> BinaryIO:
        """Open a file. A pipe or a device is refused, because reading it might never end."""
        path = self.path / name
        require_regular_file(path)
        return path.open("rb")

    def identity(self) -> tuple[int, int] | None:
        """Give the device and the number of the folder: another disk there has other ones."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def only(self, names: Collection[str]) -> Self:  # noqa: ARG002
        """Give the folder by its whole path: another process may run elsewhere."""
        return replace(self, path=self.path.absolute())


def end_of_path(path: Path) -> str:
    """Give the last two parts of a path, with a slash between them."""
    return "/".join(path.resolve().parts[-2:])


def _walk(folder: Path, refused: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through all that is not hidden, as `os.walk` does, and visit each folder once.

    A folder that the caller removes from the list of folders is not visited.

    Args:
        folder: where to begin.
        refused: gets the folders that may not be listed.
    """

    def note(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise PhotoError(f"{error.filename}: cannot be listed: {error.strerror}") from error
        refused.append(str(error.filename))

    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=note):
        try:
            status = Path(parent).stat()
        except OSError as error:  # the folder has gone since it was listed, say
            note(error)
            folders.clear()
            continue
        place = status.st_dev, status.st_ino
        if place in visited:  # another link leads here
            folders.clear()
            continue
        visited.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, [name for name in files if not name.startswith(".")]


def _describe_refused(folders: list[str]) -> list[str]:
    """Say in one line which folders may not be listed."""
    if not folders:
        return []
    shown = folders[:FOLDERS_SHOWN]
    if len(folders) > FOLDERS_SHOWN:
        shown.append("…")
    what = "1 folder" if len(folders) == 1 else f"{len(folders)} folders"
    return [f"left out {what} that may not be listed: {', '.join(shown)}"]


def is_mask_folder(name: str) -> bool:
    """Tell whether a folder has the name of one with COCO's masks."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in MASK_FOLDERS)
