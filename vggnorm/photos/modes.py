"""From the pixels that Pillow decodes to RGB with 8 bits a channel.

Pillow's mode of an image does not say everything about the samples of a TIFF or PNG: whether zero
is white, which value is the brightest, whether samples are signed. This is read from the file's own
fields. A photo whose samples cannot be read correctly is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from vggnorm.errors import PhotoError

# So many rows are converted at a time. Otherwise the whole of a large photo would be copied several
# times.
STRIP_ROWS = 256

# Numbers of TIFF's fields (TIFF 6.0, sections 8 and 21), and some of their values.
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, PLANAR = 258, 259, 262, 266, 284
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 332, 338, 339, 530
WHITE_IS_ZERO, UNSIGNED, PREMULTIPLIED, SEPARATE_PLANES = 0, 1, 1, 2


@dataclass(frozen=True)
class Samples:
    """How to read the samples of a photo.

    Attributes:
        brightest: the largest value of a grey sample of 16 bits; it is white, or black if
            `negative`.
        negative: whether zero is white in a grey sample of 16 bits. Pillow itself inverts samples
            of 8 bits.
        step: how far apart Pillow sets the neighbouring values of a grey PNG: 85 if samples have
            2 bits.
    """

    brightest: int = 65535
    negative: bool = False
    step: int = 1


def read_samples(image: Image.Image) -> Samples:
    """Find how to read the samples of an image whose pixels are not loaded yet.

    Raises:
        PhotoError: the samples cannot be read correctly. The text is the reason alone.
    """
    if image.mode == "LAB":
        raise PhotoError("has LAB colours; convert it to RGB")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _read_tiff(image)
    if image.mode in ("I", "F"):
        _refuse_32_bits()
    return _read_png(image) if image.format == "PNG" else Samples()


def _refuse_32_bits() -> None:
    raise PhotoError(
        "has 32 bits a channel, and does not say which value is white; convert it to 8 or 16 bits"
    )


def _read_tiff(image: TiffImagePlugin.TiffImageFile) -> Samples:
    field = image.tag_v2.get
    bits = tuple(field(BITS, (1,)))
    compressed = field(COMPRESSION, 1) != 1
    if max(bits) == 32:
        _refuse_32_bits()
    if any(kind != UNSIGNED for kind in field(SAMPLE_FORMAT, (UNSIGNED,))):
        raise PhotoError(
            "has signed samples, and does not say which value is black; convert them to unsigned"
        )
    if PHOTOMETRIC not in image.tag_v2 and image.info.get("compression") != "tiff_jpeg":
        raise PhotoError("does not say whether zero is black or white; save it again")
    _refuse_misread_colours(image, compressed=compressed)
    if field(PLANAR, 1) == SEPARATE_PLANES:
        _refuse_misread_planes(field, bits, compressed=compressed)
    negative = image.mode.startswith("I;16") and field(PHOTOMETRIC, 0) == WHITE_IS_ZERO
    return Samples(brightest=2 ** max(bits) - 1, negative=negative)


def _refuse_misread_colours(image: TiffImagePlugin.TiffImageFile, *, compressed: bool) -> None:
    """Refuse a TIFF whose colours Pillow would take for others."""
    field = image.tag_v2.get
    if image.mode == "CMYK" and field(INK_SET, 1) != 1:
        raise PhotoError("has other inks than cyan, magenta, yellow and black; convert it to RGB")
    subsampled = image.mode == "YCbCr" and tuple(field(SUBSAMPLING, (2, 2))) != (1, 1)
    if subsampled and not compressed:
        raise PhotoError(
            "has fewer samples of colour than of brightness, uncompressed; convert it to RGB"
        )


def _refuse_misread_planes(
    field: Callable[..., Any], bits: tuple[int, ...], *, compressed: bool
) -> None:
    """Refuse a TIFF with a plane for each channel if Pillow would misread it.

    Pillow takes the samples of such a file as 8 bits, whatever they are.
    """
    has_plain_bytes = set(bits) == {8} and field(FILL_ORDER, 1) == 1
    is_positive = field(PHOTOMETRIC, 0) != WHITE_IS_ZERO
    readable = compressed or (has_plain_bytes and is_positive)
    if not readable or PREMULTIPLIED in tuple(field(EXTRA_SAMPLES, ())):
        raise PhotoError("has its channels in separate planes; save it with interleaved channels")


def _read_png(image: Image.Image) -> Samples:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    raw_mode = arguments if isinstance(arguments, str) else arguments[0]
    if raw_mode == "RGB;16B" and "transparency" in image.info:
        raise PhotoError(
            "has a transparent colour with 16 bits a channel; save it with 8 bits, or with an "
            "alpha channel"
        )
    return Samples(step={"1": 255, "L;2": 85, "L;4": 17}.get(raw_mode, 1))


def to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    """Convert an image to RGB; transparent parts become white.

    Args:
        image: with its pixels loaded.
        samples: what `read_samples` found.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))
        result.paste(_strip_to_rgb(strip, samples), (0, top))
    return result


def _strip_to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _deep_to_rgb(image, samples)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if isinstance(image.info.get("transparency"), int) and image.mode in ("1", "L"):
        image.info["transparency"] *= samples.step
    if image.mode == "La":
        image = image.convert("LA")
    visible = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), visible).convert("RGB")


def _deep_to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    full = samples.brightest
    shallow = ((values * 255 + full // 2) // full).astype(np.uint8)
    if samples.negative:
        shallow = 255 - shallow
    if "transparency" in image.info:
        shallow[values == image.info["transparency"]] = 255
    return Image.fromarray(shallow).convert("RGB")
