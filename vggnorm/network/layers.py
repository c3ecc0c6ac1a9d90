"""What each kind of Keras layer does to the scales of the channels that pass through it.

A scale is what the activation of a channel is divided by in the rescaled network. It travels with
every tensor, as an array that broadcasts against the tensor: `(1, 1, 1, channels)` behind a
convolution, `(1, features)` behind a flattening, all ones at the photo.

Each kind of layer has a rule of a few lines. A rule takes the scales of the layer's inputs, and the
scale wanted of the layer's own filters. It gives the weights that change, and the scale of the
output. If a layer has no rule, then nothing is known about its output when its input is rescaled;
`reason_against` says why.

To support a new kind of layer, add it to a group in `vggnorm.network.kinds`, or to RULES with a
rule of its own.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import activations, layers

from vggnorm.errors import NetworkError
from vggnorm.network import operations
from vggnorm.network.keras_private import operation_name
from vggnorm.network.kinds import (
    CONVOLUTIONS,
    DEPTHWISE,
    IN_TRAINING,
    JOINING,
    MOVING,
    POOLING_AWAY,
    RECTIFIERS,
    SEPARABLE,
    SPATIAL,
    TRANSPOSED,
    LayerKind,
)
from vggnorm.network.operations import is_operation
from vggnorm.network.rectifiers import RECTIFYING, function_of, is_kerases, is_rectifier
from vggnorm.network.steps import LayerWeights, Step, channel_axis
from vggnorm.rule import Float64, Floats, rescale

Changed = dict[str, Float64]  # weight name -> the new array, for the weights that change

# What a rule gives: a function that computes the weights that change, or None if none does; and
# the scale of the output. The weights are computed later, and only where they are wanted, because
# those of a network are large.
Carried = tuple[Callable[[], Changed] | None, Float64]

# (step, the scale of each input, the scale wanted of the filters (filters,)) -> carried
Rule = Callable[[Step, list[Float64], Float64], Carried]


def as_channels(scale: Float64, axis: int, rank: int) -> Float64:
    """Reshape a scale `(channels,)` to broadcast along one axis of a tensor with `rank` axes."""
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


def along_channels(step: Step, scale: Float64, axis: int) -> Float64:
    """Give the scale of each incoming channel, `(channels,)`.

    Raises:
        NetworkError: the scale is not the same at every position.
    """
    if scale.size != scale.shape[axis]:
        raise NetworkError(
            f"layer {step.layer.name}: mixes values of different scales along an axis that is not "
            "the axis of the channels; give it the data_format that its input has, or leave out "
            "the layers from there on"
        )
    channels = step.inputs[0].shape[axis]
    return np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float64)


# Layers with filters take in any scales and give out the wanted ones. Each kind lays its weights
# out as the rule takes them, one kernel in which every filter sees every channel, and back.


def _rescale_groups(
    kernel: Floats, bias: Floats, scale_in: Float64, scale_out: Float64
) -> tuple[Float64, Float64]:
    """Rescale a kernel `(..., channels_in / groups, filters)`, one group after the other.

    The first `filters / groups` filters see the first `channels_in / groups` channels, and so on.
    """
    groups = len(scale_in) // kernel.shape[-2]
    if groups == 1:
        return rescale(kernel, bias, scale_in, scale_out)
    parts = zip(
        np.split(kernel, groups, axis=-1),
        np.split(bias, groups),
        np.split(scale_in, groups),
        np.split(scale_out, groups),
        strict=True,
    )
    rescaled = [rescale(*part) for part in parts]
    kernels, biases = zip(*rescaled, strict=True)
    return np.concatenate(kernels, axis=-1), np.concatenate(biases)


def _rescale_depthwise(
    kernel: Floats, bias: Floats, scale_in: Float64, scale_out: Float64
) -> tuple[Float64, Float64]:
    """Rescale a depthwise kernel `(..., channels_in, multiplier)`.

    Filter `m` on channel `c` gives the output `c * multiplier + m`. So in the order
    `(channels_in, multiplier)`, each output has its place under its kernel, and the rule's division
    by `scale_out` broadcasts over the positions alone.
    """
    outputs = kernel.shape[-2:]
    new_kernel, new_bias = rescale(
        kernel, bias.reshape(outputs), scale_in, scale_out.reshape(outputs)
    )
    return new_kernel, new_bias.reshape(-1)


def _bias(weights: LayerWeights, filters: int) -> Floats:
    """Give the bias of a layer, zeros if it has none."""
    return weights.get("bias", np.zeros(filters))


def _convolution(weights: LayerWeights, scale_in: Float64, scale_out: Float64) -> Changed:
    bias = _bias(weights, len(scale_out))
    kernel, bias = _rescale_groups(weights["kernel"], bias, scale_in, scale_out)
    return {"kernel": kernel, "bias": bias}


def _transposed_convolution(
    weights: LayerWeights, scale_in: Float64, scale_out: Float64
) -> Changed:
    bias = _bias(weights, len(scale_out))
    transposed = weights["kernel"].swapaxes(-1, -2)  # from (..., filters, channels)
    kernel, bias = _rescale_groups(transposed, bias, scale_in, scale_out)
    return {"kernel": kernel.swapaxes(-1, -2), "bias": bias}


def _depthwise_convolution(weights: LayerWeights, scale_in: Float64, scale_out: Float64) -> Changed:
    bias = _bias(weights, len(scale_out))
    kernel, bias = _rescale_depthwise(weights["kernel"], bias, scale_in, scale_out)
    return {"kernel": kernel, "bias": bias}


def _separable_convolution(weights: LayerWeights, scale_in: Float64, scale_out: Float64) -> Changed:
    """Rescale a depthwise convolution and the pointwise one behind it; ones between the two."""
    pointwise = weights["pointwise_kernel"]
    between = np.ones(pointwise.shape[-2])
    no_bias = np.zeros(len(between))
    depthwise, _ = _rescale_depthwise(weights["depthwise_kernel"], no_bias, scale_in, between)
    bias = _bias(weights, len(scale_out))
    pointwise, bias = _rescale_groups(pointwise, bias, between, scale_out)
    return {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise, "bias": bias}


# (the layer's weights, scale in, scale out) -> the new kernels, and the new bias: zeros for a layer
# without one.
FILTERS: dict[LayerKind, Callable[[LayerWeights, Float64, Float64], Changed]] = {
    **dict.fromkeys((*CONVOLUTIONS, layers.Dense), _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed_convolution),
    **dict.fromkeys(DEPTHWISE, _depthwise_convolution),
    **dict.fromkeys(SEPARABLE, _separable_convolution),
}
FILTER_WEIGHTS = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel", "bias"})


def _filters(step: Step, incoming: list[Float64], wanted: Float64) -> Carried:
    scale_in = along_channels(step, incoming[0], step.axis)
    rescale_kind = FILTERS[type(step.layer)]

    def changed() -> Changed:
        weights = step.weights
        rescaled = rescale_kind(weights, scale_in, wanted)
        return {name: array for name, array in rescaled.items() if name in weights}

    return changed, as_channels(wanted, step.axis, len(step.output.shape))


# Batch normalization is gamma * (x - mean) / sqrt(variance + epsilon) + beta. If x, mean and beta
# are divided by a scale, the whole is divided by it. This is exact, because the variance and its
# epsilon stay as they are.


def _batch_normalization(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    scale = along_channels(step, incoming[0], step.layer.axis)

    def changed() -> Changed:
        weights = step.weights
        return {name: weights[name] / scale for name in ("moving_mean", "beta") if name in weights}

    return changed, incoming[0]


# No other layer has weights that change. Rectifiers are positively homogeneous, f(s x) = s f(x) for
# s > 0. So are pooling, and layers that do something in training only.


def _same(_: Step, incoming: list[Float64], __: Float64) -> Carried:
    return None, incoming[0]


def _by_channel(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    along_channels(step, incoming[0], step.axis)
    return None, incoming[0]


def _pool_away(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    axis = channel_axis(step.layer, len(step.inputs[0].shape))
    scale = along_channels(step, incoming[0], axis)
    return None, as_channels(scale, step.axis, len(step.output.shape))


def _join(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    """Join the scales in the way `Concatenate` joins the channels."""
    rank = len(step.output.shape)
    axis = step.layer.axis % rank
    is_open = any(tensor.shape[axis] is None for tensor in step.inputs)  # as no channels ever are
    if is_open or any(scale.size != scale.shape[axis] for scale in incoming):
        raise NetworkError(
            f"layer {step.layer.name}: joins tensors along an axis that is not the axis of their "
            "channels; leave out the layers from there on"
        )
    parts = []
    for scale, tensor in zip(incoming, step.inputs, strict=True):
        channels = tensor.shape[axis]
        parts.append(np.broadcast_to(scale.reshape(-1), (channels,)))  # a single one stands for all
    return None, as_channels(np.concatenate(parts), axis, rank)


def _move(step: Step, incoming: list[Float64], _: Float64) -> Carried:
    """Move the scales as a reshaping layer moves the values: let the layer move their indexes."""
    shape = step.inputs[0].shape[1:]
    if None in shape:
        raise NetworkError(
            f"layer {step.layer.name}: needs a network whose photos have a fixed size; build it "
            "with one"
        )
    indexes = np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)
    moved = np.asarray(keras.ops.convert_to_numpy(step.layer(indexes)))
    flat = np.broadcast_to(incoming[0], (1, *shape)).reshape(-1)
    return None, _shortened(flat[moved])


def _shortened(scale: Float64) -> Float64:
    """Keep one position for all of an axis along which every position is alike."""
    for axis in range(1, scale.ndim):
        first = scale.take([0], axis=axis)
        if np.array_equal(scale, np.broadcast_to(first, scale.shape), equal_nan=True):
            scale = first
    return scale


RULES: dict[LayerKind, Rule] = {
    **dict.fromkeys(FILTERS, _filters),
    layers.BatchNormalization: _batch_normalization,
    **dict.fromkeys((*RECTIFIERS, *IN_TRAINING, layers.Rescaling), _same),
    **dict.fromkeys(SPATIAL, _by_channel),
    **dict.fromkeys(POOLING_AWAY, _pool_away),
    **dict.fromkeys(MOVING, _move),
    **dict.fromkeys(JOINING, _join),
}

# In these, each channel of the output comes from the same channel of the input alone.
CHANNEL_BY_CHANNEL = frozenset(
    {layers.BatchNormalization, layers.Rescaling, *RECTIFIERS, *IN_TRAINING, *SPATIAL}
)


def rule_of(step: Step) -> Rule:
    """Give the rule of a layer or operation that passes scales."""
    return _operation if is_operation(step.layer) else RULES[type(step.layer)]


def _operation(step: Step, incoming: list[Float64], wanted: Float64) -> Carried:
    if operation_name(step.layer) == "numpy.Concatenate":
        return _join(step, incoming, wanted)
    try:
        return None, operations.rescale(step, incoming)
    except ValueError as error:
        raise NetworkError(
            f"layer {step.layer.name}: {error}; leave out the layers from there on"
        ) from error


def keeps_channels(step: Step) -> bool:
    """Tell whether each channel of the output comes from the same channel of the input alone."""
    if is_operation(step.layer):
        return operation_name(step.layer) in operations.BY_CHANNEL
    return type(step.layer) in CHANNEL_BY_CHANNEL


def passes_scales(step: Step) -> bool:
    """Tell whether a layer's output is rescaled, and otherwise unchanged, when its input is.

    For a layer with filters, tell whether its activation function passes on the scale that is
    wanted of the filters.
    """
    layer = step.layer
    kind = type(layer)
    if is_operation(layer):
        return operations.passes_scales(step)
    if kind not in RULES:
        return False
    if kind in FILTERS or kind is layers.Activation:
        return function_of(layer) in (*RECTIFYING, activations.linear)
    if kind is layers.ReLU:
        return is_rectifier(layer)
    return not _adds_constant(layer)


def _adds_constant(layer: keras.Layer) -> bool:
    """Tell whether a layer adds something that does not depend on its input."""
    if type(layer) is layers.Rescaling:
        return bool(np.any(layer.offset))
    if type(layer) is layers.Resizing:
        return bool(layer.pad_to_aspect_ratio and layer.fill_value != 0)
    return False


_ADDS = "it adds a constant, which would have to be rescaled filter by filter"
_SHARED = "all that it joins would need one common scale, so not every filter's mean could be 1"
_ADDS_UP = f"{_SHARED}, and numbers that it adds would have to be rescaled filter by filter"
_BENDS = "its output is not proportional to its input"
_CLIPS = "it is clipped or has a threshold, which would have to be rescaled filter by filter"
_NORMALIZES = "it undoes every scale, and mixes those of the channels"

REASONS: dict[LayerKind, str] = {
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Average), _SHARED),
    **dict.fromkeys((layers.Maximum, layers.Minimum, layers.Multiply, layers.Dot), _SHARED),
    **dict.fromkeys((layers.ELU, layers.Softmax, layers.Activation, *FILTERS), _BENDS),
    **dict.fromkeys(
        (layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization),
        _NORMALIZES,
    ),
    layers.ReLU: _CLIPS,
    **dict.fromkeys((layers.Rescaling, layers.Resizing), _ADDS),
}


def reason_against(layer: Any) -> str:
    """Say why a layer or operation does not pass scales on."""
    if is_operation(layer):
        return _reason_against_operation(layer)
    function = function_of(layer)
    if function is activations.relu6:
        return _CLIPS
    if isinstance(function, keras.Layer):
        return (
            "its activation is itself a layer, which is not read; use a layer of its own, or the "
            "name of a function"
        )
    if not is_kerases(function):
        return "its activation is not one of Keras's, so nothing is known about it"
    return REASONS.get(type(layer), "it is not known to pass a scale on")


def _reason_against_operation(operation: Any) -> str:
    name = operation_name(operation)
    if name in operations.CLIPPING:
        return _CLIPS
    if name in operations.COMBINING:
        return _ADDS_UP
    if name in operations.PASSING or name in operations.RECTIFYING:
        return "with these arguments it does not pass a scale on"
    return "it is not known to pass a scale on"
