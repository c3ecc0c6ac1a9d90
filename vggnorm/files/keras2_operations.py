"""TensorFlow's operations in a Keras 2 model's configuration, in the words of Keras 3.

Keras 2 wrapped `x / 255` or `tf.pad(x, ...)` into a layer of the class `TFOpLambda` or
`SlicingOpLambda`, which names a function of TensorFlow and holds its arguments. Keras 3 cannot read
these. Those that Keras 3 has an operation for are translated into it; the function that the file
names is never looked up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vggnorm.files.operations import module_of

Config = Mapping[str, Any]

CLASSES = ("TFOpLambda", "SlicingOpLambda")


class UnreadOperationError(ValueError):
    """An operation that is not translated; the text is whole, but for the name of the file."""


@dataclass(frozen=True)
class Operation:
    """An operation in the words of Keras 3.

    Attributes:
        class_name: its class.
        settings: its settings besides its name.
        arguments: what it is called with.
    """

    class_name: str
    settings: Mapping[str, Any]
    arguments: list[Any]


def to_operation(layer: Config) -> dict[str, Any]:
    """Translate a layer of one of `CLASSES`.

    Raises:
        UnreadOperationError: the operation or one of its arguments is not known here.
    """
    match layer:
        case {
            "config": {"name": str(name), "function": str(function)},
            "inbound_nodes": [_, *_] as calls,
        }:
            pass
        case _:
            raise UnreadOperationError("its configuration has an operation without a name")
    try:
        operations = [_translated(function, call) for call in calls]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        trouble = "with arguments that are not read" if function in KNOWN else "which is not read"
        raise UnreadOperationError(
            f"layer {name:.60}: is TensorFlow's operation {function:.60}, {trouble}; build the "
            "network again in Keras 3 without it, and give it the weights in this file with "
            "model.load_weights"
        ) from error
    first = operations[0]
    return {
        "module": module_of(first.class_name),
        "class_name": first.class_name,
        "registered_name": first.class_name,
        "config": {"name": name, **first.settings},
        "name": name,
        "inbound_nodes": [{"args": one.arguments, "kwargs": {}} for one in operations],
    }


def _translated(function: str, call: list[Any]) -> Operation:
    """Translate one call: `[layer, call, output, options]`, or a list of such."""
    several = isinstance(call[0], list)
    options = dict(call[0][3] if several else call[3])
    options.pop("name", None)
    operand = [_operand(entry) for entry in call] if several else _operand(call)
    return KNOWN[function](operand, options)


def _operand(value: Any) -> Any:
    """Translate a tensor, a number or an array of numbers that an operation is called with."""
    match value:
        case ["_CONSTANT_VALUE", _, constant, *_]:
            return constant
        case [str(layer), int(call), int(output), *_]:
            history = [layer, call, output]
            config = {"shape": [], "dtype": "float32", "keras_history": history}
            return {"class_name": "__keras_tensor__", "config": config}
        case list():
            return {"class_name": "__tensor__", "config": {"value": value, "dtype": "float32"}}
        case int() | float():
            return value
    raise ValueError("neither a tensor nor numbers")


# A function takes the operand and the options, and takes out of the options what it knows. Options
# that are left might change the result.

Translation = Callable[[Any, dict[str, Any]], Operation]


def _whole(class_name: str, options: Config, arguments: list[Any], **settings: Any) -> Operation:
    """Make the operation, if nothing is left of its options."""
    if any(value is not None for value in options.values()):
        raise ValueError(f"unknown options: {', '.join(options)}")
    return Operation(class_name, settings, arguments)


def _of_one(class_name: str) -> Translation:
    return lambda operand, options: _whole(class_name, options, [operand])


def _of_two(class_name: str) -> Translation:
    def translate(operand: Any, options: dict[str, Any]) -> Operation:
        other = _operand(options.pop("y"))
        return _whole(class_name, options, [operand, other])

    return translate


def _bias_add(operand: Any, options: dict[str, Any]) -> Operation:
    bias = options.pop("bias")
    if options.pop("data_format", None) == "NCHW":
        bias = [[[number]] for number in bias]
    return _whole("Add", options, [operand, _operand(bias)])


def _pad(operand: Any, options: dict[str, Any]) -> Operation:
    mode = options.pop("mode", "CONSTANT").lower()
    rim = options.pop("constant_values", 0)
    width = options.pop("paddings")
    arguments = [operand] if mode != "constant" else [operand, _operand(rim)]
    return _whole("Pad", options, arguments, pad_width=width, mode=mode)


def _leaky_relu(operand: Any, options: dict[str, Any]) -> Operation:
    slope = options.pop("alpha", 0.2)
    return _whole("LeakyRelu", options, [operand], negative_slope=slope)


def _along_axis(class_name: str, otherwise: int) -> Translation:
    def translate(operand: Any, options: dict[str, Any]) -> Operation:
        axis = options.pop("axis", otherwise)
        return _whole(class_name, options, [operand], axis=axis)

    return translate


def _reduce_mean(operand: Any, options: dict[str, Any]) -> Operation:
    axis, keepdims = options.pop("axis", None), options.pop("keepdims", False)
    return _whole("Mean", options, [operand], axis=axis, keepdims=keepdims)


def _resize(operand: Any, options: dict[str, Any]) -> Operation:
    size, method = options.pop("size"), options.pop("method", "bilinear")
    if options.pop("antialias", False) or options.pop("preserve_aspect_ratio", False):
        raise ValueError("another way of resizing")
    if method not in ("bilinear", "nearest"):
        raise ValueError("another interpolation")
    return _whole("Resize", options, [operand], size=size, interpolation=method)


def _cast(operand: Any, options: dict[str, Any]) -> Operation:
    dtype = options.pop("dtype")
    return _whole("Cast", options, [operand], dtype=dtype)


def _get_item(operand: Any, options: dict[str, Any]) -> Operation:
    index = options.pop("slice_spec")
    entries = index if isinstance(index, list) else [index]
    return _whole("GetItem", options, [operand, [_index(entry) for entry in entries]])


def _index(entry: Any) -> Any:
    match entry:
        case {"class_name": "__ellipsis__"}:
            return {"class_name": "__ellipsis__", "config": {}}
        case {"start": _, "stop": _, "step": _}:
            return {"class_name": "__slice__", "config": entry}
        case int() | None:
            return entry
    raise ValueError("an index that is neither a slice nor a number")


KNOWN: Mapping[str, Translation] = {
    "__operators__.add": _of_two("Add"),
    "__operators__.getitem": _get_item,
    "cast": _cast,
    "compat.v1.pad": _pad,
    "concat": _along_axis("Concatenate", -1),
    "image.resize": _resize,
    "math.add": _of_two("Add"),
    "math.divide": _of_two("Divide"),
    "math.maximum": _of_two("Maximum"),
    "math.minimum": _of_two("Minimum"),
    "math.multiply": _of_two("Multiply"),
    "math.reduce_mean": _reduce_mean,
    "math.sigmoid": _of_one("Sigmoid"),
    "math.subtract": _of_two("Subtract"),
    "math.tanh": _of_one("Tanh"),
    "math.truediv": _of_two("TrueDivide"),
    "nn.bias_add": _bias_add,
    "nn.elu": _of_one("Elu"),
    "nn.leaky_relu": _leaky_relu,
    "nn.relu": _of_one("Relu"),
    "nn.relu6": _of_one("Relu6"),
    "nn.silu": _of_one("Silu"),
    "nn.swish": _of_one("Silu"),
    "nn.softmax": _along_axis("Softmax", -1),
    "pad": _pad,
    "reverse": _along_axis("Flip", -1),
    "stack": _along_axis("Stack", 0),
}
