"""What a file is, told from its first bytes."""

from typing import NamedTuple

HEADER = 512  # bytes, which tell

# The first bytes of a file of each format that may be read -> Pillow's name of the format.
FORMAT_MARKS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

# The brands of ISO/IEC 23000-22 (MIAF) and 23008-12 (HEIF), in the box `ftyp` at a file's start.
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})


class Mark(NamedTuple):
    """Bytes that tell a kind of file that is not read.

    Attributes:
        place: where in the file they stand.
        content: the bytes.
        noun: what such a file is, with its article.
        is_image: whether it holds an image.
    """

    place: int
    content: bytes
    noun: str
    is_image: bool = False


MARKS = (
    Mark(0, b"version https://git-lfs.github.com/", "a Git LFS pointer"),
    Mark(0, b"\0\5\x16\7", "a resource fork that macOS put beside a file"),
    Mark(0, b"\0\5\x16\0", "a file with its resource fork, as macOS joins them"),
    Mark(0, b"%PDF", "a PDF document"),
    Mark(0, b"%!PS", "a PostScript document"),
    Mark(0, b"{\\rtf", "a document in rich text"),
    Mark(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old document of Microsoft Office"),
    Mark(0, b"PK\3\4", "a zip archive, or a document made as one"),
    Mark(0, b"\x1f\x8b", "a gzip file"),
    Mark(0, b"BZh", "a bzip2 file"),
    Mark(0, b"\xfd7zXZ\0", "an xz file"),
    Mark(0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    Mark(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    Mark(0, b"Rar!", "a RAR archive"),
    Mark(257, b"ustar", "a tar archive"),
    Mark(0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    Mark(8, b"AVI ", "a video (AVI)"),
    Mark(8, b"WAVE", "a sound"),
    Mark(0, b"\0\0\1\xba", "a video (MPEG)"),
    Mark(0, b"\0\0\1\xb3", "a video (MPEG)"),
    Mark(0, b"FLV\1", "a video (Flash)"),
    Mark(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video (Windows Media)"),
    Mark(0, b"OggS", "a sound or a video (Ogg)"),
    Mark(0, b"ID3", "a sound"),
    Mark(0, b"\x93NUMPY", "a numpy array"),
    Mark(0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    Mark(0, b"SQLite format 3\0", "a database"),
    Mark(0, b"MZ", "a program"),
    Mark(0, b"\x7fELF", "a program"),
    Mark(0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", is_image=True),
    Mark(0, b"\xff\x0a", "a JPEG XL image", is_image=True),
    Mark(0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", is_image=True),
    Mark(0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", is_image=True),
    Mark(0, b"8BPS", "a Photoshop document", is_image=True),
    Mark(0, b"gimp xcf", "a GIMP document", is_image=True),
    Mark(0, b"v/1\1", "an OpenEXR image", is_image=True),
    Mark(0, b"#?RADIANCE", "a Radiance image", is_image=True),
    Mark(128, b"DICM", "a DICOM file", is_image=True),
    Mark(0, b"SIMPLE  =", "a FITS file", is_image=True),
    Mark(0, b"DDS ", "a DDS image", is_image=True),
    Mark(0, b"\0\0\1\0", "an icon", is_image=True),
    Mark(0, b"FUJIFILMCCD-RAW", "a raw photo of a camera", is_image=True),
    Mark(4, b"ftypcrx", "a raw photo of a camera", is_image=True),
    Mark(0, b"\xc5\xd0\xd3\xc6", "a PostScript document"),
)

PNM_MARKS = tuple(b"P%d" % number for number in range(1, 7))
TEXT_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # byte order marks
CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))  # are in no text


def image_format(header: bytes) -> str | None:
    """Give Pillow's name of the format of an image that may be read; None for any other file.

    Whether it can be read here is another matter: see `vggnorm.photos.formats`.

    Args:
        header: the first `HEADER` bytes of a file.
    """
    for mark, name in FORMAT_MARKS:
        if header.startswith(mark):
            return name
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return "WEBP"
    if header.startswith(b"BM") and header[6:10] == bytes(4):  # bytes that are reserved
        return "BMP"
    brands = _brands(header)
    if brands & AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & HEIF_BRANDS else None


def foreign_kind(header: bytes) -> Mark | None:
    """Tell what a file is that is no image of a format that may be read; None if nobody knows.

    Args:
        header: the first `HEADER` bytes of a file.
    """
    for mark in MARKS:
        if header.startswith(mark.content, mark.place):
            return mark
    if header[:2] in PNM_MARKS and header[2:3].isspace():
        return Mark(0, header[:2], "a PNM image", is_image=True)
    if header[4:8] == b"ftyp":
        is_sound = header[8:12] in SOUND_BRANDS
        return Mark(4, b"ftyp", "a sound (MP4)" if is_sound else "a video (MP4 or MOV)")
    return _text_kind(header)


def _brands(header: bytes) -> set[bytes]:
    """Give the brands of a file of boxes (ISO/IEC 14496-12, 4.3): the main one and the others."""
    if header[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(header[:4]), len(header))
    others = {header[place : place + 4] for place in range(16, end, 4)}
    return {header[8:12]} | others


def _text_kind(header: bytes) -> Mark | None:
    """Tell kinds of text."""
    if not header.startswith(TEXT_MARKS) and (not header or set(header) & set(CONTROLS)):
        return None
    encoding = "utf-16" if header.startswith(TEXT_MARKS[1:]) else "utf-8-sig"
    start = header.decode(encoding, errors="ignore").lstrip().lower()
    if start.startswith(("{", "[")):
        return Mark(0, b"", "JSON text")
    if not start.startswith("<"):
        is_text = encoding == "utf-16" or _is_utf8(header)
        return Mark(0, b"", "text") if is_text else None
    if "<!doctype html" in start or "<html" in start or "<head" in start or "<body" in start:
        return Mark(0, b"", "an HTML page")
    if "<svg" in start:
        return Mark(0, b"", "an SVG drawing", is_image=True)
    return Mark(0, b"", "XML text")


def _is_utf8(header: bytes) -> bool:
    """Tell UTF-8. A character may be cut at the end."""
    try:
        header.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
