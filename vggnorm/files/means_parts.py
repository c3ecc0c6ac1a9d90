"""What a file of means holds, as named parts: how they are made of means, and checked.

A means.npy is a record of these parts, and a model file of Keras has them as attributes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from vggnorm.means.filter_means import FilterMeans, refuse, require_not_negative, require_vector
from vggnorm.means.moments import Float64, Moments, join_layers, split_layers
from vggnorm.means.recipe import Recipe
from vggnorm.photos.skipped import SkippedPhoto

# What a file holds, by name. The names of the layers are data and not names of fields, so that the
# header of a .npy file stays small for any network: numpy refuses headers of more than 10,000
# characters.

# The values of all filters, layer after layer, as float64. `mean` is `measured` with `correction`.
# The others are the raw sums, from which a run can go on without changing a bit.
VECTORS = ("mean", "measured", "squared_deviation", "correction", "correction_squared_deviation")

# One more, missing where it is not known: in files of version 0.2.0 and earlier, and in what was
# added to them. Intervals are then symmetric.
CUBES = "cubed_deviation"

FILTERS = "filters"  # the number of filters of each layer, int64

COUNTS = ("image_count", "control_count")

TEXTS = ("layers", "recipe", "skipped")  # JSON; `layers` is the list of the layers' names

PARTS = (*VECTORS, FILTERS, *COUNTS, *TEXTS)

ROUNDING = 1e-6  # relative, of a sum that was merged from many

MAX_COUNT = 1 << 53  # photos; beyond it, float64 does not hold every whole number


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
    if means.measured.cubed_deviation is not None:
        vectors[CUBES] = means.measured.cubed_deviation
    parts: dict[str, Any] = {
        "layers": json.dumps(layers),
        FILTERS: np.array(list(filters.values()), dtype=np.int64),
    }
    for name, vector in vectors.items():
        parts[name] = join_layers(vector, layers)
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
    cubes = _split(CUBES, parts[CUBES], filters) if CUBES in parts else None
    measured = Moments(image_count, vectors["measured"], vectors["squared_deviation"], cubes)
    _require_possible_cubes(measured)
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


def _require_possible_cubes(moments: Moments) -> None:
    """Refuse a sum of cubes that no photos have.

    The cubes of numbers add up to no more than the sum of their squares to the power of 3/2.
    """
    if moments.cubed_deviation is None:
        return
    for layer, squared in moments.squared_deviation.items():
        cubed = np.abs(moments.cubed_deviation[layer])
        # The roots, since a power may leave float64. Both sums are rounded.
        beyond = np.cbrt(cubed) > np.sqrt(squared) * (1 + ROUNDING)
        refuse(f"the cubed deviation of {layer}", "too large", cubed, beyond)


def _require_empty_part(means: FilterMeans) -> None:
    """Refuse means over no photos, unless they are those of a part, and 0."""
    if means.recipe.shard is None:
        raise ValueError("image_count is 0")
    for layer, mean in means.measured.mean.items():
        if mean.any() or means.squared_deviation[layer].any():
            raise ValueError(f"image_count is 0, and the means of {layer} are not")


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
    parts = split_layers(np.array(vector), filters)
    for layer, values in parts.items():
        refuse(f"the {what} of {layer}", "not finite", values, ~np.isfinite(values))
        if name.endswith("squared_deviation"):
            require_not_negative(f"the {what} of {layer}", values)
    return parts


def _skipped_from_json(text: str) -> tuple[SkippedPhoto, ...]:
    try:
        return tuple(
            SkippedPhoto(str(entry["photo"]), str(entry["reason"])) for entry in json.loads(text)
        )
    except (KeyError, TypeError) as error:
        raise ValueError("the list of skipped photos is damaged") from error
