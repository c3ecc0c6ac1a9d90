"""A text that says what a network computes with its weights, the same from any file.

Two networks with the same weights may compute different functions if a stride, a slope or an
epsilon differs, or what stands in front. Then their descriptions differ. Names, initializers and
the size of the photos do not change the function, so they are left out.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from vggnorm.network.cloning import config_of_layer
from vggnorm.network.graph import Graph
from vggnorm.network.keras_private import operation_name
from vggnorm.network.kinds import AUGMENTING, TRANSPOSED
from vggnorm.network.operations import is_operation, without_ellipsis
from vggnorm.network.steps import Step

# Settings that do not change what a trained layer computes. Every other setting counts, even one
# that is not known here.
NO_MATTER = frozenset(
    [
        "name",
        "trainable",
        "dtype",
        "batch_shape",
        "batch_input_shape",
        "input_shape",
        "seed",
        "noise_shape",
        "momentum",
        "synchronized",
        "renorm",
        "renorm_clipping",
        "renorm_momentum",
        "quantization_config",
        "lora_rank",
        "lora_alpha",
    ]
)

NO_MATTER_ENDINGS = ("_initializer", "_regularizer", "_constraint")

# Layers that do nothing when a network is used.
IDLE = (
    *AUGMENTING,
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)


def describe(graph: Graph) -> str:
    """Describe a network, call by call.

    Returns:
        A JSON text. For each call it has the number of the layer, the kind and the settings of the
        layer, and the numbers of the calls whose outputs it takes.

    Raises:
        TypeError, ValueError, NotImplementedError: a custom layer does not say what its settings
            are.
    """
    number: dict[int, int] = {}  # id of a tensor -> the number of the call that gives it
    # Layers are numbered by first use, because two with the same settings may have other weights.
    layer_number: dict[str, int] = {}
    calls: list[Any] = []
    for step in graph.steps:
        if type(step.layer) in IDLE:
            number[id(step.output)] = number[id(step.inputs[0])]
            continue
        number[id(step.output)] = len(calls)
        layer = layer_number.setdefault(step.layer.name, len(layer_number))
        taken = [number[id(tensor)] for tensor in step.inputs]
        calls.append([layer, _kind(step.layer), _settings(step), taken])
    outputs = [number[id(tensor)] for tensor in graph.model.outputs]
    return json.dumps([calls, outputs], sort_keys=True)


def architecture_sha256(graph: Graph) -> str | None:
    """Give the SHA-256 of a network's description in hexadecimal; None if it has none."""
    try:
        text = describe(graph)
    except (NotImplementedError, TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _is_from_keras(layer: keras.Layer) -> bool:
    return type(layer).__module__.startswith("keras.")


def _kind(layer: Any) -> str:
    """Name the kind of a layer; a custom layer never gets the name of one of Keras's layers."""
    if is_operation(layer):
        return operation_name(layer)
    kind = type(layer)
    registered: str = keras.saving.get_registered_name(kind)
    if _is_from_keras(layer) or registered != kind.__name__:
        return registered
    return f"{kind.__module__}.{kind.__qualname__}"


def _settings(step: Step) -> dict[str, Any]:
    layer = step.layer
    if isinstance(layer, layers.InputLayer):
        return {}
    if is_operation(layer):
        return _settings_of_operation(step)
    config = config_of_layer(layer)
    # Keras 3.11 does not write these down.
    if isinstance(layer, layers.ELU):
        config["alpha"] = layer.alpha
    if isinstance(layer, TRANSPOSED):
        config["output_padding"] = layer.output_padding
    matters = _matters if _is_from_keras(layer) else _may_matter
    settings: dict[str, Any] = {"computes in": layer.compute_dtype}
    for name, value in config.items():
        if not matters(name, value):
            continue
        if name == "axis":
            settings[name] = _axes(value, rank=len(step.output.shape))
        else:
            settings[name] = _plain(value)
    return settings


def _settings_of_operation(step: Step) -> dict[str, Any]:
    """Give the settings of an operation, and what it is called with, each tensor as `tensor`."""
    arguments = without_ellipsis(step)
    settings = {
        name: _plain_argument(value)
        for name, value in {**step.layer.get_config(), **step.named}.items()
        if _matters(name, value)
    }
    return {"called with": [_plain_argument(value) for value in arguments], **settings}


def _plain_argument(value: Any) -> Any:
    if isinstance(value, keras.KerasTensor):
        return "tensor"
    if isinstance(value, slice):
        return ["slice", value.start, value.stop, value.step]
    if isinstance(value, list | tuple):
        return [_plain_argument(entry) for entry in value]
    if keras.ops.is_tensor(value):
        return _plain(keras.ops.convert_to_numpy(value))
    return _plain(value)


def _matters(name: str, value: Any) -> bool:
    """Tell whether a setting counts. None does not: an older Keras may not have the setting."""
    return value is not None and name not in NO_MATTER and not name.endswith(NO_MATTER_ENDINGS)


def _may_matter(name: str, value: Any) -> bool:
    """Tell whether a setting of a custom layer may count, since its meaning is not known."""
    return value is not None and name not in ("name", "trainable", "dtype")


def _axes(value: Any, rank: int) -> list[int]:
    """Give one axis or several as a list, counted from the front."""
    axes = value if isinstance(value, list | tuple) else [value]
    return [int(axis) % rank for axis in axes]


def _plain(value: Any) -> Any:
    """Write a setting in one way, however Keras gives it: numbers as floats, tuples as lists."""
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "tolist"):  # an array or number of numpy
        return _plain(value.tolist())
    return float(value)


def _plain_mapping(value: Mapping[Any, Any]) -> Any:
    if "class_name" in value:
        return [value["class_name"], _plain(value.get("config"))]
    settings = {str(name): inner for name, inner in value.items()}
    return {name: _plain(inner) for name, inner in settings.items() if _matters(name, inner)}
