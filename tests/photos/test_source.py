"""A source of photos need not be a folder: here, they lie in memory."""

import io
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from photo_files import make_bytes, make_noise

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.photos.source import Contents, Source, Stamp
from vggnorm.photos.taken import Taken

SMALL = Geometry(8, "crop", "bilinear")


class Memory(Source):
    """Files in memory; their version is a count of the changes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.changes = 0
        self.is_there = True

    @property
    def label(self) -> str:
        return "memory"

    def locate(self, name: str = "") -> str:
        return f"memory:{name}"

    def contents(self) -> Contents:
        return Contents(list(self.files), [])

    def stamp(self, name: str) -> Stamp | None:
        return Stamp(len(self.files[name]), self.changes) if name in self.files else None

    def open(self, name: str) -> BinaryIO:
        if name not in self.files:
            raise FileNotFoundError(2, "No such file")
        return io.BytesIO(self.files[name])

    def identity(self) -> bool | None:
        return self.is_there or None


FILES = {
    "a.jpg": make_bytes(make_noise(20, 30, seed=1), "JPEG"),
    "sub/b.png": make_bytes(make_noise(9, 9, seed=2), "PNG"),
    "sub/c.tif": make_bytes(make_noise(11, 8, seed=3), "TIFF", compression="tiff_lzw"),
    "sub/d.webp": make_bytes(make_noise(12, 12, seed=4), "WEBP"),
    "sub/e.png": b"text",
}


def take_all(photos: PhotoList) -> Taken:
    (batch,) = PhotoReader(photos, SMALL).batches(10)
    return batch.taken


def test_a_source_in_memory_gives_what_a_folder_gives(tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    in_folder = find_photos(tmp_path)
    in_memory = PhotoList(Memory(FILES), in_folder.names)
    assert in_memory.sha256() == in_folder.sha256()
    assert take_all(in_memory) == take_all(in_folder)
    assert take_all(in_memory).used == 4


def test_a_photo_that_the_source_lacks_is_skipped() -> None:
    taken = take_all(PhotoList(Memory(FILES), ("a.jpg", "z.jpg")))
    assert taken.skipped == (SkippedPhoto("z.jpg", "cannot be read: No such file"),)


def test_a_photo_that_changes_in_the_source_ends_the_run() -> None:
    source = Memory(dict(FILES))
    photos = PhotoList(source, tuple(FILES)).stamped()
    source.changes = 1
    with pytest.raises(PhotoError, match=r"memory:a\.jpg: has changed since the photos were"):
        take_all(photos)


def test_a_source_that_goes_away_ends_the_run() -> None:
    source = Memory(dict(FILES))
    reader = PhotoReader(PhotoList(source, ("a.jpg", "z.jpg")), SMALL)
    source.is_there = False
    with pytest.raises(PhotoError, match="memory:: is gone, or another one is in its place"):
        list(reader.batches(2))


def test_the_label_of_a_folder_is_the_end_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "coco" / "val2017"
    folder.mkdir(parents=True)
    assert Folder(folder).label == "coco/val2017"
    monkeypatch.chdir(folder)
    assert Folder(Path()).label == "coco/val2017"
    assert Folder(Path("a")).locate() == "a"
    assert Folder(Path("a")).locate("b/c.jpg") == str(Path("a/b/c.jpg"))


class Silent(Memory):
    """Files on a server that does not answer until it is told to."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.answers = threading.Event()

    @property
    def is_remote(self) -> bool:
        return True

    def open(self, name: str) -> BinaryIO:
        self.answers.wait()
        return super().open(name)


def test_a_caller_is_asked_while_a_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggnorm.photos.reader.TICK", 0.01)
    source = Silent({"a.png": make_bytes(make_noise(8, 8, seed=1), "PNG")})
    batches = PhotoReader(PhotoList(source, ("a.png",)), SMALL).batches(4)
    try:
        for _ in range(3):
            waiting = next(batches)
            assert (len(waiting.pixels), waiting.taken) == (0, Taken())
    finally:
        source.answers.set()
    *_, last = batches
    assert (len(last.pixels), last.taken.used) == (1, 1)
