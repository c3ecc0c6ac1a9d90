"""Arrays in an .npz archive of numpy, without pickled objects."""

import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from vggnorm.errors import NetworkError, in_one_line
from vggnorm.files.archives import BAD_ARCHIVE, open_zip
from vggnorm.files.tensor import Array, Shape, Tensor

ENDING = ".npy"

# Bytes of an array's header. numpy itself refuses more, but only when it has read them.
MAX_HEADER = 1 << 14

# What a member of an archive makes Python or numpy raise if it is damaged.
BAD_MEMBER = (OSError, lzma.LZMAError, zlib.error, *BAD_ARCHIVE)

HEADERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


@contextmanager
def open_npz(path: Path) -> Iterator[dict[str, Tensor]]:
    """Open an archive: the arrays, which are read when they are asked for.

    Only the header of each array is read here, so that an archive that swells to more than memory
    holds is refused by the shapes that it claims.

    Raises:
        NetworkError: it cannot be read, is damaged, or holds objects.
    """
    with open_zip(path) as archive:
        tensors = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(ENDING)
            tensors[name] = _tensor(archive, member, path)
        yield tensors


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an archive, uncompressed, of arrays of numpy's own types."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _tensor(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Tensor:
    called = repr(member.filename[:120])
    try:
        with archive.open(member) as stream:
            shape, dtype = _header(stream, member, path)
    except NetworkError:
        raise
    except Exception as error:  # what a stranger's header makes numpy raise cannot be foreseen
        raise NetworkError(
            f"{path}: {called} is not an array of numpy, or is damaged: {in_one_line(error)}; get "
            "the file again"
        ) from error
    if dtype.hasobject:
        raise NetworkError(
            f"{path}: {called} holds Python objects, which are never loaded; save the "
            "weights as arrays of numbers"
        )

    def read() -> Array:
        try:
            with archive.open(member) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except BAD_MEMBER as error:
            raise NetworkError(
                f"{path}: is damaged: {called}: {in_one_line(error)}; get the file again"
            ) from error

    return Tensor(shape, dtype.name, read)


def _header(
    stream: IO[bytes], member: zipfile.ZipInfo, path: Path
) -> tuple[Shape, np.dtype[np.generic]]:
    """Read the header of an array, and compare what it claims with the size of the member.

    Raises:
        NetworkError: it claims more or less than there is.
        ValueError: it is not that of an array.
    """
    beginning = io.BytesIO(stream.read(MAX_HEADER))
    version = npy_format.read_magic(beginning)
    if version not in HEADERS:
        raise ValueError(f"its version {version} is not known")
    shape, _, dtype = HEADERS[version](beginning)
    claimed = math.prod(shape) * dtype.itemsize
    left = member.file_size - beginning.tell()
    if claimed != left and not dtype.hasobject:
        raise NetworkError(
            f"{path}: is damaged: {member.filename[:120]!r} claims {claimed:,} bytes and has "
            f"{left:,}; get the file again"
        )
    return shape, dtype
