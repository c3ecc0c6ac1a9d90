"""The mean activation of every filter: what was measured, how surely, and by which recipe."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vggnorm.errors import MeansError
from vggnorm.geometry import Fit, Geometry, Interpolation, Preprocessing
from vggnorm.output import check_output, replacing

Float64 = NDArray[np.float64]
PerLayer = Mapping[str, Float64]  # layer name -> (filters,), in network order


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
    precision: str  # float32
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
        Geometry(values["size"], values["fit"], values["interpolation"])  # raises for one that does not exist
        return cls(**values)


@dataclass(frozen=True)
class SkippedPhoto:
    """A photo that was found and could not be used."""

    photo: str  # its path below the photo folder
    reason: str


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations over photos, in float64; sums of them are exact merges."""

    count: int
    mean: PerLayer
    squared_deviation: PerLayer

    @classmethod
    def of(cls, per_photo: Mapping[str, NDArray[np.floating]]) -> Self:
        """Take the moments of one batch.

        Args:
            per_photo: layer name -> `(photos, filters)`, each photo's mean activation over positions.
        """
        batch = {layer: values.astype(np.float64) for layer, values in per_photo.items()}
        mean = {layer: values.mean(axis=0) for layer, values in batch.items()}
        squared_deviation = {layer: ((values - mean[layer]) ** 2).sum(axis=0) for layer, values in batch.items()}
        return cls(len(next(iter(batch.values()))), mean, squared_deviation)

    def __add__(self, other: "Moments") -> "Moments":
        """Merge two disjoint sets of photos.

        The formula, stable however many photos there are, is that of Chan, Golub and LeVeque, "Updating Formulae and
        a Pairwise Algorithm for Computing Sample Variances", 1979.
        """
        count = self.count + other.count
        mean, squared_deviation = {}, {}
        for layer in self.mean:
            delta = other.mean[layer] - self.mean[layer]
            mean[layer] = self.mean[layer] + delta * (other.count / count)
            squared_deviation[layer] = (
                self.squared_deviation[layer]
                + other.squared_deviation[layer]
                + delta**2 * (self.count * other.count / count)
            )
        return Moments(count, mean, squared_deviation)


def std_deviation(squared_deviation: PerLayer, count: int) -> PerLayer:
    """Give each filter's standard deviation over photos, with the unbiased variance; nan with a single photo."""
    divisor = count - 1 if count > 1 else np.nan
    return {layer: np.sqrt(values / divisor) for layer, values in squared_deviation.items()}


@dataclass(frozen=True, eq=False)
class FilterMeans:
    """The mean activation of every filter over photos and positions, with its spread over photos.

    Attributes:
        mean: layer name -> `(filters,)` float64, in network order; the mean over photos of the mean over positions.
        squared_deviation: the same shapes; the sum over photos of the squared deviation from `mean`.
        image_count: how many photos were measured, each counted once.
        recipe: how they were measured.
        skipped: the photos that were found and could not be used.
    """

    mean: PerLayer
    squared_deviation: PerLayer
    image_count: int
    recipe: Recipe
    skipped: tuple[SkippedPhoto, ...] = ()

    @property
    def std_error(self) -> PerLayer:
        """The standard error of each mean: layer name -> `(filters,)`; nan with a single photo.

        `s / sqrt(n)`, with `s` the standard deviation over the `n` photos.
        """
        spread = std_deviation(self.squared_deviation, self.image_count)
        return {layer: values / np.sqrt(self.image_count) for layer, values in spread.items()}

    @property
    def silent(self) -> Mapping[str, NDArray[np.intp]]:
        """The filters whose mean is not above 0: layer name -> indices. They keep their scale, 1.

        They never fired; or, behind a rectifier with a leak, their activation is negative in the mean.
        """
        return {layer: np.flatnonzero(values <= 0) for layer, values in self.mean.items()}

    @property
    def filter_count(self) -> int:
        """How many filters there are in all layers together."""
        return sum(len(values) for values in self.mean.values())

    def require_layers(self, filters: Mapping[str, int], source: str = "the network") -> None:
        """Refuse a network that has other layers.

        Args:
            filters: layer name -> number of filters, in network order.
            source: what to call the network in the error.

        Raises:
            MeansError: a layer is missing, additional or of another size.
        """
        measured = {layer: len(values) for layer, values in self.mean.items()}
        for layer in {**filters, **measured}:
            if measured.get(layer) != filters.get(layer):
                raise MeansError(
                    f"the means do not fit {source}: layer {layer} has "
                    f"{_count_filters(measured.get(layer))} in the means and "
                    f"{_count_filters(filters.get(layer))} in the network; measure this network with compute-means"
                )


def save_means(means: FilterMeans, path: str | Path, *, force: bool = False) -> None:
    """Write the means as one structured record that `np.load(path)` reads without pickle.

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    path = check_output(path, force=force)
    layers = np.dtype([(layer, np.float64, values.shape) for layer, values in means.mean.items()])
    recipe = json.dumps(means.recipe.to_dict())
    skipped = skipped_to_json(means.skipped)
    record = np.zeros(
        (),
        dtype=[
            ("mean", layers),
            ("squared_deviation", layers),
            ("image_count", np.int64),
            ("recipe", f"U{len(recipe)}"),
            ("skipped", f"U{len(skipped)}"),
        ],
    )
    record["image_count"], record["recipe"], record["skipped"] = means.image_count, recipe, skipped
    for layer in means.mean:
        record["mean"][layer] = means.mean[layer]
        record["squared_deviation"][layer] = means.squared_deviation[layer]
    content = io.BytesIO()  # numpy's own writing to a file hides why the system would not write
    np.save(content, record)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
        load_means(temporary)


def load_means(path: str | Path) -> FilterMeans:
    """Read and check what `save_means` wrote. Nothing in the file is executed.

    Raises:
        MeansError: the file cannot be read, or does not hold usable means; the text says which.
    """
    record = _load_record(Path(path))
    try:
        return means_from_parts(
            mean={layer: record["mean"][layer] for layer in record.dtype["mean"].names or ()},
            squared_deviation={
                layer: record["squared_deviation"][layer] for layer in record.dtype["squared_deviation"].names or ()
            },
            image_count=record["image_count"].item(),
            recipe=str(record["recipe"]),
            skipped=str(record["skipped"]),
        )
    except ValueError as error:
        raise MeansError(f"{path}: not usable as means: {error}; measure again with compute-means") from error


def means_from_parts(
    *,
    mean: Mapping[str, Any],
    squared_deviation: Mapping[str, Any],
    image_count: object,
    recipe: str,
    skipped: str,
) -> FilterMeans:
    """Check what a file holds and make it `FilterMeans`.

    Args:
        mean: layer name -> array.
        squared_deviation: the same layers and shapes.
        image_count: 1 or more.
        recipe: JSON text, see `Recipe`.
        skipped: JSON text, a list of objects with the keys of `SkippedPhoto`.

    Raises:
        ValueError: something is missing, of another shape, not finite or negative.
    """
    if not isinstance(image_count, int) or image_count < 1:
        raise ValueError(f"image_count is {image_count!r}")
    if not mean or list(mean) != list(squared_deviation):
        raise ValueError("mean and squared_deviation do not have the same layers")
    for layer in mean:
        _check_vector(f"the mean of {layer}", mean[layer])
        _check_vector(f"the squared deviation of {layer}", squared_deviation[layer])
        require_not_negative(f"the squared deviation of {layer}", squared_deviation[layer])
        if mean[layer].shape != squared_deviation[layer].shape:
            raise ValueError(f"mean and squared deviation of {layer} differ in shape")
    return FilterMeans(
        mean={layer: np.array(values) for layer, values in mean.items()},
        squared_deviation={layer: np.array(values) for layer, values in squared_deviation.items()},
        image_count=image_count,
        recipe=Recipe.from_json(recipe),
        skipped=_skipped_from_json(skipped),
    )


def skipped_to_json(skipped: Sequence[SkippedPhoto]) -> str:
    """Write the photos left out as JSON text, which `means_from_parts` reads."""
    return json.dumps([asdict(photo) for photo in skipped])


def _load_record(path: Path) -> NDArray[np.void]:
    wanted = "mean", "squared_deviation", "image_count", "recipe", "skipped"
    _require_npy(path)
    try:
        # Mapped, a header that promises more than the file holds is refused before memory is allocated for it.
        record = npy_format.open_memmap(path, mode="r")
    except Exception as error:  # what a damaged header makes numpy raise cannot be foreseen
        raise MeansError(f"{path}: is damaged, or holds pickled objects, which are never loaded: {error}") from error
    if record.shape != () or record.dtype.names != wanted:
        raise MeansError(f"{path}: holds no means; give a file that compute-means wrote")
    return record


def _require_npy(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(npy_format.MAGIC_PREFIX))
    except OSError as error:
        raise MeansError(f"{path}: cannot be read: {error.strerror}") from error
    if magic != npy_format.MAGIC_PREFIX:
        raise MeansError(f"{path}: is no .npy file; give a file that compute-means wrote")


def require_not_negative(what: str, values: Float64) -> None:
    """Raise a ValueError that names the first negative value."""
    _refuse(what, "negative", values, values < 0)


def _check_vector(what: str, values: Any) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.ndim != 1 or not values.size:
        raise ValueError(f"{what} is no vector of float64")
    _refuse(what, "not finite", values, ~np.isfinite(values))


def _refuse(what: str, trouble: str, values: Float64, at: NDArray[np.bool_]) -> None:
    if at.any():
        index = np.flatnonzero(at)[0]
        raise ValueError(f"{what} is {trouble} at filter {index} ({values[index]})")


def _skipped_from_json(text: str) -> tuple[SkippedPhoto, ...]:
    try:
        return tuple(SkippedPhoto(str(entry["photo"]), str(entry["reason"])) for entry in json.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError("the list of skipped photos is damaged") from error


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
    "limit": lambda value: value is None or _is_whole(value),
    "size": lambda value: all(map(_is_whole, value if isinstance(value, list) and len(value) == 2 else [value])),
    "categories": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}


def _count_filters(count: int | None) -> str:
    return "no filters" if count is None else f"{count} filters"
