"""Which formats of images are read here, and by which endings of names they are found."""

import re
from pathlib import PurePosixPath

from PIL import features

# Pillow's names of the formats that may be read -> endings of names.
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}

# What must be there to read a format that Pillow does not read everywhere.
NEEDS = {
    "AVIF": "a build of Pillow that reads AVIF: pip install --upgrade pillow",
    "HEIF": "pillow-heif: pip install '.[heif]' in vggnorm's own folder",
}

# An ending as most programs write it; with ~, the copy that an editor keeps.
USUAL_ENDING = re.compile(r"\.[a-z][a-z0-9]*~?")


def _register_heif() -> bool:
    """Have Pillow read HEIF, if the package that does it is installed."""
    try:
        import pillow_heif  # noqa: PLC0415  an extra
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _readable_formats() -> tuple[str, ...]:
    """Give the formats that are read here.

    Pillow is asked for no others: a PostScript file named .jpg would start an interpreter.
    """
    formats = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
    if features.check("avif"):
        formats.append("AVIF")
    if _register_heif():
        formats.append("HEIF")
    return tuple(formats)


FORMATS = _readable_formats()

_FORMAT_BY_ENDING = {ending: name for name, endings in ENDINGS.items() for ending in endings}


def format_of_name(name: str) -> str | None:
    """Give the format that the ending of a file's name stands for; None for no image's ending."""
    return _FORMAT_BY_ENDING.get(ending_of(name))


def ending_of(name: str) -> str:
    """Give the ending of a file's name, with its dot and in lower case.

    It is empty if what follows the last dot is not letters and digits, as in `photo.jpg_large`,
    `photo.jpg?raw=1` and `Mr. Smith`, or begins with a digit, as in `photo.jpg.1`.
    """
    ending = PurePosixPath(name).suffix.lower()
    return ending if USUAL_ENDING.fullmatch(ending) else ""
