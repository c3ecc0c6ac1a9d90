"""Arrays in a safetensors file, whose header is a JSON text and which holds no code."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vggnorm.errors import NetworkError, in_one_line
from vggnorm.files.tensor import Array, Tensor

Metadata = Mapping[str, str]

# Bytes. A VGG with its means has less than a million.
MAX_HEADER = 1 << 24

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@contextmanager
def open_safetensors(path: Path) -> Iterator[tuple[dict[str, Tensor], Metadata]]:
    """Open a file: the arrays, which are read when they are asked for, and its metadata.

    Raises:
        NetworkError: it cannot be read, is damaged, or its header contradicts itself.
    """
    try:
        _require_short_header(path)
        # Mapped pages would count as this process's memory.
        file = safe_open(path, framework="numpy", backend="pread")
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        reason = in_one_line(error)
        raise NetworkError(f"{path}: is damaged: {reason}; get the file again") from error
    with file:
        _require_single_names(path)
        opened: Any = file  # the library has no types
        tensors = {name: _tensor(opened, name) for name in opened.keys()}  # noqa: SIM118
        yield tensors, opened.metadata() or {}


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Metadata) -> None:
    """Write a file. The arrays must be contiguous.

    Raises:
        OSError: the operating system refused.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(arrays), path, dict(metadata))
    except SafetensorError as error:
        raise OSError(in_one_line(error)) from error
    os.chmod(path, mode)  # noqa: PTH101  safetensors lets nobody else read the file


def _tensor(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    dtype = part.get_dtype()
    return Tensor(
        tuple(part.get_shape()), DTYPES.get(dtype, dtype.lower()), lambda: file.get_tensor(name)
    )


def _require_short_header(path: Path) -> None:
    """Refuse a header that would take long to read, and much memory."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise NetworkError(
            f"{path}: is refused: its header claims {length:,} bytes, more than any VGG needs"
        )


def _require_single_names(path: Path) -> None:
    """Refuse a header that names an array twice: the library would take the last one.

    Call it when the library has found that the header is as long as it says.
    """

    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise NetworkError(f"{path}: is refused: its header names something twice")
        return found

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        json.loads(file.read(length), object_pairs_hook=refuse_twice)
