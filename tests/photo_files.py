"""Photos that tests write, and reading them back."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vggnorm.errors import PhotoError
from vggnorm.photos.decode import decode_photo
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Fit, Geometry, Interpolation
from vggnorm.photos.photo_list import PhotoList

Pixels = NDArray[np.uint8]

WHITE = 255, 255, 255

# Pillow warns of what is odd in a file. pytest would make an error of the warning, inside the
# decoding.
allow_warnings = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")


def make_noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Pixels:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_bytes(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    """Write an image file of a kind, such as `PNG`."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def make_png(
    width: int, height: int, depth: int, colour: int, rows: bytes = b"", transparent: bytes = b""
) -> bytes:
    """Write a PNG by its specification: what Pillow cannot write, or would not."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"tRNS", transparent),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    written = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        if content or kind == b"IEND":
            checksum = struct.pack(">I", zlib.crc32(kind + content))
            written += struct.pack(">I", len(content)) + kind + content + checksum
    return written


def make_tiff(
    data: bytes, bits: int, photometric: int | None, order: str = "<", **more: int
) -> bytes:
    """Write a grey TIFF of 4 x 4 pixels by its specification."""
    if more.get("compression") == 8:
        data = zlib.compress(data)
    fields = {
        256: 4,
        257: 4,
        258: bits,
        259: more.get("compression", 1),
        262: photometric,
        273: 0,
        277: 1,
        278: 4,
    }
    fields |= {279: len(data), 284: more.get("planar"), 339: more.get("sample_format")}
    fields = {tag: value for tag, value in fields.items() if value is not None}
    fields[273] = 8 + 2 + 12 * len(fields) + 4
    body = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(fields.items())
    )
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH", 42, 8, len(fields)) + body + bytes(4) + data


def decode_file(path: Path, geometry: Geometry) -> Pixels:
    with path.open("rb") as file:
        return decode_photo(file, geometry, path.name)


def decode(
    path: Path, size: int, interpolation: Interpolation = "nearest", fit: Fit = "stretch"
) -> Pixels:
    return decode_file(path, Geometry(size, fit, interpolation))


def decode_bytes(content: bytes, size: int) -> Pixels:
    """Decode a file with this content. A square photo with this side is not resized."""
    geometry = Geometry(size, "stretch", "nearest")
    return decode_photo(io.BytesIO(content), geometry, "photo")


def error_of(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(PhotoError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def reason(content: bytes) -> str:
    """Say why a file with this content is refused."""
    name, _, said = error_of(decode_bytes, content, 4).partition(": ")
    assert name == "photo"
    return said


def touch(folder: Path, *names: str) -> Path:
    """Make empty files in a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def write_listing(folder: Path, *names: str) -> Path:
    """Write an annotation file that lists photos of these names."""
    path = folder / "listing.json"
    path.write_text(json.dumps({"images": [{"file_name": name} for name in names]}))
    return path


def make_list(count: int, folder: Path = Path("photos")) -> PhotoList:
    """List photos by numbers, without any file."""
    return PhotoList(Folder(folder), tuple(f"{number:02}.png" for number in range(count)))


def make_photos(folder: Path, count: int, damaged: tuple[int, ...] = ()) -> PhotoList:
    """Write photos of 2 x 2 pixels, each in the grey of its number; the damaged ones are empty."""
    photos = make_list(count, folder)
    for number, name in enumerate(photos.names):
        pixels = np.full((2, 2), number, np.uint8)
        (folder / name).write_bytes(b"" if number in damaged else make_bytes(pixels, "PNG"))
    return photos
