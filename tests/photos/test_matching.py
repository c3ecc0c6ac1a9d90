"""Which of the photos that were found an annotation file means."""

import json
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from archive_files import tar_bytes, zip_bytes
from photo_files import error_of, touch, write_listing

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.matching import match_listed
from vggnorm.photos.photo_list import PhotoList


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A cat on 1, a dog on 2 and 3, nothing on 4; one of the names is a path from the COCO root."""
    path = tmp_path / "instances.json"
    files = {1: "1.jpg", 2: "2.jpg", 3: "val2017/3.jpg", 4: "4.jpg"}
    listing = {
        "images": [{"id": number, "file_name": name} for number, name in files.items()],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 17},
            {"id": 2, "image_id": 2, "category_id": 18},
            {"id": 3, "image_id": 3, "category_id": 18},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    path.write_text(json.dumps(listing))
    return path


def test_annotations_choose_and_what_is_missing_is_told(annotations: Path, tmp_path: Path) -> None:
    coco = tmp_path / "coco"
    touch(coco, "val2017/3.jpg", "val2017/1.jpg", "val2017/5.jpg")
    photos = find_photos(coco, annotations=annotations)
    assert photos.names == ("val2017/1.jpg", "val2017/3.jpg")
    assert (photos.annotations, photos.categories, photos.missing) == (annotations, (), 2)
    dogs = find_photos(coco / "val2017", annotations=str(annotations), categories=["dog"])
    assert dogs == PhotoList(Folder(coco / "val2017"), ("3.jpg",), annotations, ("dog",), missing=1)


def test_the_whole_path_decides_which_photo_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg", "photos/c/2.jpg")

    def listed(*names: str) -> PhotoList:
        listing = write_listing(tmp_path, *names)
        return find_photos(tmp_path / "photos", annotations=listing)

    assert listed("a/1.jpg").names == ("a/1.jpg",)
    assert listed("elsewhere/2.jpg").names == ("c/2.jpg",)
    with pytest.raises(PhotoError, match=r"1\.jpg may be a/1\.jpg or b/1\.jpg; give a folder"):
        listed("1.jpg")


def test_annotations_that_match_nothing_are_refused(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "coco/other.jpg")
    folder = tmp_path / "coco"
    expected = (
        f"{folder}: holds none of the 4 photos listed in {annotations}; give a folder and an "
        "annotation file that belong together"
    )
    assert error_of(find_photos, folder, annotations=annotations) == expected


def test_categories_need_annotations(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    expected = "categories are known only from an annotation file; give one with --annotations"
    assert error_of(find_photos, tmp_path, categories=["cat"]) == expected
    error = error_of(find_photos, tmp_path, annotations=annotations, categories=["cow"])
    assert error == f"{annotations}: has no category 'cow'; there are cat, dog"


def test_photos_with_one_id_are_all_taken(tmp_path: Path) -> None:
    path = tmp_path / "listing.json"
    path.write_text(json.dumps({"images": [{"id": 0, "file_name": f"{i}.jpg"} for i in range(4)]}))
    folder = touch(tmp_path / "p", "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    photos = find_photos(folder, annotations=path)
    assert (photos.names, photos.missing) == (("0.jpg", "1.jpg", "2.jpg", "3.jpg"), 0)


def test_the_longest_shared_end_decides(tmp_path: Path) -> None:
    folder = touch(tmp_path / "p", "a/x/1.jpg", "b/x/1.jpg", "c/1.jpg")
    photos = find_photos(
        folder, annotations=write_listing(tmp_path, "elsewhere/a/x/1.jpg", "old/c/1.jpg")
    )
    assert (photos.names, photos.missing) == (("a/x/1.jpg", "c/1.jpg"), 0)
    with pytest.raises(
        PhotoError, match=r"x/1\.jpg may be a/x/1\.jpg or b/x/1\.jpg; give a folder"
    ):
        find_photos(folder, annotations=write_listing(tmp_path, "x/1.jpg"))


def test_two_listed_photos_are_not_found_in_one_file(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "1.jpg", "2.jpg")
    photos = find_photos(
        folder, annotations=write_listing(tmp_path, "a/1.jpg", "b/1.jpg", "a/2.jpg")
    )
    assert (photos.names, photos.missing) == (("1.jpg", "2.jpg"), 1)


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    folder = touch(tmp_path / "p", "a/1.jpg", "b/1.jpg", "c/q\\r.jpg", "c/r.jpg")
    photos = find_photos(folder, annotations=write_listing(tmp_path, r"images\b\1.jpg", r"q\r.jpg"))
    assert (photos.names, photos.missing) == (("b/1.jpg", "c/q\\r.jpg"), 0)


def test_a_listed_path_longer_than_any_found_costs_little(tmp_path: Path) -> None:
    entry = "a/" * 20_000 + "1.jpg"  # all of its ends together have 400 million characters
    tracemalloc.start()
    try:
        photos = find_photos(
            touch(tmp_path / "p", "a/1.jpg", "b/1.jpg"), annotations=write_listing(tmp_path, entry)
        )
        # The path takes 40,000 bytes, and the parser's buffer 262,144.
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert photos.names == ("a/1.jpg",)


def test_many_photos_of_one_name_are_told_apart_without_a_look_at_each_pair() -> None:
    looks = 0

    class Name(str):
        __slots__ = ()

        def endswith(self, *_: object) -> bool:
            raise AssertionError("a photo is compared with another one")

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    count = 20_000
    found = [Name(f"{number:05d}/img.jpg") for number in range(count)]
    listed = [f"{number:05d}/img.jpg" for number in range(0, count, 2)]
    chosen, missing = match_listed(listed, found, Path("listing.json"))
    assert (chosen, missing) == (found[::2], 0)
    assert looks < 10 * count  # two hundred million for each pair


# --- Ways to spell a path ---

NFC = unicodedata.normalize("NFC", "Größe café.jpg")
NFD = unicodedata.normalize("NFD", NFC)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("C:\\data\\train\\a.jpg", "train/a.jpg"),
        ("\\\\server\\share\\a.jpg", "a.jpg"),
        ("JPEGImages\\sub/a.jpg", "sub/a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("../../media/upload/1/a.jpg", "a.jpg"),
        ("/home/someone/set/a.jpg", "a.jpg"),
        (NFC, NFD),
        (NFD, f"sub/{NFC}"),
        (f"{NFC[:3]}/a.jpg", f"{NFD[:4]}/a.jpg"),
        ("my%20photo%20%232%20(1).jpg", "my photo #2 (1).jpg"),
        ("my photo.jpg", "my%20photo.jpg"),
        ("Gr%C3%B6%C3%9Fe%20caf%C3%A9.jpg", NFD),
        ("upload%2F1%2Fa.jpg", "1/a.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.jpg", "a.JPG"),
        ("A.b.Jpeg", "A.b.jpeG"),
        ("https://host/x/a.jpg?raw=1", "x/a.jpg"),
        ("https://host/x/a.jpg#part", "a.jpg"),
        ("http://images.cocodataset.org/val2017/a.jpg", "val2017/a.jpg"),
        ("a?.jpg", "a?.jpg"),
        ("a#1.jpg", "a#1.jpg"),
        ("a", "a"),
    ],
)
def test_one_path_is_spelled_in_many_ways(entry: str, path: str) -> None:
    found = ["other.jpg", path, "z/other.png"]
    assert match_listed([entry], found, Path("listing.json")) == ([path], 0)


@pytest.mark.parametrize(
    ("entry", "path"),
    [("a.jpg", "A.jpg"), ("a.jpg", "a.jpeg"), ("a.jpg", "b/ba.jpg"), ("a", "a.jpg"), ("", "a.jpg")],
)
def test_other_names_are_other_photos(entry: str, path: str) -> None:
    assert match_listed([entry], [path], Path("listing.json")) == ([], 1)


def test_among_spellings_of_one_name_the_listed_one_is_meant() -> None:
    listing = Path("listing.json")
    for names in (NFC, NFD), ("a.jpg", "a.JPG"), ("a b.jpg", "a%20b.jpg"):
        for name in names:
            assert match_listed([name], names, listing) == ([name], 0)
            assert match_listed([f"elsewhere/{name}"], names, listing) == ([name], 0)
        assert match_listed(list(names), names, listing) == (list(names), 0)


def test_a_name_that_fits_two_spellings_is_refused() -> None:
    error = error_of(match_listed, ["a.Jpg"], ["x/a.jpg", "y/a.JPG"], Path("listing.json"))
    assert error == (
        "listing.json: a.Jpg may be x/a.jpg or y/a.JPG; give a folder that holds it once"
    )


def test_the_folder_counts_more_than_the_spelling() -> None:
    found = [f"x/{NFD}", f"y/{NFC}"]
    assert match_listed([f"x/{NFC}"], found, Path("listing.json")) == ([f"x/{NFD}"], 0)


def test_two_spellings_of_one_file_are_one_photo() -> None:
    assert match_listed(["a.jpg", "a.JPG"], ["a.jpg"], Path("listing.json")) == (["a.jpg"], 1)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_spellings_are_matched_in_archives_too(tmp_path: Path, kind: str) -> None:
    files = {f"train/{NFD}": b"", "train/my photo.JPG": b"", "train/c.jpg": b""}
    path = tmp_path / f"a.{kind}"
    path.write_bytes(tar_bytes(files) if kind == "tar" else zip_bytes(files))
    listing = write_listing(tmp_path, f"D:\\train\\{NFC}", "my%20photo.jpg")
    photos = find_photos(path, annotations=listing)
    assert (set(photos.names), photos.missing) == ({f"train/{NFD}", "train/my photo.JPG"}, 0)
