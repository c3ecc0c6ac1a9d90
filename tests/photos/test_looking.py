"""Which files are photos although their names do not say so, in folders and in archives."""

import errno
import io
import os
import tomllib
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from archive_files import tar_bytes, zip_bytes
from photo_files import decode_file, error_of, make_bytes, make_noise
from PIL import Image

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.formats import FORMATS, NEEDS, ending_of
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.skipped import SkippedPhoto

PHOTO = make_bytes(make_noise(16, 16), "JPEG")
PAGE = b"<html>404 Not Found</html>"

METHODS = {"zip": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}

FILES = {
    # Their endings say that they are photos.
    "a.jfif": PHOTO,
    "b.PJPEG": PHOTO,
    "c.jpe": PHOTO,
    "d.jpg": PAGE,  # is listed, and will be skipped with the reason
    "e.x.JPG": PHOTO,
    # Their endings say nothing.
    "f": PHOTO,
    "g.jpg_large": make_bytes(make_noise(16, 16), "PNG"),
    "h.jpg?raw=1": PHOTO,
    "i.jpg.1": PHOTO,
    "j Mr. Smith and son": make_bytes(make_noise(16, 16), "WEBP"),
    "k.": PHOTO,
    "sub.folder/l": make_bytes(make_noise(16, 16), "GIF"),
    "LICENSE": b"This is free software.",
    "m.jpg_large": PAGE,
    "n": b"",
    "1.2.840.113619": bytes(128) + b"DICM",
    # Their endings say that they are none.
    "o.txt": PHOTO,
    "p.jpg.json": b"{}",
    "q.JPG~": PHOTO,
    "r.jpg.bak": PHOTO,
    "s.thm": PHOTO,
    "t.DNG": make_bytes(make_noise(16, 16), "TIFF"),
    # Hidden.
    "._a.jfif": b"\0\5\x16\7",
    ".jpg": PHOTO,
}

PHOTOS = [
    *("a.jfif", "b.PJPEG", "c.jpe", "d.jpg", "e.x.JPG"),
    *("f", "g.jpg_large", "h.jpg?raw=1", "i.jpg.1", "j Mr. Smith and son", "k.", "sub.folder/l"),
]

OTHERS = {"": 4, ".txt": 1, ".json": 1, ".jpg~": 1, ".bak": 1, ".thm": 1, ".dng": 1}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)
    return folder


def pack(folder: Path, files: dict[str, bytes], kind: str) -> Path:
    if kind == "tar":
        path, content = folder / "a.tar", tar_bytes(files)
    else:
        path, content = folder / "a.zip", zip_bytes(files, METHODS[kind])
    path.write_bytes(content)
    return path


def require_these(photos: PhotoList) -> None:
    assert list(photos.names) == PHOTOS
    assert photos.other_endings == OTHERS
    assert photos.describe()[-1] == (
        f"left out 10 files in {photos.source.locate()}, not read as photos: 4 without a usual "
        "ending, 1 .bak, 1 .dng, 1 .jpg~, 1 .json, the others with 2 other endings"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_what_a_file_begins_with_decides_where_its_name_does_not(tmp_path: Path) -> None:
    require_these(find_photos(write(tmp_path, FILES)))


@pytest.mark.parametrize("kind", ["tar", "zip", "deflated"])
def test_archives_hold_the_photos_of_the_folder(tmp_path: Path, kind: str) -> None:
    require_these(find_photos(pack(tmp_path, FILES, kind)))


@pytest.mark.parametrize("kind", ["tar", "zip", "deflated"])
def test_the_start_of_a_file_is_read_alone(tmp_path: Path, kind: str) -> None:
    long = make_noise(300, 300).tobytes()
    files = {"a.jpg": long, "b": b"short", "c.jpg": b""}
    source = find_photos(pack(tmp_path, files, kind)).source
    assert source.start_of("a.jpg", 512) == long[:512]
    assert source.start_of("b", 512) == b"short"
    assert source.start_of("c.jpg", 512) == b""


def test_the_ending_of_a_name() -> None:
    endings = {"a.JPG": ".jpg", "a.x.png": ".png", "a.mp4": ".mp4", "a.jpg~": ".jpg~"}
    without = ["a", "a.", "a.jpg_large", "a.jpg:orig", "a.7", "v1.2 final", "a.größe", ".jpg"]
    assert {name: ending_of(name) for name in endings} == endings
    assert [ending_of(name) for name in without] == [""] * len(without)


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this build of Pillow does not read AVIF")
def test_an_avif_is_read_under_the_ending_of_heic(tmp_path: Path) -> None:
    content = make_bytes(Image.new("RGB", (16, 16), (200, 30, 90)), "AVIF", quality=100)
    write(tmp_path, {"a.avif": content, "b.HEIC": content, "c.heif": content})
    photos = find_photos(tmp_path)
    assert photos.names == ("a.avif", "b.HEIC", "c.heif")
    for name in photos.names:
        pixels = decode_file(tmp_path / name, Geometry(16)).astype(int)
        assert np.abs(pixels - (200, 30, 90)).max() <= 2


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.skipif("HEIF" in FORMATS, reason="pillow-heif is installed")
def test_a_folder_of_nothing_but_heic_says_what_reads_them(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.HEIC": HEIC for number in range(3)})
    assert error_of(find_photos, tmp_path) == (
        f"{tmp_path}: holds no images ({' '.join(FORMATS)}); give a folder or an archive of "
        f"photos; left out 3 files in {tmp_path}, not read as photos: 3 .heic; .heic needs "
        "pillow-heif: pip install '.[heif]' in vggnorm's own folder"
    )


def test_the_extra_that_is_named_installs_what_reads_heic() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    assert "pip install '.[heif]'" in NEEDS["HEIF"]
    assert [requirement.partition(">")[0] for requirement in extras["heif"]] == ["pillow-heif"]


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_a_heic_is_read_where_its_package_is_installed(tmp_path: Path) -> None:
    content = make_bytes(Image.new("RGB", (64, 64), (200, 30, 90)), "HEIF", quality=100)
    write(tmp_path, {"a.HEIC": content, "b.jpg": content, "c": content})
    photos = find_photos(tmp_path)
    assert photos.names == ("a.HEIC", "b.jpg", "c")
    for name in photos.names:
        pixels = decode_file(tmp_path / name, Geometry(16)).astype(int)
        assert np.abs(pixels - (200, 30, 90)).max() <= 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_cannot_be_looked_into_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": PHOTO})
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    photos = find_photos(tmp_path)
    assert (photos.names, photos.other_endings) == (("a.jpg",), {"": 2})


def test_a_failure_of_the_system_is_not_taken_for_another_kind_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a.jpg": PHOTO, "b": PHOTO})

    def fail(_folder: Folder, _name: str) -> BinaryIO:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Folder, "open", fail)
    with pytest.raises(PhotoError, match=r"/b: cannot be read: Input/output error$"):
        find_photos(tmp_path)

    def refuse(_folder: Folder, _name: str) -> BinaryIO:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Folder, "open", refuse)
    photos = find_photos(tmp_path)
    assert (photos.names, photos.other_endings) == (("a.jpg", "b"), {})
    (batch,) = PhotoReader(photos, Geometry(16)).batches(2)
    reason = "cannot be read: Permission denied"
    assert batch.taken.skipped == (SkippedPhoto("a.jpg", reason), SkippedPhoto("b", reason))


def test_few_bytes_are_read_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int | None] = []

    class Noting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    write(tmp_path, {"a.jpg": PHOTO, "b": PHOTO, "c": PAGE, "d.txt": PAGE})
    monkeypatch.setattr(Folder, "open", lambda *_: Noting(PHOTO))
    assert find_photos(tmp_path).names == ("a.jpg", "b", "c")
    assert sizes == [512, 512]  # of b and c; the other names tell
