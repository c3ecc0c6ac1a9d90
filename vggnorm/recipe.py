"""By what recipe means were measured: it travels with the numbers."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from vggnorm.geometry import Fit, Geometry, Interpolation, Preprocessing

# What the network computes in. bfloat16: all photos in it, some in float32 as well, and the mean difference is added.
Precision = Literal["float32", "bfloat16"]


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
    photos: str  # the folder, for people
    annotations: str  # the file that listed the photos, for people; empty if none
    categories: tuple[str, ...]  # that the photos had to show; empty if any
    limit: int | None  # how many photos were wanted at most
    seed: int  # of the order in which photos were taken
    taken_sha256: str  # of the names of the photos taken: see vggnorm.images.names_sha256
    photos_sha256: str  # of the photos used: see vggnorm.images.PhotoReader.sha256
    version: str  # of vggnorm

    @property
    def geometry(self) -> Geometry:
        """What the photos were made into."""
        return Geometry(self.size, self.fit, self.interpolation)

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the JSON text of what `to_dict` gave.

        Raises:
            ValueError: the text is no JSON object of exactly the recipe's keys and types.
        """
        values = json.loads(text)
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            raise ValueError(f"the recipe must have the keys {', '.join(names)}")
        for name, value in values.items():
            if not _CHECKS.get(name, _is_text)(value):
                raise ValueError(f"the recipe's {name} is {value!r}")
        for name in "size", "categories":
            if isinstance(values[name], list):  # JSON has no tuples
                values[name] = tuple(values[name])
        if values["preprocessing"] not in get_args(Preprocessing):
            raise ValueError(f"the recipe's preprocessing is {values['preprocessing']!r}")
        if values["precision"] not in get_args(Precision):
            raise ValueError(f"the recipe's precision is {values['precision']!r}")
        Geometry(values["size"], values["fit"], values["interpolation"])  # raises for one that does not exist
        return cls(**values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return type(value) is int  # and not bool


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "include_top": _is_flag,
    "dense": _is_flag,
    "seed": _is_whole,
    "control": _is_whole,
    "limit": lambda value: value is None or _is_whole(value),
    "size": lambda value: all(map(_is_whole, value if isinstance(value, list) and len(value) == 2 else [value])),
    "categories": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}
