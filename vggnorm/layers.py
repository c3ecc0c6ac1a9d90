"""What each kind of Keras layer does to the scales of the channels that pass through it.

A scale is what a channel's activation is divided by in the rescaled network. It travels with every tensor as an array
that broadcasts against it: `(1, 1, 1, channels)` behind a convolution, `(1, features)` behind a flattening, all ones
at the photo. There are five kinds of layers:

- RESCALED layers take any scales in, by their weights, and can give any scales out.
- RECTIFIERS are positively homogeneous, f(s x) = s f(x) for s > 0: the scales pass through, and what is behind them is
  an activation whose mean can be made 1.
- PASSING layers let the scales through, and MOVING layers move them with their channels.
- JOINING layers put the channels of several tensors side by side.
- Of everything else the output is not the same when its input is rescaled. REASONS says why.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.rescale import Float64, rescale_bias, rescale_depthwise_kernel, rescale_kernel

Weights = Mapping[str, NDArray[Any]]  # weight name -> array
Rescale = Callable[[Weights, Float64, Float64], dict[str, Float64]]

# RESCALED: (weights, scale_in (channels_in,), scale_out (filters,)) -> the weights that change. How the scales enter
# is said in vggnorm.rescale.


def _convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> dict[str, Float64]:
    return {"kernel": rescale_kernel(weights["kernel"], scale_in, scale_out), **_bias(weights, scale_out)}


def _transposed_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> dict[str, Float64]:
    kernel = weights["kernel"].swapaxes(-1, -2)  # (..., filters, channels) -> (..., channels, filters)
    return {"kernel": rescale_kernel(kernel, scale_in, scale_out).swapaxes(-1, -2), **_bias(weights, scale_out)}


def _depthwise_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> dict[str, Float64]:
    return {"kernel": rescale_depthwise_kernel(weights["kernel"], scale_in, scale_out), **_bias(weights, scale_out)}


def _separable_convolution(weights: Weights, scale_in: Float64, scale_out: Float64) -> dict[str, Float64]:
    depthwise, pointwise = weights["depthwise_kernel"], weights["pointwise_kernel"]
    between = np.ones(pointwise.shape[-2])
    return {
        "depthwise_kernel": rescale_depthwise_kernel(depthwise, scale_in, between),
        "pointwise_kernel": rescale_kernel(pointwise, between, scale_out),
        **_bias(weights, scale_out),
    }


def _bias(weights: Weights, scale_out: Float64) -> dict[str, Float64]:
    return {"bias": rescale_bias(weights["bias"], scale_out)} if "bias" in weights else {}


RESCALED: dict[type[keras.Layer], Rescale] = {
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.Conv3D: _convolution,
    layers.Conv1DTranspose: _transposed_convolution,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.Conv3DTranspose: _transposed_convolution,
    layers.DepthwiseConv1D: _depthwise_convolution,
    layers.DepthwiseConv2D: _depthwise_convolution,
    layers.SeparableConv1D: _separable_convolution,
    layers.SeparableConv2D: _separable_convolution,
    layers.Dense: _convolution,
}


def normalize_batch_normalization(weights: Weights, scale: Float64) -> dict[str, Float64]:
    """Let a scale pass through a batch normalization: (weights, scale (channels,)) -> the weights that change.

    `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with `x`, `mean` and `beta` divided by the scale, is divided
    by it as a whole: exactly so, since the variance and its epsilon stay as they are.
    """
    return {name: weights[name] / scale for name in ("moving_mean", "beta") if name in weights}


# RECTIFIERS

RECTIFYING_FUNCTIONS = frozenset({"relu", "leaky_relu"})


def is_rectifier(layer: keras.Layer) -> bool:
    """Tell whether a layer is an activation f with f(s x) = s f(x) for all s > 0, and not the identity."""
    if type(layer) is layers.ReLU:
        return layer.max_value is None and not layer.threshold
    if type(layer) is layers.Activation:
        return function_name(layer) in RECTIFYING_FUNCTIONS
    return type(layer) in (layers.LeakyReLU, layers.PReLU)


def is_leaky(layer: keras.Layer) -> bool:
    """Tell whether a layer's rectification lets something of a negative value through, so that it may be negative."""
    if type(layer) is layers.ReLU:
        return bool(layer.negative_slope)
    return type(layer) in (layers.LeakyReLU, layers.PReLU) or function_name(layer) == "leaky_relu"


def function_name(layer: keras.Layer) -> str:
    """Name the function that a layer has as its argument `activation`; `linear` if it has none."""
    function = getattr(layer, "activation", None)
    if function is None:
        return "linear"
    known = keras.activations.serialize(function)
    return known if isinstance(known, str) and keras.activations.get(known) is function else f"its own {function!r}"


# PASSING, MOVING and JOINING

PASSING: frozenset[type[keras.Layer]] = frozenset(
    {
        *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
        *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
        *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
        *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
        *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
        # These do nothing but in training.
        *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
        *(layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization, layers.Identity),
    }
)
POOLING_AWAY: frozenset[type[keras.Layer]] = frozenset(
    {
        *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
        *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    }
)
MOVING: frozenset[type[keras.Layer]] = frozenset({layers.Flatten, layers.Reshape, layers.Permute})
JOINING: frozenset[type[keras.Layer]] = frozenset({layers.Concatenate})

# Everything else

_ADDED = "what it joins would have to share one scale, so that not every filter's mean could be 1"
_SATURATES = "its output is not proportional to its input"
_NORMALIZES = "it undoes every scale, and mixes those of the channels"
REASONS: dict[type[keras.Layer], str] = {
    **dict.fromkeys(
        (layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Dot),
        _ADDED,
    ),
    **dict.fromkeys((layers.ELU, layers.Softmax, layers.Activation), _SATURATES),
    **dict.fromkeys((layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization), _NORMALIZES),
    layers.ReLU: "it is clipped or has a threshold, which would have to be rescaled filter by filter",
}
