"""How samples are read: TIFFs written byte by byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_files import decode_file, make_tiff
from PIL import Image

from vggnorm.errors import PhotoError
from vggnorm.photos.geometry import Geometry

GREY = np.array(
    [[0, 17, 85, 255], [102, 170, 51, 34], [255, 238, 0, 119], [136, 68, 187, 204]]
)  # multiples of 17
Samples = NDArray[np.integer[Any]]
FOUR = Geometry(4, "stretch", "nearest")


def pack(samples: Samples, bits: int, order: str) -> bytes:
    """Write rows of samples, each row from a byte's start on."""
    if bits == 16:
        return samples.astype(f"{order}u2").tobytes()
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in samples.tolist()]
    return b"".join(
        int(row, 2).to_bytes(len(row) // 8)
        for row in (row.ljust(-len(row) % 8 + len(row), "0") for row in rows)
    )


def decode(folder: Path, content: bytes) -> Samples:
    path = folder / "photo.tif"
    path.write_bytes(content)
    return decode_file(path, FOUR)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    ("bits", "photometric", "order"),
    [(bits, zero, order) for bits in (4, 8) for zero in (0, 1) for order in "<>"]
    + [(12, 1, "<"), (16, 0, "<"), (16, 1, "<"), (16, 1, ">")],
)
def test_grey_is_read_by_its_fields(
    tmp_path: Path, *, bits: int, photometric: int, order: str, compression: int
) -> None:
    """Multiples of 17 are whole in all of these depths.

    255 = 17 * 15, 4095 = 255 * 16 + 15, 65535 = 255 * 257.
    """
    full = 2**bits - 1
    samples = GREY * full // 255
    content = make_tiff(
        pack(samples if photometric else full - samples, bits, order),
        bits,
        photometric,
        order,
        compression=compression,
    )
    expected = np.stack([GREY] * 3, axis=-1)
    np.testing.assert_array_equal(decode(tmp_path, content), expected)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (make_tiff(bytes(32), 16, 0, ">"), "of a kind that Pillow does not read"),
        (make_tiff(bytes(24), 12, 0), "of a kind that Pillow does not read"),
        (make_tiff(bytes(16), 8, 1, sample_format=2), "has signed samples"),
        (make_tiff(bytes(32), 16, 1, sample_format=2), "has signed samples"),
        (make_tiff(bytes(64), 32, 1, sample_format=3), "has 32 bits a channel"),
        (make_tiff(bytes(32), 16, None), "does not say whether zero is black or white"),
        (make_tiff(bytes(16), 8, 0, planar=2), "has its channels in separate planes"),
    ],
)
def test_what_cannot_be_read_right_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, text: str
) -> None:
    with pytest.raises(PhotoError, match=text):
        decode(tmp_path, content)


def test_lab_is_refused(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    with pytest.raises(PhotoError, match="has LAB colours"):
        decode_file(tmp_path / "lab.tif", FOUR)


def test_strips_join_without_a_seam(tmp_path: Path) -> None:
    """An alpha of 51, a fifth, of black on white is 204; each row has its own colour."""
    rgba = np.zeros((600, 4, 4), np.uint8)
    rgba[..., 3] = np.where(np.arange(600) % 2, 255, 51)[:, None]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = decode_file(tmp_path / "a.png", Geometry((600, 4), "stretch", "nearest"))
    np.testing.assert_array_equal(pixels[:, 0, 0], np.where(np.arange(600) % 2, 0, 204))
