"""Colour profiles, made by hand, held against the arithmetic of their primaries and curves."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_files import Pixels, decode_file
from PIL import Image, ImageCms

from vggnorm import FilterMeans, compute_means
from vggnorm.errors import PhotoError
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import ColorProfiles, Geometry
from vggnorm.photos.reader import PhotoReader
from vggnorm.run.options import Watch

Floats = NDArray[np.float64]

# Of each space, the X, Y, Z of red, green and blue under D50, as its standard gives them; they sum
# up to D50's white.
WHITE = (0.9642, 1.0, 0.8249)
SRGB = np.array(
    [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
)
ADOBE = np.array(
    [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
)
P3 = np.array(
    [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
)


def s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(s15, values))


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile of version 2 (ICC.1:2001)."""
    name = b"made by hand\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(WHITE),
        **tags,
    }
    table, content, start = b"", b"", 132 + 12 * len(tags)
    for tag, body in tags.items():
        padded = body + b"\0" * (-len(body) % 4)
        table += tag + struct.pack(">II", start + len(content), len(body))
        content += padded
    header = struct.pack(">I4xI4s4s4s", start + len(content), 0x02400000, b"mntr", space, b"XYZ ")
    header += (
        struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
        + b"acsp"
        + b"\0" * 28
        + b"".join(map(s15, WHITE))
        + b"\0" * 48
    )
    return header + struct.pack(">I", len(tags)) + table + content


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries: Floats, gamma: float) -> bytes:
    colorants = {
        tag: xyz(row) for tag, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return profile(b"RGB ", colorants | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def encode_srgb(linear: Floats) -> Floats:
    """Apply sRGB's curve (IEC 61966-2-1) to 0..1; the result is 0..255."""
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * encoded


def to_srgb(pixels: Floats, primaries: Floats, gamma: float) -> Floats:
    """Convert by the definitions: the curve, XYZ, sRGB's primaries, sRGB's curve."""
    linear = (pixels / 255) ** (round(gamma * 256) / 256) @ primaries @ np.linalg.inv(SRGB)
    return encode_srgb(np.clip(linear, 0, 1))


def save(path: Path, pixels: Pixels, icc: bytes | None, mode: str = "RGB") -> Path:
    Image.fromarray(pixels, mode=None if mode == "RGB" else mode).save(path, icc_profile=icc)
    return path


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


PLAIN = Geometry(16, "stretch", "nearest")
CONVERT = Geometry(16, "stretch", "nearest", "convert")


@pytest.mark.parametrize(
    ("primaries", "gamma"), [(ADOBE, 2.19921875), (P3, 2.2), (SRGB, 1.8)], ids=str
)
def test_colours_are_converted_as_the_primaries_say(
    primaries: Floats, gamma: float, pixels: Pixels, tmp_path: Path
) -> None:
    path = save(tmp_path / "photo.png", pixels, rgb_profile(primaries, gamma))
    np.testing.assert_array_equal(decode_file(path, PLAIN), pixels)  # ignored unless asked for
    wanted = to_srgb(pixels.astype(float), primaries, gamma)
    # Little CMS computes in 16 bits and less and rounds several times: 2 of 255 is what that comes
    # to.
    assert np.abs(decode_file(path, CONVERT) - wanted).max() <= 2


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_grey_is_converted_by_its_curve(gamma: float, tmp_path: Path) -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = save(tmp_path / "photo.png", greys, profile(b"GRAY", {b"kTRC": curve(gamma)}), "L")
    linear = (greys / 255) ** (round(gamma * 256) / 256)
    wanted = encode_srgb(linear)
    assert np.abs(decode_file(path, CONVERT) - wanted[:, :, None]).max() <= 2


def test_transparent_parts_stay_white(tmp_path: Path) -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(clear).save(path, icc_profile=rgb_profile(ADOBE, 2.2))
    assert (decode_file(path, CONVERT) >= 254).all()


def count(folder: Path) -> int:
    reader = PhotoReader(find_photos(folder), PLAIN)
    list(reader.batches(2))
    return reader.noticed.with_profile


@pytest.mark.parametrize(
    ("icc", "counted"),
    [
        (None, 0),
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), 0),
        (rgb_profile(ADOBE, 2.2), 1),
        (rgb_profile(SRGB, 1.8), 1),
        (b"no profile at all", 1),
    ],
    ids=["none", "sRGB", "Adobe RGB", "sRGB's primaries with another curve", "damaged"],
)
def test_profiles_are_counted_by_what_they_do(
    icc: bytes | None, counted: int, pixels: Pixels, tmp_path: Path
) -> None:
    save(tmp_path / "photo.png", pixels, icc)
    assert count(tmp_path) == counted


def test_srgb_under_another_name_is_srgb(pixels: Pixels, tmp_path: Path) -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / "photo.png", pixels, own.replace(b"s\0R\0G\0B", b"x\0R\0G\0B"))
    assert count(tmp_path) == 0


def test_a_damaged_profile_is_told_when_it_is_wanted(pixels: Pixels, tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", pixels, b"no profile at all")
    np.testing.assert_array_equal(decode_file(path, PLAIN), pixels)
    with pytest.raises(PhotoError, match="carries a colour profile that cannot be read"):
        decode_file(path, CONVERT)


def test_inks_are_converted_by_their_own_profile_or_not_at_all(
    pixels: Pixels, tmp_path: Path
) -> None:
    inks = Image.fromarray(pixels).convert("CMYK")
    inks.save(tmp_path / "photo.tif", icc_profile=rgb_profile(ADOBE, 2.2))
    with pytest.raises(
        PhotoError, match="is CMYK, but carries a colour profile for RGB; remove the profile"
    ):
        decode_file(tmp_path / "photo.tif", CONVERT)


def test_a_profile_for_greys_is_not_applied_to_colours(pixels: Pixels, tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", pixels, profile(b"GRAY", {b"kTRC": curve(1.8)}))
    with pytest.raises(
        PhotoError, match="is RGB, but carries a colour profile for L; remove the profile"
    ):
        decode_file(path, CONVERT)


def measure(
    model: Any, folder: Path, color_profiles: ColorProfiles = "ignore"
) -> tuple[FilterMeans, list[str]]:
    said: list[str] = []
    geometry = Geometry(16, "stretch", color_profiles=color_profiles)
    means = compute_means(model, folder, geometry=geometry, watch=Watch(say=said.append))
    return means, [line for line in said if "colour profile" in line]


def test_what_is_done_with_profiles_is_said_and_recorded(
    make_chain: Any, pixels: Pixels, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", pixels, rgb_profile(ADOBE, 2.2))
    save(tmp_path / "b.png", pixels, None)
    ignored, said = measure(make_chain(), tmp_path)
    assert said == [
        "1 photo carries a colour profile other than sRGB; taken as sRGB; --color-profiles convert "
        "converts them"
    ]
    converted, said = measure(make_chain(), tmp_path, color_profiles="convert")
    assert said == ["1 photo carries a colour profile other than sRGB; converted to sRGB"]
    assert (ignored.recipe.color_profiles, converted.recipe.color_profiles) == ("ignore", "convert")
    assert ignored.recipe.differences(converted.recipe) != []
    assert ignored.recipe.photos_sha256 != converted.recipe.photos_sha256
