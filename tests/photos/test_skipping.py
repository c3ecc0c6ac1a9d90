"""Which photos are skipped, with what reason, and what ends a run."""

import errno
import os
import re
import socket
import sys
from pathlib import Path

import pytest
from photo_files import make_bytes, make_noise, make_photos
from PIL import Image, ImageFile

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.skipped import SkippedPhoto

SMALL = Geometry(2, "stretch", "nearest")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_only_looks_like_a_photo_is_skipped(tmp_path: Path) -> None:
    """Sockets, devices, links to nothing or in a circle; names that are not plain text."""
    make_photos(tmp_path, 1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "absent")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in b"\xff.jpg", b"line\nbreak.jpg":
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"no photo")
    (batch,) = PhotoReader(find_photos(tmp_path), SMALL).batches(8)
    assert len(batch.pixels) == 1
    reasons = {photo.photo: photo.reason for photo in batch.taken.skipped}
    not_regular = reasons["socket.jpg"]
    assert re.fullmatch("cannot be read: .* regular file", not_regular)
    assert reasons == {
        "circle.jpg": "cannot be read: Too many levels of symbolic links",
        "device.jpg": not_regular,
        "line\nbreak.jpg": "is not an image, but text",
        "nothing.jpg": "cannot be read: No such file or directory",
        "socket.jpg": not_regular,
        "\udcff.jpg": "is not an image, but text",
    }


def test_a_link_to_nothing_is_skipped(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 3)
    name = photos.names[1]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (batch,) = PhotoReader(photos, SMALL).batches(8)
    assert batch.taken.skipped == (SkippedPhoto(name, "cannot be read: No such file or directory"),)


def test_strict_names_the_photo(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 9, damaged=(4,)), SMALL, strict=True)
    with pytest.raises(PhotoError) as caught:
        list(reader.batches(2))
    expected = f"{tmp_path / '04.png'}: is empty; without --strict it is left out"
    assert str(caught.value) == expected


def test_a_photo_that_vanishes_before_it_is_read_ends_the_run(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches = reader.batches(2)
    next(batches)
    (tmp_path / "30.png").unlink()
    with pytest.raises(
        PhotoError, match=r"30\.png: is gone since the photos were listed; put it back as it was"
    ):
        list(batches)


def test_a_photo_that_changes_before_it_is_read_ends_the_run(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches = reader.batches(2)
    next(batches)
    (tmp_path / "30.png").write_bytes(make_bytes(make_noise(9, 8), "PNG"))
    with pytest.raises(PhotoError, match=r"30\.png: has changed since the photos were listed"):
        list(batches)


def test_a_photo_of_the_same_size_that_is_replaced_before_the_run_ends_it(tmp_path: Path) -> None:
    make_photos(tmp_path, 3)
    photos = find_photos(tmp_path)
    path = tmp_path / photos.names[1]
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(PhotoError, match="has changed since the photos were listed"):
        list(PhotoReader(photos, SMALL).batches(8))


def test_a_photo_that_vanishes_after_it_was_read_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_bytes(make_noise(9, 7), "PNG"))
    reader = PhotoReader(PhotoList(Folder(tmp_path), ("a.png",)), Geometry(8))
    (batch,) = reader.batches(1)
    (tmp_path / "a.png").unlink()
    assert batch.pixels.shape == (1, 8, 8, 3)
    assert (batch.taken.used, batch.taken.skipped) == (1, ())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            MemoryError(),
            "there is not enough memory to decode it; give fewer --threads and run the same",
        ),
        (
            OSError("out of memory error when reading image file"),
            "there is not enough memory to decode it",
        ),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error; mend that"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "cannot be read: Too many open files; mend that",
        ),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_of_the_system_does_not_skip_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, error: Exception, text: str, threads: int
) -> None:
    for number in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")

    def fail(_image: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(PhotoError, match=text) as caught:
        list(PhotoReader(find_photos(tmp_path), SMALL, threads=threads).batches(2))
    assert str(caught.value).startswith(f"{tmp_path / '0.png'}: ")


def test_a_photo_that_may_not_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    (batch,) = PhotoReader(find_photos(tmp_path), SMALL).batches(1)
    assert [photo.reason for photo in batch.taken.skipped] == ["cannot be read: Permission denied"]
