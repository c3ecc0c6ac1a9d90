"""Zip archives: which files they hold, and where.

The layout is that of APPNOTE.TXT, ".ZIP File Format Specification", of PKWARE.
"""

import stat
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from vggnorm.errors import PhotoError
from vggnorm.photos.places import Entry, Listing, visible_name
from vggnorm.photos.stored_file import StoredFile

SIGNATURE = b"PK\x03\x04"  # with which the header of an entry begins
HEADER = 30  # bytes, before the name and the extra field, whose lengths are the last four of them
MAX_TEXTS = 2 * 0xFFFF  # bytes in the name and the extra field, at most

SAYS_UTF8 = 0x800  # in the flags

ENCRYPTED = 0x1 | 0x40 | 0x2000  # an entry; strongly; the directory itself
UNIX = 3  # the system whose kinds of files `external_attr` names
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

BUFFER = 1 << 16  # bytes fetched at a time; the directory itself is read in one piece


@dataclass(frozen=True, slots=True)
class ZipEntry(Entry):
    """A photo in a zip archive; `version` is its checksum.

    Attributes:
        packed_size: how many bytes it takes in the archive.
        is_deflated: whether it is compressed.
    """

    packed_size: int
    is_deflated: bool

    def read(self) -> bytes:
        """Read the entry, decompress it, and check its length and its checksum."""
        self.require_moderate_size(self.size)
        content = self._unpack(self._read_packed(), self.size + 1)
        if len(content) != self.size:
            raise self.damaged("it has another size than the archive says")
        if zlib.crc32(content) != self.version:
            raise self.damaged("its checksum is wrong")
        return content

    def read_start(self, size: int) -> bytes:
        """Read the first bytes of the entry and decompress them."""
        # Deflating makes hardly any bytes longer.
        packed = self._packed_part(self.read_range(HEADER + MAX_TEXTS + 2 * size))[: 2 * size]
        return self._unpack(packed, size)[:size]

    def _read_packed(self) -> bytes:
        packed = self._packed_part(self.read_range())
        if len(packed) < self.packed_size:
            raise self.damaged("it is cut short")
        return packed

    def _packed_part(self, content: bytes) -> bytes:
        """Give what stands behind the header of the entry, with its name and extra field."""
        if not content.startswith(SIGNATURE) or len(content) < HEADER:
            raise self.damaged("it is not where the archive says")
        name, extra = content[HEADER - 4 : HEADER - 2], content[HEADER - 2 : HEADER]
        begin = HEADER + int.from_bytes(name, "little") + int.from_bytes(extra, "little")
        return content[begin : begin + self.packed_size]

    def _unpack(self, packed: bytes, size: int) -> bytes:
        """Decompress an entry, and stop after so many bytes."""
        if not self.is_deflated:
            return packed
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)
        except zlib.error as error:
            raise self.damaged(f"it cannot be decompressed ({error})") from error


def list_zip(file: StoredFile) -> Listing:
    """List the files of a zip archive by its directory, which is read once.

    Raises:
        PhotoError: the archive is damaged, cannot be read, or holds an entry that is encrypted or
            compressed in another way than by deflating.
    """
    try:
        with file.open(BUFFER) as opened, zipfile.ZipFile(opened) as archive:
            infos, end = archive.infolist(), archive.start_dir
    except OSError as error:
        raise PhotoError(f"{file.location}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise PhotoError(
            f"{file.location}: is not a zip archive, or is damaged ({error}); get the file again"
        ) from error
    starts = sorted({info.header_offset for info in infos} | {end})
    entries, odd = [], 0
    for info in infos:
        stored = _stored_name(info)
        name = visible_name(stored)
        if name is None or stored.endswith("/"):
            continue
        if not _is_file(info):
            odd += 1
            continue
        _require_readable(info, file)
        entries.append(_entry(info, name, file, starts))
    return Listing(tuple(entries), odd)


def _stored_name(info: zipfile.ZipInfo) -> str:
    """Give the name of an entry as the folder had it.

    On Unix, the program `zip` stores UTF-8 and does not say so, and Python takes it for the
    alphabet of DOS. Old programs on Windows separate folders by backslashes.
    """
    if info.create_system != UNIX:
        return info.filename.replace("\\", "/")
    if info.flag_bits & SAYS_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _is_file(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return info.create_system != UNIX or kind in {0, stat.S_IFREG}


def _require_readable(info: zipfile.ZipInfo, file: StoredFile) -> None:
    if info.header_offset < 0:
        raise PhotoError(
            f"{file.location}: is damaged: its beginning is missing; get the file again"
        )
    if info.flag_bits & ENCRYPTED:
        raise PhotoError(
            f"{file.location}: {info.filename} is encrypted; make the archive again, not encrypted"
        )
    if info.compress_type not in METHODS:
        raise PhotoError(
            f"{file.location}: {info.filename} is compressed by method {info.compress_type}; make "
            "the archive again, stored or deflated"
        )


def _entry(info: zipfile.ZipInfo, name: str, file: StoredFile, starts: Sequence[int]) -> ZipEntry:
    """Make the place of an entry, which ends where the next one begins, or before."""
    start = info.header_offset
    following = bisect_right(starts, start)
    stop = start + HEADER + MAX_TEXTS + info.compress_size
    if following < len(starts):
        stop = min(stop, starts[following])
    return ZipEntry(
        name=name,
        size=info.file_size,
        version=info.CRC,
        file=file,
        start=start,
        stop=stop,
        packed_size=info.compress_size,
        is_deflated=info.compress_type == zipfile.ZIP_DEFLATED,
    )
