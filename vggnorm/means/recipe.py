"""The recipe that means were measured by. It travels with the numbers."""

import json
import math
import re
from collections.abc import Callable, Collection
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from vggnorm.photos.blocks import Part
from vggnorm.photos.geometry import ColorProfiles, Fit, Geometry, Interpolation, Preprocessing

# What the network computes in. With bfloat16, all photos are run in it and some of them in float32
# as well, and the mean difference is added.
Precision = Literal["float32", "bfloat16"]

# What the network has around the input of its convolutions. zeros: as Keras's networks have it.
# reflect: the input's own reflection, as PyTorch's programs for style transfer often have it.
Padding = Literal["zeros", "reflect"]

# It changes when the same photos and options give other means than before. 1: version 0.1.0.
# 2: the samples of TIFFs are read as the file's own fields say. 3: no batch holds photos of two
# blocks, which changes last bits where photos are skipped, and parts are made of whole blocks.
NUMERICS = 3

# Names of what digests identify, and the program's version: they may differ between two runs.
FOR_PEOPLE = ("weights", "photos", "annotations", "version", "machine", "output_layers")
PHOTOS_TAKEN = ("taken_sha256", "photos_sha256")  # change while a run goes on

MAX_PHOTOS = 1 << 53  # beyond it, float64 does not hold every whole number
MAX_BATCH = 1 << 16  # photos; frameworks run out of memory long before


@dataclass(frozen=True)
class Recipe:
    """All that decides the means, apart from the content of the photos.

    Attributes:
        network: `vgg16`, `vgg19`, or a model's own name.
        include_top: whether `vgg16` or `vgg19` has its dense layers.
        weights: where the weights came from, for people: `imagenet`, or the name of a file.
        weights_sha256: the digest of the weights: see `vggnorm.network.storage.weights_sha256`.
        pooling: `max`, `avg`, `max+avg` or `none`.
        dense: whether hidden dense layers are normalized, too.
        preprocessing: `caffe`, `rgb255`, `torch`, `tf` or `none`: see `vggnorm.photos.geometry`.
        size: the side of the photos in pixels, or their height and width: see `Geometry`.
        fit: see `Geometry`.
        interpolation: see `Geometry`.
        precision: what the network computed in.
        control: how many photos were to be run in float32 as well; 0 if all are.
        accuracy: how well float32's correction was to be known, however many photos that takes:
            see `vggnorm.run.choosing.ACCURACY`.
        photos: the folder, the archive or the address, for people.
        annotations: the file that listed the photos, for people; empty if there was none.
        categories: the COCO categories of which a photo had to show one; empty if any photo was
            taken.
        listed: how many photos were found.
        listed_sha256: the digest of their names and sizes: see `PhotoList.sha256`.
        limit: how many photos were wanted at most.
        tolerance: how surely the means were to be known: see `FilterMeans.uncertainty`.
        shard: `(3, 16)` for the third of sixteen parts of the photos; None for all of them. See
            `part`.
        seed: of the random order in which the photos were taken.
        batch_size: how many photos the network was given at a time. It decides the last digits.
        taken_sha256: the digest of the names of the photos taken: see `Taken`.
        photos_sha256: the digest of the photos used: see `vggnorm.photos.reader.Taken`.
        version: the version of vggnorm, for people.
        numerics: see `NUMERICS`. This field and the next ones are missing in files of earlier
            versions; the defaults are their values there.
        architecture_sha256: the digest of what the network computes with its weights.
        color_profiles: what is done with a colour profile that a photo carries.
        machine: what decides the last bits, for people.
        padding: `zeros` or `reflect`, what the network had around the input of its convolutions.
            Files of version 0.2.0 and earlier do not have this field, nor the next one.
        batches_per_block: how many full batches a block of photos is, see `vggnorm.photos.blocks`;
            None where there were no blocks, and a part had every N-th photo.
        output_layers: the layers whose filters' activations are what the network gives. Normalized,
            the network's output is divided by their means. Files of earlier versions do not say it.
        keep_output: whether these layers keep the scale 1, so that the output stays as it was.
        max_scale: the largest factor that `normalize` may multiply an activation by; None if there
            is no bound. It does not decide the means: see `FilterMeans.scales`.
    """

    network: str
    include_top: bool
    weights: str
    weights_sha256: str
    pooling: str
    dense: bool
    preprocessing: Preprocessing
    size: int | tuple[int, int]
    fit: Fit
    interpolation: Interpolation
    precision: Precision
    control: int
    accuracy: float | None
    photos: str
    annotations: str
    categories: tuple[str, ...]
    listed: int
    listed_sha256: str
    limit: int | None
    tolerance: float | None
    shard: tuple[int, int] | None
    seed: int
    batch_size: int
    taken_sha256: str
    photos_sha256: str
    version: str
    numerics: int = 1
    architecture_sha256: str | None = None
    color_profiles: ColorProfiles = "ignore"
    machine: str = ""
    padding: Padding = "zeros"
    batches_per_block: int | None = None
    output_layers: tuple[str, ...] = ()
    keep_output: bool = False
    max_scale: float | None = None

    @property
    def part(self) -> Part | None:
        """Which part of the photos was measured, by whole blocks; None if all of them were.

        Raises:
            ValueError: the parts were not made of blocks.
        """
        if self.shard is None:
            return None
        if self.batches_per_block is None:
            raise ValueError("the parts were not made of blocks")
        return Part(*self.shard, self.batches_per_block * self.batch_size)

    def differences(self, other: "Recipe", besides: Collection[str] = ()) -> list[str]:
        """Say which of the fields that decide the means differ from another recipe's, and how.

        Args:
            other: what to compare with.
            besides: more fields that may differ, beside those for people and the photos taken so
                far.

        Returns:
            A text for each difference, such as `size 224 and 256`, with this recipe's value first.
        """
        may_differ = {*FOR_PEOPLE, *PHOTOS_TAKEN, *besides}
        differences = []
        for name in (field.name for field in fields(self)):
            own, others = getattr(self, name), getattr(other, name)
            if name not in may_differ and own != others:
                differences.append(f"{name} {_short(name, own)} and {_short(name, others)}")
        return differences

    @property
    def kept_layers(self) -> tuple[str, ...]:
        """The layers that keep the scale 1 although their means are known."""
        return self.output_layers if self.keep_output else ()

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
            ValueError: the text is not a JSON object with exactly the recipe's keys and types. Keys
                that files of earlier versions do not have may be missing.
        """
        values = json.loads(text)
        names = [field.name for field in fields(cls)]
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(values, dict) or not needed <= values.keys() <= set(names):
            raise ValueError(f"the recipe must have the keys {', '.join(names)}")
        for name, value in values.items():
            if not _CHECKS.get(name, _is_text)(value):
                raise ValueError(f"the recipe's {name} is {value!r}")
        for name in ("size", "categories", "shard", "output_layers"):
            if isinstance(values.get(name), list):  # JSON has no tuples
                values[name] = tuple(values[name])
        recipe = cls(**values)
        recipe.geometry  # noqa: B018  raises for a geometry that does not exist
        return recipe


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
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    )


def _is_photo_count(value: Any) -> bool:
    return _is_whole(value) and 0 <= value <= MAX_PHOTOS


def _is_limit(value: Any) -> bool:
    return value is None or (_is_photo_count(value) and value > 0)


def _is_part(value: Any) -> bool:
    return value is None or (_is_pair(value) and 1 <= value[0] <= value[1] <= MAX_PHOTOS)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "include_top": _is_flag,
    "dense": _is_flag,
    "preprocessing": lambda value: value in get_args(Preprocessing),
    "size": lambda value: _is_whole(value) or _is_pair(value),
    "precision": lambda value: value in get_args(Precision),
    "control": _is_photo_count,
    "accuracy": _is_ratio,
    "categories": _is_list_of_texts,
    "listed": lambda value: _is_photo_count(value) and value > 0,
    "limit": _is_limit,
    "tolerance": _is_ratio,
    "shard": _is_part,
    "seed": _is_whole,
    "batch_size": lambda value: _is_whole(value) and 1 <= value <= MAX_BATCH,
    "numerics": lambda value: _is_whole(value) and value >= 1,
    "architecture_sha256": lambda value: value is None or _is_sha256(value),
    "color_profiles": lambda value: value in get_args(ColorProfiles),
    "padding": lambda value: value in get_args(Padding),
    "batches_per_block": _is_limit,
    "output_layers": _is_list_of_texts,
    "keep_output": _is_flag,
    "max_scale": _is_ratio,
    **dict.fromkeys(("weights_sha256", "listed_sha256", *PHOTOS_TAKEN), _is_sha256),
}
