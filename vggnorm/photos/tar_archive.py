"""Tar archives: which files they hold, and where.

The layout is that of POSIX.1-2017, "pax Interchange Format" and "ustar Interchange Format". A tar
has no directory. So it is walked through from header to header, once.
"""

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from vggnorm.errors import PhotoError
from vggnorm.photos.places import Entry, Listing, visible_name
from vggnorm.photos.stored_file import StoredFile

BLOCK = tarfile.BLOCKSIZE

# Bytes fetched at a time. A photo is far smaller, so that one request fetches many headers.
BUFFER = 1 << 22

MAX_PADDING = 1 << 23  # bytes behind the end of an archive


@dataclass(frozen=True, slots=True)
class TarEntry(Entry):
    """A photo in a tar archive; `version` is the checksum of the header in front of it.

    A tar has no checksums of its files. The header holds the name, the size and the time, so it
    tells whether another archive has taken the place of the one that was listed.
    """

    def read(self) -> bytes:
        """Read the entry with its header, and check the header."""
        content = self.read_range()
        if isinstance(self.file.location, Path):  # of the photo itself, nothing else tells
            self.file.require_unchanged()
        if zlib.crc32(content[:BLOCK]) != self.version:
            raise self.damaged("it is not where the archive says")
        if len(content) != BLOCK + self.size:
            raise self.damaged("it is cut short")
        return content[BLOCK:]

    def read_start(self, size: int) -> bytes:
        """Read the first bytes of the entry."""
        return self.read_range(BLOCK + size)[BLOCK:]


def list_tar(file: StoredFile) -> Listing:
    """List the regular files of a tar archive.

    Raises:
        PhotoError: the archive is damaged, cut short or compressed, or cannot be read.
    """
    try:
        with file.open(BUFFER) as opened, tarfile.open(fileobj=opened, mode="r:") as archive:
            entries, odd = [], 0
            for info in archive:
                name = visible_name(info.name)
                if name is None or info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    odd += 1
                    continue
                start = info.offset_data - BLOCK
                opened.seek(start)
                version = zlib.crc32(opened.read(BLOCK))
                stop = info.offset_data + info.size
                entries.append(TarEntry(name, info.size, version, file, start, stop))
            opened.seek(archive.offset)
            end = opened.read(MAX_PADDING + 1)
    except OSError as error:
        raise PhotoError(f"{file.location}: cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError) as error:
        raise PhotoError(
            f"{file.location}: is not a plain tar archive, or is damaged ({error}); get the file "
            "again, or unpack a .tar.gz"
        ) from error
    _require_end(end, file)
    return Listing(tuple(entries), odd)


def _require_end(end: bytes, file: StoredFile) -> None:
    """Refuse an archive whose list is not complete. `tarfile` ends it at whatever is no header."""
    if len(end) < BLOCK:
        raise PhotoError(f"{file.location}: is cut short: it has no end mark; get the file again")
    if any(end[:BLOCK]):
        raise PhotoError(f"{file.location}: is damaged between its files; get the file again")
    if any(end) or len(end) > MAX_PADDING:
        raise PhotoError(
            f"{file.location}: holds more behind its end mark, or more than {MAX_PADDING:,} bytes "
            "of padding; give single archives, not joined ones"
        )
