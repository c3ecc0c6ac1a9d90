"""The list of a tar archive on another machine, which is kept in the cache folder.

Making it takes a request for every few photos, so it is made once.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vggnorm.disk import replacing
from vggnorm.errors import VggnormError
from vggnorm.photos.addresses import Address
from vggnorm.photos.places import Listing
from vggnorm.photos.stored_file import StoredFile
from vggnorm.photos.tar_archive import TarEntry, list_tar

FORMAT = 1  # of the files in the cache folder


def list_remote_tar(file: StoredFile) -> Listing:
    """List the regular files of a tar archive, from the cache folder if it was listed before.

    Raises:
        PhotoError: see `list_tar`.
    """
    folder = cache_folder()
    if folder is None:
        return list_tar(file)
    if not file.version:  # nobody could tell whether the archive has changed
        return list_tar(file)
    path = folder / "tar" / f"{_key(file)}.json"
    listing = _load(path, file)
    if listing is None:
        listing = list_tar(file)
        _save(path, listing)
    return listing


def cache_folder() -> Path | None:
    """Give the folder in which lists are kept: `vggnorm` in the user's folder of caches.

    Returns:
        The folder; None if the user has no home, as in some containers.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:
            return None
    return folder / "vggnorm"


def _key(file: StoredFile) -> str:
    """Name the state of an archive. The query of its address may say which one it is."""
    url = file.location.url if isinstance(file.location, Address) else str(file.location)
    state = json.dumps([FORMAT, url, file.size, file.version])
    return hashlib.sha256(state.encode()).hexdigest()


def _save(path: Path, listing: Listing) -> None:
    rows = [_row(place) for place in listing.places if isinstance(place, TarEntry)]
    with suppress(OSError, VggnormError):  # the cache folder may not be writable: nothing is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(
                json.dumps({"odd": listing.odd, "entries": rows}), encoding="utf-8"
            )


def _row(entry: TarEntry) -> list[str | int]:
    return [entry.name, entry.size, entry.version, entry.start, entry.stop]


def _load(path: Path, file: StoredFile) -> Listing | None:
    """Load a list, or give None where there is none or it is damaged."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Listing(tuple(_entries(kept["entries"], file)), int(kept["odd"]))
    return None


def _entries(rows: Iterable[list[Any]], file: StoredFile) -> Iterable[TarEntry]:
    for name, size, version, start, stop in rows:
        yield TarEntry(str(name), int(size), int(version), file, int(start), int(stop))
