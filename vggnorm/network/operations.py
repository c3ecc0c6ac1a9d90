"""Operations of Keras, such as `keras.ops.pad`, that stand in a network beside its layers.

They have neither weights nor settings of their own; what they are called with decides what they do.
`rescale` tells what they do to scales. Those that are not in its table are refused between two
filters, and allowed everywhere else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from vggnorm.errors import NetworkError
from vggnorm.network.keras_private import calls_in, operation_name
from vggnorm.network.paths import is_opened
from vggnorm.network.steps import Step
from vggnorm.rule import Float64

# (step, the scale of each input) -> the scale of the output
OperationRule = Callable[[Step, list[Float64]], Float64]

RECTIFYING = frozenset(["activations.ReLU", "nn.LeakyRelu", "nn.Relu", "numpy.Maximum"])

# They mix positions, and keep each channel to itself.
SPATIAL = frozenset(["image.Resize", "nn.AveragePool", "nn.MaxPool", "numpy.Pad"])

# They leave each number what it is, or multiply it by one from the call.
ONE_BY_ONE = frozenset(["core.Cast", "numpy.Divide", "numpy.Multiply", "numpy.TrueDivide"])

BY_CHANNEL = RECTIFYING | SPATIAL | ONE_BY_ONE

CLIPPING = frozenset(["activations.ReLU", "nn.Relu6", "numpy.Clip", "numpy.Minimum"])
COMBINING = frozenset(
    ["numpy.Add", "numpy.Divide", "numpy.Multiply", "numpy.Subtract", "numpy.TrueDivide"]
)


def is_operation(operation: Any) -> bool:
    """Tell whether something called in a network is an operation and not a layer."""
    return not isinstance(operation, keras.Layer)


def operations_in(model: keras.Model) -> list[str]:
    """Name the operations in a network and in the models inside it, each kind once."""
    return list(dict.fromkeys(_kinds_in(model)))


def _kinds_in(model: keras.Model) -> Iterator[str]:
    for call in calls_in(model):
        if is_opened(call.operation):
            yield from _kinds_in(call.operation)
        elif is_operation(call.operation):
            yield type(call.operation).__name__


def rectifies(step: Step) -> bool:
    """Tell whether an operation is a rectifier: not linear, and f(s x) = s f(x) for every s > 0."""
    name = operation_name(step.layer)
    if name == "activations.ReLU":
        return step.layer.max_value is None and not step.layer.threshold
    if name == "numpy.Maximum":
        return len(step.inputs) == 1 and all(_is_zero(value) for value in _constants(step))
    return name in RECTIFYING


def leaks(step: Step) -> bool:
    """Tell whether an operation that rectifies may give a negative number."""
    return bool(getattr(step.layer, "negative_slope", 0))


def passes_scales(step: Step) -> bool:
    """Tell whether an operation's output is rescaled, and otherwise unchanged, if its input is.

    For an operation on several tensors, every one of them may have a scale of its own.
    """
    name = operation_name(step.layer)
    if name in RECTIFYING:
        return rectifies(step)
    return name in PASSING and PASSING[name](step)


def rescale(step: Step, incoming: list[Float64]) -> Float64:
    """Give the scale of the output of an operation that passes scales.

    Args:
        step: the call.
        incoming: the scale of each input.

    Raises:
        ValueError: it mixes channels of different scales; the text says how.
    """
    return RULES.get(operation_name(step.layer), _same)(step, incoming)


def reflects(step: Step) -> bool:
    """Tell whether an operation pads with the reflection of its input."""
    is_pad = operation_name(step.layer) == "numpy.Pad"
    return is_pad and step.layer.mode in ("reflect", "symmetric")


def require_reflection_fits(step: Step, shape: Sequence[int | None]) -> None:
    """Require that maps are large enough for an operation that reflects them.

    Args:
        step: the call.
        shape: the shape of its input; a length that is None is taken to be large enough.

    Raises:
        NetworkError: a side is too short.
    """
    outermost = int(step.layer.mode == "reflect")  # it is the mirror, and not reflected itself
    for length, added in zip(shape, _pad_width(step), strict=True):
        if length is not None and length < max(added) + outermost:
            sides = " x ".join(map(str, shape[1:]))
            raise NetworkError(
                f"layer {step.layer.name}: is given maps of {sides}, too small to reflect "
                f"{max(added)} of their positions; use larger photos"
            )


# Which calls pass scales


def _is_always(_: Step) -> bool:
    return True


def _is_on_all_tensors(step: Step) -> bool:
    """Tell whether what is joined are tensors, and no numbers."""
    return len(keras.tree.flatten(step.positional)) == len(step.inputs)


def _is_by_numbers(step: Step) -> bool:
    """Tell whether a tensor is multiplied or divided by numbers, and keeps its shape."""
    if len(step.inputs) != 1 or step.output.shape != step.inputs[0].shape:
        return False
    is_divided = "Divide" in operation_name(step.layer)
    return not is_divided or _is_first(step.inputs[0], step)


def _is_to_float(step: Step) -> bool:
    return "float" in str(step.output.dtype)


def _is_without_colour(step: Step) -> bool:
    """Tell whether a resizing puts nothing but zeros around the input."""
    return not step.layer.pad_to_aspect_ratio or step.layer.fill_value == 0


def _pads_with_zeros_or_input(step: Step) -> bool:
    """Tell whether the rim is zero or made of the input, and photos are not added."""
    photos = _pad_width(step)[0]
    return photos == (0, 0) and all(_is_zero(value) for value in _constants(step))


def _is_of_slices(step: Step) -> bool:
    allowed = int | slice | type(...) | None
    return all(isinstance(entry, allowed) for entry in _index(step))


PASSING: Mapping[str, Callable[[Step], bool]] = {
    "core.Cast": _is_to_float,
    "image.Resize": _is_without_colour,
    "nn.AveragePool": _is_always,
    "nn.MaxPool": _is_always,
    "numpy.Concatenate": _is_on_all_tensors,
    "numpy.Divide": _is_by_numbers,
    "numpy.Flip": _is_always,
    "numpy.GetItem": _is_of_slices,
    "numpy.Multiply": _is_by_numbers,
    "numpy.Pad": _pads_with_zeros_or_input,
    "numpy.Transpose": _is_always,
    "numpy.TrueDivide": _is_by_numbers,
}

# What they do to a scale, which has the rank of its tensor, and the length 1 along an axis along
# which it does not vary


def _same(_: Step, incoming: list[Float64]) -> Float64:
    return incoming[0]


def _by_channel(step: Step, incoming: list[Float64]) -> Float64:
    (scale,) = incoming
    channels = 1 if step.layer.data_format == "channels_first" else scale.ndim - 1
    _require_same_elsewhere(scale, channels)
    return scale


def _pad(step: Step, incoming: list[Float64]) -> Float64:
    (scale,) = incoming
    for axis, added in enumerate(_pad_width(step)):
        if added != (0, 0) and scale.shape[axis] > 1:
            raise ValueError("pads along the axis of the channels")
    return scale


def _flip(step: Step, incoming: list[Float64]) -> Float64:
    return np.flip(incoming[0], step.layer.axis)


def _transpose(step: Step, incoming: list[Float64]) -> Float64:
    return np.transpose(incoming[0], step.layer.axes)


def _take(step: Step, incoming: list[Float64]) -> Float64:
    """Index a scale as its tensor is indexed; where it does not vary, any place will do."""
    (scale,) = incoming
    index: list[Any] = []
    axis = 0
    for entry in _with_slices(_index(step), scale.ndim):
        if entry is None:
            index.append(None)
            continue
        varies = scale.shape[axis] > 1
        anywhere = slice(None) if isinstance(entry, slice) else 0
        index.append(entry if varies else anywhere)
        axis += 1
    taken: Float64 = scale[tuple(index)]
    return taken


RULES: Mapping[str, OperationRule] = {
    "image.Resize": _by_channel,
    "nn.AveragePool": _by_channel,
    "nn.MaxPool": _by_channel,
    "numpy.Flip": _flip,
    "numpy.GetItem": _take,
    "numpy.Pad": _pad,
    "numpy.Transpose": _transpose,
}


def _require_same_elsewhere(scale: Float64, channels: int) -> None:
    if scale.size != scale.shape[channels]:
        raise ValueError("mixes values of different scales along an axis that is not the channels'")


# What an operation is called with


def without_ellipsis(step: Step) -> tuple[Any, ...]:
    """Give the positional arguments of an operation, an index among them without `...`."""
    if operation_name(step.layer) != "numpy.GetItem":
        return step.positional
    return step.inputs[0], _with_slices(_index(step), len(step.inputs[0].shape))


def _with_slices(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """Write slices for the `...` in the index of a tensor with `rank` axes."""
    place = next((place for place, entry in enumerate(index) if entry is Ellipsis), None)
    if place is None:
        return index
    named = sum(entry is not None for entry in index) - 1
    whole = (slice(None),) * (rank - named)
    return index[:place] + whole + index[place + 1 :]


def _index(step: Step) -> tuple[Any, ...]:
    index = step.positional[1] if len(step.positional) > 1 else step.named["key"]
    return tuple(index) if isinstance(index, list | tuple) else (index,)


def _pad_width(step: Step) -> list[tuple[int, int]]:
    width: Any = step.layer.pad_width
    pairs = np.broadcast_to(np.asarray(width), (len(step.inputs[0].shape), 2))
    return [(int(before), int(after)) for before, after in pairs]


def _constants(step: Step) -> list[Any]:
    """List the numbers that an operation is called with, besides tensors."""
    values = keras.tree.flatten((step.positional, dict(step.named)))
    return [value for value in values if not isinstance(value, keras.KerasTensor)]


def _is_first(tensor: Any, step: Step) -> bool:
    first = step.positional[0] if step.positional else None
    return first is tensor


def _is_zero(value: Any) -> bool:
    return value is None or not np.any(np.asarray(keras.ops.convert_to_numpy(value)))
