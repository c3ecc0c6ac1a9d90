"""The advice about photos that cannot be read, and about addresses, followed."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from advice_texts import refused, said
from archive_files import write, zip_bytes
from measuring import measure
from photo_files import decode_file, make_bytes, make_noise
from photo_server import serving
from PIL import Image, ImageCms

import vggnorm
from vggnorm.photos import decode, reader
from vggnorm.photos.addresses import Address, parse_location
from vggnorm.photos.decode import decode_within
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader

SMALL = Geometry(4, "stretch", "nearest")
PNG = make_bytes(make_noise(8, 8), "PNG")
JPEG = make_bytes(make_noise(8, 8), "JPEG")


def read(path: Path) -> None:
    decode_file(path, SMALL)


# Files


def test_a_format_that_is_not_read_is_converted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.psd", b"8BPS" + bytes(100))
    with refused("convert it to JPEG or PNG"):
        read(path)
    for content in JPEG, PNG:
        read(write(path, content))


def test_a_format_that_is_not_read_everywhere_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggnorm.photos.unreadable.FORMATS", ("JPEG", "PNG"))
    path = write(tmp_path / "a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with refused("or convert it to JPEG"):
        read(path)
    read(write(path, JPEG))


@pytest.mark.parametrize("damaged", [JPEG[:20], bytes(100), b"II*\0" + bytes(100), JPEG[:-60]])
def test_a_damaged_photo_is_fetched_again(damaged: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", damaged)
    with refused("get the file again"):
        read(path)
    read(write(path, JPEG))


def test_a_photo_with_too_many_pixels_is_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 63)
    path = write(tmp_path / "a.png", PNG)
    with refused("make it smaller"):
        read(path)
    with Image.open(io.BytesIO(PNG)) as image:
        image.resize((7, 7)).save(path)
    read(path)


def test_colour_profiles_are_converted(make_chain: Callable[..., Any], tmp_path: Path) -> None:
    """The profile names red's primary as that of green, and green's as that of red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in (b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ"):
        profile = profile.replace(old, new)
    Image.fromarray(make_noise(40, 40)).save(tmp_path / "a.png", icc_profile=profile)
    lines: list[str] = []
    options: dict[str, Any] = {"size": 16, "preprocessing": "caffe", "say": lines.append}
    measure(make_chain((3,)), tmp_path, **options)
    assert said(lines, "--color-profiles convert converts them")
    del lines[:]
    measure(make_chain((3,)), tmp_path, **options, color_profiles="convert")
    assert any("converted to sRGB" in line for line in lines)


# Where photos are


def test_a_folder_of_masks_in_an_archive(tmp_path: Path) -> None:
    both = write(tmp_path / "both.zip", zip_bytes({"a.png": PNG, "annotations/b.png": PNG}))
    lines = vggnorm.find_photos(both).describe()
    assert said(lines, "make an archive of it alone to take them")
    alone = write(tmp_path / "alone.zip", zip_bytes({"b.png": PNG}))
    assert list(vggnorm.find_photos(alone).names) == ["b.png"]


def test_a_password_with_a_slash() -> None:
    with refused("in a user or a password, write / as %2F and @ as %40"):
        parse_location("http://user:sec/ret@host/photos.zip")
    address = parse_location("http://user:sec%2Fret@host/photos.zip")
    assert isinstance(address, Address)


def test_an_address_for_other_processes() -> None:
    with refused("give an address without them"):
        pickle.dumps(parse_location("http://user:secret@host/photos.zip"))
    pickle.dumps(parse_location("http://host/photos.zip"))


def test_an_archive_on_a_web_server() -> None:
    pytest.importorskip("aiohttp", reason="pip install 'vggnorm[http]'")
    with serving() as served:
        served.files["/photos/a.png"] = PNG
        served.files["/photos.zip"] = zip_bytes({"a.png": PNG})
        with refused("give the address of an archive"):
            vggnorm.find_photos(f"{served.url}/photos")
        assert list(vggnorm.find_photos(f"{served.url}/photos.zip").names) == ["a.png"]


# While a run reads


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(reader, "decode_within", fail)


@pytest.fixture
def photos(tmp_path: Path) -> Any:
    (tmp_path / "photos").mkdir()
    write(tmp_path / "photos" / "a.png", PNG)
    return vggnorm.find_photos(tmp_path / "photos")


def test_photos_that_take_much_memory_are_decoded_by_fewer_threads(
    photos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, refused("give fewer --threads and {}"):
        failing(patched, MemoryError())
        list(PhotoReader(photos, SMALL, threads=2).batches(1))
    assert len(list(PhotoReader(photos, SMALL, threads=1).batches(1))) == 1


def test_a_disk_that_fails_is_mended(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, refused("mend that and {}"):
        failing(patched, OSError(5, "Input/output error"))
        list(PhotoReader(photos, SMALL).batches(1))
    assert len(list(PhotoReader(photos, SMALL).batches(1))) == 1


def test_the_same_command_goes_on_from_the_checkpoint(
    make_chain: Callable[..., Any],
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, count = make_chain((3,)), 0

    def fail_at_the_fifth(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(5, "Input/output error")
        return decode_within(*arguments)

    options: dict[str, Any] = {
        "size": 16,
        "preprocessing": "caffe",
        "batch_size": 1,
        "threads": 1,
        "checkpoint": tmp_path / "checkpoint",
    }
    with monkeypatch.context() as patched, refused("run the same command again"):
        patched.setattr(reader, "decode_within", fail_at_the_fifth)
        measure(model, photo_folder, **options)
    lines: list[str] = []
    assert measure(model, photo_folder, **options, say=lines.append).image_count == 9
    assert any("goes on after" in line for line in lines)


def test_a_disk_that_is_gone_is_connected_again(photos: Any, tmp_path: Path) -> None:
    before = PhotoReader(photos, SMALL)
    (tmp_path / "photos").rename(tmp_path / "gone")
    with refused("is its disk still connected?"):
        list(before.batches(1))
    (tmp_path / "gone").rename(tmp_path / "photos")
    assert len(list(PhotoReader(photos, SMALL).batches(1))) == 1
