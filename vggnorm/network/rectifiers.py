"""Activation functions: which of them are rectifiers, and which may give a negative value."""

from typing import Any

import keras
from keras import activations, layers

RECTIFYING = (activations.relu, activations.leaky_relu, keras.ops.relu, keras.ops.leaky_relu)
LEAKY = (activations.leaky_relu, keras.ops.leaky_relu)


def function_of(layer: keras.Layer) -> Any:
    """Give the function that a layer has as its argument `activation`, or else `linear`."""
    return getattr(layer, "activation", None) or activations.linear


def function_name(layer: keras.Layer) -> str:
    """Name the activation function of a layer, for people."""
    function = function_of(layer)
    return str(getattr(function, "__name__", type(function).__name__))


def is_rectifier(layer: keras.Layer) -> bool:
    """Tell whether a layer is a rectifier: not linear, and f(s x) = s f(x) for every s > 0."""
    kind = type(layer)
    if kind is layers.ReLU:
        return layer.max_value is None and not layer.threshold
    if kind is layers.Activation:
        return function_of(layer) in RECTIFYING
    return kind in (layers.LeakyReLU, layers.PReLU)


def is_leaky(layer: keras.Layer) -> bool:
    """Tell whether the activation of a layer that rectifies may be negative."""
    kind = type(layer)
    if kind is layers.ReLU:
        return bool(layer.negative_slope)
    return kind in (layers.LeakyReLU, layers.PReLU) or function_of(layer) in LEAKY
