"""Photos come in batches: each once and in order, as many as are wanted."""

import hashlib
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from photo_files import error_of, make_list, make_photos
from PIL import Image

from vggnorm.errors import PhotoError
from vggnorm.photos.budget import PixelBudget
from vggnorm.photos.decode import Decoded, decode_within
from vggnorm.photos.digests import names_sha256, sum_sha256
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.photos.source import Source
from vggnorm.photos.taken import NOTHING_TAKEN, Taken

SMALL = Geometry(2, "stretch", "nearest")


def read(
    reader: PhotoReader, batch_size: int, after: Taken = NOTHING_TAKEN
) -> tuple[list[list[int]], Taken]:
    """Give the numbers of the photos in each batch, and what was taken in the end."""
    batches: list[list[int]] = []
    taken = after
    for batch in reader.batches(batch_size, after):
        assert batch.pixels.dtype == np.uint8
        assert batch.pixels.shape[1:] == (2, 2, 3)
        assert (batch.pixels == batch.pixels[:, :1, :1, :1]).all()
        assert batch.taken.used == len(batch.pixels)
        taken += batch.taken
        assert taken.used == after.used + len(flatten(batches)) + len(batch.pixels)
        numbers = batch.pixels[:, 0, 0, 0].tolist()
        assert batch.positions.tolist() == numbers  # photos are numbered as they are listed
        batches.append(numbers)
    return batches, taken


def flatten(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def as_names(numbers: Iterable[int]) -> list[str]:
    return [f"{number:02}.png" for number in numbers]


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize(
    ("batch_size", "lengths"), [(1, [1] * 33), (7, [7, 7, 7, 7, 5]), (32, [32, 1]), (33, [33])]
)
def test_every_photo_comes_once_and_in_order(
    tmp_path: Path, batch_size: int, lengths: list[int]
) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches, taken = read(reader, batch_size)
    assert [len(batch) for batch in batches] == lengths
    assert flatten(batches) == list(range(33))
    assert (taken.used, taken.skipped, taken.count, reader.total(taken)) == (33, (), 33, 33)
    assert taken.names_sha256 == names_sha256(as_names(range(33)))


def test_the_order_is_kept_when_photos_take_unequal_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[int] = []
    second_is_done = threading.Event()

    def finish_second_first(
        budget: PixelBudget, source: Source, name: str, geometry: Geometry
    ) -> Decoded:
        number = int(name.removesuffix(".png"))
        if number == 0:
            assert second_is_done.wait(60)
        decoded = decode_within(budget, source, name, geometry)
        finished.append(number)
        if number == 1:
            second_is_done.set()
        return decoded

    monkeypatch.setattr("vggnorm.photos.reader.decode_within", finish_second_first)
    photos = make_photos(tmp_path, 16)
    assert flatten(read(PhotoReader(photos, SMALL, threads=4), 3)[0]) == list(range(16))
    assert finished.index(1) < finished.index(0)


def test_what_cannot_be_used_is_skipped_and_told(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 9, damaged=(0, 4, 5))
    (tmp_path / "08.png").write_bytes(b"text")
    reader = PhotoReader(photos, SMALL)
    assert reader.total(NOTHING_TAKEN) == 9
    batches, taken = read(reader, 2)
    assert batches == [[1, 2], [3, 6], [7]]
    assert taken.names_sha256 == names_sha256(as_names(range(9)))
    assert list(taken.skipped) == [
        SkippedPhoto("00.png", "is empty"),
        SkippedPhoto("04.png", "is empty"),
        SkippedPhoto("05.png", "is empty"),
        SkippedPhoto("08.png", "is not an image, but text"),
    ]
    assert (taken.used, taken.count, reader.total(taken)) == (5, 9, 9)


def test_nothing_usable_gives_an_empty_batch(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 3, damaged=(0, 1, 2)), SMALL)
    batches, taken = read(reader, 2)
    assert batches == [[]]
    assert (taken.used, taken.count, reader.total(taken)) == (0, 3, 3)


def test_the_last_photos_are_told_even_if_none_of_them_can_be_used(tmp_path: Path) -> None:
    batches, taken = read(PhotoReader(make_photos(tmp_path, 6, damaged=(4, 5)), SMALL), 2)
    assert batches == [[0, 1], [2, 3], []]
    assert [photo.photo for photo in taken.skipped] == as_names([4, 5])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("limit", [None, 1, 6, 7, 13, 20])
def test_reading_goes_on_after_any_batch_as_if_it_had_not_stopped(
    tmp_path: Path, batch_size: int, limit: int | None
) -> None:
    damaged = (0, 4, 5, 11, 15, 16, 17, 33)  # with batches of 1 and 2, at the ends of blocks
    reader = PhotoReader(make_photos(tmp_path, 34, damaged=damaged), SMALL, limit=limit)
    whole, end = read(reader, batch_size)
    middle = NOTHING_TAKEN
    for number, batch in enumerate(reader.batches(batch_size), 1):
        middle += batch.taken
        assert read(reader, batch_size, middle) == (whole[number:], end)


def test_batches_end_at_the_ends_of_blocks_worked_by_hand(tmp_path: Path) -> None:
    """With 2 photos in a batch, a block is 16 photos: here 0 to 15, 16 to 31, 32 and 33."""
    damaged = (3, 13, 14, 30, 31)
    reader = PhotoReader(make_photos(tmp_path, 34, damaged=damaged), SMALL)
    first = [[0, 1], [2, 4], [5, 6], [7, 8], [9, 10], [11, 12], [15]]
    second = [[16, 17], [18, 19], [20, 21], [22, 23], [24, 25], [26, 27], [28, 29], []]
    assert read(reader, 2)[0] == [*first, *second, [32, 33]]
    skipped = [
        [photo.photo for photo in batch.taken.skipped]
        for batch in reader.batches(2)
        if batch.taken.skipped
    ]
    assert skipped == [["03.png"], ["13.png", "14.png"], ["30.png", "31.png"]]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_parts_of_a_list_have_the_batches_of_the_whole(
    tmp_path: Path, batch_size: int, count: int
) -> None:
    damaged = (0, 3, 7, 9, 15, *range(16, 24), 30, 39)
    photos = make_photos(tmp_path, 40, damaged=damaged)
    whole, taken = read(PhotoReader(photos, SMALL), batch_size)
    batches, total = [], NOTHING_TAKEN
    for number in range(1, count + 1):
        part = photos.shard(number, count, batch_size=batch_size)
        for batch in PhotoReader(part, SMALL).batches(batch_size):
            batches.append(batch.pixels[:, 0, 0, 0].tolist())
            total += batch.taken
    assert sorted(batches) == sorted(whole)
    assert total == taken
    assert [photo.photo for photo in total.skipped] == as_names(damaged)


@pytest.mark.parametrize(
    ("limit", "batches", "skipped"),
    [
        (1, [[0]], 0),
        (2, [[0, 2]], 1),
        (3, [[0, 2], [4]], 2),
        (4, [[0, 2], [4, 5]], 2),
        (8, [[0, 2], [4, 5], [6, 7], [8, 9]], 2),
        (9, [[0, 2], [4, 5], [6, 7], [8, 9]], 2),
    ],
)
def test_the_limit_counts_usable_photos(
    tmp_path: Path, limit: int, batches: list[list[int]], skipped: int
) -> None:
    photos = make_photos(tmp_path, 10, damaged=(1, 3))
    reader = PhotoReader(photos, SMALL, limit=limit)
    assert reader.total(NOTHING_TAKEN) == min(limit, 10)
    found, taken = read(reader, 2)
    assert found == batches
    used = len(flatten(batches))
    assert (taken.used, len(taken.skipped)) == (used, skipped)
    assert (taken.count, reader.total(taken)) == (used + skipped, used + skipped)


def test_a_smaller_limit_reads_the_first_of_a_larger(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 20)
    (few, _), (many, _) = (
        read(PhotoReader(photos, SMALL, limit=limit), size) for limit, size in ((6, 4), (13, 5))
    )
    assert flatten(few) == list(range(6))
    assert flatten(many) == list(range(13))


def test_progress_is_told_batch_by_batch(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 12, damaged=(0, 5)), SMALL, limit=6)
    told, taken = [], NOTHING_TAKEN
    for batch in reader.batches(2):
        taken += batch.taken
        told.append((taken.count, reader.total(taken)))
    assert told == [(3, 7), (5, 7), (8, 8)]


def test_a_limit_or_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 3)
    for number in 0, -1:
        with pytest.raises(ValueError, match=f"limit is {number}; it must be at least 1"):
            PhotoReader(photos, SMALL, limit=number)
        with pytest.raises(ValueError, match=f"batch_size is {number}; it must be at least 1"):
            read(PhotoReader(photos, SMALL), number)


def test_the_threads_end_with_the_reading(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 33, damaged=(20,))
    assert decoding_threads() == []
    batches = PhotoReader(photos, SMALL).batches(4)
    next(batches)
    assert decoding_threads() != []
    batches.close()
    assert decoding_threads() == []
    for photo_reader in PhotoReader(photos, SMALL), PhotoReader(photos, SMALL, limit=9):
        read(photo_reader, 4)
        assert decoding_threads() == []
    error_of(read, PhotoReader(photos, SMALL, strict=True), 4)
    assert decoding_threads() == []


def test_reading_looks_ahead_but_not_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network runs on a batch of 2, at most 4 photos more are decoded."""
    decoded = []

    def count(_budget: PixelBudget, _source: Source, name: str, _geometry: Geometry) -> Decoded:
        decoded.append(name)
        return Decoded(np.zeros((2, 2, 3), np.uint8), has_profile=False, lacks_end=False)

    monkeypatch.setattr("vggnorm.photos.reader.decode_within", count)
    batches = PhotoReader(make_list(33, tmp_path), SMALL).batches(2)
    next(batches)
    deadline = time.monotonic() + 5
    while len(decoded) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # for any that should not come
    assert 3 <= len(decoded) <= 6
    assert sum(len(batch.pixels) for batch in batches) == 31
    assert sorted(decoded) == list(make_list(33).names)


def test_photos_are_identified_by_name_and_pixels_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    names = ["a.png", "sub/é.png"]
    red.save(tmp_path / names[0])
    blue.save(tmp_path / names[1])

    def sha256(*taken: str) -> str:
        reader = PhotoReader(PhotoList(Folder(tmp_path), taken), Geometry(2))
        return sum((batch.taken for batch in reader.batches(1)), NOTHING_TAKEN).photos_sha256

    contents = b"a.png\0" + b"\xff\0\0" * 4, b"sub/\xc3\xa9.png\0" + b"\0\0\xff" * 4
    expected = sum(int(hashlib.sha256(content).hexdigest(), 16) for content in contents) % 2**256
    assert sha256(*names) == f"{expected:064x}"
    assert sha256(*reversed(names)) == sha256(*names)
    assert sha256("a.png") != sha256(*names)
    assert sum_sha256(map(sha256, names)) == sha256(*names)  # parts add up
    before = sha256(*names)
    blue.save(tmp_path / "a.png")
    assert sha256(*names) != before


def test_a_folder_that_goes_away_is_an_error_and_not_many_photos_skipped(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for comes_back in False, True:
        folder.mkdir()
        reader = PhotoReader(make_photos(folder, 33), SMALL)
        batches = reader.batches(2)
        assert len(next(batches).pixels) == 2
        folder.rename(elsewhere)
        if comes_back:  # as an unmounted disk leaves an empty folder behind
            folder.mkdir()
        with pytest.raises(PhotoError, match="photos: is gone, or another one is in its place; is"):
            list(batches)
        shutil.rmtree(elsewhere)
    assert decoding_threads() == []
