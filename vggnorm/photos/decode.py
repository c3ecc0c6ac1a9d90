"""From an open image file to RGB pixels of the size that the network takes."""

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vggnorm.errors import PhotoError
from vggnorm.photos.budget import PixelBudget
from vggnorm.photos.folder import Folder
from vggnorm.photos.geometry import CROP_SHARE, Geometry
from vggnorm.photos.modes import explain_unreadable, read_samples, to_rgb
from vggnorm.photos.profiles import embedded_profile, to_srgb
from vggnorm.photos.skipped import UnusablePhotoError
from vggnorm.photos.source import ChangedError, Source
from vggnorm.photos.webp import HEADER, webp_size

Pixels = NDArray[np.uint8]

# Is told how many pixels are about to be decoded, and may wait until there is room for them.
Hold = Callable[[int], object]

# Pillow tries only these. Otherwise a PostScript file named .jpg would start an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# Ten thousand by ten thousand. A larger file is hardly a photo, and would take each thread 300 MB
# and more.
MAX_PIXELS = 100_000_000

REDUCED = 4  # see _reduce

# These errors are not the fault of the photo that is being read, so they end the run. A photo that
# cannot be read for another reason is left out.
SYSTEM_ERRORS = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENODEV, errno.ESTALE}
)

OUT_OF_MEMORY = "out of memory"  # part of Pillow's text where one of its decoders gets no memory

TURNS = {  # EXIF orientation -> what turns the photo upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow loads its decoders on first use. Load them now, so that threads do not race for it.
Image.init()

# Blocks that are larger than glibc keeps for itself (32 MB) go back to the system when a photo is
# freed. With smaller blocks, each thread would keep the memory of the largest photo that it has
# decoded. The function is documented, but Pillow does not export it.
Image.core.set_block_size(64 * 1024 * 1024)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Decoded:
    """One photo, decoded.

    Attributes:
        pixels: `(height, width, 3)`, RGB 0..255.
        has_profile: whether the photo carries a colour profile other than sRGB.
    """

    pixels: Pixels
    has_profile: bool


def decode_photo(file: BinaryIO, geometry: Geometry, name: str) -> Pixels:
    """Decode one photo: upright by its EXIF orientation, in RGB, and resized.

    Greyscale, palettes and CMYK become RGB; 16 bits a channel are scaled to 8; transparent parts
    become white. Of an animation, the first frame is taken.

    Args:
        file: an image, open for reading at its start; it can be sought in.
        geometry: the size to make, and how.
        name: what errors call the photo.

    Returns:
        `(height, width, 3)`, RGB 0..255.

    Raises:
        UnusablePhotoError: the file is unreadable, damaged, truncated, too large or not a photo.
        MemoryError, OSError: the system failed; the photo may be a good one.
    """
    with _explaining(name):
        return _decode(file, geometry, _hold_nothing).pixels


def decode_within(budget: PixelBudget, source: Source, name: str, geometry: Geometry) -> Decoded:
    """Open and decode one photo of a source, and hold its pixels in the budget meanwhile.

    Raises:
        UnusablePhotoError, MemoryError, OSError: see `decode_photo`; the photo has its full name.
    """
    with (
        _explaining(source.locate(name)),
        ExitStack() as held,
        source.open(name) as file,
    ):
        return _decode(file, geometry, lambda pixels: held.enter_context(budget.holding(pixels)))


def load_photo(path: Path, geometry: Geometry) -> Image.Image:
    """Read a photo on disk, upright and in RGB, but not resized.

    A JPEG that is far larger than the geometry needs is read at a fraction of its size.

    Raises:
        UnusablePhotoError, MemoryError, OSError: see `decode_photo`.
    """
    with _explaining(str(path)), Folder(path.parent).open(path.name) as file:
        return _load(file, geometry, _hold_nothing)[0]


def _decode(file: BinaryIO, geometry: Geometry, hold: Hold) -> Decoded:
    image, has_profile = _load(file, geometry, hold)
    return Decoded(np.asarray(_resize(image, geometry)), has_profile)


def _load(file: BinaryIO, geometry: Geometry, hold: Hold) -> tuple[Image.Image, bool]:
    """Give a photo upright and in RGB, and whether it carries a profile other than sRGB."""
    header = file.read(HEADER)
    file.seek(0)
    if not header:
        raise PhotoError("is empty")
    size = webp_size(header)
    if size is not None:  # Pillow takes memory for all of a WebP when it opens the file
        _check_pixels(*size)
        hold(size[0] * size[1])
    with _open_image(file) as image:
        full_size = image.size
        _check_pixels(*full_size)
        samples = read_samples(image)
        _reduce(image, geometry)
        if size is None:
            hold(_count_pixels(image, full_size))
        image.load()
        profile = embedded_profile(image)
        pixels = to_rgb(image, samples)
        if profile is not None and geometry.color_profiles == "convert":
            pixels = to_srgb(pixels, image, profile)
        return _turn_upright(pixels, image), profile is not None


def _open_image(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise PhotoError(explain_unreadable(file)) from error


def _count_pixels(image: Image.Image, full_size: tuple[int, int]) -> int:
    """Count the pixels that decoding takes memory for.

    A progressive JPEG takes memory for all of its pixels, even if it is decoded at a fraction of
    its size.
    """
    width, height = full_size if image.info.get("progressive") else image.size
    return width * height


def _hold_nothing(_: int) -> None:
    pass


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Turn what an unusable photo raises into an `UnusablePhotoError`.

    Errors of the system pass as they are. So does a photo that has changed.
    """
    try:
        yield
    except (MemoryError, ChangedError):
        raise
    except Exception as error:  # nobody can foresee what a damaged file makes Pillow raise
        if isinstance(error, OSError):
            _require_no_system_error(error)
        raise UnusablePhotoError(name, _explain(error)) from error


def _require_no_system_error(error: OSError) -> None:
    """Raise an error that does not come from the photo: the photo must not be left out for it."""
    if error.errno in SYSTEM_ERRORS:
        raise error
    if error.errno is None and OUT_OF_MEMORY in str(error):
        raise MemoryError(str(error)) from error


def _explain(error: Exception) -> str:
    """Say why a photo cannot be used."""
    if isinstance(error, PhotoError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"is too large: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {error}"


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"is too large: {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded"
        )


def _reduce(image: Image.Image, geometry: Geometry) -> None:
    """Have a JPEG that is far too large decoded at 1/2, 1/4 or 1/8 of its size, which is faster.

    It stays at least `REDUCED` times as large as the result. This changes the means by less than
    0.1 % in the median filter and by less than 2 % in 99 of 100 filters, measured on 100 COCO
    photos made 48 x 48. If it stayed only twice as large, that would be 0.4 % and 3 %.
    """
    if geometry.interpolation == "nearest":  # takes single pixels, which must be the photo's own
        return
    share = CROP_SHARE if geometry.fit == "crop" else 1.0
    reduction = int(share * min(image.size) / max(geometry.height, geometry.width) / REDUCED)
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))


def _turn_upright(image: Image.Image, source: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also rewrites the other EXIF data, and fails where they are damaged.
    try:
        turn = TURNS.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data; the pixels are still good
        return image
    return image if turn is None else image.transpose(turn)


def _resize(image: Image.Image, geometry: Geometry) -> Image.Image:
    box = None
    if geometry.fit == "crop":
        scale = CROP_SHARE * min(image.width / geometry.width, image.height / geometry.height)
        width, height = scale * geometry.width, scale * geometry.height
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (left, top, left + width, top + height)
    resampling = Image.Resampling[geometry.interpolation.upper()]
    return image.resize((geometry.width, geometry.height), resampling, box=box)
