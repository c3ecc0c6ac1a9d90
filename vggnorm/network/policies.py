"""The data types that a network computes in: measured in float32, and kept in what is saved.

Keras calls the pair of types that a layer computes in and keeps its weights in a policy. With
`mixed_float16`, a layer computes in float16 and its weights are float32. With `float16`, its
weights are float16, too.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from vggnorm.network.cloning import copied
from vggnorm.network.copies import finalize, input_like
from vggnorm.network.nesting import without_models
from vggnorm.network.paths import is_opened, leaf_layers
from vggnorm.network.steps import require_readable, steps_in

# Policies whose weights are too short for the rule, and those that compute in the same type and
# keep float32.
WITH_FLOAT32_WEIGHTS = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}

OTHER_FLOATS = frozenset(["float16", "bfloat16", "float64"])


def in_float32(model: keras.Model) -> keras.Model:
    """Give a network that computes in float32: the network itself, or a copy with its weights.

    Types of whole numbers stay, such as that of an input of uint8.

    Raises:
        NetworkError: the network needs a copy and cannot be copied.
    """
    require_readable(model)
    leaves = leaf_layers(model).values()
    if not _takes_other_float(model) and not any(_has_other_float(layer) for layer in leaves):
        return model
    steps_in(without_models(model))  # refuses what cannot be copied
    return _copied_with(model, lambda layer: "float32" if _has_other_float(layer) else None)


def with_float32_weights(model: keras.Model) -> keras.Model:
    """Make a copy whose weights have room for float32, and which computes in the same types."""
    return _copied_with(model, lambda layer: WITH_FLOAT32_WEIGHTS.get(layer.dtype_policy.name))


def _has_other_float(layer: keras.Layer) -> bool:
    return bool({layer.compute_dtype, layer.variable_dtype} & OTHER_FLOATS)


def _takes_other_float(model: keras.Model) -> bool:
    """Tell whether a network or a model inside rounds what it is given to the type of its input.

    Keras gives a sequential model that was built by a call the type that its first layer computes
    in.
    """
    inside = [layer for layer in model.layers if is_opened(layer)]
    taken = {str(tensor.dtype) for tensor in model.inputs}
    return bool(taken & OTHER_FLOATS) or any(_takes_other_float(layer) for layer in inside)


def _in_float32(dtype: str) -> str:
    return "float32" if dtype in OTHER_FLOATS else dtype


def _copied_with(
    model: keras.Model, policy_for: Callable[[keras.Layer], str | None]
) -> keras.Model:
    """Make a copy in which some layers have another policy.

    Args:
        model: the network. Inputs of another type of floating-point numbers get float32.
        policy_for: gives the policy of a layer's copy, or None if it stays.
    """

    def clone(operation: Any) -> Any:
        if is_opened(operation):
            return copied(operation, clone, input_like(operation, _in_float32))
        policy = policy_for(operation) if isinstance(operation, keras.Layer) else None
        return copied(operation) if policy is None else copied(operation, dtype=policy)

    copy = keras.models.clone_model(model, input_like(model, _in_float32), clone_function=clone)
    for own, other in zip(model.layers, copy.layers, strict=True):
        other.set_weights([np.asarray(array, _type_for(array)) for array in own.get_weights()])
    finalize(copy)
    return copy


def _type_for(array: np.ndarray) -> Any:
    """Give the type for one array of weights: float32 for any that numpy may not know."""
    return np.float32 if array.dtype.name in ("float16", "bfloat16") else array.dtype
