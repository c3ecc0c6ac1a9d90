"""Photos are made upright by their EXIF data, even if the rest of those data is damaged."""

import struct

import numpy as np
import pytest
from photo_files import Pixels, allow_warnings, decode_bytes, make_bytes, make_noise
from PIL import Image

UPRIGHT = make_noise(6, 4, seed=1)

# EXIF says where the stored row 0 and the stored column 0 are seen: 6 is "right, top".
STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.transpose(1, 0, 2),  # left, top
    6: UPRIGHT[:, ::-1].transpose(1, 0, 2),  # right, top
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: UPRIGHT[::-1].transpose(1, 0, 2),  # left, bottom
}


def make_exif(orientation: int, *entries: tuple[int, int, int, int]) -> bytes:
    """Write EXIF data with further entries: tag, type, count, value."""
    fields = [(0x112, 3, 1, orientation), *entries]
    packed = b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(fields)) + packed + struct.pack("<I", 0)


def enlarge(pixels: Pixels, times: int) -> Pixels:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def stretch(pixels: Pixels, size: int) -> Pixels:
    """Nearest neighbour to a multiple of both sides."""
    return pixels.repeat(size // pixels.shape[0], axis=0).repeat(size // pixels.shape[1], axis=1)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_made_upright(orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation])
    tag = Image.Exif()
    tag[0x112] = orientation
    for content in (
        make_bytes(stored, "PNG", exif=tag),
        make_bytes(stored, "TIFF", exif=tag),
        make_bytes(stored, "WEBP", exif=tag, lossless=True),
    ):
        np.testing.assert_array_equal(decode_bytes(content, 12), stretch(UPRIGHT, 12))
    # In JPEG's own blocks of 8 x 8, flat ones: what is lost is rounding alone.
    jpeg = make_bytes(enlarge(stored, 8), "JPEG", exif=tag, quality=100, subsampling=0)
    pixels = decode_bytes(jpeg, 96).astype(int)
    assert np.abs(pixels - stretch(enlarge(UPRIGHT, 8), 96)).max() <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    pixels = decode_bytes(make_bytes(UPRIGHT, "PNG", exif=make_exif(orientation)), 12)
    np.testing.assert_array_equal(pixels, stretch(UPRIGHT, 12))


@allow_warnings
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        make_exif(6)[:20],
        make_exif(1, (0x11A, 5, 1, 9999), (0x8769, 4, 1, 9999)),
    ],
)
def test_damaged_exif_does_not_lose_the_photo(exif: bytes) -> None:
    for content in (
        make_bytes(UPRIGHT, "PNG", exif=exif),
        make_bytes(UPRIGHT, "WEBP", exif=exif, lossless=True),
    ):
        np.testing.assert_array_equal(decode_bytes(content, 12), stretch(UPRIGHT, 12))


@allow_warnings
@pytest.mark.parametrize(
    "entry",
    [(0x11A, 2, 4, 0x313233), (0x8769, 9, 1, 0xFFFFFFFF), (0x11A, 5, 1, 9999)],
    ids=["resolution in words", "negative place", "resolution outside"],
)
def test_an_orientation_among_damaged_exif_is_obeyed(entry: tuple[int, int, int, int]) -> None:
    content = make_bytes(np.ascontiguousarray(STORED[6]), "PNG", exif=make_exif(6, entry))
    np.testing.assert_array_equal(decode_bytes(content, 12), stretch(UPRIGHT, 12))
