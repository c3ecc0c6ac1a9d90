"""From photos to means: the one loop over all photos."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import vggnorm
from vggnorm.errors import NetworkError, PhotoError
from vggnorm.geometry import Fit, Geometry, Interpolation, Preprocessing
from vggnorm.graph import Graph, read_graph
from vggnorm.images import PhotoList, PhotoReader, find_photos, names_sha256
from vggnorm.means import FilterMeans, Moments, Recipe
from vggnorm.network import APPLICATIONS, measuring_model, photo_size, weights_sha256

Progress = Callable[[int, int], object]  # is told how many photos are done with, and how many there are to do


def compute_means(
    model: keras.Model,
    data: str | Path | PhotoList,
    *,
    annotations: str | Path | None = None,
    categories: Sequence[str] = (),
    network: str | None = None,
    weights: str = "unnamed",
    preprocessing: Preprocessing = "caffe",
    dense: bool = False,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    interpolation: Interpolation = "bilinear",
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    strict: bool = False,
    progress: Progress | None = None,
) -> FilterMeans:
    """Measure the mean activation of every filter over photos and positions.

    Memory does not grow with the number of photos.

    Args:
        model: the network, see `vggnorm.load_network`. It is left as it is.
        data: a folder of photos, see `vggnorm.images.find_photos`; or the photos that were found there.
        annotations: a COCO annotation file; only the photos it lists are taken.
        categories: COCO categories; only photos that show any of them are taken.
        network: what to call the network in the recipe; by default the model's name.
        weights: what to call the weights in the recipe; their SHA-256 stands beside it.
        preprocessing: what the network takes photos as, see `vggnorm.geometry`.
        dense: whether hidden dense layers are measured, too, and so normalized.
        size: side of the photos in pixels, or their `(height, width)`. By default what the network takes, or 224 where
            it takes any.
        fit: `crop` or `stretch`, see `vggnorm.geometry.Geometry`.
        interpolation: `bilinear`, `nearest`, `bicubic` or `lanczos`.
        limit: measure so many photos.
        seed: of the random order in which photos are taken.
        batch_size: how many photos the network is given at a time; the means do not depend on it.
        strict: whether a photo that cannot be used is an error; else it is skipped and listed.
        progress: called after every batch with the numbers of photos done with and to be done.

    Raises:
        PhotoError: the photos cannot be found, or none, or with `strict` any, cannot be used.
        NetworkError: the network is of a kind that cannot be measured, or its activations are not finite.
        ValueError: an option is out of range, or `annotations` are given for photos that were found already.
    """
    graph = read_graph(model, dense=dense)
    _require_float32(graph)
    geometry = Geometry(_size(model, size), fit, interpolation)
    if not isinstance(data, PhotoList):
        data = find_photos(data, annotations=annotations, categories=categories)
    elif annotations is not None or categories:
        raise ValueError("photos that were found already are not chosen anew: leave out annotations and categories")
    photos = data.shuffled(seed)
    reader = PhotoReader(photos, geometry, limit=limit, strict=strict)
    measuring = measuring_model(graph, preprocessing, (geometry.height, geometry.width))
    moments = None
    for batch in reader.batches(batch_size):  # (photos, height, width, 3) uint8
        position_means = measuring.predict_on_batch(batch)  # layer -> (photos, filters) float32
        _require_finite(position_means)
        batch_moments = Moments.of(position_means)
        moments = batch_moments if moments is None else moments + batch_moments
        if progress is not None:
            progress(reader.done, reader.total)
    if moments is None:
        raise no_photo_usable(photos, reader)
    recipe = Recipe(
        network=network or model.name,
        include_top=model.name in APPLICATIONS and any(layer.name == "predictions" for layer in model.layers),
        weights=weights,
        weights_sha256=weights_sha256(model),
        pooling=graph.pooling,
        dense=dense,
        preprocessing=preprocessing,
        size=geometry.size,
        fit=fit,
        interpolation=interpolation,
        precision="float32",
        photos="/".join(photos.folder.resolve().parts[-2:]),
        annotations="" if photos.annotations is None else photos.annotations.name,
        categories=photos.categories,
        limit=limit,
        seed=seed,
        taken_sha256=names_sha256(photos.names[: reader.done]),
        photos_sha256=reader.sha256,
        version=vggnorm.__version__,
    )
    return FilterMeans(moments.mean, moments.squared_deviation, moments.count, recipe, tuple(reader.skipped))


def _size(model: keras.Model, size: int | tuple[int, int] | None) -> int | tuple[int, int]:
    taken = photo_size(model)
    if taken is None:
        return 224 if size is None else size
    height, width = taken
    own = height if height == width else taken
    if size not in (None, own, taken):
        raise NetworkError(f"{model.name}: takes photos of {height} x {width} pixels (height x width), not of {size}")
    return own


def no_photo_usable(photos: PhotoList, reader: PhotoReader) -> PhotoError:
    """Make the error for a folder of which not one photo could be used."""
    first = reader.skipped[0]
    return PhotoError(
        f"{photos.folder}: none of its {len(photos.names)} photos can be used; the first, {first.photo}, {first.reason}"
    )


def _require_float32(graph: Graph) -> None:
    for name in graph.sites:
        computed_in = graph.model.get_layer(name).compute_dtype
        if computed_in != "float32":
            raise NetworkError(f"layer {name}: computes in {computed_in}; build or load the network in float32")


def _require_finite(position_means: Mapping[str, NDArray[Any]]) -> None:
    for layer, values in position_means.items():
        if not np.isfinite(values).all():
            raise NetworkError(f"layer {layer} has activations that are not finite; the weights are damaged")
