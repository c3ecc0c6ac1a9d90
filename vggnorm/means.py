"""The mean activation of every filter: what was measured, how surely, and by which recipe."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vggnorm.errors import MeansError
from vggnorm.moments import Float64, Moments, PerLayer, relative_to, std_deviation
from vggnorm.output import check_output, replacing
from vggnorm.recipe import Recipe
from vggnorm.untrusted import require_regular_file

# What `FilterMeans.uncertainty` is about. A normal deviate is within 1.96 of 0 in 95 of 100 cases.
KNOWN_SHARE, CONFIDENCE_95 = 0.95, 1.96


@dataclass(frozen=True)
class SkippedPhoto:
    """A photo that was found and could not be used."""

    photo: str  # its path below the photo folder
    reason: str


@dataclass(frozen=True, eq=False)
class FilterMeans:
    """The mean activation of every filter over photos and positions, with its spread over photos.

    Attributes:
        measured: count, mean and spread over photos, each counted once, of the mean over positions; in the precision in
            which all photos were run.
        recipe: how they were measured.
        skipped: the photos that were found and could not be used.
        correction: where photos were run in another precision than float32: what float32 gives more, over the photos
            that were run in both.
    """

    measured: Moments
    recipe: Recipe
    skipped: tuple[SkippedPhoto, ...] = ()
    correction: Moments | None = None

    @cached_property
    def mean(self) -> PerLayer:
        """The mean activation: layer name -> `(filters,)` float64, in network order; with float32's correction.

        The correction is a control variate: it is known from few photos, since it differs little from photo to photo.
        That is the two-level case of Giles, "Multilevel Monte Carlo Path Simulation", Operations Research 56(3), 2008.
        """
        if self.correction is None:
            return self.measured.mean
        corrected = {layer: mean + self.correction.mean[layer] for layer, mean in self.measured.mean.items()}
        # A correction that would leave nothing of a filter that fires is not made.
        return {
            layer: np.where((mean > 0) & (corrected[layer] <= 0), mean, corrected[layer])
            for layer, mean in self.measured.mean.items()
        }

    @property
    def squared_deviation(self) -> PerLayer:
        """The sum over photos of the squared deviation from their mean: layer name -> `(filters,)`."""
        return self.measured.squared_deviation

    @property
    def image_count(self) -> int:
        """How many photos were measured."""
        return self.measured.count

    @property
    def std_error(self) -> PerLayer:
        """The standard error of each mean: layer name -> `(filters,)`; nan with a single photo.

        `sqrt(s^2 / N + e^2)`, with `s` the standard deviation over the `N` photos, and `e` what `correction_std_error`
        gives. (Exact if `s` is that of float32; other precisions' differs by less than a percent.)
        """
        spread = std_deviation(self.squared_deviation, self.image_count)
        correction, root = self.correction_std_error, np.sqrt(self.image_count)
        return {layer: np.hypot(values / root, correction[layer]) for layer, values in spread.items()}

    @property
    def correction_std_error(self) -> PerLayer:
        """How far each mean may be from float32's over the same photos: layer name -> `(filters,)`.

        `e = d sqrt(1/n - 1/N)`, with `d` the standard deviation of float32's surplus over the `n` of `N` photos that
        were run in both precisions: the standard error of a mean over a sample from a finite population. 0 where all
        photos were run in float32; nan where a single one was.
        """
        if self.correction is None or self.correction.count == self.image_count:
            return {layer: np.zeros_like(values) for layer, values in self.mean.items()}
        spread = std_deviation(self.correction.squared_deviation, self.correction.count)
        share = 1 / self.correction.count - 1 / self.image_count
        return {layer: values * np.sqrt(share) for layer, values in spread.items()}

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

    @property
    def uncertainty(self) -> float | None:
        """How surely most means are known: `KNOWN_SHARE` of the filters that fire are known to this, relative.

        Known to `e` is a mean of which `e` is half the width of the 95 % confidence interval, relative to the mean.
        None where that cannot be told: with a single photo, or if no filter fires.
        """
        if self.image_count < 2:
            return None
        relative = relative_to(self.mean, self.std_error)
        if not np.isfinite(relative).all() or not relative.size:
            return None
        return CONFIDENCE_95 * float(np.quantile(relative, KNOWN_SHARE, method="inverted_cdf"))

    def require_whole(self) -> None:
        """Refuse means over one of several parts of the photos.

        Raises:
            MeansError: they are.
        """
        if self.recipe.shard is not None:
            number, count = self.recipe.shard
            raise MeansError(f"the means are those of part {number} of {count}; add up all with merge-means first")

    def require_control(self) -> None:
        """Refuse means of which nobody knows how far they are from float32's.

        Raises:
            MeansError: they were measured in another precision, and too few of the photos in float32 as well.
        """
        count = 0 if self.correction is None else self.correction.count
        if self.recipe.control and count < min(2, self.image_count):
            raise MeansError(
                f"of the {self.recipe.control} photos that were to be run in float32 as well, {count} could be used; "
                "give a larger --control"
            )

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


# What a file holds, by name. The names of the layers are data and no names of fields, so that the header of a .npy file
# stays small for any network: numpy refuses headers of more than 10,000 characters.
# Vectors: the values of all filters, layer after layer, float64. `mean` is `measured` with `correction`, and the others
# are the raw sums, from which a run can go on to the last bit.
VECTORS = ("mean", "measured", "squared_deviation", "correction", "correction_squared_deviation")
FILTERS = "filters"  # how many filters each layer has, int64
COUNTS = ("image_count", "control_count")
TEXTS = ("layers", "recipe", "skipped")  # JSON; `layers` is the list of their names
PARTS = (*VECTORS, FILTERS, *COUNTS, *TEXTS)

MAX_COUNT = 1 << 53  # photos: beyond it, float64 does not hold every whole number
# In files of version 0.1.0, each vector is a record of layers. Their headers may be this long, in bytes: thousands of
# layers, and no more than Python parses without harm, however it is nested.
MAX_HEADER = 1 << 18


def save_means(means: FilterMeans, path: str | Path, *, force: bool = False) -> None:
    """Write the means as one structured record that `np.load(path)` reads without pickle.

    The record holds the values of all filters, layer after layer. With numpy alone, the mean of each layer is::

        means = np.load("means.npy")
        mean = dict(zip(json.loads(str(means["layers"])), np.split(means["mean"], means["filters"].cumsum()[:-1])))

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    path = check_output(path, force=force)
    content = _to_npy(means)  # numpy's own writing to a file hides why the system would not write
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        load_means(temporary)


def require_saveable(filters: Mapping[str, int], recipe: Recipe) -> None:
    """Try, before any photo is measured, whether such means can be saved and read again with plain `np.load`.

    Args:
        filters: layer name -> number of filters.
        recipe: how they are to be measured.

    Raises:
        MeansError: they cannot; the text says why.
    """
    content = io.BytesIO(_to_npy(FilterMeans(replace(Moments.of_none(filters), count=1), recipe)))
    try:
        means_from_parts(_parts(np.load(content, allow_pickle=False)))
    except ValueError as error:
        raise MeansError(f"the means could not be saved: {error}") from error


def load_means(path: str | Path) -> FilterMeans:
    """Read and check what `save_means` wrote. Nothing in the file is executed.

    Raises:
        MeansError: the file cannot be read, or does not hold usable means; the text says which.
    """
    record = _load_record(Path(path))
    try:
        return means_from_parts(_parts(record))
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise MeansError(f"{path}: not usable as means: {error}; measure again with compute-means") from error


def means_to_parts(means: FilterMeans) -> dict[str, Any]:
    """Give what a file must hold, under the names of `PARTS`."""
    correction = means.correction or Moments.of_none({layer: len(values) for layer, values in means.mean.items()})
    vectors = {
        "mean": means.mean,
        "measured": means.measured.mean,
        "squared_deviation": means.squared_deviation,
        "correction": correction.mean,
        "correction_squared_deviation": correction.squared_deviation,
    }
    return {
        "layers": json.dumps(list(means.mean)),
        FILTERS: np.array([len(values) for values in means.mean.values()], dtype=np.int64),
        **{name: np.concatenate([vector[layer] for layer in means.mean]) for name, vector in vectors.items()},
        "image_count": means.image_count,
        "control_count": correction.count,
        "recipe": json.dumps(means.recipe.to_dict()),
        "skipped": json.dumps([asdict(photo) for photo in means.skipped]),
    }


def means_from_parts(parts: Mapping[str, Any]) -> FilterMeans:
    """Check what a file holds, as `means_to_parts` gives it, and make it `FilterMeans`.

    Raises:
        ValueError: something is missing, of another shape, not finite, negative, or at odds with the rest.
    """
    image_count, control_count = (parts[name] for name in COUNTS)
    if not isinstance(image_count, int) or not 1 <= image_count <= MAX_COUNT:
        raise ValueError(f"image_count is {image_count!r}")
    if not isinstance(control_count, int) or not 0 <= control_count <= image_count:
        raise ValueError(f"control_count is {control_count!r}")
    filters = _filters_from_parts(parts)
    vectors = {name: _split(name, parts[name], filters) for name in VECTORS}
    correction = Moments(control_count, vectors["correction"], vectors["correction_squared_deviation"])
    means = FilterMeans(
        Moments(image_count, vectors["measured"], vectors["squared_deviation"]),
        Recipe.from_json(parts["recipe"]),
        _skipped_from_json(parts["skipped"]),
        correction if control_count else None,
    )
    for layer, values in means.mean.items():
        if not np.array_equal(values, vectors["mean"][layer]):
            raise ValueError(f"the mean of {layer} is not what the sums give")
    return means


def flatten_layers(vectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Make of a file of version 0.1.0, with its layers by name, the parts in which layers are named today.

    Args:
        vectors: for each of `VECTORS`, layer name -> `(filters,)` float64.

    Raises:
        ValueError: they do not have the same layers, or something is no vector of float64.
    """
    mean = vectors["mean"]
    for name in VECTORS:
        if not mean or list(vectors[name]) != list(mean):
            raise ValueError(f"mean and {name} do not have the same layers")
        for layer, values in vectors[name].items():
            what = f"{name.replace('_', ' ')} of {layer}"
            _require_vector(f"the {what}", values)
            if values.shape != mean[layer].shape:
                raise ValueError(f"mean and {what} differ in shape")
    return {
        "layers": json.dumps(list(mean)),
        FILTERS: np.array([len(values) for values in mean.values()], dtype=np.int64),
        **{name: np.concatenate(list(vectors[name].values())) for name in VECTORS},
    }


def _to_npy(means: FilterMeans) -> bytes:
    """Give the content of the .npy file."""
    parts = {name: np.asarray(part) for name, part in means_to_parts(means).items()}
    record = np.zeros((), dtype=[(name, part.dtype, part.shape) for name, part in parts.items()])
    for name, part in parts.items():
        record[name] = part
    content = io.BytesIO()
    np.save(content, record)
    return content.getvalue()


def _parts(record: NDArray[np.void]) -> dict[str, Any]:
    """Give the parts that a record holds, be it one of version 0.1.0."""
    parts: dict[str, Any] = {name: np.asarray(record[name]) for name in record.dtype.names or ()}
    if "layers" not in parts:
        layers = {name: parts[name].dtype.names or () for name in VECTORS}
        parts |= flatten_layers({name: {layer: parts[name][layer] for layer in layers[name]} for name in VECTORS})
    return {
        **parts,
        **{name: parts[name].item() for name in COUNTS},
        **{name: str(parts[name]) for name in TEXTS},
    }


def _filters_from_parts(parts: Mapping[str, Any]) -> dict[str, int]:
    """Check the names of the layers and their numbers of filters: layer name -> number of filters."""
    layers, filters = json.loads(parts["layers"]), parts[FILTERS]
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError("the list of layers is damaged")
    if len(set(layers)) != len(layers):
        raise ValueError("the list of layers names a layer twice")
    if not isinstance(filters, np.ndarray) or filters.dtype.kind not in "iu" or filters.shape != (len(layers),):
        raise ValueError("there is not one number of filters for each layer")
    counts: list[int] = filters.tolist()
    if min(counts) < 1:
        raise ValueError("a layer has no filters")
    return dict(zip(layers, counts, strict=True))


def _split(name: str, vector: Any, filters: Mapping[str, int]) -> dict[str, Float64]:
    """Cut a vector of all filters into those of the layers, and check the values."""
    what = name.replace("_", " ")
    _require_vector(f"the {what}", vector)
    if len(vector) != sum(filters.values()):
        raise ValueError(f"the {what} has {len(vector)} values for {sum(filters.values())} filters")
    parts: dict[str, Float64] = {}
    start = 0
    for layer, count in filters.items():
        values = np.array(vector[start : start + count])
        _refuse(f"the {what} of {layer}", "not finite", values, ~np.isfinite(values))
        if name.endswith("squared_deviation"):
            require_not_negative(f"the {what} of {layer}", values)
        parts[layer] = values
        start += count
    return parts


def _load_record(path: Path) -> NDArray[np.void]:
    _require_npy(path)
    try:
        # Mapped, a header that promises more than the file holds is refused before memory is allocated for it.
        record = npy_format.open_memmap(path, mode="r", max_header_size=MAX_HEADER)
    except Exception as error:  # what a damaged header makes numpy raise cannot be foreseen
        raise MeansError(f"{path}: is damaged, or holds pickled objects, which are never loaded: {error}") from error
    names = set(record.dtype.names or ())
    if record.shape != () or names not in (set(PARTS), set(PARTS) - {"layers", FILTERS}):
        raise MeansError(f"{path}: holds no means; give a file that compute-means wrote")
    return record


def _require_npy(path: Path) -> None:
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            magic = file.read(len(npy_format.MAGIC_PREFIX))
    except OSError as error:
        raise MeansError(f"{path}: cannot be read: {error.strerror}") from error
    if magic != npy_format.MAGIC_PREFIX:
        raise MeansError(f"{path}: is no .npy file; give a file that compute-means wrote")


def require_not_negative(what: str, values: Float64) -> None:
    """Raise a ValueError that names the first negative value."""
    _refuse(what, "negative", values, values < 0)


def _require_vector(what: str, values: Any) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.ndim != 1 or not values.size:
        raise ValueError(f"{what} is no vector of float64")


def _refuse(what: str, trouble: str, values: Float64, at: NDArray[np.bool_]) -> None:
    if at.any():
        index = np.flatnonzero(at)[0]
        raise ValueError(f"{what} is {trouble} at filter {index} ({values[index]})")


def _skipped_from_json(text: str) -> tuple[SkippedPhoto, ...]:
    try:
        return tuple(SkippedPhoto(str(entry["photo"]), str(entry["reason"])) for entry in json.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError("the list of skipped photos is damaged") from error


def _count_filters(count: int | None) -> str:
    return "no filters" if count is None else f"{count} filters"
