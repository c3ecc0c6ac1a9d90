"""Which files of a folder are photos, on COCO trees whose outcome is worked by hand."""

import json
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner

from vggnorm import images
from vggnorm.errors import PhotoError
from vggnorm.images import PhotoList, find_photos


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def listing(folder: Path, *names: str) -> Path:
    path = folder / "listing.json"
    path.write_text(json.dumps({"images": [{"file_name": name} for name in names]}))
    return path


# --- COCO's masks ---


@pytest.mark.parametrize(
    "masks",
    [
        "annotations/panoptic_val2017",
        "annotations/deeper/of/any/name",
        "annotations/stuff_val2017_pixelmaps",
        "Annotations",
        "stuffthingmaps/val2017",
        "stuffthingmaps_trainval2017/val2017",
        "stuff_val2017_pixelmaps",
        "panoptic_val2017",
        "pixelmaps_val2017",
        "deeper/annotations/panoptic_val2017",
    ],
)
def test_masks_are_no_photos(tmp_path: Path, masks: str) -> None:
    touch(tmp_path, "val2017/1.jpg", "val2017/2.jpg", "annotations/instances_val2017.json")
    touch(tmp_path, f"{masks}/1.png", f"{masks}/2.png", f"{masks}/3.png")
    photos = find_photos(tmp_path)
    assert photos.names == ("val2017/1.jpg", "val2017/2.jpg")
    assert photos.folders == {"val2017": 2}
    assert list(photos.left_out.values()) == [3]
    assert masks.startswith(next(iter(photos.left_out)))


def test_masks_that_are_given_themselves_are_taken(tmp_path: Path) -> None:
    touch(tmp_path, "annotations/panoptic_val2017/1.png", "annotations/2.png")
    assert find_photos(tmp_path / "annotations" / "panoptic_val2017").names == ("1.png",)
    photos = find_photos(tmp_path / "annotations")
    assert (photos.names, photos.left_out) == (("2.png",), {"panoptic_val2017": 1})


def test_folders_of_similar_names_are_searched(tmp_path: Path) -> None:
    touch(tmp_path, "my annotations/1.jpg", "panoptic/2.jpg", "masks/3.jpg", "pixelmaps/4.jpg")
    photos = find_photos(tmp_path)
    assert photos.folders == {"masks": 1, "my annotations": 1, "panoptic": 1, "pixelmaps": 1}
    assert photos.left_out == {}


def test_a_folder_of_nothing_but_masks_is_refused_and_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "annotations/panoptic_val2017/1.png")
    with pytest.raises(PhotoError) as caught:
        find_photos(tmp_path)
    assert f"left out 1 image in {tmp_path / 'annotations'}: it is named as COCO's masks are" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- What is said ---


def test_what_was_found_and_left_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "top.jpg", "train2017/1.jpg", "val2017/1.jpg", "val2017/2.jpg", "annotations/panoptic/1.png")
    touch(tmp_path, "val2017/3.HEIC", "val2017/4.heic", "val2017/5", "annotations/instances.json", ".hidden")
    assert find_photos(tmp_path).describe() == [
        f"1 photo in {tmp_path}",
        f"1 photo in {tmp_path / 'train2017'}",
        f"2 photos in {tmp_path / 'val2017'}",
        f"left out 1 image in {tmp_path / 'annotations'}: it is named as COCO's masks are; give it as the data to take "
        "them",
        f"left out 3 files in {tmp_path}, not named as images: 2 .heic, 1 without ending",
    ]


def test_many_folders_are_abbreviated() -> None:
    photos = PhotoList(Path("p"), tuple(f"{folder}/{photo}.jpg" for folder in range(9) for photo in range(2)))
    assert photos.describe() == [*(f"2 photos in p/{folder}" for folder in range(5)), "… and 4 more such folders"]


def test_the_folders_are_those_of_the_photos_chosen(tmp_path: Path) -> None:
    folder = touch(tmp_path / "coco", "a/1.jpg", "a/2.jpg", "b/3.jpg")
    photos = find_photos(folder, annotations=listing(tmp_path, "2.jpg", "4.jpg"))
    assert photos.folders == {"a": 1}
    assert photos.describe() == [
        f"1 photo in {folder / 'a'}",
        f"1 photo listed in {tmp_path / 'listing.json'} is not in {folder}",
    ]


def test_the_commands_say_it_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vggnorm import cli

    def no_work() -> None:
        raise PhotoError("the photos were found")

    monkeypatch.setattr(cli, "import_keras", no_work)
    touch(tmp_path, "val2017/1.jpg", "annotations/panoptic_val2017/1.png")
    arguments = ["compute-means", "--data", str(tmp_path), "-o", str(tmp_path / "m.npy")]
    result = CliRunner().invoke(cli.main, arguments)
    assert f"1 photo in {tmp_path / 'val2017'}\nleft out 1 image in {tmp_path / 'annotations'}:" in result.stderr


# --- The photos that a file lists ---


def test_photos_with_one_id_are_all_taken(tmp_path: Path) -> None:
    path = tmp_path / "listing.json"
    path.write_text(json.dumps({"images": [{"id": 0, "file_name": f"{i}.jpg"} for i in range(4)]}))
    photos = find_photos(touch(tmp_path / "p", "0.jpg", "1.jpg", "2.jpg", "3.jpg"), annotations=path)
    assert (photos.names, photos.missing) == (("0.jpg", "1.jpg", "2.jpg", "3.jpg"), 0)


def test_the_longest_shared_end_decides(tmp_path: Path) -> None:
    folder = touch(tmp_path / "p", "a/x/1.jpg", "b/x/1.jpg", "c/1.jpg")
    photos = find_photos(folder, annotations=listing(tmp_path, "elsewhere/a/x/1.jpg", "old/c/1.jpg"))
    assert (photos.names, photos.missing) == (("a/x/1.jpg", "c/1.jpg"), 0)
    with pytest.raises(PhotoError, match=r"x/1\.jpg may be a/x/1\.jpg or b/x/1\.jpg; give one"):
        find_photos(folder, annotations=listing(tmp_path, "x/1.jpg"))


def test_two_listed_photos_are_not_found_in_one_file(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "1.jpg", "2.jpg")
    photos = find_photos(folder, annotations=listing(tmp_path, "a/1.jpg", "b/1.jpg", "a/2.jpg"))
    assert (photos.names, photos.missing) == (("1.jpg", "2.jpg"), 1)


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    folder = touch(tmp_path / "p", "a/1.jpg", "b/1.jpg", "c/q\\r.jpg", "c/r.jpg")
    photos = find_photos(folder, annotations=listing(tmp_path, r"images\b\1.jpg", r"q\r.jpg"))
    assert (photos.names, photos.missing) == (("b/1.jpg", "c/q\\r.jpg"), 0)


def test_a_listed_path_longer_than_any_found_costs_little(tmp_path: Path) -> None:
    entry = "a/" * 20_000 + "1.jpg"  # all of its ends together have 400 million characters
    tracemalloc.start()
    try:
        photos = find_photos(touch(tmp_path / "p", "a/1.jpg", "b/1.jpg"), annotations=listing(tmp_path, entry))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000  # the path is 40,000, the parser's buffer 262,144
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
            return str.__eq__(self, other)  # type: ignore[no-any-return]

        __hash__ = str.__hash__

    count = 20_000
    found = [Name(f"{number:05d}/img.jpg") for number in range(count)]
    listed = [f"{number:05d}/img.jpg" for number in range(0, count, 2)]
    chosen, missing = images._match(listed, found, Path("listing.json"))
    assert (chosen, missing) == (found[::2], 0)
    assert looks < 10 * count  # two hundred million for each pair
