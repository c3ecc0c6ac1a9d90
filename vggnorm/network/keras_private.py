"""The one place for private attributes of Keras. Each function says why there is no other way.

If a new version of Keras renames one of these attributes, reading any network fails with an
AttributeError from this module, and the tests in `tests/network` fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

OPERATION_PACKAGES = ("keras.src.ops", "keras.src.activations")


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation in a network.

    Attributes:
        operation: the layer that is called, or an operation such as `keras.ops.add`.
        inputs: the tensors that it takes, each a `keras.KerasTensor`.
        outputs: the tensors that it gives.
        positional: its positional arguments.
        named: its keyword arguments.
        is_input: whether this stands for an input of the network and not for a real call.
    """

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    is_input: bool


def calls_in(model: keras.Model) -> list[Call]:
    """List the calls of a network in an order in which each comes after those it takes input from.

    Private: `_nodes_by_depth` of a functional model, and the attributes of its nodes. The public
    ways do not do. `keras.models.clone_model` with a `call_function` shows the calls, but adds a
    call to every layer of the user's model. `get_config` shows them as well, but fails for a layer
    that does not describe itself, and gives names and indexes instead of tensors.

    Args:
        model: a functional model, or a sequential one that is built.
    """
    functional = keras.Model(model.inputs, model.outputs)
    nodes_by_depth = functional._nodes_by_depth
    calls: list[Call] = []
    for depth in sorted(nodes_by_depth, reverse=True):
        calls.extend(_call(node) for node in nodes_by_depth[depth])
    return calls


def _call(node: Any) -> Call:
    return Call(
        operation=node.operation,
        inputs=tuple(node.input_tensors),
        outputs=tuple(node.output_tensors),
        positional=tuple(node.arguments.args),
        named=node.arguments.kwargs,
        is_input=node.is_input,
    )


def operation_name(operation: Any) -> str:
    """Name an operation of Keras, such as `numpy.Pad`; an empty text for anything else.

    Private: the modules `keras.src.ops` and `keras.src.activations`. The classes of the operations
    have no public names; files of Keras hold the private ones.
    """
    kind = type(operation)
    package, _, module = kind.__module__.rpartition(".")
    if package not in OPERATION_PACKAGES:
        return ""
    return f"{module}.{kind.__name__}"


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """List the layers that a layer holds, and those that these hold.

    Private: `_flatten_layers`. A layer of Keras has no public list of what it holds; only a model
    has one.
    """
    layers: list[keras.Layer] = layer._flatten_layers(include_self=False)
    return layers
