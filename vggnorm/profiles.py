"""Colour profiles that photos carry: whether they are other than sRGB, and the way to sRGB.

A profile (ICC.1:2022) says which colours a photo's numbers mean. VGG was trained on numbers that were taken as sRGB,
whatever they meant, and most programs do the same. A photo in Adobe RGB, Display P3 or ProPhoto RGB then looks paler
than it is. Pillow's ImageCms, which is Little CMS, does the arithmetic.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from vggnorm.errors import PhotoError

# White stays white; colours that sRGB does not have become the nearest that it has.
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
SAME = 2  # of 255: the numbers of two profiles for sRGB differ by no more, for they round and bend differently
STEPS = 9  # of each channel, of the colours on which profiles are compared
GREY = ("1", "L", "LA", "La")  # Pillow's modes of grey pixels, and those of 16 bits, which begin with I;
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> mode of the pixels that it is for


def embedded_profile(image: Image.Image) -> bytes | None:
    """Give the profile that an image carries, if it changes what the pixels mean; None if they are sRGB."""
    profile = image.info.get("icc_profile")
    return profile if profile and _changes_colours(bytes(profile)) else None


def to_srgb(image: Image.Image, source: Image.Image, profile: bytes) -> Image.Image:
    """Convert a photo to sRGB.

    Args:
        image: the photo as RGB, its numbers as they were. It may be changed.
        source: the photo as it was decoded; its own inks are taken if it has any.
        profile: what it carries.

    Raises:
        PhotoError: the profile cannot be read, or is for other pixels. The text is the reason alone.
    """
    mode = _mode(profile)
    is_grey = source.mode in GREY or source.mode.startswith("I;")
    if (mode == "CMYK") != (source.mode == "CMYK") or (mode == "L" and not is_grey):
        raise PhotoError(f"is {source.mode}, and carries a colour profile for {mode}; remove the profile")
    pixels = {"RGB": image, "L": image.getchannel(0), "CMYK": source}[mode]
    try:
        return _convert(pixels, profile)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise PhotoError(f"carries a colour profile that cannot be applied: {error}; remove the profile") from error


def _mode(profile: bytes) -> str:
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise PhotoError(f"carries a colour profile that cannot be read: {error}; remove the profile") from error
    if space not in MODES:
        raise PhotoError(f"carries a colour profile for {space.strip()}; convert the photo to sRGB")
    return MODES[space]


def _convert(pixels: Image.Image, profile: bytes) -> Image.Image:
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    # Little CMS samples the curve of greys too coarsely when it optimizes: it is off by up to 10 of 255 near black.
    flags = ImageCms.Flags.NOOPTIMIZE if pixels.mode == "L" else ImageCms.Flags.NONE
    transform = ImageCms.buildTransform(source, target, pixels.mode, "RGB", INTENT, flags)
    if pixels.mode == "RGB":  # no copy of a large photo
        ImageCms.applyTransform(pixels, transform, inPlace=True)
        return pixels
    converted = ImageCms.applyTransform(pixels, transform)
    assert converted is not None
    return converted


@lru_cache(maxsize=8)
def _changes_colours(profile: bytes) -> bool:
    """Tell whether a profile means other colours by some number than sRGB does; so if it cannot be read.

    What a profile calls itself does not count, for there are many by the name of sRGB, and many names for it.
    """
    try:
        mode = _mode(profile)
        if mode == "CMYK":  # without a profile, Pillow takes inks as the complements of red, green and blue
            return True
        steps = np.round(np.linspace(0, 255, STEPS)).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        wanted = np.repeat(steps[None, :, None], 3, axis=2) if mode == "L" else grid
        pixels = Image.fromarray(steps[None]) if mode == "L" else Image.fromarray(grid.copy())
        found = np.asarray(_convert(pixels, profile)).astype(int)
    except (PhotoError, ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return True
    return bool(np.abs(found - wanted).max() > SAME)
