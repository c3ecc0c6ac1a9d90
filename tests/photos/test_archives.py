"""Photos in archives are those of the folder: the same names, order, pixels and digests."""

import io
import os
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive_files import FILES, SMALL, take_all, tar_bytes, write, write_folder, zip_bytes
from photo_files import error_of, write_listing

from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.places import Places
from vggnorm.photos.reader import PhotoReader

LONG = "a" * 90 + "/" + "é" * 100 + ".jpg"  # longer than a tar's own field for names


def archives(folder: Path) -> list[Path]:
    """Write the same files as several archives."""
    files = FILES | {LONG: FILES["a.jpg"]}
    return [
        write(folder / "stored.zip", zip_bytes(files)),
        write(folder / "deflated.zip", zip_bytes(files, zipfile.ZIP_DEFLATED)),
        write(folder / "behind_a_program.ZIP", b"#!/bin/sh\n" * 99 + zip_bytes(files)),
        write(folder / "pax.tar", tar_bytes(files)),
        write(folder / "gnu.tar", tar_bytes(files, tarfile.GNU_FORMAT)),
        write(folder / "dot.tar", tar_bytes(files, before="./")),
    ]


def test_an_archive_gives_what_its_folder_gives(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", FILES | {LONG: FILES["a.jpg"]})
    loose = find_photos(folder)
    assert loose.names == (
        "a.jpg",
        LONG,
        "sub/b.png",
        "sub/damaged.png",
        "sub/deep/c.tif",
        "sub/empty.jpg",
        "sub/é.webp",
    )
    for path in archives(tmp_path):
        photos = find_photos(path)
        assert photos.names == loose.names
        assert photos.sha256() == loose.sha256()
        assert photos.shuffled(3).names == loose.shuffled(3).names
        assert take_all(photos) == take_all(loose)
        assert (photos.left_out, photos.other_endings) == ({"annotations": 1}, {".txt": 1})
        for name in photos.names:
            assert photos.source.open(name).read() == (folder / name).read_bytes()
            assert photos.stamp(name) is not None


def test_an_archive_is_called_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "val.zip", zip_bytes())
    photos = find_photos(path)
    assert photos.source.label == f"{tmp_path.name}/val.zip"
    assert photos.source.locate() == str(path)
    assert photos.source.locate("sub/b.png") == f"{path}/sub/b.png"
    assert photos.describe()[:3] == [
        f"1 photo in {path}",
        f"4 photos in {path}/sub",
        f"1 photo in {path}/sub/deep",
    ]
    assert not photos.source.is_remote
    skipped = take_all(photos).skipped
    assert [(photo.photo, photo.reason) for photo in skipped] == [
        ("sub/damaged.png", "is not an image, but text"),
        ("sub/empty.jpg", "is empty"),
    ]


def test_braces_name_several_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8, 11):
        files = {f"{number}.jpg": FILES["a.jpg"], "same.png": FILES["sub/b.png"]}
        write(tmp_path / f"shard-{number:03}.tar", tar_bytes(files))
        write(tmp_path / f"{number}.zip", zip_bytes(files))
    monkeypatch.chdir(tmp_path)
    photos = find_photos("shard-{008..010}.tar")
    assert photos.names == (
        "shard-008.tar/8.jpg",
        "shard-008.tar/same.png",
        "shard-009.tar/9.jpg",
        "shard-009.tar/same.png",
        "shard-010.tar/10.jpg",
        "shard-010.tar/same.png",
    )
    assert photos.source.label == f"{tmp_path.name}/shard-{{008..010}}.tar"
    assert photos.source.locate("shard-008.tar/8.jpg") == "shard-008.tar/8.jpg"
    assert take_all(photos).used == 6
    absolute = find_photos(f"{tmp_path}/shard-{{008..010}}.tar")
    assert absolute.source.locate("shard-008.tar/8.jpg") == f"{tmp_path}/shard-008.tar/8.jpg"
    assert absolute.names == photos.names
    assert find_photos("{8..10}.zip").names[-1] == "9.zip/same.png"  # sorted as text
    assert find_photos("{8..8}.zip").names == ("8.jpg", "same.png")  # of one archive
    (tmp_path / "{1..2}.zip").write_bytes(zip_bytes())
    for name in "{1..2}.zip", Path("{1..2}.zip"):  # the name of a file, as it is
        assert len(find_photos(name).names) == 6


def test_braces_in_several_parts_of_a_path(tmp_path: Path) -> None:
    for folder in "01":
        (tmp_path / folder).mkdir()
        for number in "12":
            write(tmp_path / folder / f"x{number}.tar", tar_bytes({"a.jpg": FILES["a.jpg"]}))
    assert find_photos(f"{tmp_path}/{{0..1}}/x{{1..2}}.tar").names == (
        "0/x1.tar/a.jpg",
        "0/x2.tar/a.jpg",
        "1/x1.tar/a.jpg",
        "1/x2.tar/a.jpg",
    )


def test_braces_that_name_nothing_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.zip", zip_bytes())
    missing = error_of(find_photos, f"{tmp_path}/{{1..2}}.zip")
    assert missing == f"{tmp_path}/2.zip: cannot be read: No such file or directory"
    down = error_of(find_photos, f"{tmp_path}/{{2..1}}.zip")
    assert down == f"{tmp_path}/{{2..1}}.zip: {{2..1}} counts down; give the lower number first"
    folders = error_of(find_photos, f"{tmp_path}/{{1..2}}")
    assert folders == f"{tmp_path}/1: is not a .zip or a .tar; braces name several archives"


def test_names_that_no_file_can_have_are_refused() -> None:
    for name in "x" * 5000, "x" * 5000 + ".zip", "x" * 5000 + "{1..2}.zip":
        assert error_of(find_photos, name).endswith(": cannot be read: File name too long")


def test_a_folder_may_end_as_an_archive_does(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos.zip")
    assert find_photos(folder).names == find_photos(str(folder)).names
    assert "a.jpg" in find_photos(folder).names


def test_annotations_choose_photos_of_an_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "val.zip", zip_bytes())
    photos = find_photos(path, annotations=write_listing(tmp_path, "b.png", "missing.jpg"))
    assert (photos.names, photos.missing) == (("sub/b.png",), 1)


def test_an_address_of_a_file_on_this_machine_is_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "a b.zip", zip_bytes())
    assert find_photos(path.as_uri()).source.locate() == str(path)


def test_many_threads_read_the_right_bytes(tmp_path: Path) -> None:
    files = {f"{number}.jpg": os.urandom(number * 7) for number in range(1, 300)}
    for path in (
        write(tmp_path / "many.zip", zip_bytes(files, zipfile.ZIP_DEFLATED)),
        write(tmp_path / "many.tar", tar_bytes(files)),
    ):
        source = find_photos(path).source
        names = list(files) * 4
        with ThreadPoolExecutor(16) as pool:
            contents = pool.map(lambda name, source=source: source.open(name).read(), names)
            assert all(
                content == files[name] for name, content in zip(names, contents, strict=True)
            )


def test_places_are_read_by_another_process(tmp_path: Path) -> None:
    for path in write(tmp_path / "a.zip", zip_bytes()), write(tmp_path / "a.tar", tar_bytes()):
        photos = pickle.loads(pickle.dumps(find_photos(path)))
        assert photos.source.open("a.jpg").read() == FILES["a.jpg"]
        assert isinstance(photos.source, Places)
        place = pickle.loads(pickle.dumps(photos.source.places["sub/b.png"]))
        assert place.read() == FILES["sub/b.png"]
        assert (place.name, place.size) == ("sub/b.png", len(FILES["sub/b.png"]))


def test_reading_leaves_no_file_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list the open files")
    photos = find_photos(write(tmp_path / "a.zip", zip_bytes()))
    before = len(list(descriptors.iterdir()))
    for name in photos.names:
        photos.source.open(name)
    assert len(list(descriptors.iterdir())) == before


# An archive that changes while a run goes on


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_that_is_gone_ends_the_run(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, zip_bytes() if name.endswith("zip") else tar_bytes())
    photos = find_photos(path)
    path.unlink()
    error = error_of(take_all, photos)
    assert error.startswith(f"{path}/a.jpg: is gone since the photos were listed; put it back")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_another_archive_in_its_place_ends_the_run(tmp_path: Path, name: str) -> None:
    make = zip_bytes if name.endswith("zip") else tar_bytes
    path = write(tmp_path / name, make())
    photos = find_photos(path)
    write(path, make({"first.jpg": b"x" * 2000} | FILES))
    error = error_of(take_all, photos)
    assert error.startswith(f"{path}/a.jpg: has changed since the photos were listed; put it back")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_that_was_cut_since_ends_the_run(tmp_path: Path, name: str) -> None:
    content = zip_bytes() if name.endswith("zip") else tar_bytes()
    path = write(tmp_path / name, content)
    photos = find_photos(path)
    write(path, content[:300])
    assert "has changed since the photos were listed" in error_of(take_all, photos)


def test_an_archive_that_may_no_longer_be_read_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = find_photos(write(tmp_path / "a.zip", zip_bytes()))

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    error = error_of(take_all, photos)
    assert error.startswith(f"{tmp_path}/a.zip/a.jpg: cannot be read: Permission denied; mend that")


def test_an_archive_whose_folder_became_a_file_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = write(tmp_path / "folder" / "a.tar", tar_bytes())
    photos = find_photos(path)
    (tmp_path / "folder").rename(tmp_path / "away")
    write(tmp_path / "folder", b"")
    error = error_of(take_all, photos)
    assert error.startswith(f"{path}/a.jpg: cannot be read: Not a directory; mend that and run")


def test_a_run_goes_on_in_an_archive_that_was_only_touched(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes())
    photos = find_photos(path)
    os.utime(path, (1, 1))
    assert take_all(photos).used == 4


def test_strict_stops_at_a_photo_of_an_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"a.jpg": b"text"}))
    reader = PhotoReader(find_photos(path), SMALL, strict=True)
    with pytest.raises(PhotoError, match="a.zip/a.jpg: is not an image"):
        list(reader.batches(1))


def test_an_archive_without_photos_is_refused(tmp_path: Path) -> None:
    for name, content in ("a.zip", zip_bytes({})), ("a.tar", tar_bytes({"a.txt": b""})):
        path = write(tmp_path / name, content)
        assert error_of(find_photos, path).startswith(f"{path}: holds no images (")


def test_archives_in_memory_are_as_they_are_on_disk() -> None:
    # What the other tests rest on: Python's own readers find the same files.
    with zipfile.ZipFile(io.BytesIO(zip_bytes())) as archive:
        assert archive.namelist() == list(FILES)
    with tarfile.open(fileobj=io.BytesIO(tar_bytes())) as tar:
        assert tar.getnames() == list(FILES)
