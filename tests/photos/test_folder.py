"""Which files of a folder are photos, on trees of files whose outcome is worked by hand."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from photo_files import error_of, touch, write_listing

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.formats import FORMATS
from vggnorm.photos.photo_list import PhotoList

SCANDIR = os.scandir

without_heif = pytest.mark.skipif("HEIF" in FORMATS, reason="pillow-heif is installed")


def link(target: Path, place: Path) -> None:
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


def lock(monkeypatch: pytest.MonkeyPatch, *folders: Path, error: OSError | None = None) -> None:
    """Have the system refuse to list folders. It would not refuse root."""

    def refuse(path: str) -> Any:
        if Path(path) in folders:
            raise error or PermissionError(errno.EACCES, "Permission denied", path)
        return SCANDIR(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_one_folder_is_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg", "C.jpg", "10.jpg", "9.jpg")
    photos = find_photos(tmp_path)
    assert photos == PhotoList(Folder(tmp_path), ("10.jpg", "9.jpg", "C.jpg", "a.jpg", "b.jpg"))
    assert find_photos(str(tmp_path)) == photos


def test_a_coco_root_is_searched(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "val2017/2.jpg",
        "train2017/3.jpg",
        "val2017/1.jpg",
        "annotations/instances_val2017.json",
    )
    assert find_photos(tmp_path).names == ("train2017/3.jpg", "val2017/1.jpg", "val2017/2.jpg")
    assert find_photos(tmp_path / "val2017").names == ("1.jpg", "2.jpg")


def test_a_tree_is_sorted_by_whole_names(tmp_path: Path) -> None:
    touch(tmp_path, "z.jpg", "a/b/c/deep.png", "a/b.jpg", "a.jpg", "a-b/x.jpg")
    assert find_photos(tmp_path).names == (
        "a-b/x.jpg",
        "a.jpg",
        "a/b.jpg",
        "a/b/c/deep.png",
        "z.jpg",
    )


def test_any_case_of_the_extensions_is_taken(tmp_path: Path) -> None:
    names = (
        "a.JPG",
        "b.Jpeg",
        "c.PNG",
        "d.webp",
        "e.bmp",
        "f.tif",
        "g.TIFF",
        "h.gif",
        "i.jpe",
        "j.x.jpg",
        "k.JFIF",
        "l.pjpeg",
        "m.avif",
    )
    touch(tmp_path, *names)
    assert find_photos(tmp_path).names == names


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.jpg",
        ".b.jpg",
        ".hidden/c.jpg",
        "sub/.hidden/d.jpg",
        "sub/._e.jpg",
        "f.jpg.txt",
        "g.json",
    )
    touch(tmp_path, "jpg", ".jpg", "h.mp4", "i.eps", "folder.jpg/j.png")
    assert find_photos(tmp_path).names == ("a.jpg", "folder.jpg/j.png")


def test_a_hidden_folder_may_be_given(tmp_path: Path) -> None:
    touch(tmp_path, ".photos/a.jpg")
    assert find_photos(tmp_path / ".photos").names == ("a.jpg",)


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jpg", "photos/b.jpg")
    link(tmp_path / "elsewhere", tmp_path / "photos" / "linked")
    assert find_photos(tmp_path / "photos").names == ("b.jpg", "linked/a.jpg")
    link(tmp_path / "photos", tmp_path / "start")
    assert find_photos(tmp_path / "start").names == ("b.jpg", "linked/a.jpg")


def test_a_link_loop_gives_each_photo_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    link(tmp_path, tmp_path / "sub" / "up")
    assert find_photos(tmp_path).names == ("a.jpg", "sub/b.jpg")


def test_a_folder_linked_twice_gives_each_photo_once(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.jpg")
    link(tmp_path / "sub", tmp_path / "again")
    assert find_photos(tmp_path).names == ("again/a.jpg",)


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for path in tmp_path / "missing", tmp_path / "a.jpg":
        assert error_of(find_photos, path) == (
            f"{path}: is not a folder, a .zip or a .tar; give a folder or an archive of photos"
        )


@pytest.mark.parametrize("names", [(), ("a.txt", "sub/b.mp4", ".c.jpg")])
def test_a_folder_without_images_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    formats = " ".join(FORMATS)
    expected = f"{tmp_path}: holds no images ({formats}); give a folder or an archive of photos"
    error, _, left_out = error_of(find_photos, tmp_path).partition("; left out ")
    assert error == expected
    assert left_out == (
        f"2 files in {tmp_path}, not read as photos: 1 .mp4, 1 .txt" if names else ""
    )


def test_a_folder_that_cannot_be_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "broken/b.jpg")
    broken = tmp_path / "broken"
    lock(monkeypatch, broken, error=OSError(errno.EIO, "Input/output error", str(broken)))
    assert error_of(find_photos, tmp_path) == f"{broken}: cannot be listed: Input/output error"
    lock(monkeypatch, tmp_path)
    assert error_of(find_photos, tmp_path) == f"{tmp_path}: cannot be listed: Permission denied"


def test_folders_that_may_not_be_listed_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "lost+found/b.jpg", "sub/c.jpg", "annotations/d.png")
    lost = tmp_path / "lost+found"
    lock(monkeypatch, lost)
    photos = find_photos(tmp_path)
    assert photos.names == ("a.jpg", "sub/c.jpg")
    assert f"left out 1 folder that may not be listed: {lost}" in photos.describe()
    folders = [lost, tmp_path / "annotations", *(tmp_path / f"{i}" for i in range(5))]
    touch(tmp_path, *(f"{i}/e.jpg" for i in range(5)))
    lock(monkeypatch, *folders)
    (said,) = find_photos(tmp_path).remarks
    assert said == (
        "left out 7 folders that may not be listed: "
        f"{', '.join(str(folder) for folder in [*folders[2:], lost][:5])}, …"
    )


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="needs root, to drop")
def test_the_system_itself_refuses_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "lost+found/b.jpg", "nameless/c.jpg")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:  # others may not enter it
            folder.chmod(0o755)
    (tmp_path / "lost+found").chmod(0o000)
    (tmp_path / "nameless").chmod(0o644)  # its names may be read, its files may not be opened
    os.seteuid(65534)
    try:
        photos = find_photos(tmp_path)
    finally:
        os.seteuid(0)
    assert photos.names == ("a.jpg", "nameless/c.jpg")  # the second will be skipped
    assert photos.remarks == (
        f"left out 1 folder that may not be listed: {tmp_path / 'lost+found'}",
    )


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
def test_masks_are_not_photos(tmp_path: Path, masks: str) -> None:
    touch(tmp_path, "val2017/1.jpg", "val2017/2.jpg", "annotations/instances_val2017.json")
    touch(tmp_path, f"{masks}/1.png", f"{masks}/2.png", f"{masks}/3.png")
    photos = find_photos(tmp_path)
    assert photos.names == ("val2017/1.jpg", "val2017/2.jpg")
    assert photos.folders == {"val2017": 2}
    assert list(photos.left_out.values()) == [3]
    assert masks.startswith(next(iter(photos.left_out)))


def test_a_link_named_as_masks_does_not_hide_the_photos_that_it_leads_to(tmp_path: Path) -> None:
    touch(tmp_path, "val2017/1.jpg")
    link(tmp_path / "val2017", tmp_path / "annotations")
    photos = find_photos(tmp_path)
    assert (photos.names, photos.left_out) == (("val2017/1.jpg",), {"annotations": 1})


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
    left_out = f"left out 1 image in {tmp_path / 'annotations'}: it has the name of a folder of"
    assert left_out in str(caught.value)
    assert "\n" not in str(caught.value)


# --- What is said ---


@without_heif
def test_what_was_found_and_left_out_is_said(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "top.jpg",
        "train2017/1.jpg",
        "val2017/1.jpg",
        "val2017/2.jpg",
        "annotations/panoptic/1.png",
    )
    touch(
        tmp_path,
        "val2017/3.HEIC",
        "val2017/4.heic",
        "val2017/5",
        "annotations/instances.json",
        ".hidden",
    )
    assert find_photos(tmp_path).describe() == [
        f"1 photo in {tmp_path}",
        f"1 photo in {tmp_path / 'train2017'}",
        f"2 photos in {tmp_path / 'val2017'}",
        f"left out 1 image in {tmp_path / 'annotations'}: it has the name of a folder of COCO's "
        "masks; give it as the data to take them",
        f"left out 3 files in {tmp_path}, not read as photos: 2 .heic, 1 without a usual ending; "
        ".heic needs pillow-heif: pip install '.[heif]' in vggnorm's own folder",
    ]


def test_many_folders_are_abbreviated() -> None:
    names = tuple(f"{folder}/{photo}.jpg" for folder in range(9) for photo in range(2))
    photos = PhotoList(Folder(Path("p")), names)
    assert photos.describe() == [
        *(f"2 photos in p/{folder}" for folder in range(5)),
        "… and 4 more such folders",
    ]


def test_the_folders_are_those_of_the_photos_chosen(tmp_path: Path) -> None:
    folder = touch(tmp_path / "coco", "a/1.jpg", "a/2.jpg", "b/3.jpg")
    photos = find_photos(folder, annotations=write_listing(tmp_path, "2.jpg", "4.jpg"))
    assert photos.folders == {"a": 1}
    assert photos.describe() == [
        f"1 photo in {folder / 'a'}",
        f"1 photo listed in {tmp_path / 'listing.json'} is not in {folder}",
    ]


def test_the_commands_say_it_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggnorm import cli
    from vggnorm.cli import compute_means

    def no_work() -> None:
        raise PhotoError("the photos were found")

    monkeypatch.setattr(compute_means, "import_keras", no_work)
    touch(tmp_path, "val2017/1.jpg", "annotations/panoptic_val2017/1.png")
    arguments = ["compute-means", "--data", str(tmp_path), "-o", str(tmp_path / "m.npy")]
    result = CliRunner().invoke(cli.main, arguments)
    assert (
        f"1 photo in {tmp_path / 'val2017'}\nleft out 1 image in {tmp_path / 'annotations'}:"
        in result.stderr
    )
