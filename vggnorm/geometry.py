"""What a photo is made into before the network sees it."""

from dataclasses import dataclass
from typing import Literal, get_args

Fit = Literal["crop", "stretch"]
Interpolation = Literal["bilinear", "nearest", "bicubic", "lanczos"]

CROP_SHARE = 224 / 256  # VGG is tested on the central 224 x 224 of photos whose shorter side is 256


@dataclass(frozen=True)
class Geometry:
    """How a photo of any shape becomes `size` x `size` pixels.

    Attributes:
        size: side of the result in pixels.
        fit: `crop` takes the central square, 224/256 of the shorter side wide: VGG's test-time geometry. `stretch`
            takes the whole photo and does not keep its proportions, as `keras.utils.load_img` does.
        interpolation: one of Pillow's filters; all but `nearest` are antialiased.

    Raises:
        ValueError: a value is none of these.
    """

    size: int = 224
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")
        for name, value, choices in (
            ("fit", self.fit, get_args(Fit)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
