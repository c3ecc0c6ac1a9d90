"""JPEGs that lack their end: used where all pixels are there, skipped where any is missing."""

import io
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, BinaryIO

import numpy as np
import pytest
from photo_files import decode_bytes, error_of, make_bytes, make_noise, reason
from PIL import Image, ImageFile

from vggnorm.errors import PhotoError
from vggnorm.photos.budget import PixelBudget
from vggnorm.photos.decode import decode_photo, decode_within
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.jpeg import has_all_scans, has_several_scans
from vggnorm.photos.reader import PhotoReader

END = b"\xff\xd9"  # ITU-T T.81, table B.1: end of image
SCAN = b"\xff\xda"  # start of scan

TRUNCATED = "is truncated: pixels are missing; get the file again"

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "fine": {"quality": 98, "subsampling": 0},
    "coarse": {"quality": 20},
    "restarting": {"restart_marker_rows": 1},
    "restarting often": {"restart_marker_blocks": 1},
    "restarting, progressive": {"restart_marker_blocks": 3, "progressive": True},
    "optimized": {"optimize": True},
}


def smooth(width: int, height: int, seed: int) -> Image.Image:
    """Make what is like a photo: smooth, with edges."""
    return Image.fromarray(make_noise(width // 8, height // 8, seed=seed)).resize((width, height))


def jpeg(way: str, *, seed: int = 0, mode: str = "RGB") -> bytes:
    return make_bytes(smooth(64, 64, seed).convert(mode), "JPEG", **WAYS[way])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("way", WAYS)
def test_a_jpeg_that_lacks_only_its_end_has_all_of_its_pixels(way: str, mode: str) -> None:
    for seed in range(8):
        content = jpeg(way, seed=seed, mode=mode)
        assert content.endswith(END)
        whole = decode_bytes(content, 64)
        for cut in content[:-2], content[:-1], content[:-2] + bytes(5000):
            np.testing.assert_array_equal(decode_bytes(cut, 64), whole)


def test_it_does_not_matter_which_bits_are_the_last() -> None:
    """A last byte of ones has a zero behind it (ITU-T T.81, F.1.2.3), which is no padding."""
    last_bytes = set()
    for seed in range(150):
        content = make_bytes(make_noise(16, 16, seed=seed), "JPEG")
        last_bytes.add(content[-4:-2] if content[-3] == 0 else content[-3:-2])
        whole = decode_bytes(content, 16)
        for cut in content[:-2], content[:-1], content[:-2] + bytes(5000):
            np.testing.assert_array_equal(decode_bytes(cut, 16), whole)
    assert b"\xff\0" in last_bytes


@pytest.mark.parametrize("way", WAYS)
def test_no_jpeg_is_used_with_other_pixels_than_its_own(way: str) -> None:
    """However many bytes are missing at the end, the pixels are right, or the photo is refused."""
    for seed in range(4):
        content = jpeg(way, seed=seed)
        whole = decode_bytes(content, 64)
        refused = 0
        for missing in range(3, 60):
            for cut in content[:-missing], content[:-missing] + bytes(20_000):
                try:
                    pixels = decode_bytes(cut, 64)
                except PhotoError as error:
                    refused += TRUNCATED in str(error)
                else:
                    np.testing.assert_array_equal(pixels, whole)
        assert refused > 90  # of 114


def random_jpeg(seed: int) -> tuple[bytes, int, int]:
    """Write noise of a random size and smoothness in a random way. Give its height and width."""
    random = Random(seed)
    height, width, coarse = random.randint(1, 90), random.randint(1, 90), random.choice([1, 4, 8])
    noise = make_noise(max(1, width // coarse), max(1, height // coarse), seed=seed)
    photo = Image.fromarray(noise).resize((width, height))
    content = make_bytes(
        photo,
        "JPEG",
        quality=random.choice([5, 30, 75, 92, 100]),
        progressive=random.random() < 0.4,
        optimize=random.random() < 0.3,
        subsampling=random.choice([0, 1, 2]),
        restart_marker_blocks=random.choice([0, 1, 3]),
    )
    return content, height, width


def test_random_jpegs_are_used_rightly_or_refused() -> None:
    refused = refusals = 0
    for seed in range(60):
        content, height, width = random_jpeg(seed)
        geometry = Geometry((height, width), "stretch", "nearest")
        whole = decode_photo(io.BytesIO(content), geometry, "photo")
        for missing in range(1, 12):
            for cut in content[:-missing], content[: -max(2, missing)] + bytes(9000):
                try:
                    pixels = decode_photo(io.BytesIO(cut), geometry, "photo")
                except PhotoError as error:
                    refused += missing > 2 and TRUNCATED in str(error)
                    refusals += 1
                else:
                    np.testing.assert_array_equal(pixels, whole)
    assert refused == refusals > 900  # of 1,080


def test_pixels_that_are_missing_are_refused() -> None:
    content = jpeg("plain")
    half = content[: content.index(SCAN) + (len(content) - content.index(SCAN)) // 2]
    assert reason(half) == TRUNCATED
    assert reason(half + bytes(len(content))) == TRUNCATED  # a download that was broken off
    assert reason(half + b"\xff") == TRUNCATED
    start_of_scan = content.index(SCAN)
    for header_alone in content[: start_of_scan + 14], content[: start_of_scan + 15]:
        assert reason(header_alone) == TRUNCATED


def test_a_jpeg_without_its_last_scans_is_refused() -> None:
    """Each of its pixels is drawn, but roughly."""
    content = jpeg("progressive")
    assert has_all_scans(content)
    assert content.count(SCAN) > 3
    cut = content[: content.rindex(SCAN)]
    assert not has_all_scans(cut)
    assert reason(cut) == TRUNCATED
    # The scan is there, and then nothing but its bits is missing.
    assert reason(content[: content.rindex(SCAN) + 12]) == TRUNCATED


def segments(content: bytes) -> dict[bytes, list[bytes]]:
    """Cut a grey JPEG without restart marks into its segments; the bits go with the scan."""
    found: dict[bytes, list[bytes]] = {}
    place = 2
    while content[place : place + 2] != SCAN:
        length = 2 + int.from_bytes(content[place + 2 : place + 4])
        found.setdefault(content[place : place + 2], []).append(content[place : place + length])
        place += length
    found[SCAN] = [content[place:-2]]
    return found


def three_scans(planes: list[Image.Image]) -> list[bytes]:
    """Make a JPEG with a scan for each of three channels, which Pillow cannot write, in parts.

    Three grey JPEGs have the same tables. So their scans, each under the number of its channel,
    make one JPEG of three channels (ITU-T T.81, B.2.2 and B.2.3).
    """
    grey = [segments(make_bytes(plane, "JPEG", quality=90)) for plane in planes]
    (frame,) = grey[0][b"\xff\xc0"]
    channels = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = b"\xff\xc0" + (8 + 9).to_bytes(2) + frame[4:9] + b"\x03" + channels
    tables = b"".join(grey[0][b"\xff\xdb"]) + frame + b"".join(grey[0][b"\xff\xc4"])
    scans = []
    for number, plane in enumerate(grey, 1):
        scan = plane[SCAN][0]
        scans.append(scan[:5] + bytes([number]) + scan[6:])
    return [b"\xff\xd8" + grey[0][b"\xff\xe0"][0] + tables, *scans]


def test_a_jpeg_with_a_scan_for_each_channel_needs_all_of_them() -> None:
    planes = [smooth(64, 64, seed).convert("L") for seed in range(3)]
    start, *scans = three_scans(planes)
    content = start + b"".join(scans) + END
    whole = decode_bytes(content, 64)
    np.testing.assert_array_equal(decode_bytes(content[:-2], 64), whole)
    assert reason(start + scans[0] + scans[1]) == TRUNCATED
    assert reason(content[:-30]) == TRUNCATED


def test_a_jpeg_with_several_scans_takes_memory_for_all_coefficients() -> None:
    plain, progressive = jpeg("plain"), jpeg("progressive")
    planes = [smooth(64, 64, seed).convert("L") for seed in range(3)]
    by_channel = b"".join(three_scans(planes)) + END
    for content, keeps in ((plain, False), (progressive, True), (by_channel, True)):
        assert has_several_scans(io.BytesIO(content)) is keeps
        padded = content[:2] + b"\xff\xff" + content[2:]  # T.81, B.1.1.2: bytes in front of a mark
        assert has_several_scans(io.BytesIO(padded)) is keeps
    for damaged in plain[:100], plain[:2] + bytes(100):
        assert has_several_scans(io.BytesIO(damaged))


def test_it_holds_at_a_fraction_of_the_size() -> None:
    content = make_bytes(smooth(640, 480, 1), "JPEG")
    geometry = Geometry(16)
    whole = decode_photo(io.BytesIO(content), geometry, "photo")
    np.testing.assert_array_equal(decode_photo(io.BytesIO(content[:-2]), geometry, "photo"), whole)
    error = error_of(decode_photo, io.BytesIO(content[: len(content) // 2]), geometry, "photo")
    assert error == f"photo: {TRUNCATED}"


def test_what_stands_behind_the_end_does_not_matter() -> None:
    content = jpeg("plain")
    whole = decode_bytes(content, 64)
    video = b"\0\0\0\x18ftypmp42" + make_noise(100, 100).tobytes()  # as phones add it
    for more in bytes(1000), b"a trailer of a camera" + bytes(1000), b"\xff" * 40, video:
        np.testing.assert_array_equal(decode_bytes(content + more, 64), whole)


def test_such_photos_are_counted(tmp_path: Path) -> None:
    for number, way in enumerate(WAYS):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(way)[:-2])
    (tmp_path / "whole.jpg").write_bytes(jpeg("plain"))
    (tmp_path / "zeros.jpg").write_bytes(jpeg("plain") + bytes(1000))
    (tmp_path / "trailer.jpg").write_bytes(jpeg("plain") + b"trailer" + bytes(1000))
    (tmp_path / "half.jpg").write_bytes(jpeg("plain")[:-100])
    reader = PhotoReader(find_photos(tmp_path), Geometry(8))
    (batch,) = reader.batches(32)
    assert reader.noticed.without_end == len(WAYS)
    assert batch.taken.used == len(WAYS) + 3
    assert [photo.photo for photo in batch.taken.skipped] == ["half.jpg"]


def test_one_decoding_at_a_time_is_held() -> None:
    """Such a photo is decoded several times. It must not wait for room that it holds itself."""
    content = jpeg("plain")[:-2]

    class Folderless(Folder):
        def open(self, name: str) -> BinaryIO:  # noqa: ARG002
            return io.BytesIO(content)

    budget = PixelBudget(64 * 64)
    source = Folderless(Path())
    decoding = Thread(
        target=decode_within, args=(budget, source, "a.jpg", Geometry(64)), daemon=True
    )
    decoding.start()
    decoding.join(60)
    assert not decoding.is_alive()


def test_pillow_is_left_as_it_is() -> None:
    """Its switch for truncated images is one for all threads, and draws missing pixels in grey."""
    decode_bytes(jpeg("plain")[:-2], 64)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
