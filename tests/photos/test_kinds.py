"""What a file is said to be that holds no photo, on files made by other programs' rules."""

import io
import sqlite3
import tarfile
import wave
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from photo_files import decode_bytes, make_bytes, make_noise, reason
from PIL import Image

from vggnorm.photos.formats import FORMATS
from vggnorm.photos.kinds import HEADER, image_format

NO_IMAGE = "is not an image, but "
AS_TEXT = "was copied or saved as text, which has damaged it; get the file again"
UNREAD = ", which is not read; convert it to JPEG or PNG"

PNG = make_bytes(make_noise(8, 8), "PNG")


def boxes(*brands: bytes) -> bytes:
    """Begin a file of boxes with the brands that it names (ISO/IEC 14496-12, 4.3)."""
    body = brands[0] + bytes(4) + b"".join(brands)
    return (len(body) + 8).to_bytes(4) + b"ftyp" + body + bytes(64)


def zip_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "text")
    return out.getvalue()


def tar_file() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(bytes(100))
    return out.getvalue()


def array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


def hdf5() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["a"] = 1
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>404 Not Found</html>", NO_IMAGE + "an HTML page"),
        (b"\n <!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>", NO_IMAGE + "an HTML page"),
        (b"\xef\xbb\xbf<!-- saved --><html lang='de'>", NO_IMAGE + "an HTML page"),
        ("<html>Größe</html>".encode("utf-16"), NO_IMAGE + "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', NO_IMAGE + "XML text"),
        (b'{"error": "quota exceeded"}', NO_IMAGE + "JSON text"),
        (b'[{"id": 1}]', NO_IMAGE + "JSON text"),
        (b"404: Not Found", NO_IMAGE + "text"),
        ("Größe: 3 cm".encode(), NO_IMAGE + "text"),
        (("x" * (HEADER - 1) + "ß").encode(), NO_IMAGE + "text"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            NO_IMAGE + "a Git LFS pointer to it; run git lfs pull",
        ),
        (b"%PDF-1.7\n", NO_IMAGE + "a PDF document"),
        (zip_file(), NO_IMAGE + "a zip archive, or a document made as one"),
        (tar_file(), NO_IMAGE + "a tar archive"),
        (sound(), NO_IMAGE + "a sound"),
        (array(), NO_IMAGE + "a numpy array"),
        (hdf5(), NO_IMAGE + "an HDF5 file"),
        (boxes(b"isom", b"mp41"), NO_IMAGE + "a video (MP4 or MOV)"),
        (boxes(b"qt  "), NO_IMAGE + "a video (MP4 or MOV)"),
        (b"\x1aE\xdf\xa3\x01" + bytes(40), NO_IMAGE + "a video (Matroska or WebM)"),
        (
            b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(60),
            NO_IMAGE + "a resource fork that macOS put beside a file",
        ),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing" + UNREAD),
        (b"<?xml version='1.0'?>\n<svg/>", "is an SVG drawing" + UNREAD),
        (make_bytes(make_noise(8, 8), "JPEG2000"), "is a JPEG 2000 image" + UNREAD),
        (make_bytes(make_noise(16, 16), "ICO"), "is an icon" + UNREAD),
        (b"\xff\x0a" + bytes(range(1, 60)), "is a JPEG XL image" + UNREAD),
        (b"8BPS\0\1" + bytes(6), "is a Photoshop document" + UNREAD),
        # A PNG whose ends of lines were changed, and one whose first byte lost its first bit.
        (PNG.replace(b"\r\n", b"\n"), AS_TEXT),
        (PNG.replace(b"\r\n", b"\r"), AS_TEXT),
        (PNG.replace(b"\n", b"\r\n"), AS_TEXT),
        (b"\t" + PNG[1:], AS_TEXT),
        (make_bytes(make_noise(8, 8), "JPEG").decode(errors="replace").encode(), AS_TEXT),
        (b"APNG is a format", NO_IMAGE + "text"),
        (bytes(100_000), "holds nothing but zeros; get the file again"),
        (bytes(3_000_000) + b"x", "is not an image, or is damaged"),
        (bytes(range(1, 200)), "is not an image, or is damaged"),
        (b"Gr\xf6\xdfe", "is not an image, or is damaged"),  # text in an old alphabet, perhaps
    ],
)
def test_a_file_without_a_photo_is_called_what_it_is(content: bytes, said: str) -> None:
    assert reason(content) == said


def test_a_database_is_called_so(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table t (a)")
    database.close()
    assert reason((tmp_path / "a.db").read_bytes()) == NO_IMAGE + "a database"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "AVIF"])
def test_a_photo_cut_off_in_its_header_is_called_damaged(kind: str) -> None:
    if kind not in FORMATS:
        pytest.skip("this build of Pillow does not read it")
    content = make_bytes(make_noise(64, 64), kind)
    for size in 20, 40:
        said = reason(content[:size])
        damaged = f"begins as a {kind} file does, but is damaged; get the file again"
        assert said == damaged or said.startswith(("cannot be decoded: ", "is truncated: "))
    if kind in {"GIF", "AVIF"}:
        assert reason(content[:40]) == damaged


@pytest.mark.skipif("HEIF" in FORMATS, reason="pillow-heif is installed")
def test_what_reads_a_heic_photo_is_said() -> None:
    assert reason(boxes(b"heic", b"mif1", b"heic")) == (
        "is in the format HEIF, which needs pillow-heif: pip install '.[heif]' in vggnorm's own "
        "folder; or convert it to JPEG"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "MPO"])
def test_a_format_is_told_from_the_first_bytes(kind: str) -> None:
    if kind == "AVIF" and kind not in FORMATS:
        pytest.skip("this build of Pillow does not write it")
    header = make_bytes(make_noise(64, 64), kind)[:HEADER]
    assert image_format(header) == ("JPEG" if kind == "MPO" else kind)


def test_the_brands_of_a_file_of_boxes_tell_its_format() -> None:
    assert image_format(boxes(b"heic", b"mif1", b"heic")) == "HEIF"
    assert image_format(boxes(b"mif1", b"mif1", b"heic")) == "HEIF"
    assert image_format(boxes(b"mif1", b"mif1", b"avif")) == "AVIF"
    assert image_format(boxes(b"mp42", b"isom")) is None
    assert image_format(b"\0\0\0\x14ftyp") is None
    assert image_format(b"BMW is a car.") is None


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this build of Pillow does not read AVIF")
def test_an_avif_photo_is_decoded_whatever_its_name() -> None:
    content = make_bytes(Image.new("RGB", (16, 16), (200, 30, 90)), "AVIF", quality=100)
    assert np.abs(decode_bytes(content, 16).astype(int) - (200, 30, 90)).max() <= 2
