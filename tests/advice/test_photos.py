"""The advice about photos and where they are, followed."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest
from advice_texts import refused, said
from archive_files import tar_bytes, write, zip_bytes
from photo_files import make_bytes, make_noise, touch, write_listing

import vggnorm
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader

SMALL = Geometry(4, "stretch", "nearest")
PHOTO = make_bytes(make_noise(8, 8), "PNG")


def names(data: str | Path, **options: Any) -> list[str]:
    return list(vggnorm.find_photos(data, **options).names)


def read_all(data: str | Path) -> list[str]:
    """Read all photos; give the reasons why some were skipped."""
    batches = PhotoReader(vggnorm.find_photos(data), SMALL).batches(100)
    return [photo.reason for batch in batches for photo in batch.taken.skipped]


# Where photos are


def test_an_address_is_that_of_a_folder_or_an_archive(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with refused("give the whole path, as in file:///data/coco"):
        names(f"file:/{tmp_path}")
    with refused("give a path or an address that begins with one of {}"):
        names(f"ftp://{tmp_path}")
    assert names(f"file://{tmp_path}") == names(tmp_path) == ["a.jpg"]


def test_one_address_is_given(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", zip_bytes({"a.png": PHOTO}))
    with refused("give that of a folder, a .zip or a .tar"):
        names(f"zip://a.png::file://{tmp_path}/a.zip")
    assert names(f"file://{tmp_path}/a.zip") == ["a.png"]


def test_a_folder_or_an_archive_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt")
    with refused("give a folder or an archive of photos"):
        names(tmp_path / "notes.txt")
    assert names(tmp_path) == ["a.jpg"]


def test_the_lower_number_comes_first(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"{number}.zip", zip_bytes({"a.png": PHOTO}))
    with refused("give the lower number first"):
        names(tmp_path / "{2..1}.zip")
    assert names(tmp_path / "{1..2}.zip") == ["1.zip/a.png", "2.zip/a.png"]


def test_braces_name_archives(tmp_path: Path) -> None:
    for number in (1, 2):
        touch(tmp_path, f"{number}/a.png")
        write(tmp_path / f"{number}.zip", zip_bytes({"a.png": PHOTO}))
    with refused("braces name several archives"):
        names(tmp_path / "{1..2}")
    assert names(tmp_path / "{1..2}.zip") == ["1.zip/a.png", "2.zip/a.png"]


def test_a_compressed_archive_becomes_a_plain_one(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.tar.gz", gzip.compress(tar_bytes({"a.png": PHOTO})))
    with refused("make it a .tar or a .zip"):
        names(packed)
    write(tmp_path / "a.tar", gzip.decompress(packed.read_bytes()))
    assert names(tmp_path / "a.tar") == ["a.png"]
    renamed = write(tmp_path / "b.tar", packed.read_bytes())
    with refused("get the file again, or unpack a .tar.gz"):
        names(renamed)
    write(renamed, gzip.decompress(renamed.read_bytes()))
    assert names(renamed) == ["a.png"]


def test_a_photo_is_once_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", PHOTO)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", PHOTO)
    with refused("make the archive again, with each file once"):
        names(path)
    assert names(write(path, zip_bytes({"a.png": PHOTO}))) == ["a.png"]


def test_a_compression_that_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"a.png": PHOTO}, zipfile.ZIP_BZIP2))
    with refused("make the archive again, stored or deflated"):
        names(path)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert names(write(path, zip_bytes({"a.png": PHOTO}, method))) == ["a.png"]


def test_an_archive_that_is_not_encrypted(tmp_path: Path) -> None:
    plain = zip_bytes({"a.png": PHOTO})
    encrypted = bytearray(plain)
    encrypted[6] |= 1  # the flag in front of the file, and the one in the directory
    encrypted[plain.index(b"PK\x01\x02") + 8] |= 1
    path = write(tmp_path / "a.zip", bytes(encrypted))
    with refused("make the archive again, not encrypted"):
        names(path)
    assert names(write(path, plain)) == ["a.png"]


def test_a_damaged_zip_is_fetched_anew(tmp_path: Path) -> None:
    whole = zip_bytes({"a.png": PHOTO})
    path = write(tmp_path / "a.zip", whole[:-10])
    with refused("get the file again"):
        names(path)
    assert names(write(path, whole)) == ["a.png"]


def test_a_damaged_tar_is_fetched_anew(tmp_path: Path) -> None:
    whole = tar_bytes({"a.png": PHOTO})
    path = write(tmp_path / "a.tar", whole[:1500])
    with refused("get the file again"):
        names(path)
    assert names(write(path, whole)) == ["a.png"]


def test_single_tars_are_given(tmp_path: Path) -> None:
    one, two = tar_bytes({"a.png": PHOTO}), tar_bytes({"b.png": PHOTO})
    path = write(tmp_path / "a.tar", one + two)
    with refused("give single archives, not joined ones"):
        names(path)
    for number, content in enumerate((one, two)):
        write(tmp_path / f"{number}.tar", content)
    assert names(tmp_path / "{0..1}.tar") == ["0.tar/a.png", "1.tar/b.png"]


# Which photos are wanted


def test_categories_need_an_annotation_file(tmp_path: Path) -> None:
    import json

    touch(tmp_path, "a.jpg")
    with refused("give one with --annotations"):
        names(tmp_path, categories=["dog"])
    listing = write_listing(tmp_path, "a.jpg")
    with refused("to choose by category, give COCO's instances file"):
        names(tmp_path, annotations=listing, categories=["dog"])
    listing.write_text("[]")
    with refused("give COCO's instances file"):
        names(tmp_path, annotations=listing, categories=["dog"])
    instances = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 5, "name": "dog"}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": 5}],
    }
    listing.write_text(json.dumps(instances))
    assert names(tmp_path, annotations=listing, categories=["dog"]) == ["a.jpg"]


def test_photos_and_annotations_belong_together(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with refused("give a folder and an annotation file that belong together"):
        names(tmp_path, annotations=write_listing(tmp_path, "b.jpg"))
    assert names(tmp_path, annotations=write_listing(tmp_path, "a.jpg")) == ["a.jpg"]


def test_a_folder_that_holds_a_listed_photo_once(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    listing = write_listing(tmp_path, "a.jpg")
    with refused("give a folder that holds it once"):
        names(tmp_path, annotations=listing)
    assert names(tmp_path / "one", annotations=listing) == ["a.jpg"]


def test_an_annotation_file_of_coco(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    listing = tmp_path / "listing.json"
    listing.write_text("[]")
    with refused("give an instances or captions file"):
        names(tmp_path, annotations=listing)
    assert names(tmp_path, annotations=write_listing(tmp_path, "a.jpg")) == ["a.jpg"]


def test_the_whole_list_is_shuffled_and_cut(tmp_path: Path) -> None:
    photos = vggnorm.find_photos(touch(tmp_path, "a.jpg", "b.jpg"))
    with refused("it must be one of 1/{} to {}/{}"):
        photos.shard(3, 2)
    part = photos.shard(1, 2, batch_size=1)
    with refused("shuffle the whole list first"):
        part.shuffled(0)
    with refused("cut the whole list"):
        part.shard(1, 2)
    assert photos.shuffled(0).shard(1, 1).names


def test_a_size_in_its_range() -> None:
    with refused("it must be at least 1"):
        Geometry(0, "crop", "bilinear")
    with refused("it must be at most {}"):
        Geometry(10**9, "crop", "bilinear")
    Geometry(1, "crop", "bilinear")


# While photos are read


def test_a_photo_that_cannot_be_used_is_left_out_without_strict(tmp_path: Path) -> None:
    write(tmp_path / "a.png", PHOTO)
    touch(tmp_path, "b.png")
    photos = vggnorm.find_photos(tmp_path)
    with refused("without --strict it is left out"):
        list(PhotoReader(photos, SMALL, strict=True).batches(10))
    assert read_all(tmp_path) == ["is empty"]


def test_a_photo_that_has_changed_is_put_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", PHOTO)
    photos = vggnorm.find_photos(tmp_path)
    path.unlink()
    with refused(
        "put it back as it was and run the same command again, or start over without the checkpoint"
    ):
        list(PhotoReader(photos, SMALL).batches(10))
    write(path, PHOTO)
    assert not read_all(tmp_path)


def test_images_in_a_folder_of_masks_are_taken_where_it_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "annotations/b.png")
    lines = vggnorm.find_photos(tmp_path).describe()
    assert said(lines, "give it as the data to take them")
    assert names(tmp_path / "annotations") == ["b.png"]
