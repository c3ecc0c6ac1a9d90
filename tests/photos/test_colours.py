"""How colours become RGB with 8 bits a channel: pixels worked by hand."""

import struct

import numpy as np
import pytest
from photo_files import WHITE, decode_bytes, make_bytes, make_png, reason
from PIL import Image


def test_grey_becomes_rgb() -> None:
    grey = np.array([[0, 1], [128, 255]], np.uint8)
    expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(decode_bytes(make_bytes(grey, "PNG"), 2), expected)
    bits = Image.fromarray(grey).point(lambda value: value, "1")
    np.testing.assert_array_equal(
        decode_bytes(make_bytes(bits, "PNG"), 2), [[[0] * 3, WHITE], [WHITE, WHITE]]
    )


CMYK = [
    (0, 0, 0, 0),
    (0, 255, 255, 0),
    (255, 0, 0, 0),
    (0, 0, 0, 255),
    (0, 0, 0, 102),
    (51, 0, 0, 0),
]
CMYK_AS_RGB = [WHITE, (255, 0, 0), (0, 255, 255), (0, 0, 0), (153, 153, 153), (204, 255, 255)]


@pytest.mark.parametrize(("kind", "tolerance"), [("TIFF", 0), ("JPEG", 2)])
def test_cmyk_becomes_rgb(kind: str, tolerance: int) -> None:
    """Without profiles, ink takes light away: R = (255 - C)(255 - K)/255."""
    for ink, expected in zip(CMYK, CMYK_AS_RGB, strict=True):
        pixels = decode_bytes(make_bytes(Image.new("CMYK", (8, 8), ink), kind), 8)
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_rgb(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 250, 0, 7, 0, 99, 0] + [0] * 759)
    expected = [[(1, 2, 3), (250, 0, 7)], [(0, 99, 0), (250, 0, 7)]]
    np.testing.assert_array_equal(decode_bytes(make_bytes(image, kind), 2), expected)


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 250, 0, 7, 0, 99, 0])
    for kind in "PNG", "GIF":
        pixels = decode_bytes(make_bytes(image, kind, transparency=1), 2)
        np.testing.assert_array_equal(pixels, [[(1, 2, 3), WHITE], [(0, 99, 0), WHITE]])
    # Half transparent, black on white: 255 (1 - 153/255) = 102.
    image.putpalette([0] * 9)
    pixels = decode_bytes(make_bytes(image, "PNG", transparency=bytes([255, 0, 153])), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 255], [102, 255]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_put_on_white(kind: str) -> None:
    """That is, colour a/255 + 255 (1 - a/255), with a of 51, a fifth, and 204, four fifths."""
    rgba = np.array(
        [[(0, 100, 255, 51), (0, 100, 255, 204)], [(9, 9, 9, 0), (9, 8, 7, 255)]], np.uint8
    )
    expected = [[(204, 224, 255), (51, 131, 255)], [WHITE, (9, 8, 7)]]
    np.testing.assert_array_equal(decode_bytes(make_bytes(rgba, kind), 2), expected)
    grey = Image.fromarray(np.ascontiguousarray(rgba[..., [1, 3]]), "LA")
    expected = [[(224,) * 3, (131,) * 3], [WHITE, (8,) * 3]]
    np.testing.assert_array_equal(decode_bytes(make_bytes(grey, kind), 2), expected)


def test_a_transparent_colour_becomes_white() -> None:
    rgb = np.array([[(1, 2, 3), (1, 2, 4)], [(0, 0, 0), (1, 2, 3)]], np.uint8)
    pixels = decode_bytes(make_bytes(rgb, "PNG", transparency=(1, 2, 3)), 2)
    np.testing.assert_array_equal(pixels, [[WHITE, (1, 2, 4)], [(0, 0, 0), WHITE]])
    pixels = decode_bytes(make_bytes(rgb[..., 2].copy(), "PNG", transparency=4), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[3, 255], [0, 3]])


# 16 bits and what they are in 8: 65535 = 257 * 255, and 128/257 is just below a half.
DEEP = np.array([[0, 65535, 257], [514, 257 * 100, 128], [129, 257 * 254, 65535 - 128]], np.uint16)
SHALLOW = [[0, 255, 1], [2, 100, 0], [1, 254, 255]]


def test_16_bits_are_scaled_and_not_clipped() -> None:
    little = Image.frombytes("I;16", (3, 3), DEEP.astype("<u2").tobytes())
    big = Image.frombytes("I;16B", (3, 3), DEEP.astype(">u2").tobytes())
    for content in make_bytes(little, "PNG"), make_bytes(little, "TIFF"), make_bytes(big, "TIFF"):
        pixels = decode_bytes(content, 3)
        np.testing.assert_array_equal(pixels, np.stack([SHALLOW] * 3, axis=-1))


def test_16_bits_a_channel_are_scaled() -> None:
    values = [0, 255, 1, 2, 100, 254]
    row = b"\0" + struct.pack(">6H", *[257 * value for value in values])
    pixels = decode_bytes(make_png(2, 2, 16, 2, row * 2), 2)
    np.testing.assert_array_equal(pixels, [[values[:3], values[3:]]] * 2)


def test_a_transparent_16_bit_grey_becomes_white() -> None:
    row = b"\0" + struct.pack(">2H", 257 * 7, 257 * 9)
    pixels = decode_bytes(make_png(2, 2, 16, 0, row * 2, transparent=struct.pack(">H", 257 * 9)), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[7, 255]] * 2)


def test_32_bits_are_refused() -> None:
    for values in np.ones((4, 4), np.int32), np.ones((4, 4), np.float32):
        expected = (
            "has 32 bits a channel, and does not say which value is white; convert it to 8 or 16 "
            "bits"
        )
        assert reason(make_bytes(Image.fromarray(values), "TIFF")) == expected


def test_16_bits_are_made_upright() -> None:
    image = Image.frombytes("I;16", (3, 3), DEEP[:, ::-1].astype("<u2").tobytes())
    exif = Image.Exif()
    exif[0x112] = 2  # mirrored
    pixels = decode_bytes(make_bytes(image, "PNG", exif=exif), 3)
    np.testing.assert_array_equal(pixels[..., 0], SHALLOW)
