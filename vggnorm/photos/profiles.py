"""Colour profiles that photos carry, and the conversion to sRGB.

A profile (ICC.1:2022) says which colours a photo's numbers mean. VGG was trained on numbers that
were taken as sRGB, whatever they meant, and most programs do the same. A photo in Adobe RGB,
Display P3 or ProPhoto RGB then looks paler than it is. Pillow's ImageCms does the arithmetic; it is
Little CMS.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from vggnorm.errors import PhotoError

# White stays white; colours that sRGB does not have become the nearest ones that it has.
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC

# Two profiles are the same if they give the same colours up to this, of 255. Profiles for sRGB
# differ a little, because they round the numbers and draw the curve in different ways.
SAME = 2

STEPS = 9  # of each channel: profiles are compared on 9 x 9 x 9 colours

# Pillow's modes of grey pixels. Those with 16 bits begin with I; instead.
GREY = ("1", "L", "LA", "La")

# The colour space of a profile -> Pillow's mode of the pixels that it is for.
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def embedded_profile(image: Image.Image) -> bytes | None:
    """Give the profile that an image carries; None if it has none, or only one for sRGB."""
    profile = image.info.get("icc_profile")
    return profile if profile and _changes_colours(bytes(profile)) else None


def to_srgb(image: Image.Image, source: Image.Image, profile: bytes) -> Image.Image:
    """Convert a photo to sRGB.

    Args:
        image: the photo in RGB, without any conversion of its colours. It may be changed.
        source: the photo as it was decoded; if it has inks, they are converted.
        profile: what the photo carries.

    Raises:
        PhotoError: the profile cannot be read, or is for other pixels. The text is the reason
            alone.
    """
    mode = _mode(profile)
    is_grey = source.mode in GREY or source.mode.startswith("I;")
    if (mode == "CMYK") != (source.mode == "CMYK") or (mode == "L" and not is_grey):
        raise PhotoError(
            f"is {source.mode}, but carries a colour profile for {mode}; remove the profile"
        )
    pixels = {"RGB": image, "L": image.getchannel(0), "CMYK": source}[mode]
    try:
        return _convert(pixels, profile)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise PhotoError(
            f"carries a colour profile that cannot be applied: {error}; remove the profile"
        ) from error


def _mode(profile: bytes) -> str:
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise PhotoError(
            f"carries a colour profile that cannot be read: {error}; remove the profile"
        ) from error
    if space not in MODES:
        raise PhotoError(f"carries a colour profile for {space.strip()}; convert the photo to sRGB")
    return MODES[space]


def _convert(pixels: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    # When Little CMS optimizes, it samples the curve of greys too coarsely: near black it is off by
    # up to 10 of 255.
    flags = ImageCms.Flags.NOOPTIMIZE if pixels.mode == "L" else ImageCms.Flags.NONE
    transform = ImageCms.buildTransform(source, target, pixels.mode, "RGB", INTENT, flags)
    if pixels.mode == "RGB":  # convert in place: a large photo need not be copied
        ImageCms.applyTransform(pixels, transform, inPlace=True)
        return pixels
    converted = ImageCms.applyTransform(pixels, transform)
    assert converted is not None
    return converted


@lru_cache(maxsize=8)
def _changes_colours(profile: bytes) -> bool:
    """Say whether a profile gives other colours than sRGB for some numbers, or cannot be read.

    A profile's name does not count: many profiles are named sRGB, and sRGB has many names.
    """
    try:
        return _difference_from_srgb(profile) > SAME
    except (PhotoError, ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return True


def _difference_from_srgb(profile: bytes) -> float:
    """Give the largest difference between a profile's colours and those of sRGB, of 255."""
    mode = _mode(profile)
    if mode == "CMYK":  # without a profile, Pillow takes inks as complements of red, green and blue
        return np.inf
    steps = np.round(np.linspace(0, 255, STEPS)).astype(np.uint8)
    if mode == "L":
        expected = np.repeat(steps[None, :, None], 3, axis=2)
        pixels = Image.fromarray(steps[None])
    else:
        expected = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        pixels = Image.fromarray(expected.copy())
    found = np.asarray(_convert(pixels, profile)).astype(int)
    return float(np.abs(found - expected).max())
