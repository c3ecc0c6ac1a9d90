"""vggnorm.images and vggnorm.geometry: pixels worked by hand, Pillow's and Keras's own loaders as outside authority."""

import hashlib
import io
import json
import os
import random
import shutil
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from vggnorm import images
from vggnorm.budget import PixelBudget
from vggnorm.errors import PhotoError
from vggnorm.geometry import Fit, Geometry, Interpolation
from vggnorm.images import (
    NOTHING_TAKEN,
    Decoded,
    PhotoList,
    PhotoReader,
    Taken,
    decode_photo,
    find_photos,
    names_sha256,
    sum_sha256,
)
from vggnorm.means import SkippedPhoto

Pixels = NDArray[np.uint8]

SHARED = Path(__file__).parents[2] / "shared"
INTERPOLATIONS = get_args(Interpolation)
WHITE = 255, 255, 255

# Pillow says what is odd about a file, and pytest makes an error of it, inside the decoding.
says_what_is_odd = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")


def make_noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Pixels:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_numbered(width: int, height: int) -> Pixels:
    """Every pixel tells its own place: row, column, and a third value."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 256, columns % 256, rows // 256 + 16 * (columns // 256)], axis=-1).astype(np.uint8)


def make_ramp(width: int, height: int) -> Pixels:
    """A smooth photo."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 41), np.cos(columns / 53), np.sin((rows + columns) / 67)]
    return np.round(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)


def make_bytes(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def make_png(width: int, height: int, depth: int, colour: int, rows: bytes = b"", transparent: bytes = b"") -> bytes:
    """Write PNG by its specification: what Pillow cannot write, or would not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
        if content or kind == b"IEND"
    )


def decode(path: Path, size: int, interpolation: Interpolation = "nearest", fit: Fit = "stretch") -> Pixels:
    return decode_photo(path, Geometry(size, fit, interpolation))


def decode_bytes(folder: Path, content: bytes, size: int, name: str = "photo.jpg") -> Pixels:
    """Decode without resizing, if `size` is the side of a square photo."""
    path = folder / name
    path.write_bytes(content)
    return decode(path, size)


def error_of(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(PhotoError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def reason(folder: Path, content: bytes) -> str:
    """Why a file with this content is refused."""
    return error_of(decode_bytes, folder, content, 4)


# --- Finding photos ---


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def link(target: Path, place: Path) -> None:
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


def test_one_folder_is_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg", "C.jpg", "10.jpg", "9.jpg")
    photos = find_photos(tmp_path)
    assert photos == PhotoList(tmp_path, ("10.jpg", "9.jpg", "C.jpg", "a.jpg", "b.jpg"))
    assert find_photos(str(tmp_path)) == photos


def test_a_coco_root_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "val2017/2.jpg", "train2017/3.jpg", "val2017/1.jpg", "annotations/instances_val2017.json")
    assert find_photos(tmp_path).names == ("train2017/3.jpg", "val2017/1.jpg", "val2017/2.jpg")
    assert find_photos(tmp_path / "val2017").names == ("1.jpg", "2.jpg")


def test_a_tree_is_sorted_by_whole_names(tmp_path: Path) -> None:
    touch(tmp_path, "z.jpg", "a/b/c/deep.png", "a/b.jpg", "a.jpg", "a-b/x.jpg")
    assert find_photos(tmp_path).names == ("a-b/x.jpg", "a.jpg", "a/b.jpg", "a/b/c/deep.png", "z.jpg")


def test_any_case_of_the_extensions_is_taken(tmp_path: Path) -> None:
    names = "a.JPG", "b.Jpeg", "c.PNG", "d.webp", "e.bmp", "f.tif", "g.TIFF", "h.gif", "i.jpe", "j.x.jpg"
    touch(tmp_path, *names)
    assert find_photos(tmp_path).names == names


def test_what_is_hidden_or_no_image_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".hidden/c.jpg", "sub/.hidden/d.jpg", "sub/._e.jpg", "f.jpg.txt", "g.json")
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


def test_no_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for path in tmp_path / "missing", tmp_path / "a.jpg":
        assert error_of(find_photos, path) == f"{path}: is no folder; give a folder of photos"


@pytest.mark.parametrize("names", [(), ("a.txt", "sub/b.mp4", ".c.jpg")])
def test_a_folder_without_images_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    extensions = ".bmp .gif .jpe .jpeg .jpg .png .tif .tiff .webp"
    expected = f"{tmp_path}: holds no images ({extensions}); give a folder of photos"
    error, _, left_out = error_of(find_photos, tmp_path).partition("; left out ")
    assert error == expected
    assert left_out == (f"2 files in {tmp_path}, not named as images: 1 .txt, 1 .mp4" if names else "")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    locked, scandir = str(tmp_path / "locked"), os.scandir

    def refuse(path: str) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert error_of(find_photos, tmp_path) == f"{locked}: cannot be listed: Permission denied"


# --- Choosing photos by annotations ---


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A cat on 1, a dog on 2 and 3, nothing on 4; one of the names is a path from the COCO root."""
    path = tmp_path / "instances.json"
    files = {1: "1.jpg", 2: "2.jpg", 3: "val2017/3.jpg", 4: "4.jpg"}
    listing = {
        "images": [{"id": number, "file_name": name} for number, name in files.items()],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 17},
            {"id": 2, "image_id": 2, "category_id": 18},
            {"id": 3, "image_id": 3, "category_id": 18},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    path.write_text(json.dumps(listing))
    return path


def test_annotations_choose_and_what_is_missing_is_told(annotations: Path, tmp_path: Path) -> None:
    coco = tmp_path / "coco"
    touch(coco, "val2017/3.jpg", "val2017/1.jpg", "val2017/5.jpg")
    photos = find_photos(coco, annotations=annotations)
    assert photos.names == ("val2017/1.jpg", "val2017/3.jpg")
    assert (photos.annotations, photos.categories, photos.missing) == (annotations, (), 2)
    dogs = find_photos(coco / "val2017", annotations=str(annotations), categories=["dog"])
    assert dogs == PhotoList(coco / "val2017", ("3.jpg",), annotations, ("dog",), 1)


def test_the_whole_path_decides_which_photo_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg", "photos/c/2.jpg")
    listing = tmp_path / "listing.json"

    def listed(*names: str) -> PhotoList:
        listing.write_text(json.dumps({"images": [{"id": name, "file_name": name} for name in names]}))
        return find_photos(tmp_path / "photos", annotations=listing)

    assert listed("a/1.jpg").names == ("a/1.jpg",)
    assert listed("elsewhere/2.jpg").names == ("c/2.jpg",)
    with pytest.raises(PhotoError, match=r"1\.jpg may be a/1\.jpg or b/1\.jpg; give one folder"):
        listed("1.jpg")


def test_annotations_that_match_nothing_are_refused(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "coco/other.jpg")
    folder = tmp_path / "coco"
    expected = f"{folder}: holds none of the 4 photos listed in {annotations}; do they match?"
    assert error_of(find_photos, folder, annotations=annotations) == expected


def test_categories_need_annotations(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    expected = "categories are known from an annotation file only; give that with --annotations"
    assert error_of(find_photos, tmp_path, categories=["cat"]) == expected
    error = error_of(find_photos, tmp_path, annotations=annotations, categories=["cow"])
    assert error == f"{annotations}: has no category 'cow'; there are cat, dog"


# --- The order of photos, and what identifies them ---


def make_list(count: int) -> PhotoList:
    return PhotoList(Path("photos"), tuple(f"{number:02}.png" for number in range(count)))


def test_shuffled_is_a_permutation_by_seed() -> None:
    photos = PhotoList(Path("photos"), make_list(40).names, missing=3)
    shuffled = photos.shuffled(3)
    assert sorted(shuffled.names) == list(photos.names)
    assert shuffled.names != photos.names
    assert (shuffled.folder, shuffled.missing) == (photos.folder, 3)
    assert photos.shuffled(3) == shuffled
    assert len({photos.shuffled(seed).names for seed in range(50)}) == 50
    assert photos == PhotoList(Path("photos"), make_list(40).names, missing=3)


def test_shuffled_neither_reads_nor_moves_the_global_random_state() -> None:
    random.seed(1)
    state = random.getstate()
    expected = make_list(40).shuffled(0)
    assert random.getstate() == state
    random.seed(2)
    assert make_list(40).shuffled(0) == expected


def test_the_first_of_shuffled_are_a_fair_sample() -> None:
    """Each of 10 photos is among the first 5 in half of 1000 orders: 500, give or take five deviations of 16."""
    often = dict.fromkeys(make_list(10).names, 0)
    for seed in range(1000):
        for name in make_list(10).shuffled(seed).names[:5]:
            often[name] += 1
    assert min(often.values()) > 420
    assert max(often.values()) < 580


def test_photos_are_identified_by_name_and_pixels_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    names = ["a.png", "sub/é.png"]
    red.save(tmp_path / names[0])
    blue.save(tmp_path / names[1])

    def sha256(*taken: str) -> str:
        *_, last = PhotoReader(PhotoList(tmp_path, taken), Geometry(2)).batches(1)
        return last.taken.photos_sha256

    contents = b"a.png\0" + b"\xff\0\0" * 4, b"sub/\xc3\xa9.png\0" + b"\0\0\xff" * 4
    expected = sum(int(hashlib.sha256(content).hexdigest(), 16) for content in contents) % 2**256
    assert sha256(*names) == f"{expected:064x}"
    assert sha256(*reversed(names)) == sha256(*names)
    assert sha256("a.png") != sha256(*names)
    assert sum_sha256(map(sha256, names)) == sha256(*names)  # parts add up
    before = sha256(*names)
    blue.save(tmp_path / "a.png")
    assert sha256(*names) != before


def test_sums_of_digests_worked_by_hand() -> None:
    assert sum_sha256([]) == "0" * 64
    assert sum_sha256(["f" * 64, bytes(31) + b"\x12"]) == "0" * 62 + "11"  # 2**256 - 1 + 18


def test_a_list_is_identified_by_names_and_sizes(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png").write_bytes(b"12345")
    photos = find_photos(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert photos.sha256() == hashlib.sha256("\0".join(["a.png", "0", "b.png", "5", ""]).encode()).hexdigest()
    (tmp_path / "a.png").write_bytes(b"1")
    changed = find_photos(tmp_path).sha256()
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    nowhere = find_photos(tmp_path).sha256()
    (tmp_path / "a.png").unlink()
    assert len({photos.sha256(), changed, nowhere, find_photos(tmp_path).sha256()}) == 4


def test_shards_are_disjoint_and_together_all() -> None:
    photos = make_list(40).shuffled(3)
    for count in 1, 7, 40:
        parts = [photos.shard(number, count).names for number in range(1, count + 1)]
        assert sorted(name for part in parts for name in part) == sorted(photos.names)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for number, part in enumerate(parts):
            assert part == tuple(photos.names[index] for index in range(number, 40, count))


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_shards_that_there_are_not_are_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"shard is {shard[0]}/{shard[1]}; it must be one of"):
        make_list(9).shard(*shard)


def test_more_shards_than_photos_are_refused() -> None:
    with pytest.raises(PhotoError, match="photos: holds 9 photos; make no more parts of them than that"):
        make_list(9).shard(1, 10)


def test_a_photo_that_vanishes_after_it_was_read_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_bytes(make_noise(9, 7), "PNG"))
    reader = PhotoReader(PhotoList(tmp_path, ("a.png",)), Geometry(8))
    (batch,) = reader.batches(1)
    (tmp_path / "a.png").unlink()
    assert batch.pixels.shape == (1, 8, 8, 3)
    assert (batch.taken.used, batch.taken.skipped) == (1, ())


# --- Geometry ---


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
def test_geometry_refuses_what_is_not_there(wrong: dict[str, Any], text: str) -> None:
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
    load_img: Callable[..., Image.Image], tmp_path: Path, *, kind: str, channels: int, interpolation: Interpolation
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
        np.testing.assert_array_equal(decode(path, 224, interpolation, "crop"), pixels[rows, columns])


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
    np.testing.assert_array_equal(cut[~inside], np.broadcast_to((0, 0, 255), (56 * 56 - 54 * 54, 3)))


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
    """The other way to VGG's geometry: the whole photo to a shorter side of 256, then its centre, 224 wide.

    One level of difference is allowed for rounding: Pillow's weights are the same, but placed from another corner.
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
def test_a_jpeg_that_is_far_too_large_is_decoded_smaller(size: int, reduction: int, tmp_path: Path) -> None:
    clouds = Image.fromarray(make_noise(16, 12)).resize((1024, 768), Image.Resampling.BICUBIC)
    clouds.save(tmp_path / "photo.jpg", quality=95)
    geometry = Geometry(size, "crop", "bilinear")
    loaded = images.load_photo(tmp_path / "photo.jpg", geometry)
    assert loaded.size == (1024 // reduction, 768 // reduction)
    with Image.open(tmp_path / "photo.jpg") as whole:
        expected = whole.resize((size, size), Image.Resampling.BILINEAR, box=(176, 48, 848, 720))
    difference = decode(tmp_path / "photo.jpg", size, "bilinear", "crop").astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= (0 if reduction == 1 else 3)
    assert abs(difference.mean()) < 0.2


def test_nearest_takes_the_pixels_of_the_whole_photo(tmp_path: Path) -> None:
    make_jpeg = Image.fromarray(make_noise(512, 512)).save
    make_jpeg(tmp_path / "photo.jpg", quality=95)
    with Image.open(tmp_path / "photo.jpg") as whole:
        pixels = np.asarray(whole)
    np.testing.assert_array_equal(decode(tmp_path / "photo.jpg", 32, "nearest"), pixels[8::16, 8::16])


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


# --- Colours ---


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = np.array([[0, 1], [128, 255]], np.uint8)
    expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(decode_bytes(tmp_path, make_bytes(grey, "PNG"), 2), expected)
    bits = Image.fromarray(grey).point(lambda value: value, "1")
    np.testing.assert_array_equal(
        decode_bytes(tmp_path, make_bytes(bits, "PNG"), 2), [[[0] * 3, WHITE], [WHITE, WHITE]]
    )


CMYK = [(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 102), (51, 0, 0, 0)]
CMYK_AS_RGB = [WHITE, (255, 0, 0), (0, 255, 255), (0, 0, 0), (153, 153, 153), (204, 255, 255)]


@pytest.mark.parametrize(("kind", "tolerance"), [("TIFF", 0), ("JPEG", 2)])
def test_cmyk_becomes_rgb(tmp_path: Path, kind: str, tolerance: int) -> None:
    """Without profiles, ink takes light away: R = (255 - C)(255 - K)/255."""
    for ink, expected in zip(CMYK, CMYK_AS_RGB, strict=True):
        pixels = decode_bytes(tmp_path, make_bytes(Image.new("CMYK", (8, 8), ink), kind), 8)
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_rgb(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 250, 0, 7, 0, 99, 0] + [0] * 759)
    expected = [[(1, 2, 3), (250, 0, 7)], [(0, 99, 0), (250, 0, 7)]]
    np.testing.assert_array_equal(decode_bytes(tmp_path, make_bytes(image, kind), 2), expected)


def test_a_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 250, 0, 7, 0, 99, 0])
    for kind in "PNG", "GIF":
        pixels = decode_bytes(tmp_path, make_bytes(image, kind, transparency=1), 2)
        np.testing.assert_array_equal(pixels, [[(1, 2, 3), WHITE], [(0, 99, 0), WHITE]])
    # Half transparent, black on white: 255 (1 - 153/255) = 102.
    image.putpalette([0] * 9)
    pixels = decode_bytes(tmp_path, make_bytes(image, "PNG", transparency=bytes([255, 0, 153])), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 255], [102, 255]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_put_on_white(tmp_path: Path, kind: str) -> None:
    """That is, colour a/255 + 255 (1 - a/255), with a of 51, a fifth, and 204, four fifths."""
    rgba = np.array([[(0, 100, 255, 51), (0, 100, 255, 204)], [(9, 9, 9, 0), (9, 8, 7, 255)]], np.uint8)
    expected = [[(204, 224, 255), (51, 131, 255)], [WHITE, (9, 8, 7)]]
    np.testing.assert_array_equal(decode_bytes(tmp_path, make_bytes(rgba, kind), 2), expected)
    grey = Image.fromarray(np.ascontiguousarray(rgba[..., [1, 3]]), "LA")
    expected = [[(224,) * 3, (131,) * 3], [WHITE, (8,) * 3]]
    np.testing.assert_array_equal(decode_bytes(tmp_path, make_bytes(grey, kind), 2), expected)


def test_a_transparent_colour_becomes_white(tmp_path: Path) -> None:
    rgb = np.array([[(1, 2, 3), (1, 2, 4)], [(0, 0, 0), (1, 2, 3)]], np.uint8)
    pixels = decode_bytes(tmp_path, make_bytes(rgb, "PNG", transparency=(1, 2, 3)), 2)
    np.testing.assert_array_equal(pixels, [[WHITE, (1, 2, 4)], [(0, 0, 0), WHITE]])
    pixels = decode_bytes(tmp_path, make_bytes(rgb[..., 2].copy(), "PNG", transparency=4), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[3, 255], [0, 3]])


# 16 bits and what they are in 8: 65535 = 257 * 255, and 128/257 is just below a half.
DEEP = np.array([[0, 65535, 257], [514, 257 * 100, 128], [129, 257 * 254, 65535 - 128]], np.uint16)
SHALLOW = [[0, 255, 1], [2, 100, 0], [1, 254, 255]]


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    little = Image.frombytes("I;16", (3, 3), DEEP.astype("<u2").tobytes())
    big = Image.frombytes("I;16B", (3, 3), DEEP.astype(">u2").tobytes())
    for content in make_bytes(little, "PNG"), make_bytes(little, "TIFF"), make_bytes(big, "TIFF"):
        pixels = decode_bytes(tmp_path, content, 3)
        np.testing.assert_array_equal(pixels, np.stack([SHALLOW] * 3, axis=-1))


def test_16_bits_a_channel_are_scaled(tmp_path: Path) -> None:
    values = [0, 255, 1, 2, 100, 254]
    row = b"\0" + struct.pack(">6H", *[257 * value for value in values])
    pixels = decode_bytes(tmp_path, make_png(2, 2, 16, 2, row * 2), 2)
    np.testing.assert_array_equal(pixels, [[values[:3], values[3:]]] * 2)


def test_a_transparent_16_bit_grey_becomes_white(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">2H", 257 * 7, 257 * 9)
    pixels = decode_bytes(tmp_path, make_png(2, 2, 16, 0, row * 2, transparent=struct.pack(">H", 257 * 9)), 2)
    np.testing.assert_array_equal(pixels[..., 0], [[7, 255]] * 2)


def test_32_bits_are_refused(tmp_path: Path) -> None:
    for values in np.ones((4, 4), np.int32), np.ones((4, 4), np.float32):
        expected = "has 32 bits a channel, of which nobody knows what is white; convert it to 8 or 16"
        assert reason(tmp_path, make_bytes(Image.fromarray(values), "TIFF")) == expected


# --- Orientation ---

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
def test_every_orientation_is_made_upright(tmp_path: Path, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation])
    tag = Image.Exif()
    tag[0x112] = orientation
    for content in (
        make_bytes(stored, "PNG", exif=tag),
        make_bytes(stored, "TIFF", exif=tag),
        make_bytes(stored, "WEBP", exif=tag, lossless=True),
    ):
        np.testing.assert_array_equal(decode_bytes(tmp_path, content, 12), stretch(UPRIGHT, 12))
    # In JPEG's own blocks of 8 x 8, flat ones: what is lost is rounding alone.
    jpeg = make_bytes(enlarge(stored, 8), "JPEG", exif=tag, quality=100, subsampling=0)
    pixels = decode_bytes(tmp_path, jpeg, 96).astype(int)
    assert np.abs(pixels - stretch(enlarge(UPRIGHT, 8), 96)).max() <= 3


def test_16_bits_are_made_upright(tmp_path: Path) -> None:
    image = Image.frombytes("I;16", (3, 3), DEEP[:, ::-1].astype("<u2").tobytes())
    pixels = decode_bytes(tmp_path, make_bytes(image, "PNG", exif=make_exif(2)), 3)
    np.testing.assert_array_equal(pixels[..., 0], SHALLOW)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path: Path, orientation: int) -> None:
    pixels = decode_bytes(tmp_path, make_bytes(UPRIGHT, "PNG", exif=make_exif(orientation)), 12)
    np.testing.assert_array_equal(pixels, stretch(UPRIGHT, 12))


@says_what_is_odd
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
def test_damaged_exif_does_not_lose_the_photo(tmp_path: Path, exif: bytes) -> None:
    for content in make_bytes(UPRIGHT, "PNG", exif=exif), make_bytes(UPRIGHT, "WEBP", exif=exif, lossless=True):
        np.testing.assert_array_equal(decode_bytes(tmp_path, content, 12), stretch(UPRIGHT, 12))


@says_what_is_odd
@pytest.mark.parametrize(
    "entry",
    [(0x11A, 2, 4, 0x313233), (0x8769, 9, 1, 0xFFFFFFFF), (0x11A, 5, 1, 9999)],
    ids=["resolution in words", "negative place", "resolution outside"],
)
def test_an_orientation_among_damaged_exif_is_obeyed(tmp_path: Path, entry: tuple[int, int, int, int]) -> None:
    content = make_bytes(np.ascontiguousarray(STORED[6]), "PNG", exif=make_exif(6, entry))
    np.testing.assert_array_equal(decode_bytes(tmp_path, content, 12), stretch(UPRIGHT, 12))


# --- Animations, and what is not what it is called ---


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_is_taken(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    content = make_bytes(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 3
    pixels = decode_bytes(tmp_path, content, 16).astype(int)
    assert np.abs(pixels - (255, 0, 0)).max() <= 2  # WebP and MPO lose a little


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    pixels = make_noise(5, 5)
    for kind in "PNG", "BMP", "TIFF":
        np.testing.assert_array_equal(decode_bytes(tmp_path, make_bytes(pixels, kind), 5), pixels)
    assert reason(tmp_path, b"This is the caption of a photo.\n") == "is no image, or a damaged one"


def test_other_formats_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript would start an interpreter."""

    def interpret(*_arguments: object, **_options: object) -> None:
        pytest.fail("the file was interpreted")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", interpret)
    eps = make_bytes(make_noise(8, 8), "EPS")
    with Image.open(io.BytesIO(eps)) as image:
        assert image.format == "EPS"
    assert reason(tmp_path, eps) == "is no image, or a damaged one"
    assert reason(tmp_path, make_bytes(make_noise(8, 8), "PPM")) == "is no image, or a damaged one"


# --- What cannot be used ---


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_cut_photo_is_refused(tmp_path: Path, kind: str) -> None:
    content = make_bytes(make_noise(64, 64), kind)
    assert decode_bytes(tmp_path, content, 64).shape == (64, 64, 3)
    for share in 0.5, 0.9:
        error = reason(tmp_path, content[: int(share * len(content))])
        assert error.startswith(("cannot be decoded: ", "is no image, or a damaged one"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert reason(tmp_path, b"") == "is empty"


def test_a_vanished_photo_is_refused(tmp_path: Path) -> None:
    assert error_of(decode, tmp_path / "gone.jpg", 4) == "cannot be read: No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert error_of(decode, tmp_path, 4) == "is no regular file"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert error_of(decode, path, 4) == "is no regular file"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_only_looks_like_a_photo_is_counted_and_told(tmp_path: Path) -> None:
    """A socket, a link in a circle, a link to nothing, a name that is no UTF-8, a name with a line break."""
    make_photos(tmp_path, 1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "absent")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in b"\xff.jpg", b"line\nbreak.jpg":
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"no photo")
    reader = PhotoReader(find_photos(tmp_path), Geometry(4))
    batches = list(reader.batches(8))
    assert [len(batch.pixels) for batch in batches] == [1]
    assert {photo.photo: photo.reason for photo in batches[-1].taken.skipped} == {
        "circle.jpg": "cannot be read: Too many levels of symbolic links",
        "device.jpg": "is no regular file",
        "line\nbreak.jpg": "is no image, or a damaged one",
        "nothing.jpg": "cannot be read: No such file or directory",
        "socket.jpg": "is no regular file",
        "\udcff.jpg": "is no image, or a damaged one",
    }


def test_a_strip_of_a_photo_is_decoded(tmp_path: Path) -> None:
    assert (
        decode_bytes(tmp_path, make_bytes(np.full((20, 20_000, 3), 200, np.uint8), "PNG"), 8).tolist()
        == [[[200] * 3] * 8] * 8
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_a_small_file_of_many_pixels_is_refused(kind: str, tmp_path: Path) -> None:
    side = 16_000 if kind == "WEBP" else 20_000  # more, WebP cannot
    content = bytearray(make_bytes(Image.new("L" if kind != "WEBP" else "RGB", (8, 8)), kind))
    if kind == "PNG":
        content = bytearray(make_png(side, side, 8, 0))
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", side, side)
    elif kind == "TIFF":
        content = bytearray(content.replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, side)))
        content = bytearray(content.replace(struct.pack("<HHII", 257, 4, 1, 8), struct.pack("<HHII", 257, 4, 1, side)))
    else:
        place = content.index(b"\x9d\x01\x2a") + 3
        content[place : place + 4] = struct.pack("<HH", side, side)
    assert reason(tmp_path, bytes(content)).startswith("is too large: ")


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_bytes(make_noise(40, 30), "PNG")
    monkeypatch.setattr(images, "MAX_PIXELS", 1200)
    decode_bytes(tmp_path, content, 4)
    monkeypatch.setattr(images, "MAX_PIXELS", 1199)
    assert reason(tmp_path, content) == "is too large: 40 x 30 pixels, of at most 1,199"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    """There are no pixels, so the size is what is refused."""
    assert reason(tmp_path, make_png(10_001, 10_000, 8, 2)) == (
        "is too large: 10001 x 10000 pixels, of at most 100,000,000"
    )
    # Even more than that Pillow itself refuses.
    assert reason(tmp_path, make_png(60_000, 60_000, 8, 2)).startswith("is too large: ")
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    bmp = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
    assert reason(tmp_path, bmp).startswith("is too large: ")


# --- Reading in batches ---


def make_photos(folder: Path, count: int, damaged: tuple[int, ...] = ()) -> PhotoList:
    """Photos of 2 x 2 pixels, each in the grey of its number."""
    photos = make_list(count)
    for number, name in enumerate(photos.names):
        content = b"" if number in damaged else make_bytes(np.full((2, 2), number, np.uint8), "PNG")
        (folder / name).write_bytes(content)
    return PhotoList(folder, photos.names)


def read(reader: PhotoReader, batch_size: int, after: Taken = NOTHING_TAKEN) -> tuple[list[list[int]], Taken]:
    """Give the numbers of the photos in each batch, and what was taken in the end."""
    batches, taken = [], after
    for batch in reader.batches(batch_size, after):
        assert batch.pixels.dtype == np.uint8
        assert batch.pixels.shape[1:] == (2, 2, 3)
        assert (batch.pixels == batch.pixels[:, :1, :1, :1]).all()
        taken = batch.taken
        assert taken.used == after.used + sum(map(len, batches)) + len(batch.pixels)
        batches.append(batch.pixels[:, 0, 0, 0].tolist())
        assert batch.positions.tolist() == batches[-1]  # photos are numbered as they are listed
    return batches, taken


def flatten(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def as_names(numbers: list[int]) -> list[str]:
    return [f"{number:02}.png" for number in numbers]


SMALL = Geometry(2, "stretch", "nearest")


@pytest.mark.parametrize(("batch_size", "lengths"), [(1, [1] * 33), (7, [7, 7, 7, 7, 5]), (32, [32, 1]), (33, [33])])
def test_every_photo_comes_once_and_in_order(tmp_path: Path, batch_size: int, lengths: list[int]) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches, taken = read(reader, batch_size)
    assert [len(batch) for batch in batches] == lengths
    assert flatten(batches) == list(range(33))
    assert (taken.used, taken.skipped, taken.count, reader.total(taken)) == (33, (), 33, 33)
    assert taken.names_sha256 == names_sha256(as_names(list(range(33))))


def test_the_order_is_kept_when_photos_take_unequal_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[int] = []
    second_is_done = threading.Event()
    decode = images._decode_within

    def finish_second_first(budget: PixelBudget, path: Path, geometry: Geometry) -> Decoded:
        number = int(path.stem)
        if number == 0:
            assert second_is_done.wait(60)
        decoded = decode(budget, path, geometry)
        finished.append(number)
        if number == 1:
            second_is_done.set()
        return decoded

    monkeypatch.setattr(images, "_decode_within", finish_second_first)
    photos = make_photos(tmp_path, 16)
    assert flatten(read(PhotoReader(photos, SMALL, threads=4), 3)[0]) == list(range(16))
    assert finished.index(1) < finished.index(0)


def test_what_cannot_be_used_is_skipped_and_told(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 9, damaged=(0, 4, 5))
    (tmp_path / "08.png").write_bytes(b"text")
    reader = PhotoReader(photos, SMALL)
    assert reader.total(NOTHING_TAKEN) == 9
    batches, taken = read(reader, 2)
    assert batches == [[1, 2], [3, 6], [7]]
    assert taken.names_sha256 == names_sha256(as_names(list(range(9))))
    assert list(taken.skipped) == [
        SkippedPhoto("00.png", "is empty"),
        SkippedPhoto("04.png", "is empty"),
        SkippedPhoto("05.png", "is empty"),
        SkippedPhoto("08.png", "is no image, or a damaged one"),
    ]
    assert (taken.used, taken.count, reader.total(taken)) == (5, 9, 9)


def test_nothing_usable_gives_an_empty_batch(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 3, damaged=(0, 1, 2)), SMALL)
    batches, taken = read(reader, 2)
    assert batches == [[]]
    assert (taken.used, taken.count, reader.total(taken)) == (0, 3, 3)


def test_the_last_photos_are_told_even_if_none_of_them_can_be_used(tmp_path: Path) -> None:
    batches, taken = read(PhotoReader(make_photos(tmp_path, 6, damaged=(4, 5)), SMALL), 2)
    assert batches == [[0, 1], [2, 3], []]
    assert [photo.photo for photo in taken.skipped] == as_names([4, 5])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("limit", [None, 1, 6, 7])
def test_reading_goes_on_after_any_batch_as_if_it_had_not_stopped(
    tmp_path: Path, batch_size: int, limit: int | None
) -> None:
    reader = PhotoReader(make_photos(tmp_path, 12, damaged=(0, 4, 5, 11)), SMALL, limit=limit)
    whole, end = read(reader, batch_size)
    middles = [batch.taken for batch in reader.batches(batch_size)]
    for number, middle in enumerate(middles, 1):
        assert read(reader, batch_size, middle) == (whole[number:], end)


def test_a_folder_that_goes_away_is_an_error_and_not_many_photos_skipped(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for comes_back in False, True:
        folder.mkdir()
        reader = PhotoReader(make_photos(folder, 33), SMALL)
        batches = reader.batches(2)
        assert len(next(batches).pixels) == 2
        folder.rename(elsewhere)
        if comes_back:  # as an unmounted disk leaves an empty folder behind
            folder.mkdir()
        with pytest.raises(PhotoError, match="photos: is no longer the folder that it was; is its disk still there?"):
            list(batches)
        shutil.rmtree(elsewhere)
    assert decoding_threads() == []


def test_a_photo_that_vanishes_before_it_is_read_ends_the_run(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches = reader.batches(2)
    next(batches)
    (tmp_path / "30.png").unlink()
    with pytest.raises(PhotoError, match=r"30\.png: is gone since the photos were listed; put it back as it was"):
        list(batches)


def test_a_photo_that_changes_before_it_is_read_ends_the_run(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 33), SMALL)
    batches = reader.batches(2)
    next(batches)
    (tmp_path / "30.png").write_bytes(make_bytes(make_noise(9, 8), "PNG"))
    with pytest.raises(PhotoError, match=r"30\.png: has changed since the photos were listed"):
        list(batches)


@pytest.mark.parametrize("kind", ["lossy", "lossless", "transparent"])
def test_the_size_of_a_webp_is_read_from_its_header(kind: str, tmp_path: Path) -> None:
    photo = Image.new("RGBA" if kind == "transparent" else "RGB", (301, 78), (9, 8, 7))
    photo.putpixel((0, 0), (1, 2, 3))
    photo.save(tmp_path / "photo.webp", lossless=kind == "lossless")
    assert images.webp_size(tmp_path / "photo.webp") == (301, 78)


def test_a_webp_that_is_too_large_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (12_000, 12_000)).save(tmp_path / "photo.webp", lossless=True, method=0, quality=0)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(PhotoError, match="is too large: 12000 x 12000 pixels"):
        decode_photo(tmp_path / "photo.webp", SMALL)


def test_a_photo_of_the_same_size_that_is_replaced_before_the_run_ends_it(tmp_path: Path) -> None:
    make_photos(tmp_path, 3)
    photos = find_photos(tmp_path)
    path = tmp_path / photos.names[1]
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(PhotoError, match="has changed since the photos were listed"):
        list(PhotoReader(photos, SMALL).batches(8))


def test_a_progressive_jpeg_is_held_whole(tmp_path: Path) -> None:
    held: list[int] = []
    for name, progressive in (("a.jpg", False), ("b.jpg", True)):
        Image.new("RGB", (800, 600)).save(tmp_path / name, progressive=progressive)
        images._decode(tmp_path / name, Geometry(8), held.append)
    assert held == [100 * 75, 800 * 600]


def test_a_photo_that_was_there_for_nobody_is_skipped(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 3)
    name = photos.names[1]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (batch,) = PhotoReader(photos, SMALL).batches(8)
    assert batch.taken.skipped == (SkippedPhoto(name, "cannot be read: No such file or directory"),)


@pytest.mark.parametrize(
    ("limit", "batches", "skipped"),
    [
        (1, [[0]], 0),
        (2, [[0, 2]], 1),
        (3, [[0, 2], [4]], 2),
        (4, [[0, 2], [4, 5]], 2),
        (8, [[0, 2], [4, 5], [6, 7], [8, 9]], 2),
        (9, [[0, 2], [4, 5], [6, 7], [8, 9]], 2),
    ],
)
def test_the_limit_counts_usable_photos(tmp_path: Path, limit: int, batches: list[list[int]], skipped: int) -> None:
    photos = make_photos(tmp_path, 10, damaged=(1, 3))
    reader = PhotoReader(photos, SMALL, limit=limit)
    assert reader.total(NOTHING_TAKEN) == min(limit, 10)
    found, taken = read(reader, 2)
    assert found == batches
    used = len(flatten(batches))
    assert (taken.used, len(taken.skipped)) == (used, skipped)
    assert (taken.count, reader.total(taken)) == (used + skipped, used + skipped)


def test_a_smaller_limit_reads_the_first_of_a_larger(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 20)
    (few, _), (many, _) = (read(PhotoReader(photos, SMALL, limit=limit), size) for limit, size in ((6, 4), (13, 5)))
    assert flatten(few) == list(range(6))
    assert flatten(many) == list(range(13))


def test_progress_is_told_batch_by_batch(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 12, damaged=(0, 5)), SMALL, limit=6)
    told = [(batch.taken.count, reader.total(batch.taken)) for batch in reader.batches(2)]
    assert told == [(3, 7), (5, 7), (8, 8)]


def test_strict_names_the_photo(tmp_path: Path) -> None:
    reader = PhotoReader(make_photos(tmp_path, 9, damaged=(4,)), SMALL, strict=True)
    assert error_of(read, reader, 2) == f"{tmp_path / '04.png'}: is empty; without --strict it is left out"


def test_a_limit_or_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 3)
    for number in 0, -1:
        with pytest.raises(ValueError, match=f"limit is {number}; it must be at least 1"):
            PhotoReader(photos, SMALL, limit=number)
        with pytest.raises(ValueError, match=f"batch_size is {number}; it must be at least 1"):
            read(PhotoReader(photos, SMALL), number)


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_threads_end_with_the_reading(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 33, damaged=(20,))
    assert decoding_threads() == []
    batches = PhotoReader(photos, SMALL).batches(4)
    next(batches)
    assert decoding_threads() != []
    batches.close()
    assert decoding_threads() == []
    for reader in PhotoReader(photos, SMALL), PhotoReader(photos, SMALL, limit=9):
        read(reader, 4)
        assert decoding_threads() == []
    error_of(read, PhotoReader(photos, SMALL, strict=True), 4)
    assert decoding_threads() == []


def test_reading_looks_ahead_but_not_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network runs on a batch of 2, at most 4 photos more are decoded."""
    decoded = []

    def count(_budget: PixelBudget, path: Path, _geometry: Geometry) -> Decoded:
        decoded.append(path.name)
        return Decoded(np.zeros((2, 2, 3), np.uint8), has_profile=False)

    monkeypatch.setattr(images, "_decode_within", count)
    batches = PhotoReader(PhotoList(tmp_path, make_list(33).names), SMALL).batches(2)
    next(batches)
    deadline = time.monotonic() + 5
    while len(decoded) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # for any that should not come
    assert 3 <= len(decoded) <= 6
    assert sum(len(batch.pixels) for batch in batches) == 31
    assert sorted(decoded) == list(make_list(33).names)


# --- Real files ---


@pytest.fixture
def awkward() -> Path:
    folder = SHARED / "awkward"
    if not folder.is_dir():
        pytest.skip(f"{folder}: the collection of broken and unusual image files is not there")
    return folder


@says_what_is_odd
def test_real_odd_files_decode_or_are_refused(awkward: Path) -> None:
    """What Pillow cannot open or load is refused, and a PNG whose end is cut, of which it decodes the rest."""
    _, *lines = (awkward / "SOURCES.tsv").read_text(encoding="utf-8").splitlines()
    sources = {line.split("\t")[0]: line for line in lines}
    expected = {name for name, line in sources.items() if "open fails" in line or "load fails" in line}
    expected.add("pillow__truncated_end_chunk.png")
    refused = set()
    for name in sources:
        try:
            pixels = decode(awkward / name, 32, "bilinear", "crop")
        except PhotoError:
            refused.add(name)
            continue
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
    assert len(sources) == 60
    assert refused == expected


def test_real_photos_of_one_scene_come_out_alike(awkward: Path) -> None:
    """Stored upright and turned; the examples differ by what JPEG loses, and by their caption."""
    for fit in get_args(Fit):
        upright, turned = (
            decode(awkward / f"exiforient__Landscape_{number}.jpg", 64, "bilinear", fit).astype(int)
            for number in (1, 6)
        )
        assert np.abs(upright - turned).mean() < 3


def test_real_coco_photos_decode_as_in_keras(load_img: Callable[..., Image.Image]) -> None:
    folder = SHARED / "coco"
    if not folder.is_dir():
        pytest.skip(f"{folder}: the collection of COCO photos is not there")
    photos = find_photos(folder)
    assert len(photos.names) == 100
    for name in photos.names:
        expected = load_img(folder / name, target_size=(128, 128), interpolation="bilinear")
        np.testing.assert_array_equal(decode(folder / name, 128, "bilinear"), np.asarray(expected))
