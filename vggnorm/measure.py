"""From photos to means: the one loop over all photos."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
from numpy.typing import NDArray

import vggnorm
from vggnorm.bfloat16 import bfloat16_copy
from vggnorm.errors import NetworkError, PhotoError
from vggnorm.geometry import Fit, Geometry, Interpolation, Preprocessing
from vggnorm.graph import Graph, read_graph
from vggnorm.images import PhotoList, PhotoReader, Pixels, find_photos, names_sha256
from vggnorm.means import FilterMeans
from vggnorm.moments import Moments, std_deviation
from vggnorm.network import APPLICATIONS, measuring_model, photo_size, weights_sha256
from vggnorm.precision import exact_float32, photos_per_second
from vggnorm.recipe import Precision, Recipe

# With `auto`, float32's correction must be known this well: its standard error relative to the mean, in the median over
# the filters. Half of the filters are then within 3e-4 of float32's mean.
ACCURACY = 4e-4

PositionMeans = Mapping[str, NDArray[Any]]  # layer name -> (photos, filters)
Say = Callable[[str], object]  # is told, in a line, what was decided
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
    precision: Precision | Literal["auto"] = "float32",
    control: int = 64,
    batch_size: int = 32,
    threads: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
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
        precision: what the network computes in. `bfloat16` runs all photos in bfloat16 and some of them in float32 as
            well, and adds the mean difference. `auto` times both here and takes the faster; it goes on running photos
            in both until the correction is known as well as `ACCURACY` says.
        control: how many photos to run in both precisions, the first in the random order.
        batch_size: how many photos the network is given at a time; the means do not depend on it.
        threads: how many threads decode photos; by default one for each core.
        strict: whether a photo that cannot be used is an error; else it is skipped and listed.
        progress: called after every batch with the numbers of photos done with and to be done.
        say: called with a line on what `auto` took, and why.

    Raises:
        PhotoError: the photos cannot be found, or none, or with `strict` any, cannot be used.
        NetworkError: the network is of a kind that cannot be measured, or its activations are not finite.
        ValueError: an option is out of range, or `annotations` are given for photos that were found already.
    """
    if precision not in (*get_args(Precision), "auto"):
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(get_args(Precision))}, auto")
    if control < 2:
        raise ValueError(f"control is {control}; it must be at least 2, for a standard error")
    graph = read_graph(model, dense=dense)
    _require_float32(graph)
    geometry = Geometry(_size(model, size), fit, interpolation)
    if not isinstance(data, PhotoList):
        data = find_photos(data, annotations=annotations, categories=categories)
    elif annotations is not None or categories:
        raise ValueError("photos that were found already are not chosen anew: leave out annotations and categories")
    photos = data.shuffled(seed)
    reader = PhotoReader(photos, geometry, limit=limit, strict=strict, threads=threads)
    shape = geometry.height, geometry.width
    with exact_float32():
        exact = measuring_model(graph, preprocessing, shape)
        fast = None
        if precision != "float32":
            fast_graph = read_graph(bfloat16_copy(graph), dense=dense)
            fast = measuring_model(fast_graph, preprocessing, shape)
        if fast and precision == "auto" and not _pays(fast, exact, shape, control / reader.total, say or _say_nothing):
            fast = None
        sums = _Sums(graph, exact, fast, control, ACCURACY if precision == "auto" else np.inf)
        for batch in reader.batches(batch_size):  # (photos, height, width, 3) uint8
            sums.add(batch)
            if progress is not None:
                progress(reader.done, reader.total)
    if not sums.measured.count:
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
        precision="bfloat16" if fast else "float32",
        control=control if fast else 0,
        photos="/".join(photos.folder.resolve().parts[-2:]),
        annotations="" if photos.annotations is None else photos.annotations.name,
        categories=photos.categories,
        limit=limit,
        seed=seed,
        taken_sha256=names_sha256(photos.names[: reader.done]),
        photos_sha256=reader.sha256,
        version=vggnorm.__version__,
    )
    return FilterMeans.of(sums.measured, sums.correction, recipe, reader.skipped)


class _Sums:
    """The running sums over photos.

    Attributes:
        measured: over all photos, in the fast precision if there is one.
        correction: of float32's surplus over it, over the photos that were run in both.
    """

    def __init__(
        self, graph: Graph, exact: keras.Model, fast: keras.Model | None, control: int, accuracy: float
    ) -> None:
        """Begin.

        Args:
            graph: the network.
            exact: measures in float32.
            fast: measures in another precision.
            control: how many photos to run in both at least.
            accuracy: how well the correction is to be known: its standard error relative to the mean, in the median
                over the filters.
        """
        self.measured = self.correction = Moments.of_none(graph.filters)
        self._exact, self._fast = exact, fast
        self._control, self._accuracy = control, accuracy

    def add(self, batch: Pixels) -> None:
        """Measure more photos, `(photos, height, width, 3)`, RGB 0..255."""
        if self._fast is None:
            self.measured += Moments.of(_position_means(self._exact, batch))
            return
        both = batch[: self._wanted_in_both()]
        position_means = _position_means(self._fast, batch)
        self.measured += Moments.of(position_means)
        if len(both):
            exact = _position_means(self._exact, both)
            self.correction += Moments.of({layer: exact[layer] - position_means[layer][: len(both)] for layer in exact})

    def _wanted_in_both(self) -> int | None:
        """Tell how many photos more are to be run in both precisions; None for a whole batch."""
        missing = self._control - self.correction.count
        if missing > 0:
            return missing
        spread = std_deviation(self.correction.squared_deviation, self.correction.count)
        relative = [spread[layer][mean > 0] / mean[mean > 0] for layer, mean in self.measured.mean.items()]
        std_error = np.median(np.concatenate(relative)) / np.sqrt(self.correction.count)
        return 0 if std_error <= self._accuracy else None


def _pays(fast: keras.Model, exact: keras.Model, shape: tuple[int, int], share_in_both: float, say: Say) -> bool:
    """Time both precisions, and tell whether the fast one is the faster if that share of photos is run in both."""
    fast_rate, exact_rate = photos_per_second(fast, *shape), photos_per_second(exact, *shape)
    pays = 1 / fast_rate + min(share_in_both, 1) / exact_rate < 1 / exact_rate
    say(
        f"precision {'bfloat16' if pays else 'float32'}: the network alone runs {fast_rate:.1f} photos/s in bfloat16 "
        f"here and {exact_rate:.1f} in float32, in which {min(share_in_both, 1):.0%} of them would have to run as well"
    )
    return pays


def _say_nothing(_: str) -> None:
    pass


def _position_means(measuring: keras.Model, batch: Pixels) -> PositionMeans:
    position_means: PositionMeans = measuring.predict_on_batch(batch)
    for layer, values in position_means.items():
        if not np.isfinite(values).all():
            raise NetworkError(f"layer {layer} has activations that are not finite; the weights are damaged")
    return position_means


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
