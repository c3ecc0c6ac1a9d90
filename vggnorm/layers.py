"""What each kind of Keras layer does to the scales of the channels that pass through it.

A scale is what a channel's activation is divided by in the rescaled network. It travels with every tensor as an array
that broadcasts against it: `(1, 1, 1, channels)` behind a convolution, `(1, features)` behind a flattening, all ones at
the photo. Each kind of layer has a rule of a few lines here: from the scales of what comes in, and the scale wanted of
what the layer's own filters give, to the weights that change and the scale of what goes out. A layer without a rule is
one of whose output nothing can be said when its input is rescaled; REASONS says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, layers
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.rescale import Float64, rescale_bias, rescale_depthwise_kernel, rescale_kernel

Kind = type[keras.Layer]
Weights = Mapping[str, NDArray[Any]]  # weight name -> array
Changed = dict[str, Float64]  # weight name -> the new array, of those that change


@dataclass(frozen=True)
class Step:
    """One call of a layer."""

    layer: keras.Layer
    inputs: tuple[Any, ...]  # keras.KerasTensor
    output: Any

    @property
    def axis(self) -> int:
        """The axis that the layer takes for that of the channels, in its output."""
        return channel_axis(self.layer, len(self.output.shape))

    @property
    def weights(self) -> Weights:
        """The layer's weights by name."""
        return {weight.name: np.asarray(keras.ops.convert_to_numpy(weight)) for weight in self.layer.weights}


# (step, the scale of each input, the scale wanted of the filters (filters,)) -> (what changes, the output's scale).
# What changes is computed when it is called for, since the weights of a network are large; None if nothing does.
Carried = tuple[Callable[[], Changed] | None, Float64]
Rule = Callable[[Step, list[Float64], Float64], Carried]


def channel_axis(layer: keras.Layer, rank: int) -> int:
    """Tell which axis a layer takes for that of the channels, in a tensor of so many axes."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def as_channels(scale: Float64, axis: int, rank: int) -> Float64:
    """Lay a scale `(channels,)` along the axis of the channels of a tensor with so many axes; it broadcasts then."""
    return scale.reshape([-1 if index == axis else 1 for index in range(rank)])


def along_channels(step: Step, scale: Float64, axis: int) -> Float64:
    """Give the scale of each incoming channel, `(channels,)`; it must be the same at every position."""
    if scale.size != scale.shape[axis]:
        raise NetworkError(
            f"layer {step.layer.name}: mixes values of different scales along an axis that is not that of its "
            "channels; give it the data_format that its input has, or leave out the layers from there on"
        )
    return np.broadcast_to(scale.reshape(-1), (step.inputs[0].shape[axis],)).astype(np.float64)


# Layers with filters take any scales in, by their weights, and give the wanted ones out. How the scales enter the
# weights is said in vggnorm.rescale.


def _convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> Changed:
    return {"kernel": rescale_kernel(weights["kernel"], scale_in, scale_out)}


def _transposed_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> Changed:
    kernel = weights["kernel"].swapaxes(-1, -2)  # (..., filters, channels) -> (..., channels, filters)
    return {"kernel": rescale_kernel(kernel, scale_in, scale_out).swapaxes(-1, -2)}


def _depthwise_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> Changed:
    return {"kernel": rescale_depthwise_kernel(weights["kernel"], scale_in, scale_out)}


def _separable_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> Changed:
    depthwise, pointwise = weights["depthwise_kernel"], weights["pointwise_kernel"]
    between = np.ones(pointwise.shape[-2])
    return {
        "depthwise_kernel": rescale_depthwise_kernel(depthwise, scale_in, between),
        "pointwise_kernel": rescale_kernel(pointwise, between, scale_out),
    }


FILTERS: dict[Kind, Callable[[Weights, Float64, Float64], Changed]] = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense), _convolution),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_convolution),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable_convolution),
}
FILTER_WEIGHTS = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel", "bias"})


def _filters(step: Step, incoming: list[Float64], wanted: Float64) -> Carried:
    scale_in = along_channels(step, incoming[0], step.axis)

    def changed() -> Changed:
        weights = step.weights
        bias = {"bias": rescale_bias(weights["bias"], wanted)} if "bias" in weights else {}
        return FILTERS[type(step.layer)](weights, scale_in, wanted) | bias

    return changed, as_channels(wanted, step.axis, len(step.output.shape))


# Batch normalization, gamma * (x - mean) / sqrt(variance + epsilon) + beta, with x, mean and beta divided by a scale is
# divided by it as a whole: exactly so, since the variance and its epsilon stay as they are.


def _batch_normalization(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    scale = along_channels(step, incoming[0], step.layer.axis)

    def changed() -> Changed:
        weights = step.weights
        return {name: weights[name] / scale for name in ("moving_mean", "beta") if name in weights}

    return changed, incoming[0]


# All others have no weights that change. Rectifiers are positively homogeneous, f(s x) = s f(x) for s > 0, as are
# pooling and what does nothing but in training.


def _same(_: Step, incoming: list[Float64], __: Float64) -> Carried:
    return None, incoming[0]


def _by_channel(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    along_channels(step, incoming[0], step.axis)
    return None, incoming[0]


def _pool_away(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    scale = along_channels(step, incoming[0], channel_axis(step.layer, len(step.inputs[0].shape)))
    return None, as_channels(scale, step.axis, len(step.output.shape))


def _join(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    """Put the scales side by side, as `Concatenate` does the channels."""
    axis = step.layer.axis % len(step.output.shape)
    if any(scale.size != scale.shape[axis] for scale in incoming):
        raise NetworkError(
            f"layer {step.layer.name}: joins tensors along an axis that is not that of their channels; "
            "leave out the layers from there on"
        )
    parts = [  # ones stand for any number of channels
        np.broadcast_to(scale.reshape(-1), (tensor.shape[axis],))
        for scale, tensor in zip(incoming, step.inputs, strict=True)
    ]
    return None, as_channels(np.concatenate(parts), axis, len(step.output.shape))


def _move(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    """Move the scales as a flattening or reshaping moves the values: by having the layer itself move their places."""
    shape = step.inputs[0].shape[1:]
    if None in shape:
        raise NetworkError(
            f"layer {step.layer.name}: needs a network whose photos have a fixed size; build it with one"
        )
    places = np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)
    moved = np.asarray(keras.ops.convert_to_numpy(step.layer(places)))
    values: Float64 = np.broadcast_to(incoming[0], (1, *shape)).reshape(-1)[moved]
    for axis in range(1, values.ndim):  # where all positions are alike, one stands for them
        first = values.take([0], axis=axis)
        if np.array_equal(values, np.broadcast_to(first, values.shape), equal_nan=True):
            values = first
    return None, values


RECTIFIERS: tuple[Kind, ...] = (layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.Activation)
SPATIAL: tuple[Kind, ...] = (
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
)
IN_TRAINING: tuple[Kind, ...] = (
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization, layers.Identity),
)
POOLING_AWAY: tuple[Kind, ...] = (
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
)
MOVING: tuple[Kind, ...] = (layers.Flatten, layers.Reshape, layers.Permute)
JOINING: tuple[Kind, ...] = (layers.Concatenate,)

RULES: dict[Kind, Rule] = {
    **dict.fromkeys(FILTERS, _filters),
    layers.BatchNormalization: _batch_normalization,
    **dict.fromkeys((*RECTIFIERS, *IN_TRAINING), _same),
    **dict.fromkeys(SPATIAL, _by_channel),
    **dict.fromkeys(POOLING_AWAY, _pool_away),
    **dict.fromkeys(MOVING, _move),
    **dict.fromkeys(JOINING, _join),
}

# Of these, every channel of the output comes from that channel of the input alone.
CHANNEL_BY_CHANNEL = frozenset({layers.BatchNormalization, *RECTIFIERS, *IN_TRAINING, *SPATIAL})


# Activation functions

RECTIFYING = (activations.relu, activations.leaky_relu, keras.ops.relu, keras.ops.leaky_relu)
LEAKY = (activations.leaky_relu, keras.ops.leaky_relu)


def function_of(layer: keras.Layer) -> Any:
    """Give the function that a layer has as its argument `activation`, `linear` where it has none."""
    return getattr(layer, "activation", None) or activations.linear


def function_name(layer: keras.Layer) -> str:
    """Name that function, for people."""
    function = function_of(layer)
    return str(getattr(function, "__name__", type(function).__name__))


def is_rectifier(layer: keras.Layer) -> bool:
    """Tell whether a layer is an activation f with f(s x) = s f(x) for all s > 0, and not the identity."""
    if type(layer) is layers.ReLU:
        return layer.max_value is None and not layer.threshold
    return type(layer) in (layers.LeakyReLU, layers.PReLU) or (
        type(layer) is layers.Activation and function_of(layer) in RECTIFYING
    )


def is_leaky(layer: keras.Layer) -> bool:
    """Tell whether a layer's rectification lets something of a negative value through, so that it may be negative."""
    if type(layer) is layers.ReLU:
        return bool(layer.negative_slope)
    return type(layer) in (layers.LeakyReLU, layers.PReLU) or function_of(layer) in LEAKY


def passes_scales(layer: keras.Layer) -> bool:
    """Tell whether a layer's output is rescaled, and not otherwise changed, when its input is.

    Of a layer with filters this tells whether its activation function passes the scale wanted of them.
    """
    if type(layer) not in RULES:
        return False
    if type(layer) in FILTERS or type(layer) is layers.Activation:
        return function_of(layer) in (*RECTIFYING, activations.linear)
    return type(layer) is not layers.ReLU or is_rectifier(layer)


_SHARED = "what it joins would have to share one scale, so that not every filter's mean could be 1"
_BENDS = "its output is not proportional to its input"
_CLIPS = "it is clipped or has a threshold, which would have to be rescaled filter by filter"
_NORMALIZES = "it undoes every scale, and mixes those of the channels"
REASONS: dict[Kind, str] = {
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum), _SHARED),
    **dict.fromkeys((layers.Multiply, layers.Dot), _SHARED),
    **dict.fromkeys((layers.ELU, layers.Softmax, layers.Activation, *FILTERS), _BENDS),
    **dict.fromkeys((layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization), _NORMALIZES),
    layers.ReLU: _CLIPS,
}


def reason_against(layer: keras.Layer) -> str:
    """Say why a layer does not pass scales."""
    function = function_of(layer)
    if function in (activations.relu6, keras.ops.relu6):
        return _CLIPS
    if isinstance(function, keras.Layer):
        return "its activation is a layer, which is not looked into: give a layer of its own, or its name"
    return REASONS.get(type(layer), "it is not known to pass a scale on")
