"""From the pixels that Pillow decodes to RGB of 8 bits: what its modes tell, and what they do not.

A mode does not tell how a TIFF's or PNG's samples are to be read: whether zero is white, which value is the brightest,
whether samples are signed. That is read from the file's own fields; a photo that cannot be read by them is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from vggnorm.errors import PhotoError

STRIP_ROWS = 256  # converted at a time, so that not the whole of a large photo is copied several times

# Numbers of TIFF's fields (TIFF 6.0, section 8 and 21).
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, PLANAR = 258, 259, 262, 266, 284
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 332, 338, 339, 530
WHITE_IS_ZERO, UNSIGNED, PREMULTIPLIED, SEPARATE_PLANES = 0, 1, 1, 2


@dataclass(frozen=True)
class Samples:
    """How the samples of a photo are to be read.

    Attributes:
        brightest: the value of a grey sample of 16 bits that is white, or black if `negative`.
        negative: whether a grey sample of 16 bits is white where it is zero. Pillow inverts those of 8 bits itself.
        step: what one step of a grey PNG's samples is in Pillow's: 85 if they have 2 bits.
    """

    brightest: int = 65535
    negative: bool = False
    step: int = 1


def read_samples(image: Image.Image) -> Samples:
    """Find how the samples are to be read. Call it before the pixels are loaded.

    Raises:
        PhotoError: they cannot be, or nobody can know. The text is the reason alone.
    """
    if image.mode == "LAB":
        raise PhotoError("has LAB colours; convert it to RGB")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _read_tiff(image)
    if image.mode in ("I", "F"):
        _refuse_32_bits()
    return _read_png(image) if image.format == "PNG" else Samples()


def _refuse_32_bits() -> None:
    raise PhotoError("has 32 bits a channel, of which nobody knows what is white; convert it to 8 or 16")


def _read_tiff(image: TiffImagePlugin.TiffImageFile) -> Samples:
    field = image.tag_v2.get
    bits = tuple(field(BITS, (1,)))
    if max(bits) == 32:
        _refuse_32_bits()
    if any(kind != UNSIGNED for kind in field(SAMPLE_FORMAT, (UNSIGNED,))):
        raise PhotoError("has signed samples, of which nobody knows what is black; convert it to unsigned ones")
    compressed = field(COMPRESSION, 1) != 1
    if PHOTOMETRIC not in image.tag_v2 and image.info.get("compression") != "tiff_jpeg":
        raise PhotoError("does not say whether zero is black or white; save it anew")
    if image.mode == "CMYK" and field(INK_SET, 1) != 1:
        raise PhotoError("has other inks than cyan, magenta, yellow and black; convert it to RGB")
    if image.mode == "YCbCr" and not compressed and tuple(field(SUBSAMPLING, (2, 2))) != (1, 1):
        raise PhotoError("has fewer samples of colour than of brightness, uncompressed; convert it to RGB")
    if field(PLANAR, 1) == SEPARATE_PLANES:
        _refuse_misread_planes(field, bits, compressed=compressed)
    negative = image.mode.startswith("I;16") and field(PHOTOMETRIC, 0) == WHITE_IS_ZERO
    return Samples(brightest=2 ** max(bits) - 1, negative=negative)


def _refuse_misread_planes(field: Callable[..., Any], bits: tuple[int, ...], *, compressed: bool) -> None:
    """Refuse those with a plane for each channel that Pillow takes as 8 bits, whatever they are."""
    plain = set(bits) == {8} and field(FILL_ORDER, 1) == 1 and field(PHOTOMETRIC, 0) != WHITE_IS_ZERO
    if (not plain and not compressed) or PREMULTIPLIED in tuple(field(EXTRA_SAMPLES, ())):
        raise PhotoError("has its channels in separate planes; save it with interleaved ones")


def _read_png(image: Image.Image) -> Samples:
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""  # type: ignore[attr-defined]
    raw = arguments if isinstance(arguments, str) else arguments[0]
    if raw == "RGB;16B" and "transparency" in image.info:
        raise PhotoError("has a transparent colour of 16 bits a channel; save it with 8, or with an alpha channel")
    return Samples(step={"1": 255, "L;2": 85, "L;4": 17}.get(raw, 1))


def why_no_image(path: Path) -> str:
    """Say why Pillow does not take a file as an image: what kind of TIFF it is, if it is one."""
    with path.open("rb") as file:
        header = file.read(8)
        if header[:4] not in (b"II*\0", b"MM\0*"):
            return "is no image, or a damaged one"
        try:
            fields = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(fields.next)
            fields.load(file)
            kind = [fields[BITS], fields.get(SAMPLE_FORMAT, (UNSIGNED,)), fields[PHOTOMETRIC]]
        except Exception:  # what a damaged file makes Pillow raise cannot be foreseen
            return "is no image, or a damaged one"
    return (
        f"is a damaged TIFF or one of a kind that Pillow does not read: bits {kind[0]}, sample format {kind[1]}, "
        f"photometric interpretation {kind[2]}; save it as 8 bits RGB or grey"
    )


def to_rgb(image: Image.Image, samples: Samples) -> Image.Image:
    """Make RGB of what Pillow has decoded; what is transparent becomes white.

    Args:
        image: decoded.
        samples: what `read_samples` said.
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
