"""The geometry of photos: pixels worked by hand, and Keras's own loader to compare with."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from photo_files import Pixels, decode, make_bytes, make_noise
from PIL import Image

from vggnorm.photos.decode import load_photo
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Fit, Geometry, Interpolation

INTERPOLATIONS = get_args(Interpolation)


def make_numbered(width: int, height: int) -> Pixels:
    """Make pixels that say where they are: row, column, and a third value for large photos."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [rows % 256, columns % 256, rows // 256 + 16 * (columns // 256)], axis=-1
    ).astype(np.uint8)


def make_ramp(width: int, height: int) -> Pixels:
    """Make a smooth photo."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 41), np.cos(columns / 53), np.sin((rows + columns) / 67)]
    return np.round(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)


def test_geometry_is_vggs_own_unless_told() -> None:
    assert Geometry() == Geometry(224, "crop", "bilinear")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"size": 0}, "size is 0; it must be at least 1"),
        ({"size": -224}, "size is -224; it must be at least 1"),
        ({"fit": "pad"}, "fit is 'pad'; it must be one of crop, stretch"),
        (
            {"interpolation": "cubic"},
            "interpolation is 'cubic'; it must be one of bilinear, nearest, bicubic, lanczos",
        ),
    ],
)
def test_geometry_refuses_unknown_values(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole text is compared
        Geometry(**wrong)
    assert str(caught.value) == text


@pytest.fixture(scope="module")
def load_img() -> Callable[..., Image.Image]:
    """Keras's own loader; it stretches."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    loader: Callable[..., Image.Image] = keras.utils.load_img
    return loader


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "rgb"])
def test_stretch_is_what_keras_loads(
    load_img: Callable[..., Image.Image],
    tmp_path: Path,
    *,
    kind: str,
    channels: int,
    interpolation: Interpolation,
) -> None:
    for width, height in (60, 40), (40, 60), (97, 31), (32, 32), (300, 5), (7, 9):
        path = tmp_path / f"{width}.{kind.lower()}"
        path.write_bytes(make_bytes(make_noise(width, height, channels), kind))
        expected = load_img(path, target_size=(32, 32), interpolation=interpolation)
        np.testing.assert_array_equal(decode(path, 32, interpolation), np.asarray(expected))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_crop_cuts_the_centre_pixel_for_pixel(tmp_path: Path, interpolation: Interpolation) -> None:
    """With the shorter side 256 nothing is resized."""
    path = tmp_path / "photo.png"
    for width, height, rows, columns in (
        (256, 256, slice(16, 240), slice(16, 240)),
        (512, 256, slice(16, 240), slice(144, 368)),
        (256, 400, slice(88, 312), slice(16, 240)),
    ):
        pixels = make_numbered(width, height)
        Image.fromarray(pixels).save(path)
        np.testing.assert_array_equal(
            decode(path, 224, interpolation, "crop"), pixels[rows, columns]
        )


def test_crop_cuts_a_sixteenth_of_the_shorter_side_and_keeps_the_rest(tmp_path: Path) -> None:
    """On a photo of 96 x 64, 4 pixels above and below, 20 to the left and right."""
    pixels = np.full((64, 96, 3), (255, 0, 0), np.uint8)  # what is cut: red
    pixels[4:60, 20:76] = 0, 0, 255  # the rim of what is kept: blue
    pixels[5:59, 21:75] = 0, 255, 0  # inside: green
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    cut = decode(path, 56, "nearest", "crop")
    inside = np.zeros((56, 56), bool)
    inside[1:-1, 1:-1] = True
    np.testing.assert_array_equal(cut[inside], np.broadcast_to((0, 255, 0), (54 * 54, 3)))
    np.testing.assert_array_equal(
        cut[~inside], np.broadcast_to((0, 0, 255), (56 * 56 - 54 * 54, 3))
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    ("width", "height", "size", "resized"),
    [(600, 400, 224, (384, 256)), (400, 600, 112, (128, 192)), (96, 64, 224, (384, 256))],
)
def test_crop_is_resize_then_cut(
    tmp_path: Path,
    interpolation: Interpolation,
    *,
    width: int,
    height: int,
    size: int,
    resized: tuple[int, int],
) -> None:
    """The other way to VGG's geometry: resize the shorter side to 256, then cut the central 224.

    The two may differ by one level, from rounding: Pillow's weights are the same, but start at
    another corner.
    """
    path = tmp_path / "photo.png"
    image = Image.fromarray(make_ramp(width, height))
    image.save(path)
    whole = np.asarray(image.resize(resized, Image.Resampling[interpolation.upper()]), int)
    top, left = (resized[1] - size) // 2, (resized[0] - size) // 2
    expected = whole[top : top + size, left : left + size]
    assert np.abs(decode(path, size, interpolation, "crop") - expected).max() <= 1


@pytest.mark.parametrize(
    ("size", "reduction"),
    [(96, 1), (48, 2), (32, 4), (12, 8)],  # 7/8 of 768 pixels are 7, 14, 21 and 56 times as many
)
def test_a_jpeg_that_is_far_too_large_is_decoded_smaller(
    size: int, reduction: int, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    clouds = Image.fromarray(make_noise(16, 12)).resize((1024, 768), Image.Resampling.BICUBIC)
    clouds.save(path, quality=95)
    loaded = load_photo(path, Geometry(size, "crop", "bilinear"))
    assert loaded.size == (1024 // reduction, 768 // reduction)
    with Image.open(path) as whole:
        expected = whole.resize((size, size), Image.Resampling.BILINEAR, box=(176, 48, 848, 720))
    difference = decode(path, size, "bilinear", "crop").astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= (0 if reduction == 1 else 3)
    assert abs(difference.mean()) < 0.2


def test_nearest_takes_the_pixels_of_the_whole_photo(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(make_noise(512, 512)).save(path, quality=95)
    with Image.open(path) as whole:
        pixels = np.asarray(whole)
    np.testing.assert_array_equal(decode(path, 32, "nearest"), pixels[8::16, 8::16])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fit", get_args(Fit))
@pytest.mark.parametrize("shape", [(1, 1), (2000, 2), (2, 2000), (1, 300)])
def test_the_oddest_shapes_decode(
    tmp_path: Path, *, shape: tuple[int, int], fit: Fit, interpolation: Interpolation
) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", shape, (10, 20, 30)).save(path)
    pixels = decode(path, 9, interpolation, fit)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.broadcast_to((10, 20, 30), (9, 9, 3)))


def test_real_coco_photos_decode_as_in_keras(
    load_img: Callable[..., Image.Image], coco_photos: Path
) -> None:
    photos = find_photos(coco_photos)
    assert len(photos.names) == 100
    for name in photos.names:
        path = coco_photos / name
        expected = load_img(path, target_size=(128, 128), interpolation="bilinear")
        np.testing.assert_array_equal(decode(path, 128, "bilinear"), np.asarray(expected))
