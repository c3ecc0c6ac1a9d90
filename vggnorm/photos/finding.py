"""Finding the photos of a source, and choosing those that an annotation file lists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Location, parse_location
from vggnorm.photos.coco import list_photos
from vggnorm.photos.folder import is_mask_folder
from vggnorm.photos.matching import match_listed
from vggnorm.photos.opening import open_source
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.source import Source

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def find_photos(
    data: str | Path, *, annotations: str | Path | None = None, categories: Sequence[str] = ()
) -> PhotoList:
    """Find the photos of a folder, an archive or a bucket, sorted by name.

    A folder is searched recursively. Links to folders are followed. Hidden files and folders are
    left out. So are the folders that have the names of COCO's masks (`annotations`,
    `stuffthingmaps*`, `panoptic_*`, `pixelmaps_*`, `*_pixelmaps`); the result counts the images in
    them. Such a folder is searched only if `data` names it. The same holds inside an archive.

    Args:
        data: a COCO root, one of its image folders, or any other folder of images; a `.zip` or a
            `.tar`; several of them, as in `shards-{000..015}.tar`; or the address of an archive or
            of a bucket's folder, such as `https://host/val2017.zip` or `s3://bucket/coco/`.
        annotations: a COCO instances or captions file, or its address; only the photos that it
            lists are taken.
        categories: names of COCO categories; only photos that show any of them are taken. Needs
            `annotations`.

    Raises:
        PhotoError: the data are missing, cannot be read or hold no images, the annotation file is
            unusable, or a category is unknown.
    """
    photos = _find_all(open_source(data))
    if annotations is not None:
        photos = _choose(photos, parse_location(annotations), tuple(categories))
    elif categories:
        raise PhotoError(
            "categories are known only from an annotation file; give one with --annotations"
        )
    return photos.stamped()


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
        endings = " ".join(sorted(EXTENSIONS))
        wanted = f"holds no images ({endings}); give a folder or an archive of photos"
        raise PhotoError("; ".join([f"{source.locate()}: {wanted}", *photos.describe()]))
    return photos


@lru_cache
def _find_mask_folder(folder: str) -> str | None:
    """Give the outermost of COCO's mask folders on the way to a folder, or None.

    An archive that was named is not one, whatever its name.
    """
    path = PurePosixPath(folder)
    for place in [*reversed(path.parents), path]:
        is_archive = place.suffix.lower() in {".zip", ".tar"}
        if is_mask_folder(place.name) and not is_archive:
            return str(place)
    return None


def _choose(photos: PhotoList, annotations: Location, categories: tuple[str, ...]) -> PhotoList:
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
