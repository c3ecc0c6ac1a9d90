"""Which files are decoded, and which are refused: formats, damage, sizes, real files."""

import io
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from photo_files import (
    allow_warnings,
    decode,
    decode_bytes,
    error_of,
    make_bytes,
    make_noise,
    make_png,
    reason,
)
from PIL import EpsImagePlugin, Image

from vggnorm.errors import PhotoError
from vggnorm.photos import decode as decode_module
from vggnorm.photos.budget import PixelBudget
from vggnorm.photos.decode import decode_photo, decode_within, load_photo
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Fit, Geometry
from vggnorm.photos.webp import HEADER, webp_size

SMALL = Geometry(2, "stretch", "nearest")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    content = make_bytes(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 3
    pixels = decode_bytes(content, 16).astype(int)
    assert np.abs(pixels - (255, 0, 0)).max() <= 2  # WebP and MPO lose a little


def test_a_photo_with_a_smaller_one_behind_it_is_read() -> None:
    """As cameras write it; the smaller one may be cut."""
    photo = Image.new("RGB", (64, 64), (200, 30, 90))
    more = [Image.new("RGB", (32, 32), (1, 2, 3))]
    content = make_bytes(photo, "MPO", save_all=True, append_images=more)
    for cut in content, content[:-1], content[:-2], content[:-40]:
        assert np.abs(decode_bytes(cut, 64).astype(int) - (200, 30, 90)).max() <= 2


def test_the_content_and_not_the_name_tells_the_format() -> None:
    pixels = make_noise(5, 5)
    for kind in "PNG", "BMP", "TIFF":
        np.testing.assert_array_equal(decode_bytes(make_bytes(pixels, kind), 5), pixels)
    assert reason(b"This is the caption of a photo.\n") == "is not an image, but text"


def test_other_formats_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript would start an interpreter."""

    def interpret(*_arguments: object, **_options: object) -> None:
        pytest.fail("the file was interpreted")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", interpret)
    eps = make_bytes(make_noise(8, 8), "EPS")
    with Image.open(io.BytesIO(eps)) as image:
        assert image.format == "EPS"
    assert reason(eps) == "is not an image, but a PostScript document"
    assert reason(make_bytes(make_noise(8, 8), "PPM")) == (
        "is a PNM image, which is not read; convert it to JPEG or PNG"
    )


# --- What cannot be used ---


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_cut_photo_is_refused(kind: str) -> None:
    content = make_bytes(make_noise(64, 64), kind)
    assert decode_bytes(content, 64).shape == (64, 64, 3)
    for share in 0.5, 0.9:
        error = reason(content[: int(share * len(content))])
        assert error.startswith(("cannot be decoded: ", "is truncated: ", "begins as a "))


def test_an_empty_file_is_refused() -> None:
    assert reason(b"") == "is empty"


def refusal(path: Path) -> str:
    return error_of(load_photo, path, SMALL).removeprefix(f"{path}: ")


def test_a_photo_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.jpg") == "cannot be read: No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "cannot be read: Is a directory"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert re.fullmatch("cannot be read: .* regular file", refusal(path))


def test_errors_name_the_photo(tmp_path: Path) -> None:
    assert error_of(decode_photo, io.BytesIO(b""), SMALL, "a/b.jpg") == "a/b.jpg: is empty"
    (tmp_path / "b.jpg").touch()
    assert error_of(load_photo, tmp_path / "b.jpg", SMALL) == f"{tmp_path / 'b.jpg'}: is empty"


def test_a_strip_of_a_photo_is_decoded() -> None:
    pixels = decode_bytes(make_bytes(np.full((20, 20_000, 3), 200, np.uint8), "PNG"), 8)
    np.testing.assert_array_equal(pixels, np.full((8, 8, 3), 200))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_a_small_file_of_many_pixels_is_refused(kind: str) -> None:
    side = 16_000 if kind == "WEBP" else 20_000  # more, WebP cannot
    content = bytearray(make_bytes(Image.new("L" if kind != "WEBP" else "RGB", (8, 8)), kind))
    if kind == "PNG":
        content = bytearray(make_png(side, side, 8, 0))
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", side, side)
    elif kind == "TIFF":
        for tag in 256, 257:  # width and height
            field = struct.pack("<HHII", tag, 4, 1, 8)
            assert field in content
            content = content.replace(field, struct.pack("<HHII", tag, 4, 1, side))
    else:
        place = content.index(b"\x9d\x01\x2a") + 3
        content[place : place + 4] = struct.pack("<HH", side, side)
    assert reason(bytes(content)).startswith("is too large: ")


def test_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_bytes(make_noise(40, 30), "PNG")
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 1200)
    decode_bytes(content, 4)
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 1199)
    assert reason(content) == (
        "is too large: 40 x 30 pixels; at most 1,199 are decoded; make it smaller"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_that_claims_too_much_is_refused() -> None:
    """There are no pixels, so the size is what is refused."""
    assert reason(make_png(10_001, 10_000, 8, 2)) == (
        "is too large: 10001 x 10000 pixels; at most 100,000,000 are decoded; make it smaller"
    )
    # Even more than that Pillow itself refuses.
    assert reason(make_png(60_000, 60_000, 8, 2)) == (
        "is too large: at most 100,000,000 pixels are decoded; make it smaller"
    )
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    bmp = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
    assert reason(bmp).startswith("is too large: ")


@pytest.mark.parametrize("kind", ["lossy", "lossless", "transparent"])
def test_the_size_of_a_webp_is_read_from_its_header(kind: str) -> None:
    photo = Image.new("RGBA" if kind == "transparent" else "RGB", (301, 78), (9, 8, 7))
    photo.putpixel((0, 0), (1, 2, 3))
    content = make_bytes(photo, "WEBP", lossless=kind == "lossless")
    assert webp_size(content[:HEADER]) == (301, 78)


def test_a_webp_that_is_too_large_is_refused_before_pillow_opens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = Image.new("RGB", (12_000, 12_000))
    content = make_bytes(photo, "WEBP", lossless=True, method=0, quality=0)
    monkeypatch.setattr(Image, "open", None)
    assert reason(content).startswith("is too large: 12000 x 12000 pixels; ")


class NotingBudget(PixelBudget):
    """A budget without limit that notes how much was held."""

    def __init__(self) -> None:
        super().__init__(0)
        self.held: list[int] = []

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        self.held.append(pixels)
        yield


def test_a_progressive_jpeg_is_held_whole(tmp_path: Path) -> None:
    budget = NotingBudget()
    for name, progressive in (("a.jpg", False), ("b.jpg", True)):
        Image.new("RGB", (800, 600)).save(tmp_path / name, progressive=progressive)
        decode_within(budget, Folder(tmp_path), name, Geometry(8))
    assert budget.held == [100 * 75, 800 * 600]


def test_a_phones_photo_of_200_million_pixels_is_decoded_small(tmp_path: Path) -> None:
    """At an eighth of its size, as at any: 16320 / 8 is 2040, and 12240 / 8 is 1530."""
    budget = NotingBudget()
    Image.new("RGB", (16_320, 12_240), (90, 120, 60)).save(tmp_path / "a.jpg")
    pixels = decode_within(budget, Folder(tmp_path), "a.jpg", Geometry(32)).pixels
    assert budget.held == [2040 * 1530]
    assert np.abs(pixels.astype(int) - (90, 120, 60)).max() <= 2


@pytest.mark.parametrize("how", ["progressive", "single pixels", "large"])
def test_a_jpeg_that_would_be_decoded_whole_has_the_limit_of_others(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    photo = Image.new("RGB", (800, 600))
    content = make_bytes(photo, "JPEG", progressive=how == "progressive")
    geometry = Geometry(
        600 if how == "large" else 8,
        interpolation="nearest" if how == "single pixels" else "bilinear",
    )
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 800 * 600 - 1)
    error = error_of(decode_photo, io.BytesIO(content), geometry, "photo")
    assert error.startswith("photo: is too large: 800 x 600 pixels; ")
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 800 * 600)
    decode_photo(io.BytesIO(content), geometry, "photo")


# --- Real files ---


@allow_warnings
def test_real_odd_files_decode_or_are_refused(awkward_photos: Path) -> None:
    """Refused are those that Pillow cannot open or load, and a PNG that lacks its end.

    Pillow itself decodes what is there of that PNG.
    """
    _, *lines = (awkward_photos / "SOURCES.tsv").read_text(encoding="utf-8").splitlines()
    sources = {line.split("\t")[0]: line for line in lines}
    expected = {
        name for name, line in sources.items() if "open fails" in line or "load fails" in line
    }
    expected.add("pillow__truncated_end_chunk.png")
    refused = set()
    for name in sources:
        try:
            pixels = decode(awkward_photos / name, 32, "bilinear", "crop")
        except PhotoError:
            refused.add(name)
            continue
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
    assert len(sources) == 60
    assert refused == expected


def test_real_photos_of_one_scene_come_out_alike(awkward_photos: Path) -> None:
    """One is stored upright and one turned; they differ by their caption, and by JPEG's losses."""
    paths = [awkward_photos / f"exiforient__Landscape_{number}.jpg" for number in (1, 6)]
    for fit in get_args(Fit):
        upright, turned = (decode(path, 64, "bilinear", fit).astype(int) for path in paths)
        assert np.abs(upright - turned).mean() < 3
