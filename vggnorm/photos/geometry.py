"""The shape and the colours in which the network gets a photo."""

from dataclasses import dataclass
from typing import Literal, get_args

Fit = Literal["crop", "stretch"]

Interpolation = Literal["bilinear", "nearest", "bicubic", "lanczos"]

# caffe, torch and tf are the modes of `keras.applications.imagenet_utils.preprocess_input`. caffe:
# RGB to BGR, minus ImageNet's mean colour, as for VGG. rgb255: the same in RGB. torch: 0..1, minus
# the mean, divided by the standard deviation. tf: -1..1. none: RGB 0..255 as it is.
Preprocessing = Literal["caffe", "rgb255", "torch", "tf", "none"]

# What to do with a colour profile that a photo carries. ignore: take the numbers as sRGB, as Keras,
# TensorFlow and Pillow do. convert: convert them to sRGB.
ColorProfiles = Literal["ignore", "convert"]

# The longest side, in pixels. For one square photo of this size, VGG's first layer alone takes
# 17 GB.
MAX_SIDE = 8192

CROP_SHARE = 224 / 256  # VGG is tested on the central 224 x 224 of photos whose shorter side is 256


@dataclass(frozen=True)
class Geometry:
    """How a photo of any shape becomes one of the network's shape.

    Attributes:
        size: side of the result in pixels, or its `(height, width)`.
        fit: `crop` takes the central square, whose side is 224/256 of the photo's shorter side:
            VGG's test-time geometry. If the result is not square, it takes a rectangle of the
            result's proportions. `stretch` takes the whole photo and does not keep its proportions,
            as `keras.utils.load_img` does.
        interpolation: one of Pillow's filters; all but `nearest` are antialiased.
        color_profiles: `ignore` takes the numbers of every photo as sRGB, as Keras does; `convert`
            converts a photo that carries another colour profile to sRGB.

    Raises:
        ValueError: a value is out of range or unknown.
    """

    size: int | tuple[int, int] = 224
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    color_profiles: ColorProfiles = "ignore"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")
        if max(self.height, self.width) > MAX_SIDE:
            raise ValueError(f"size is {self.size}; it must be at most {MAX_SIDE}")
        for name, value, choices in (
            ("fit", self.fit, get_args(Fit)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("color_profiles", self.color_profiles, get_args(ColorProfiles)),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")

    @property
    def height(self) -> int:
        """Height of the result in pixels."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        """Width of the result in pixels."""
        return self.size if isinstance(self.size, int) else self.size[1]
