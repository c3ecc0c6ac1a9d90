"""Activation functions: which of them are rectifiers, and which may give a negative value."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops

from vggnorm.files.allowlist import ACTIVATIONS
from vggnorm.files.keras3_config import OTHER_NAMES

RECTIFYING = (activations.relu, activations.leaky_relu)
LEAKY = (activations.leaky_relu,)

# Numbers on which the activation functions of Keras differ from each other.
SAMPLE = np.linspace(-8, 8, 17, dtype=np.float32).reshape(1, -1)


def function_of(layer: keras.Layer) -> Any:
    """Give the function that a layer has as its argument `activation`, or else `linear`.

    A function of the backend that computes what one of Keras's computes, such as `tf.nn.relu`, is
    given as Keras's. Keras saves it under its name, and so makes it its own in every copy and file.
    """
    function = getattr(layer, "activation", None)
    return activations.linear if function is None else _as_kerases(function)


def _as_kerases(function: Any) -> Any:
    library = str(getattr(function, "__module__", None)).partition(".")[0]
    name = getattr(function, "__name__", "")
    name = OTHER_NAMES.get(name, name)
    if library not in ("keras", keras.backend.backend()) or name not in ACTIVATIONS:
        return function
    own = getattr(activations, name)
    return own if function is own or _compute_the_same(function, own) else function


@cache
def _compute_the_same(function: Callable[[Any], Any], other: Callable[[Any], Any]) -> bool:
    one, another = (
        ops.convert_to_numpy(either(ops.convert_to_tensor(SAMPLE))) for either in (function, other)
    )
    return np.allclose(one, another, rtol=1e-4, atol=1e-6)


def is_kerases(function: Any) -> bool:
    """Tell whether a function, as `function_of` gives it, is one of Keras's activations."""
    name = getattr(function, "__name__", "")
    return name in ACTIVATIONS and function is getattr(activations, name)


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
