"""The advice about what is in a photo, followed: each is converted as the message says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from advice_texts import refused
from archive_files import write
from photo_files import make_bytes, make_noise, make_png, make_tiff
from PIL import Image, ImageCms

from vggnorm.photos.decode import decode_photo
from vggnorm.photos.geometry import Geometry


def read(path: Path, **options: Any) -> None:
    """Decode a file as a photo of a run."""
    with path.open("rb") as file:
        decode_photo(file, Geometry(4, "stretch", "nearest", **options), path.name)


@pytest.mark.parametrize(
    ("content", "mode"),
    [(make_bytes(Image.new("LAB", (4, 4)), "TIFF"), "RGB")],
)
def test_colours_become_rgb(content: bytes, mode: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", content)
    with refused("convert it to RGB"):
        read(path)
    with Image.open(path) as image:
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode=mode)
    assert converted is not None
    converted.save(path)
    read(path)


def test_deep_samples_become_8_or_16_bits(tmp_path: Path) -> None:
    values = make_noise(4, 4, channels=1).astype(np.int32)
    path = write(tmp_path / "a.tif", make_bytes(Image.fromarray(values), "TIFF"))
    with refused("convert it to 8 or 16 bits"):
        read(path)
    for dtype in (np.uint8, np.uint16):
        Image.fromarray(values.astype(dtype)).save(path)
        read(path)


def test_signed_samples_become_unsigned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", make_tiff(bytes(16), 8, 1, sample_format=2))
    with refused("convert them to unsigned"):
        read(path)
    read(write(path, make_tiff(bytes([128] * 16), 8, 1, sample_format=1)))


def test_a_tiff_that_lacks_its_colours_is_saved_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", make_tiff(bytes(32), 16, None))
    with refused("save it again"):
        read(path)
    read(write(path, make_tiff(bytes(32), 16, 1)))


def test_a_tiff_in_planes_is_saved_interleaved(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", make_tiff(bytes(16), 8, 0, planar=2))
    with refused("save it with interleaved channels"):
        read(path)
    read(write(path, make_tiff(bytes(16), 8, 0, planar=1)))


def test_a_tiff_of_an_unusual_kind_is_saved_with_8_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", make_tiff(bytes(32), 16, 0, ">"))
    with refused("save it as RGB or grey with 8 bits"):
        read(path)
    read(write(path, make_tiff(bytes(16), 8, 0, ">")))


def test_a_transparent_colour_is_saved_with_8_bits_or_alpha(tmp_path: Path) -> None:
    deep = make_png(4, 4, 16, 2, rows=(b"\0" + bytes(24)) * 4, transparent=bytes(6))
    path = write(tmp_path / "a.png", deep)
    with refused("save it with 8 bits, or with an alpha channel"):
        read(path)
    read(write(path, make_png(4, 4, 8, 2, rows=(b"\0" + bytes(12)) * 4, transparent=bytes(6))))
    read(write(path, make_png(4, 4, 16, 6, rows=(b"\0" + bytes(32)) * 4)))


def test_a_profile_that_does_not_fit_is_removed(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = tmp_path / "a.png"
    image = Image.fromarray(make_noise(4, 4))
    image.save(path, icc_profile=b"no profile")
    with refused("remove the profile"):
        read(path, color_profiles="convert")
    image.save(path, icc_profile=lab)
    with refused("convert the photo to sRGB"):
        read(path, color_profiles="convert")
    image.save(path)
    read(path, color_profiles="convert")
