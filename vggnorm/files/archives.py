"""What every zip archive must keep to before anything in it is used."""

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vggnorm.errors import NetworkError

# What zipfile, and h5py in it, raise for an archive that is damaged, or that they cannot read.
BAD_ARCHIVE = (
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive and check the list of what is in it.

    Raises:
        NetworkError: it cannot be read, is damaged, or has a member twice, encrypted or a link.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror or error}") from error
    except BAD_ARCHIVE as error:
        raise NetworkError(f"{path}: is damaged: {error}; get the file again") from error
    with archive:
        names: set[str] = set()
        for member in archive.infolist():
            _require_plain(member, names, path)
            names.add(member.filename)
        yield archive


def require_stored(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive in which anything is compressed, or claims another size than it has.

    Raises:
        NetworkError: there is such a member.
    """
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise NetworkError(
                f"{path}: is refused: {member.filename[:120]!r} in it is compressed or claims "
                "another size than it has, as PyTorch does not write; save it again with torch.save"
            )


def _require_plain(member: zipfile.ZipInfo, names: set[str], path: Path) -> None:
    trouble = ""
    if member.filename in names:
        trouble = "is there twice"
    elif stat.S_ISLNK(member.external_attr >> 16):
        trouble = "is a link"
    elif member.flag_bits & 1:
        trouble = "is encrypted"
    if trouble:
        raise NetworkError(f"{path}: is refused: {member.filename[:120]!r} in it {trouble}")
