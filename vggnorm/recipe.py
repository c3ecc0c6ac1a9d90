"""By what recipe means were measured: it travels with the numbers."""

import json
import math
import re
from collections.abc import Callable, Collection
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from vggnorm.geometry import ColorProfiles, Fit, Geometry, Interpolation, Preprocessing

# What the network computes in. bfloat16: all photos in it, some in float32 as well, and the mean difference is added.
Precision = Literal["float32", "bfloat16"]

FOR_PEOPLE = ("weights", "photos", "annotations", "machine")  # names, of what digests identify
MAX_PHOTOS = 1 << 53  # beyond it, float64 does not hold every whole number
MAX_BATCH = 1 << 16  # photos; frameworks run out of memory long before
PHOTOS_TAKEN = ("taken_sha256", "photos_sha256")  # change while a run goes on


@dataclass(frozen=True)
class Recipe:
    """All that decides the numbers, apart from the photos' content."""

    network: str  # vgg16, vgg19, or a model's own name
    include_top: bool  # whether vgg16 or vgg19 has its dense layers
    weights: str  # where the weights came from, for people: imagenet, or a file's name
    weights_sha256: str  # see vggnorm.network.weights_sha256
    pooling: str  # max, avg, max+avg, none
    dense: bool  # whether hidden dense layers are normalized, too
    preprocessing: Preprocessing  # caffe, torch, tf, none: see vggnorm.geometry
    size: int | tuple[int, int]  # this and the next two: see vggnorm.geometry
    fit: Fit
    interpolation: Interpolation
    precision: Precision
    control: int  # how many photos were to be run in float32 as well; 0 if all are
    accuracy: float | None  # how well that correction was to be known, however many it takes: see vggnorm.measure
    photos: str  # the folder, for people
    annotations: str  # the file that listed the photos, for people; empty if none
    categories: tuple[str, ...]  # that the photos had to show; empty if any
    listed: int  # how many photos were found
    listed_sha256: str  # of their names and sizes: see vggnorm.images.PhotoList.sha256
    limit: int | None  # how many photos were wanted at most
    tolerance: float | None  # how surely the means were to be known: see vggnorm.means.FilterMeans.uncertainty
    shard: tuple[int, int] | None  # (3, 16) for the third of sixteen parts of the photos; None for all
    seed: int  # of the order in which photos were taken
    batch_size: int  # how many photos the network was given at a time; it decides the last digits
    taken_sha256: str  # of the names of the photos taken: see vggnorm.images.Taken, and for the next
    photos_sha256: str  # of the photos used
    version: str  # of vggnorm
    # Files of version 0.1.0 lack the fields below; the defaults are their values there.
    architecture_sha256: str | None = None  # of what the network computes with its weights
    color_profiles: ColorProfiles = "ignore"  # what is done with a colour profile that a photo carries
    machine: str = ""  # what decides the last bits, for people

    def differences(self, other: "Recipe", besides: Collection[str] = ()) -> list[str]:
        """Say in which of the parts that decide the numbers another recipe differs, and how.

        Args:
            other: what to compare with.
            besides: fields that may differ. What is there for people may, and so may the photos taken so far.

        Returns:
            Of each difference, a text as `size 224 and 256`, with this recipe's value first.
        """
        named = [field.name for field in fields(self) if field.name not in {*FOR_PEOPLE, *PHOTOS_TAKEN, *besides}]
        return [
            f"{name} {_short(name, getattr(self, name))} and {_short(name, getattr(other, name))}"
            for name in named
            if getattr(self, name) != getattr(other, name) and not _is_unknown(name, self, other)
        ]

    @property
    def geometry(self) -> Geometry:
        """What the photos were made into."""
        return Geometry(self.size, self.fit, self.interpolation, self.color_profiles)

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the JSON text of what `to_dict` gave.

        Raises:
            ValueError: the text is no JSON object of exactly the recipe's keys and types. Keys that files of version
                0.1.0 do not have may be missing.
        """
        values = json.loads(text)
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(values, dict) or not needed <= values.keys() <= names:
            raise ValueError(f"the recipe must have the keys {', '.join(field.name for field in fields(cls))}")
        for name, value in values.items():
            if not _CHECKS.get(name, _is_text)(value):
                raise ValueError(f"the recipe's {name} is {value!r}")
        for name in "size", "categories", "shard":
            if isinstance(values[name], list):  # JSON has no tuples
                values[name] = tuple(values[name])
        if values["preprocessing"] not in get_args(Preprocessing):
            raise ValueError(f"the recipe's preprocessing is {values['preprocessing']!r}")
        if values["precision"] not in get_args(Precision):
            raise ValueError(f"the recipe's precision is {values['precision']!r}")
        if values.get("color_profiles", "ignore") not in get_args(ColorProfiles):
            raise ValueError(f"the recipe's color_profiles is {values['color_profiles']!r}")
        Geometry(values["size"], values["fit"], values["interpolation"])  # raises for one that does not exist
        return cls(**values)


def _is_unknown(name: str, one: Recipe, other: Recipe) -> bool:
    """Tell whether a file of version 0.1.0 says nothing of a part, so that it cannot be compared."""
    return name == "architecture_sha256" and None in (getattr(one, name), getattr(other, name))


def _short(name: str, value: Any) -> str:
    return f"{value[:12]}…" if name.endswith("sha256") else str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return type(value) is int  # and not bool


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


def _is_ratio(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "include_top": _is_flag,
    "dense": _is_flag,
    "seed": _is_whole,
    "control": lambda value: _is_whole(value) and 0 <= value <= MAX_PHOTOS,
    "listed": lambda value: _is_whole(value) and 0 <= value <= MAX_PHOTOS,
    "batch_size": lambda value: _is_whole(value) and 1 <= value <= MAX_BATCH,
    "accuracy": _is_ratio,
    "tolerance": _is_ratio,
    "shard": lambda value: value is None or (_is_pair(value) and 1 <= value[0] <= value[1] <= MAX_PHOTOS),
    "limit": lambda value: value is None or (_is_whole(value) and 1 <= value <= MAX_PHOTOS),
    "size": lambda value: _is_whole(value) or _is_pair(value),
    "categories": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "architecture_sha256": lambda value: value is None or _is_sha256(value),
    **dict.fromkeys(("weights_sha256", "listed_sha256", *PHOTOS_TAKEN), _is_sha256),
}
