"""The check of a .mat file before SciPy reads it.

SciPy trusts the sizes in a file. Where they lie, it takes gigabytes of memory, or the process
crashes. So the file is walked over first, in the order in which SciPy reads it, and what each array
claims is compared with what is there.

The format is that of MathWorks's "MAT-File Format", level 5. After a header, the file is a row of
elements: a tag of a type and a size, and the data, which end at a multiple of 8 bytes. A matrix is
an element of elements: flags, dimensions, a name, and its content, which are numbers, or matrices
for a cell array and for a struct. A variable is a matrix, which may be compressed.
"""

import math
import os
import struct
import zlib
from collections.abc import Container
from pathlib import Path
from typing import BinaryIO

from vggnorm.errors import NetworkError

HEADER = 128  # bytes

ORDERS = {b"IM": "<", b"MI": ">"}  # the end of the header, and how `struct` calls the byte order

# The numbers of types of elements, and the bytes of a number of each.
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
TEXTS = (1, 2, 3, 4, 16, 17, 18)

# The numbers of classes of matrices, and the bytes of a number of each in memory.
CELLS, STRUCT, TEXT, OPAQUE = 1, 2, 4, 17
CLASS_SIZES = {6: 8, 7: 4, 8: 1, 9: 1, 10: 2, 11: 2, 12: 4, 13: 4, 14: 8, 15: 8}

COMPLEX = 0x0800  # in the flags

# What a VGG does not need more of. Its layers are 43, and each is a struct of about 10 fields.
MOST_BYTES = 1 << 31  # in memory; VGG19 with its dense layers has 575 million
MOST_MATRICES = 100_000
MOST_NAMES = 1 << 16  # bytes of the names of the fields of a struct
MOST_DEPTH = 16
MOST_AXES = 16

CHUNK = 1 << 20


class _UnsoundError(ValueError):
    """Something that MATLAB would not have written; the text is the reason, without the file."""


def require_sound(path: Path, wanted: Container[str]) -> None:
    """Refuse a file that SciPy cannot read safely.

    Args:
        path: the file.
        wanted: the variables that will be read. Of the others, only the beginning is looked at.

    Raises:
        NetworkError: a size in it lies, it is cut off, or it holds more than any VGG.
    """
    try:
        with path.open("rb") as file:
            order = ORDERS[file.read(HEADER)[126:]]
            _Check(file, order, path.stat().st_size).variables(wanted)
    except KeyError as error:
        raise NetworkError(
            f"{path}: is damaged: its header is cut off; get the file again"
        ) from error
    except (_UnsoundError, OSError, zlib.error) as error:
        raise NetworkError(f"{path}: is damaged: {error}; get the file again") from error


class _Stored:
    """Bytes that stand in the file as they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        """Give the next bytes; fewer at the end."""
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        self._file.seek(count, os.SEEK_CUR)


class _Unpacked:
    """What compressed bytes unpack to, a piece at a time."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._decompressor = zlib.decompressobj()
        self._ready = b""

    def read(self, count: int) -> bytes:
        """Give the next bytes; fewer at the end."""
        while len(self._ready) < count:
            packed = self._decompressor.unconsumed_tail
            if not packed:
                packed = self._file.read(min(CHUNK, self._left))
                self._left -= len(packed)
            unpacked = self._decompressor.decompress(packed, CHUNK)
            if not unpacked and not packed:
                break
            self._ready += unpacked
        given, self._ready = self._ready[:count], self._ready[count:]
        return given

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        while count > 0:
            passed = len(self.read(min(CHUNK, count)))
            if not passed:
                break
            count -= passed


class _Check:
    """The walk over a file, which counts what SciPy would make of it."""

    def __init__(self, file: BinaryIO, order: str, size: int) -> None:
        self._file = file
        self._order = order
        self._size = size
        self._stream: _Stored | _Unpacked = _Stored(file)
        self._bytes = 0
        self._matrices = 0

    def variables(self, wanted: Container[str]) -> None:
        names: set[str] = set()
        while self._file.tell() < self._size:
            kind, size = self._number(), self._number()
            end = self._file.tell() + size
            if end > self._size:
                raise _UnsoundError("it is cut off")
            if kind == COMPRESSED:
                self._stream = _Unpacked(self._file, size)
                kind, _, _ = self._tag()
            if kind != MATRIX:
                raise _UnsoundError("it holds something else than variables")
            name = self._variable(wanted)
            if name in names:
                raise _UnsoundError(f"the variable {name!r} is there twice")
            names.add(name)
            self._stream = _Stored(self._file)
            self._file.seek(end)

    def _variable(self, wanted: Container[str]) -> str:
        """Check a variable behind its tag, and give its name."""
        flags = self._flags()
        if flags & 0xFF == OPAQUE:  # an object of MATLAB, whose name comes otherwise
            return f"object {self._file.tell()}"
        axes = self._axes()
        name = self._element((INT8,), MOST_NAMES).decode("latin-1")
        if name in wanted:
            self._content(flags, axes, 0)
        return name

    def _matrix(self, depth: int) -> None:
        self._matrices += 1
        if depth > MOST_DEPTH or self._matrices > MOST_MATRICES:
            raise _UnsoundError("it holds more arrays in arrays than any VGG")
        kind, size, _ = self._tag()
        if kind != MATRIX:
            raise _UnsoundError("a part of an array is no array")
        if size == 0:  # an empty one may be written so
            return
        flags, axes = self._flags(), self._axes()
        self._element((INT8,), MOST_NAMES)
        self._content(flags, axes, depth)

    def _content(self, flags: int, axes: tuple[int, ...], depth: int) -> None:
        """Check what stands behind the name of a matrix."""
        kind = flags & 0xFF
        count = math.prod(axes)
        if kind in CLASS_SIZES:
            self._numbers(count, CLASS_SIZES[kind])
            if flags & COMPLEX:
                self._numbers(count, CLASS_SIZES[kind])
        elif kind == TEXT:
            self._text(count)
        elif kind == CELLS:
            self._matrices_of(count, depth)
        elif kind == STRUCT:
            self._matrices_of(count * self._fields(), depth)
        else:
            raise _UnsoundError(f"it holds an array of MATLAB's class {kind}, as no VGG does")

    def _numbers(self, count: int, bytes_in_memory: int) -> None:
        kind, size, padding = self._tag()
        if kind not in SIZES:
            raise _UnsoundError(f"an array has numbers of type {kind}")
        if size != count * SIZES[kind]:
            raise _UnsoundError(f"an array claims {count:,} numbers and has {size:,} bytes")
        self._bytes += count * bytes_in_memory
        if self._bytes > MOST_BYTES:
            raise _UnsoundError(f"it unpacks to more than {MOST_BYTES:,} bytes, as no VGG does")
        self._stream.skip(size + padding)

    def _text(self, count: int) -> None:
        size = len(self._element(TEXTS, MOST_NAMES))
        if count > size:
            raise _UnsoundError(f"a text claims {count:,} letters and has {size:,} bytes")

    def _matrices_of(self, count: int, depth: int) -> None:
        for _ in range(count):
            self._matrix(depth + 1)

    def _fields(self) -> int:
        """Give the number of fields of a struct."""
        length: int = struct.unpack(f"{self._order}i", self._element((INT32,), 4, exact=True))[0]
        names = self._element((INT8,), MOST_NAMES)
        if length < 1 or len(names) % length:
            raise _UnsoundError("the names of the fields of a struct are damaged")
        return len(names) // length

    def _flags(self) -> int:
        flags = self._element((UINT32,), 8, exact=True)
        return int(struct.unpack(f"{self._order}II", flags)[0])

    def _axes(self) -> tuple[int, ...]:
        content = self._element((INT32,), 4 * MOST_AXES)
        axes = struct.unpack(f"{self._order}{len(content) // 4}i", content)
        if len(axes) < 2 or min(axes) < 0:
            raise _UnsoundError(f"an array claims the sizes {axes}")
        return axes

    def _element(self, kinds: Container[int], most: int, *, exact: bool = False) -> bytes:
        """Read a whole element of one of these types."""
        kind, size, padding = self._tag()
        if kind not in kinds or size > most or (exact and size < most):
            raise _UnsoundError(f"an element of type {kind} has {size:,} bytes")
        content = self._read(size)
        self._stream.skip(padding)
        return content

    def _tag(self) -> tuple[int, int, int]:
        """Give the type and the size of an element, and how many bytes stand behind its data."""
        kind = self._number()
        if kind >> 16:  # both are in one number, and the data in the next 4 bytes
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _UnsoundError(f"an element of type {kind} has {size:,} bytes")
            return kind, size, 4 - size
        size = self._number()
        return kind, size, -size % 8

    def _number(self) -> int:
        return int(struct.unpack(f"{self._order}I", self._read(4))[0])

    def _read(self, count: int) -> bytes:
        content = self._stream.read(count)
        if len(content) < count:
            raise _UnsoundError("it is cut off")
        return content
