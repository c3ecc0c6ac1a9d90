"""A folder of photos, and which of its files are photos."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

from vggnorm.disk import require_regular_file
from vggnorm.errors import PhotoError
from vggnorm.photos.coco import list_photos
from vggnorm.photos.matching import match_listed
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.source import Source, Stamp

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

# COCO's own folders of masks: pictures of the classes of pixels, not photos. Shell patterns, in
# lower case.
MASK_FOLDERS = ("annotations", "stuffthingmaps*", "panoptic_*", "pixelmaps_*", "*_pixelmaps")


@dataclass(frozen=True)
class Folder(Source):
    """A folder on disk, with all folders in it. Links to folders are followed."""

    path: Path

    @property
    def label(self) -> str:
        """The last two parts of the folder's path."""
        return "/".join(self.path.resolve().parts[-2:])

    def locate(self, name: str = "") -> str:
        """Give the path of a file or, without a name, of the folder."""
        return str(self.path / name)

    def names(self) -> Iterator[str]:
        """Give the names of all files that are not hidden; those in folders of masks come last."""
        masks = []
        for parent, folders, files in _walk(self.path):
            for folder in [folder for folder in folders if _is_mask_folder(folder)]:
                folders.remove(folder)
                masks.append(Path(parent, folder))
            yield from self._names(parent, files)
        # Each of them is walked through by itself. If it is a link to a folder of photos, the
        # photos are still found in their own folder.
        for mask_folder in masks:
            for parent, _, files in _walk(mask_folder):
                yield from self._names(parent, files)

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


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through all that is not hidden, as `os.walk` does, and visit each folder once.

    A folder that the caller removes from the list of folders is not visited.
    """
    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_to_list):
        try:
            status = Path(parent).stat()
        except OSError as error:  # the folder has gone since it was listed
            _refuse_to_list(error)
        place = status.st_dev, status.st_ino
        if place in visited:  # another link leads here
            folders.clear()
            continue
        visited.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, [name for name in files if not name.startswith(".")]


def _refuse_to_list(error: OSError) -> NoReturn:
    raise PhotoError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def find_photos(
    path: str | Path, *, annotations: str | Path | None = None, categories: Sequence[str] = ()
) -> PhotoList:
    """Find the photos of a folder, sorted by name.

    The folder is searched recursively. Links to folders are followed. Hidden files and folders are
    left out. So are the folders that have the names of COCO's masks (`annotations`,
    `stuffthingmaps*`, `panoptic_*`, `pixelmaps_*`, `*_pixelmaps`); the result counts the images in
    them. Such a folder is searched only if `path` names it.

    Args:
        path: a COCO root, one of its image folders, or any other folder of images.
        annotations: a COCO instances or captions file; only the photos that it lists are taken.
        categories: names of COCO categories; only photos that show any of them are taken. Needs
            `annotations`.

    Raises:
        PhotoError: the folder is missing or holds no images, the annotation file is unusable, or a
            category is unknown.
    """
    photos = _find_all(_open_folder(Path(path)))
    if annotations is not None:
        photos = _choose(photos, Path(annotations), tuple(categories))
    elif categories:
        raise PhotoError(
            "categories are known only from an annotation file; give one with --annotations"
        )
    return photos.stamped()


def _open_folder(path: Path) -> Folder:
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_folder:
        raise PhotoError(f"{path}: is not a folder; give a folder of photos")
    return Folder(path)


def _find_all(source: Source) -> PhotoList:
    """Find all photos of a source, and count the other files."""
    names = []
    left_out, other_endings = Counter[str](), Counter[str]()
    for name in source.names():
        folder, _, file = name.rpartition("/")
        ending = PurePosixPath(file).suffix.lower()
        is_image = ending in EXTENSIONS
        masks = _find_mask_folder(folder)
        if masks is None and is_image:
            names.append(name)
        elif masks is None:
            other_endings[ending] += 1
        elif is_image:
            left_out[masks] += 1
    photos = PhotoList(
        source,
        tuple(sorted(names)),
        left_out=dict(left_out),
        other_endings=dict(other_endings.most_common()),
    )
    if not names:
        wanted = f"holds no images ({' '.join(sorted(EXTENSIONS))}); give a folder of photos"
        raise PhotoError("; ".join([f"{source.locate()}: {wanted}", *photos.describe()]))
    return photos


@lru_cache
def _find_mask_folder(folder: str) -> str | None:
    """Give the outermost of COCO's mask folders on the way to a folder, or None."""
    path = PurePosixPath(folder)
    for place in [*reversed(path.parents), path]:
        if _is_mask_folder(place.name):
            return str(place)
    return None


def _is_mask_folder(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in MASK_FOLDERS)


def _choose(photos: PhotoList, annotations: Path, categories: tuple[str, ...]) -> PhotoList:
    """Choose the photos that an annotation file lists."""
    listed = [photo.file_name for photo in list_photos(annotations, categories)]
    names, missing = match_listed(listed, photos.names, annotations)
    if not names:
        raise PhotoError(
            f"{photos.source.locate()}: holds none of the {missing} photos listed in "
            f"{annotations}; give a folder and an annotation file that belong together"
        )
    return replace(
        photos,
        names=tuple(names),
        annotations=annotations,
        categories=categories,
        missing=missing,
    )
