"""What to say of a file that Pillow cannot open."""

from typing import BinaryIO

from PIL import TiffImagePlugin

from vggnorm.photos.formats import FORMATS, NEEDS
from vggnorm.photos.kinds import HEADER, Mark, foreign_kind, image_format

# Numbers of TIFF's fields (TIFF 6.0, section 8).
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339

UNKNOWN = "is not an image, or is damaged"

# What begins a file whose bytes were read as UTF-8 text: the mark for what is none.
REPLACED = "\N{REPLACEMENT CHARACTER}".encode()

CHUNK = 1 << 20  # bytes read at a time


def explain_unreadable(file: BinaryIO) -> str:
    """Say what a file is that Pillow cannot open."""
    file.seek(0)
    header = file.read(HEADER)
    kind = image_format(header)
    if kind in NEEDS and kind not in FORMATS:
        return f"is in the format {kind}, which needs {NEEDS[kind]}; or convert it to JPEG"
    if kind == "TIFF":
        return _explain_tiff(file, header)
    if kind is not None:
        return f"begins as a {kind} file does, but is damaged; get the file again"
    if not any(header):
        return _explain_zeros(file)
    if _was_text(header):
        return "was copied or saved as text, which has damaged it; get the file again"
    foreign = foreign_kind(header)
    return UNKNOWN if foreign is None else _explain_foreign(foreign)


def _was_text(header: bytes) -> bool:
    """Tell an image that a program took for text: it changed the ends of lines, or some bytes.

    The eight bytes that begin a PNG are chosen so that they show this (PNG specification, 5.2).
    """
    is_png = header[1:4] == b"PNG" and header[4:5] in {b"\r", b"\n", b"\x1a"}
    return is_png or header.startswith(REPLACED)


def _explain_foreign(kind: Mark) -> str:
    if kind.is_image:
        return f"is {kind.noun}, which is not read; convert it to JPEG or PNG"
    if kind.noun == "a Git LFS pointer":
        return "is not an image, but a Git LFS pointer to it; run git lfs pull"
    return f"is not an image, but {kind.noun}"


def _explain_zeros(file: BinaryIO) -> str:
    """Tell a file of nothing but zeros, as a broken disk or download leaves it."""
    while chunk := file.read(CHUNK):
        if any(chunk):
            return UNKNOWN
    return "holds nothing but zeros; get the file again"


def _explain_tiff(file: BinaryIO, header: bytes) -> str:
    try:
        fields = TiffImagePlugin.ImageFileDirectory_v2(header[:8])
        file.seek(fields.next)
        fields.load(file)
        bits, photometric = fields[BITS], fields[PHOTOMETRIC]
        sample_format = fields.get(SAMPLE_FORMAT, (1,))
    except Exception:  # nobody can foresee what a damaged file makes Pillow raise
        return "begins as a TIFF file does, but is damaged; get the file again"
    return (
        f"is a damaged TIFF, or one of a kind that Pillow does not read: bits {bits}, sample "
        f"format {sample_format}, photometric interpretation {photometric}; save it as RGB or grey "
        "with 8 bits"
    )
