"""Operations, such as `keras.ops.pad`, in a model's configuration as Keras 3 writes it.

An operation stands among the layers. It names a class of a private module of Keras, and its calls
hold tensors, numbers and slices.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The module under which Keras writes each operation. They compute with what they are given, and
# with nothing else. Those that make tensors out of numbers, draw random numbers, call functions or
# lead elsewhere are not here.
OPERATIONS: Mapping[str, frozenset[str]] = {
    "keras.src.ops.numpy": _words(
        """
        Absolute Add Clip Concatenate Divide Exp ExpandDims Flip GetItem Log Max Maximum Mean Min
        Minimum Moveaxis Multiply Negative Pad Power Reshape Sqrt Square Squeeze Stack Std Subtract
        Sum Swapaxes Tanh Transpose TrueDivide Var
        """
    ),
    "keras.src.ops.nn": _words(
        "AveragePool Elu LeakyRelu MaxPool Relu Relu6 Sigmoid Silu Softmax Softplus"
    ),
    "keras.src.ops.core": frozenset(["Cast"]),
    "keras.src.ops.image": frozenset(["Resize"]),
    "keras.src.activations.activations": frozenset(["ReLU"]),
}

NAMES = frozenset[str]().union(*OPERATIONS.values())

# What an operation may be called with, besides numbers.
VALUES = frozenset(["__ellipsis__", "__keras_tensor__", "__slice__", "__tensor__", "__tuple__"])

WHOLE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}


def is_operation(layer: Config) -> bool:
    """Tell whether an entry among the layers of a configuration is an operation of Keras."""
    module = str(layer.get("module"))
    return module.startswith(("keras.src.ops.", "keras.src.activations."))


def with_module(layer: Any) -> Any:
    """Name the module of an operation in an .h5 file, where Keras leaves it out.

    Some layers have names that operations have, too. Only layers have the setting `trainable`.
    """
    match layer:
        case {"class_name": str(name), "config": dict(settings), "inbound_nodes": [{}, *_]}:
            pass
        case _:
            return layer
    if name not in NAMES or "trainable" in settings or layer.get("module") is not None:
        return layer
    return {**layer, "module": module_of(name), "registered_name": name}


def with_name(layer: Config) -> Config:
    """Give an operation its name among its settings, too, where Keras 3.0 to 3.3 left it out."""
    match layer:
        case {"name": str(name), "config": dict(settings)} if is_operation(layer):
            return {**layer, "config": {"name": name, **settings}}
        case _:
            return layer


def module_of(class_name: str) -> str:
    """Give the module of an operation that is in the table."""
    return next(module for module, names in OPERATIONS.items() if class_name in names)


def without_ellipsis(operation: Config) -> dict[str, Any]:
    """Write slices for a `...` in an index, which Keras does not read back from an .h5 file."""
    return {**operation, "inbound_nodes": [_call(call) for call in operation["inbound_nodes"]]}


def _call(call: Config) -> dict[str, Any]:
    if operands := list(call["args"]):
        rank = _rank(operands[0])
        operands[1:] = [_index(operand, rank) for operand in operands[1:]]
    return {**call, "args": operands}


def _rank(operand: Any) -> int:
    is_tensor = isinstance(operand, Mapping) and operand["class_name"] == "__keras_tensor__"
    return len(operand["config"]["shape"]) if is_tensor else 0


def _index(index: Any, rank: int) -> Any:
    """Write slices for the `...` in the index of a tensor with `rank` axes."""
    entries = list(index) if isinstance(index, list | tuple) else [index]
    place = next((place for place, entry in enumerate(entries) if _is_ellipsis(entry)), None)
    if place is None:
        return index
    named = sum(entry is not None for entry in entries) - 1
    return [*entries[:place], *[WHOLE] * (rank - named), *entries[place + 1 :]]


def _is_ellipsis(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("class_name") == "__ellipsis__"
