"""Models that measure: photos go in, and each filter's mean over the positions comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import keras
import numpy as np
from keras import ops
from keras.applications.imagenet_utils import preprocess_input
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.network.compilation import compiled
from vggnorm.network.graph import Graph, Site
from vggnorm.network.layers import FILTERS, as_channels
from vggnorm.network.precision import run_batch
from vggnorm.network.reflection import require_reflections_fit
from vggnorm.network.trial import require_runs
from vggnorm.photos.decode import Pixels
from vggnorm.photos.geometry import Preprocessing

PositionMeans = Mapping[str, NDArray[np.float32]]  # layer name -> (photos, filters)

# The types that hold every whole number from 0 to 255, besides float32 and float64.
HOLDS_PIXELS = frozenset(
    ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16"]
)


@dataclass(frozen=True)
class Instruments:
    """The models that measure the photos of a run.

    Attributes:
        exact: a measuring model in float32.
        fast: the same in a faster precision, or None if every photo is measured in float32.
        batch_size: the largest number of photos that is run at once.
    """

    exact: keras.Model
    fast: keras.Model | None
    batch_size: int

    def measure(self, pixels: Pixels) -> PositionMeans:
        """Measure photos, in the faster precision if there is one.

        Args:
            pixels: `(photos, height, width, 3)`, RGB 0..255; from one photo to a full batch.

        Returns:
            Each photo's mean activation over positions: layer name -> `(photos, filters)`.

        Raises:
            NetworkError: an activation is not finite, or there is not enough memory.
        """
        return _measure_padded(self.fast or self.exact, pixels, self.batch_size)

    def measure_exactly(self, pixels: Pixels) -> PositionMeans:
        """Measure photos in float32; otherwise like `measure`."""
        return _measure_padded(self.exact, pixels, self.batch_size)


def _measure_padded(measuring: keras.Model, pixels: Pixels, batch_size: int) -> PositionMeans:
    """Measure photos in a batch that is filled up with copies of the last one.

    The size of the batch decides the last bits. It depends on the number of photos alone, so that
    the last batch of a run and that of a part get the same means; and few sizes have to be built.
    """
    count = len(pixels)
    copies = padded_size(count, batch_size) - count
    if copies:
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], copies, axis=0)])
    means = _position_means(measuring, pixels)
    return {layer: values[:count] for layer, values in means.items()}


def padded_size(count: int, batch_size: int) -> int:
    """Give the size of the batch for `count` photos: the next power of two, or `batch_size`."""
    power_of_two = 1 << (count - 1).bit_length()
    return min(power_of_two, batch_size)


def _position_means(measuring: keras.Model, pixels: Pixels) -> PositionMeans:
    position_means: PositionMeans = run_batch(measuring, pixels)
    for layer, values in position_means.items():
        if not np.isfinite(values).all():
            raise NetworkError(
                f"layer {layer} has activations that are not finite; the weights are damaged"
            )
    return position_means


def photo_size(model: keras.Model) -> tuple[int, int] | None:
    """Tell the height and width of the photos that a network takes, or None if it takes any.

    Raises:
        NetworkError: the network does not take RGB photos, or fixes only one of the two.
    """
    shape = model.inputs[0].shape
    if len(shape) != 4 or 3 not in (shape[1], shape[-1]):
        raise NetworkError(f"{model.name}: takes {shape[1:]}, not photos of 3 colours")
    height, width = shape[2:] if _is_channels_first(model) else shape[1:3]
    if (height is None) != (width is None):
        raise NetworkError(
            f"{model.name}: fixes one side of the photos, {shape[1:]}; build it with both sides "
            "fixed, or with none"
        )
    return None if height is None else (height, width)


def measuring_model(
    graph: Graph, preprocessing: Preprocessing = "caffe", size: tuple[int, int] | None = None
) -> keras.Model:
    """Make the model that gives each filter's mean activation over positions, photo by photo.

    Args:
        graph: the network.
        preprocessing: how the photos are prepared for the network.
        size: the height and width of the photos, if known; the means are then quicker.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to a dict: layer name ->
        `(photos, filters)` float32. Only these vectors leave the device.

    Raises:
        NetworkError: the network's input cannot hold the photos, Keras refuses the network at that
            size or would compute a wrong result, or a map is too small for reflection padding.
    """
    photos = _photos(graph.model, size)
    _require_runs(graph.model, photos)
    pixels = _prepared(photos, graph.model, preprocessing)
    _require_biases_on_channels(graph, pixels)
    require_reflections_fit(graph.model, graph.steps, pixels)
    inner = keras.Model(graph.model.inputs[0], _activations(graph), name="activations")
    activations = inner(pixels)
    means = {name: _position_mean(activations[name], site) for name, site in graph.sites.items()}
    return compiled(keras.Model(photos, means, name="measuring"))


def comparing_model(
    graph: Graph,
    normalized: Graph,
    scales: Mapping[str, NDArray[np.float64]],
    preprocessing: Preprocessing = "caffe",
    size: tuple[int, int] | None = None,
) -> keras.Model:
    """Make the model that runs photos through the original and the normalized network side by side.

    Args:
        graph: the original.
        normalized: the network to compare with it.
        scales: layer name -> `(filters,)`, what the normalized activations are multiplied by before
            they are compared.
        preprocessing: how the photos are prepared for the network.
        size: the height and width of the photos, if known.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to three dicts from layer name
        to array:

        - `mean`: the normalized network's means over positions, `(photos, filters)`;
        - `deviation`: each photo's largest absolute difference between the multiplied and the
          original activations, `(photos,)`;
        - `largest`: each photo's largest absolute original activation, `(photos,)`.

        `deviation` and `largest` hold the network's outputs as well.

    Raises:
        NetworkError: as for `measuring_model`.
    """
    photos = _photos(graph.model, size)
    _require_runs(graph.model, photos)
    pixels = _prepared(photos, graph.model, preprocessing)
    _require_biases_on_channels(graph, pixels)
    require_reflections_fit(graph.model, graph.steps, pixels)
    before = _every_result(graph, "original")(pixels)
    after = _every_result(normalized, "normalized")(pixels)
    factors = dict(zip(_outputs(graph), graph.rescale(scales).outputs, strict=True))
    for name, site in graph.sites.items():
        factors[name] = as_channels(scales[name], site.axis, len(site.activation.shape))
    mean = {name: _position_mean(after[name], site) for name, site in graph.sites.items()}
    deviation, largest = {}, {}
    for name, factor in factors.items():
        restored = after[name] * factor.astype(np.float32)
        deviation[name] = _photo_max(restored - before[name])
        largest[name] = _photo_max(before[name])
    outputs = {"mean": mean, "deviation": deviation, "largest": largest}
    return compiled(keras.Model(photos, outputs, name="comparing"))


def _every_result(graph: Graph, name: str) -> keras.Model:
    """Make the model that gives the activations of all sites and the network's outputs."""
    results = _activations(graph) | _outputs(graph)
    return keras.Model(graph.model.inputs[0], results, name=name)


def _photos(model: keras.Model, size: tuple[int, int] | None) -> Any:
    height, width = photo_size(model) or size or (None, None)
    return keras.Input((height, width, 3), dtype="uint8", name="photos")


def _require_runs(model: keras.Model, photos: Any) -> None:
    height, width = photos.shape[1:3]
    if height is not None:
        require_runs(model, (height, width))


def _prepared(photos: Any, model: keras.Model, preprocessing: Preprocessing) -> Any:
    """Turn uint8 RGB photos into what the network takes."""
    if preprocessing not in get_args(Preprocessing):
        known = ", ".join(get_args(Preprocessing))
        raise NetworkError(
            f"the preprocessing {preprocessing!r} is not known; it must be one of {known}"
        )
    _require_room_for(model, preprocessing)
    pixels = ops.cast(photos, "float32")
    if preprocessing == "rgb255":
        pixels = ops.flip(preprocess_input(pixels, "channels_last", "caffe"), axis=-1)
    elif preprocessing != "none":
        pixels = preprocess_input(pixels, "channels_last", preprocessing)
    return ops.transpose(pixels, (0, 3, 1, 2)) if _is_channels_first(model) else pixels


def _require_room_for(model: keras.Model, preprocessing: Preprocessing) -> None:
    """Refuse a network whose input cannot hold the prepared photos: Keras would round them."""
    dtype = str(model.inputs[0].dtype)
    if dtype in ("float32", "float64"):
        return
    if preprocessing != "none":
        raise NetworkError(
            f"{model.name}: its input is of type {dtype}, which cannot hold the numbers that the "
            f"preprocessing {preprocessing} gives; use the preprocessing none, or build the "
            "network with an input of float32"
        )
    if dtype not in HOLDS_PIXELS:
        raise NetworkError(
            f"{model.name}: its input is of type {dtype}, which cannot hold the numbers from 0 to "
            "255; build the network with an input of float32"
        )


def _require_biases_on_channels(graph: Graph, pixels: Any) -> None:
    """Refuse a network to which Keras on TensorFlow would add a bias along the wrong axis.

    There, Keras finds the axis of a bias by its length, and looks at the last axis first. If the
    channels come first and a map is as wide as the number of its filters, Keras takes the width.
    """
    if keras.backend.backend() != "tensorflow":
        return
    outputs = {}
    for step in graph.steps:
        channels_first = step.axis == 1 and len(step.output.shape) > 2
        if type(step.layer) in FILTERS and channels_first and step.layer.use_bias:
            outputs[step.layer.name] = step.output
    if not outputs:
        return
    for name, output in keras.Model(graph.model.inputs[0], outputs)(pixels).items():
        filters, width = output.shape[1], output.shape[-1]
        if filters == width > 1:  # a bias of one number has no axis to mistake
            raise NetworkError(
                f"layer {name}: has the channels first and {filters} filters, and gives a map "
                f"{width} wide; Keras with TensorFlow then adds the bias along the width; use "
                "photos of another size, build the network with the channels last, or set "
                "KERAS_BACKEND=jax"
            )


def _is_channels_first(model: keras.Model) -> bool:
    shape = model.inputs[0].shape
    return bool(shape[1] == 3 and shape[-1] != 3)


def _activations(graph: Graph) -> dict[str, Any]:
    return {name: site.activation for name, site in graph.sites.items()}


def _outputs(graph: Graph) -> dict[str, Any]:
    """Give the network's outputs under names that no site has."""
    outputs = {}
    for index, output in enumerate(graph.model.outputs):
        layer = graph.layer_giving(output)
        outputs[f"output {index} ({layer.name})"] = output
    return outputs


def _position_mean(activation: Any, site: Site) -> Any:
    """Take the mean over positions: `(photos, ..., filters)` -> `(photos, filters)` float32.

    The mean is taken along one axis after the other. In float32 that is ten times as exact as one
    mean over all axes, because the sums stay short.

    With TensorFlow, the first and largest reduction is a pooling over whole rows, which takes
    little time beside the convolutions; a mean takes much. In bfloat16 this pooling sums in float32
    and rounds the mean of each row; these errors cancel out over the rows. JAX sums in bfloat16
    when it pools, so with other backends the numbers are converted to float32 first.
    """
    width = activation.shape[2] if len(activation.shape) == 4 else None
    if keras.backend.backend() == "tensorflow" and site.axis == 3 and width is not None:
        # (photos, height, width, filters) -> (photos, height, 1, filters)
        activation = ops.average_pool(activation, (1, width), data_format="channels_last")
    activation = ops.cast(activation, "float32")
    for axis in reversed(range(1, len(site.activation.shape))):
        if axis != site.axis:
            activation = ops.mean(activation, axis=axis)
    return activation


def _photo_max(values: Any) -> Any:
    return ops.max(ops.abs(values), axis=tuple(range(1, len(values.shape))))
