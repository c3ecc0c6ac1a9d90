"""The file of means: one 0-d structured record that `np.load` reads without pickle."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vggnorm.disk import check_output, replacing
from vggnorm.errors import MeansError
from vggnorm.means.filter_means import FilterMeans, refuse, require_not_negative, require_vector
from vggnorm.means.moments import Float64, Moments
from vggnorm.means.recipe import Recipe
from vggnorm.photos.skipped import SkippedPhoto

# What a file holds, by name. The names of the layers are data and not names of fields, so that the
# header of a .npy file stays small for any network: numpy refuses headers of more than 10,000
# characters.

# The values of all filters, layer after layer, as float64. `mean` is `measured` with `correction`.
# The others are the raw sums, from which a run can go on without changing a bit.
VECTORS = ("mean", "measured", "squared_deviation", "correction", "correction_squared_deviation")

FILTERS = "filters"  # the number of filters of each layer, int64

COUNTS = ("image_count", "control_count")

TEXTS = ("layers", "recipe", "skipped")  # JSON; `layers` is the list of the layers' names

PARTS = (*VECTORS, FILTERS, *COUNTS, *TEXTS)

BESIDE = "beside"  # JSON; only in a file that lies beside a file of weights

MAX_COUNT = 1 << 53  # photos; beyond it, float64 does not hold every whole number

# Bytes of the header. In files of version 0.1.0, each vector is a record of layers. This is enough
# for thousands of layers, and Python can parse any text of that length without harm.
MAX_HEADER = 1 << 18


@dataclass(frozen=True)
class Beside:
    """Which file of weights the means lie beside.

    Attributes:
        file_sha256: its digest.
        convention: how its network takes photos: see `vggnorm.files.conventions`.
    """

    file_sha256: str
    convention: str


def save_means(means: FilterMeans, path: str | Path, *, force: bool = False) -> None:
    """Write the means as one structured record that `np.load(path)` reads without pickle.

    The record holds the values of all filters, layer after layer. With numpy alone, the mean of
    each layer is::

        means = np.load("means.npy")
        layers = json.loads(str(means["layers"]))
        mean = dict(zip(layers, np.split(means["mean"], means["filters"].cumsum()[:-1])))

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    path = check_output(path, force=force)
    content = means_to_npy(
        means
    )  # when numpy writes to a file itself, it hides the system's errors
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        read_means_npy(temporary)


def require_saveable(filters: Mapping[str, int], recipe: Recipe) -> None:
    """Try, before any photo is measured, whether plain `np.load` could read such means.

    Args:
        filters: layer name -> number of filters.
        recipe: how they are to be measured.

    Raises:
        MeansError: it could not; the text says why.
    """
    of_one_photo = replace(Moments.of_none(filters), count=1)
    content = io.BytesIO(means_to_npy(FilterMeans(of_one_photo, recipe)))
    try:
        means_from_parts(_parts(np.load(content, allow_pickle=False)))
    except ValueError as error:
        raise MeansError(f"the means could not be saved: {error}") from error


def is_npy(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a .npy file."""
    return head.startswith(npy_format.MAGIC_PREFIX)


def read_means_npy(path: Path) -> FilterMeans:
    """Read and check a file that `save_means` wrote. Nothing in the file is executed.

    Use `vggnorm.files.formats.load_means`, which makes sure that the file is a .npy file.

    Raises:
        MeansError: the file is damaged, or does not hold usable means; the text says which.
    """
    return _means_of(_load_record(path), path)


def read_means_beside(path: Path) -> tuple[FilterMeans, Beside | None]:
    """Read means that lie beside a file of weights; None if they do not say beside which.

    Raises:
        MeansError: as of `read_means_npy`.
    """
    record = _load_record(path)
    means = _means_of(record, path)
    if BESIDE not in (record.dtype.names or ()):
        return means, None
    try:
        return means, Beside(**json.loads(str(record[BESIDE])))
    except (RecursionError, TypeError, ValueError) as error:
        raise MeansError(f"{path}: is damaged: {error}") from error


def means_to_npy(means: FilterMeans, beside: Beside | None = None) -> bytes:
    """Give the content of the .npy file.

    Args:
        means: the means.
        beside: the file of weights that the file will lie beside.
    """
    parts = {name: np.asarray(part) for name, part in means_to_parts(means).items()}
    if beside is not None:
        parts[BESIDE] = np.asarray(json.dumps(asdict(beside)))
    fields = [(name, part.dtype, part.shape) for name, part in parts.items()]
    record = np.zeros((), dtype=fields)
    for name, part in parts.items():
        record[name] = part
    content = io.BytesIO()
    np.save(content, record)
    return content.getvalue()


def means_from_npy(content: bytes, path: Path) -> FilterMeans:
    """Read the content of a .npy file that stands in another file.

    Args:
        content: what `means_to_npy` gave.
        path: the other file, for messages.

    Raises:
        MeansError: as of `read_means_npy`.
    """
    stream = io.BytesIO(content)
    try:
        record = npy_format.read_array(stream, allow_pickle=False, max_header_size=MAX_HEADER)
    except Exception as error:  # what numpy raises for a damaged header cannot be foreseen
        raise MeansError(f"{path}: the means in it are damaged: {error}") from error
    return _means_of(_require_record(record, path), path)


def means_to_parts(means: FilterMeans) -> dict[str, Any]:
    """Give what a file must hold, under the names of `PARTS`."""
    layers = list(means.mean)
    filters = {layer: len(values) for layer, values in means.mean.items()}
    correction = means.correction or Moments.of_none(filters)
    vectors = {
        "mean": means.mean,
        "measured": means.measured.mean,
        "squared_deviation": means.squared_deviation,
        "correction": correction.mean,
        "correction_squared_deviation": correction.squared_deviation,
    }
    parts: dict[str, Any] = {
        "layers": json.dumps(layers),
        FILTERS: np.array(list(filters.values()), dtype=np.int64),
    }
    for name, vector in vectors.items():
        parts[name] = np.concatenate([vector[layer] for layer in layers])
    parts["image_count"] = means.image_count
    parts["control_count"] = correction.count
    parts["recipe"] = json.dumps(means.recipe.to_dict())
    parts["skipped"] = json.dumps([asdict(photo) for photo in means.skipped])
    return parts


def means_from_parts(parts: Mapping[str, Any]) -> FilterMeans:
    """Check what a file holds, in the form of `means_to_parts`, and make `FilterMeans` of it.

    Raises:
        ValueError: a part is missing, has another shape, is not finite, is negative, or
            contradicts the rest.
    """
    image_count = parts["image_count"]
    control_count = parts["control_count"]
    if not isinstance(image_count, int) or not 0 <= image_count <= MAX_COUNT:
        raise ValueError(f"image_count is {image_count!r}")
    if not isinstance(control_count, int) or not 0 <= control_count <= image_count:
        raise ValueError(f"control_count is {control_count!r}")
    filters = _filters_from_parts(parts)
    vectors = {name: _split(name, parts[name], filters) for name in VECTORS}
    measured = Moments(image_count, vectors["measured"], vectors["squared_deviation"])
    correction = None
    if control_count:
        correction = Moments(
            control_count, vectors["correction"], vectors["correction_squared_deviation"]
        )
    recipe = Recipe.from_json(parts["recipe"])
    skipped = _skipped_from_json(parts["skipped"])
    means = FilterMeans(measured, recipe, skipped, correction)
    if not image_count:
        _require_empty_part(means)
    for layer, values in means.mean.items():
        if not np.array_equal(values, vectors["mean"][layer]):
            raise ValueError(f"the mean of {layer} is not what the sums give")
    return means


def _require_empty_part(means: FilterMeans) -> None:
    """Refuse means over no photos, unless they are those of a part, and 0."""
    if means.recipe.shard is None:
        raise ValueError("image_count is 0")
    for layer, mean in means.measured.mean.items():
        if mean.any() or means.squared_deviation[layer].any():
            raise ValueError(f"image_count is 0, and the means of {layer} are not")


def flatten_layers(vectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Turn the vectors of a file of version 0.1.0 into the parts of today's files.

    Args:
        vectors: for each of `VECTORS`, layer name -> `(filters,)` float64.

    Returns:
        The vectors of all filters, and the names and sizes of the layers.

    Raises:
        ValueError: they do not have the same layers, or one is not a vector of float64.
    """
    mean = vectors["mean"]
    layers = list(mean)
    for name in VECTORS:
        if not layers or list(vectors[name]) != layers:
            raise ValueError(f"mean and {name} do not have the same layers")
        for layer, values in vectors[name].items():
            what = f"{name.replace('_', ' ')} of {layer}"
            require_vector(f"the {what}", values)
            if values.shape != mean[layer].shape:
                raise ValueError(f"mean and {what} differ in shape")
    filters = [len(values) for values in mean.values()]
    parts: dict[str, Any] = {
        "layers": json.dumps(layers),
        FILTERS: np.array(filters, dtype=np.int64),
    }
    for name in VECTORS:
        parts[name] = np.concatenate(list(vectors[name].values()))
    return parts


def _parts(record: NDArray[np.void]) -> dict[str, Any]:
    """Give the parts that a record holds, which may be one of version 0.1.0."""
    names = record.dtype.names or ()
    parts: dict[str, Any] = {name: np.asarray(record[name]) for name in names}
    if "layers" not in parts:
        parts |= flatten_layers({name: _layers_of(parts[name]) for name in VECTORS})
    for name in COUNTS:
        parts[name] = parts[name].item()
    for name in TEXTS:
        parts[name] = str(parts[name])
    return parts


def _layers_of(record: NDArray[np.void]) -> dict[str, Any]:
    """Give the vectors of a record of layers, as in version 0.1.0: layer name -> vector."""
    return {layer: record[layer] for layer in record.dtype.names or ()}


def _filters_from_parts(parts: Mapping[str, Any]) -> dict[str, int]:
    """Check the names of the layers and their numbers of filters.

    Returns:
        Layer name -> number of filters.
    """
    layers = json.loads(parts["layers"])
    is_list = isinstance(layers, list) and len(layers) > 0
    if not is_list or not all(isinstance(layer, str) for layer in layers):
        raise ValueError("the list of layers is damaged")
    if len(set(layers)) != len(layers):
        raise ValueError("the list of layers names a layer twice")
    filters = parts[FILTERS]
    is_integers = isinstance(filters, np.ndarray) and filters.dtype.kind in "iu"
    if not is_integers or filters.shape != (len(layers),):
        raise ValueError("there is not one number of filters for each layer")
    counts: list[int] = filters.tolist()
    if min(counts) < 1:
        raise ValueError("a layer has no filters")
    return dict(zip(layers, counts, strict=True))


def _split(name: str, vector: Any, filters: Mapping[str, int]) -> dict[str, Float64]:
    """Cut a vector of all filters into one for each layer, and check the values."""
    what = name.replace("_", " ")
    require_vector(f"the {what}", vector)
    if len(vector) != sum(filters.values()):
        raise ValueError(f"the {what} has {len(vector)} values for {sum(filters.values())} filters")
    parts: dict[str, Float64] = {}
    start = 0
    for layer, count in filters.items():
        values = np.array(vector[start : start + count])
        refuse(f"the {what} of {layer}", "not finite", values, ~np.isfinite(values))
        if name.endswith("squared_deviation"):
            require_not_negative(f"the {what} of {layer}", values)
        parts[layer] = values
        start += count
    return parts


def _load_record(path: Path) -> NDArray[np.void]:
    try:
        # Mapped, a header that promises more than the file holds is refused before memory is
        # allocated for it.
        record = npy_format.open_memmap(path, mode="r", max_header_size=MAX_HEADER)
    except Exception as error:  # what numpy raises for a damaged header cannot be foreseen
        raise MeansError(
            f"{path}: is damaged, or holds pickled objects, which are never loaded ({error}); if "
            "they are weights, save them as arrays with numpy.savez"
        ) from error
    return _require_record(record, path)


def _require_record(record: NDArray[Any], path: Path) -> NDArray[np.void]:
    names = set(record.dtype.names or ()) - {BESIDE}
    of_version_0_1_0 = set(PARTS) - {"layers", FILTERS}
    if record.shape != () or names not in (set(PARTS), of_version_0_1_0):
        raise MeansError(f"{path}: holds no means; give a file that compute-means wrote")
    return record


def _means_of(record: NDArray[np.void], path: Path) -> FilterMeans:
    try:
        return means_from_parts(_parts(record))
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise MeansError(
            f"{path}: not usable as means: {error}; measure again with compute-means"
        ) from error


def _skipped_from_json(text: str) -> tuple[SkippedPhoto, ...]:
    try:
        return tuple(
            SkippedPhoto(str(entry["photo"]), str(entry["reason"])) for entry in json.loads(text)
        )
    except (KeyError, TypeError) as error:
        raise ValueError("the list of skipped photos is damaged") from error
