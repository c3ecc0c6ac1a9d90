"""Archives that tests write, and what is read out of them."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from photo_files import make_bytes, make_noise

from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.taken import Taken

SMALL = Geometry(8, "crop", "bilinear")

# One photo in each of several folders; one that is damaged, one that is empty, and other files.
FILES = {
    "a.jpg": make_bytes(make_noise(20, 30, seed=1), "JPEG"),
    "sub/b.png": make_bytes(make_noise(9, 9, seed=2), "PNG"),
    "sub/é.webp": make_bytes(make_noise(12, 12, seed=4), "WEBP"),
    "sub/deep/c.tif": make_bytes(make_noise(11, 8, seed=3), "TIFF", compression="tiff_lzw"),
    "sub/damaged.png": b"text",
    "sub/empty.jpg": b"",
    "sub/notes.txt": b"notes",
    ".hidden/d.jpg": b"hidden",
    "sub/.e.jpg": b"hidden",
    "annotations/mask.png": make_bytes(make_noise(4, 4, seed=5), "PNG"),
}


def write_folder(folder: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """Write loose files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def zip_bytes(files: Mapping[str, bytes] = FILES, method: int = zipfile.ZIP_STORED) -> bytes:
    """Make a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tar_bytes(
    files: Mapping[str, bytes] = FILES, kind: int = tarfile.PAX_FORMAT, before: str = ""
) -> bytes:
    """Make a tar archive; `before` stands in front of each name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(before + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file, and return its path."""
    path.write_bytes(content)
    return path


def take_all(photos: PhotoList) -> Taken:
    """Read all photos: how many there are, which were skipped, and their digests."""
    (batch,) = PhotoReader(photos, SMALL).batches(1000)
    return batch.taken
