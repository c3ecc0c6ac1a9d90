"""A copy of a network that computes in bfloat16, and takes in the photos more exactly."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from vggnorm.network.cloning import copied
from vggnorm.network.graph import Graph
from vggnorm.network.reflection import ReflectionPadding2D


class TwoParts(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Splits each number into two of bfloat16 and gives three channels, `h, l, h`.

    `h` is the number rounded to bfloat16, and `l` is what the rounding took away. The kernel is
    split in the same way and becomes `[H, H, L]`. The convolution then gives `h H + l H + h L`.
    Only `l L` is missing, about 2^-17 of the whole. The products of bfloat16 numbers are summed in
    float32, so the result is exact to about 16 bits. This takes next to no time, because a photo
    has 3 channels and the machine multiplies 32 at a time.

    The method is that of Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence
    Datatype For Higher-Precision Computations", 2019.
    """

    def __init__(self, axis: int, **options: Any) -> None:
        """Make the layer.

        Args:
            axis: the axis of the channels.
            options: the options that every layer has.
        """
        super().__init__(dtype="float32", **options)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        """Turn float32 with `c` channels into bfloat16 with `3 c` channels."""
        high, low = in_two_parts(inputs)
        return ops.concatenate([high, low, high], axis=self.axis)


def in_two_parts(values: Any) -> tuple[Any, Any]:
    """Split float32 values into two of bfloat16 that add up to them, to about 16 bits."""
    high = ops.cast(values, "bfloat16")
    return high, ops.cast(values - ops.cast(high, "float32"), "bfloat16")


def bfloat16_copy(graph: Graph) -> keras.Model:
    """Make a copy of a network that has its weights and computes in bfloat16.

    If a convolution takes the photos directly or padded, as in VGG, then photos and kernel are
    split in two parts each, because rounding there affects all layers behind. On 100 COCO photos,
    this halves the variation, from photo to photo, of the difference between float32 and bfloat16:
    in the median filter of VGG16, it is 0.14 % of the mean instead of 0.29 %.

    Args:
        graph: the network, in float32.
    """
    # A functional model, also of a sequential one.
    model = keras.Model(graph.model.inputs[0], graph.model.outputs, name=graph.model.name)
    way = _way_to_first_convolution(graph)
    entrance, first = (way[0], way[-1]) if way else (None, None)

    def clone(operation: Any) -> Any:
        # An operation computes in the type that it is given.
        is_layer = isinstance(operation, keras.Layer)
        return copied(operation, dtype="bfloat16") if is_layer else copied(operation)

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if entrance is not None and layer.name == entrance.name:
            axis = -1 if layer.data_format == "channels_last" else 1
            inputs = (TwoParts(axis, name="photos_in_two_parts")(*inputs),)
        return layer(*inputs, **options)

    photos = graph.model.inputs[0]
    name = graph.layer_giving(photos).name
    entry = keras.Input(batch_shape=photos.shape, dtype=photos.dtype, name=name)
    copy = keras.models.clone_model(model, entry, clone_function=clone, call_function=call)
    for layer in graph.model.layers:
        weights = layer.get_weights()
        if layer is first:
            kernel, *bias = weights
            weights = [_kernel_in_two_parts(kernel), *bias]
        copy.get_layer(layer.name).set_weights(weights)
        if hasattr(layer, "finalize_state"):  # Normalization computes with what this derives
            copy.get_layer(layer.name).finalize_state()
    return copy


def _kernel_in_two_parts(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the kernel that goes with `TwoParts`: channels `c` -> `3 c`, in float32."""
    high, low = in_two_parts(ops.convert_to_tensor(kernel))
    high, low = ops.cast(high, "float32"), ops.cast(low, "float32")
    parts = ops.concatenate([high, high, low], axis=2)  # (height, width, channels, filters)
    return np.asarray(ops.convert_to_numpy(parts))


def _way_to_first_convolution(graph: Graph) -> list[keras.Layer]:
    """List what the photos pass up to an ordinary convolution: it alone, or padding and it.

    The list is empty if other layers take the photos.
    """
    way: list[keras.Layer] = []
    tensor = graph.model.inputs[0]
    while True:
        takers = [step for step in graph.steps if any(taken is tensor for taken in step.inputs)]
        if len(takers) != 1:
            return []
        layer, tensor = takers[0].layer, takers[0].output
        way.append(layer)
        if type(layer) is layers.Conv2D and layer.groups == 1:
            return way
        if type(layer) is not ReflectionPadding2D:
            return []
