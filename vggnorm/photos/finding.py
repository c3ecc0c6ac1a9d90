"""Finding the photos of a source, and choosing those that an annotation file lists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Location, parse_location
from vggnorm.photos.coco import read_listing
from vggnorm.photos.folder import is_mask_folder
from vggnorm.photos.formats import ENDINGS, FORMATS, ending_of
from vggnorm.photos.looking import begin_as_photos, is_doubtful
from vggnorm.photos.matching import match_listed
from vggnorm.photos.opening import open_source
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.source import Source

EXTENSIONS = frozenset(ending for name in FORMATS for ending in ENDINGS[name])


def find_photos(
    data: str | Path, *, annotations: str | Path | None = None, categories: Sequence[str] = ()
) -> PhotoList:
    """Find the photos of a folder, an archive or a bucket, sorted by name.

    A folder is searched recursively for names with the ending of an image. A file whose name has no
    usual ending is a photo if it begins as one. Links to folders are followed. Hidden files and
    folders are left out, and so are folders that may not be listed; the result names the latter.
    Left out are also the folders that have the names of COCO's masks (`annotations`,
    `stuffthingmaps*`, `panoptic_*`, `pixelmaps_*`, `*_pixelmaps`); the result counts the images in
    them. Such a folder is searched only if `data` names it. The same holds inside an archive.

    Args:
        data: a COCO root, one of its image folders, or any other folder of images; a `.zip` or a
            `.tar`; several of them, as in `shards-{000..015}.tar`; or the address of an archive or
            of a bucket's folder, such as `https://host/val2017.zip` or `s3://bucket/coco/`.
        annotations: a COCO file, or its address; only the photos that it lists are taken.
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
    contents = source.contents()
    names: list[str] = []
    doubtful: list[str] = []
    left_out, other_endings = Counter[str](), Counter[str]()
    for name in contents.names:
        folder, _, file = name.rpartition("/")
        ending = ending_of(file)
        is_image = ending in EXTENSIONS
        masks = _find_mask_folder(folder)
        if masks is None and is_image:
            names.append(name)
        elif masks is None and is_doubtful(ending):
            doubtful.append(name)
        elif masks is None:
            other_endings[ending] += 1
        elif is_image:
            left_out[masks] += 1
    for name, is_photo in zip(doubtful, begin_as_photos(source, doubtful), strict=True):
        if is_photo:
            names.append(name)
        else:
            other_endings[ending_of(name)] += 1
    photos = PhotoList(
        source,
        tuple(sorted(names)),
        left_out=dict(left_out),
        other_endings=dict(sorted(other_endings.items(), key=lambda item: (-item[1], item[0]))),
        remarks=tuple(contents.remarks),
    )
    if not names:
        wanted = f"holds no images ({' '.join(FORMATS)}); give a folder or an archive of photos"
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
    listing = read_listing(annotations, categories)
    listed = [photo.file_name for photo in listing.photos]
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
        remarks=(*photos.remarks, *listing.remarks),
    )
