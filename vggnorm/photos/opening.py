"""From what a user names as the data to a source of photos."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Address, Location, parse_location
from vggnorm.photos.bucket import Bucket
from vggnorm.photos.folder import Folder, end_of_path
from vggnorm.photos.places import Listing, Place, Places
from vggnorm.photos.source import Source
from vggnorm.photos.stored_file import find_file
from vggnorm.photos.tar_archive import list_tar
from vggnorm.photos.tar_index import list_remote_tar
from vggnorm.photos.zip_archive import list_zip

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")  # {000..015}

COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

LISTED_AT_A_TIME = 16  # archives


def open_source(data: str | Path) -> Source:
    """Open a folder, one or several archives, or a folder of a bucket.

    Args:
        data: the path of a folder, a `.zip` or a `.tar`; several archives, with `{000..015}` for
            the numbers in their names; or the address of an archive or of a bucket's folder.

    Raises:
        PhotoError: there is no such thing, or it cannot be listed.
    """
    locations = [parse_location(text) for text in _expand(data)]
    if len(locations) == 1 and not _is_archive(locations[0]):
        return _open_folder(locations[0])
    for location in locations:
        if not _is_archive(location):
            raise PhotoError(f"{location}: is not a .zip or a .tar; braces name several archives")
    return _open_archives(parse_location(data), locations)


def _expand(data: str | Path) -> list[str | Path]:
    """Give the names that braces with two numbers stand for, as a shell would."""
    found = BRACES.search(str(data))
    if found is None or _is_there(Path(data)):  # a file may have braces in its name
        return [data]
    first, last = found.groups()
    is_padded = any(len(text) > 1 and text[0] == "0" for text in (first, last))
    width = max(len(first), len(last)) if is_padded else 1
    names: list[str | Path] = []
    for number in range(int(first), int(last) + 1):
        name = f"{str(data)[: found.start()]}{number:0{width}}{str(data)[found.end() :]}"
        names += _expand(name)
    if not names:
        raise PhotoError(
            f"{parse_location(data)}: {found[0]} counts down; give the lower number first"
        )
    return names


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long for a file, say
        return False


def _is_archive(location: Location) -> bool:
    """Tell an archive by its ending. A folder may have it, too."""
    ends_so = location.name.lower().endswith((".zip", ".tar"))
    return ends_so and not (isinstance(location, Path) and _is_folder(location))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {error.strerror}") from error


def _open_folder(location: Location) -> Source:
    if location.name.lower().endswith(COMPRESSED_TARS):
        raise PhotoError(
            f"{location}: is compressed as a whole, so that no photo can be read by itself; make "
            "it a .tar or a .zip"
        )
    if isinstance(location, Address):
        return Bucket(location)
    if not _is_folder(location):
        raise PhotoError(
            f"{location}: is not a folder, a .zip or a .tar; give a folder or an archive of photos"
        )
    return Folder(location)


def _open_archives(pattern: Location, locations: Sequence[Location]) -> Places:
    """Open archives.

    Args:
        pattern: what all of them are called.
        locations: where they are.
    """
    with ThreadPoolExecutor(LISTED_AT_A_TIME) as pool:
        listings = list(pool.map(_list_archive, locations))
    places: list[Place] = []
    if len(locations) == 1:
        above = f"{locations[0]}/"
        places += listings[0].places
    else:
        before_braces = BRACES.split(str(pattern), maxsplit=1)[0]
        above = before_braces[: before_braces.rfind("/") + 1]
        for location, listing in zip(locations, listings, strict=True):
            archive = str(location).removeprefix(above)
            for place in listing.places:
                places.append(replace(place, name=f"{archive}/{place.name}"))
    return Places(
        places,
        label=end_of_path(pattern) if isinstance(pattern, Path) else str(pattern),
        root=str(pattern),
        above=above,
        odd=sum(listing.odd for listing in listings),
        is_remote=isinstance(pattern, Address),
    )


def _list_archive(location: Location) -> Listing:
    file = find_file(location)
    if location.name.lower().endswith(".zip"):
        return list_zip(file)
    return list_tar(file) if isinstance(location, Path) else list_remote_tar(file)
