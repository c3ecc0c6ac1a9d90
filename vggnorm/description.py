"""What a network computes with its weights, as a text that is the same for one network from any file.

Two networks with the same weights may compute something else, by another stride, slope or epsilon, or by what stands in
front. Their descriptions differ. Names, initializers and the size of the photos do not matter, and are left out.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from vggnorm.graph import Graph
from vggnorm.layers import Step

# Settings that do not change what a trained layer computes. Any other setting counts, also one that is not known here.
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
    """Describe a network: for each call, its layer, the layer's kind and settings, and the calls it takes input from.

    Returns:
        A JSON text.

    Raises:
        TypeError, ValueError, NotImplementedError: a layer of somebody's own does not say what its settings are.
    """
    number: dict[int, int] = {}  # of the call that gives a tensor
    layer_number: dict[str, int] = {}  # by first use: two layers with the same settings may have other weights
    calls: list[Any] = []
    for step in graph.steps:
        if type(step.layer) in IDLE:
            number[id(step.output)] = number[id(step.inputs[0])]
            continue
        number[id(step.output)] = len(calls)
        layer = layer_number.setdefault(step.layer.name, len(layer_number))
        calls.append([layer, _kind(step.layer), _settings(step), [number[id(tensor)] for tensor in step.inputs]])
    outputs = [number[id(tensor)] for tensor in graph.model.outputs]
    return json.dumps([calls, outputs], sort_keys=True)


def architecture_sha256(graph: Graph) -> str | None:
    """Give the SHA-256 of a network's description, as hexadecimal digits; None if a layer does not describe itself."""
    try:
        text = describe(graph)
    except (NotImplementedError, TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _is_kerass(layer: keras.Layer) -> bool:
    return type(layer).__module__.startswith("keras.")


def _kind(layer: keras.Layer) -> str:
    """Name the kind of a layer, so that one of somebody's own is not taken for Keras's of the same name."""
    kind = type(layer)
    registered: str = keras.saving.get_registered_name(kind)
    if _is_kerass(layer) or registered != kind.__name__:
        return registered
    return f"{kind.__module__}.{kind.__qualname__}"


def _settings(step: Step) -> dict[str, Any]:
    layer = step.layer
    if isinstance(layer, layers.InputLayer):
        return {}
    config = layer.get_config()
    if isinstance(layer, layers.ELU):  # Keras 3.11 does not write it down
        config["alpha"] = layer.alpha
    matters = _matters if _is_kerass(layer) else _may_matter
    rank = len(step.output.shape)
    settings = {
        name: _axes(value, rank) if name == "axis" else _plain(value)
        for name, value in config.items()
        if matters(name, value)
    }
    return {"computes in": layer.compute_dtype, **settings}


def _matters(name: str, value: Any) -> bool:
    """Tell whether a setting counts. One of None does not: an older Keras may not have that setting at all."""
    return value is not None and name not in NO_MATTER and not name.endswith(NO_MATTER_ENDINGS)


def _may_matter(name: str, value: Any) -> bool:
    """Tell whether a setting of somebody's own layer may count: nobody knows what it means."""
    return value is not None and name not in ("name", "trainable", "dtype")


def _axes(value: Any, rank: int) -> list[int]:
    """Count axes from the front, as one list."""
    axes = value if isinstance(value, list | tuple) else [value]
    return [int(axis) % rank for axis in axes]


def _plain(value: Any) -> Any:
    """Give a setting in the one way in which it is written here."""
    if isinstance(value, Mapping):
        if "class_name" in value:
            return [value["class_name"], _plain(value.get("config"))]
        return {str(name): _plain(inner) for name, inner in value.items() if _matters(str(name), inner)}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "tolist"):  # numpy's
        return _plain(value.tolist())
    return float(value)
