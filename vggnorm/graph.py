"""The rule on a whole network: which filters can be normalized, and what their scales do to every layer's weights.

The network is read as Keras built it, layer call by layer call, and `vggnorm.layers` says of each kind of layer what it
does to a scale. What cannot be rescaled without changing what the network computes is refused, by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.layers import (
    JOINING,
    MOVING,
    PASSING,
    POOLING_AWAY,
    REASONS,
    RECTIFYING_FUNCTIONS,
    RESCALED,
    function_name,
    is_leaky,
    is_rectifier,
    normalize_batch_normalization,
)
from vggnorm.rescale import Float64

WEIGHT_NAMES = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel", "bias"})
ADVICE = "replace it, or leave out the layers from there on: keras.Model(model.inputs, model.get_layer(NAME).output)"


@dataclass(frozen=True)
class Step:
    """One call of a layer, or of an operation of `keras.ops`."""

    layer: Any
    inputs: tuple[Any, ...]  # keras.KerasTensor
    output: Any

    @property
    def is_rescaled(self) -> bool:
        """Whether the layer has weights that can take scales in and give others out."""
        return type(self.layer) in RESCALED


@dataclass(frozen=True)
class Site:
    """A layer whose filters are normalized.

    Attributes:
        activation: the tensor that is measured: behind the rectifier, wherever that stands.
        axis: the axis of its channels.
        filters: how many there are.
        rectified: whether it cannot be negative.
    """

    activation: Any
    axis: int
    filters: int
    rectified: bool


@dataclass(frozen=True)
class Rescaled:
    """What given scales do to a network.

    Attributes:
        weights: layer name -> weight name -> the new array, of those that change.
        outputs: of each output of the network, what it is divided by; broadcasts against it.
    """

    weights: dict[str, dict[str, Float64]]
    outputs: list[Float64]


@dataclass(frozen=True)
class Graph:
    """A network as the rule sees it.

    Attributes:
        model: the network.
        steps: its layers' calls, each after those whose output it takes.
        sites: layer name -> what is normalized, in network order.
        kept: layer name -> why its filters are not normalized, though its weights take scales in.
    """

    model: keras.Model
    steps: list[Step]
    sites: dict[str, Site]
    kept: dict[str, str]

    @property
    def filters(self) -> dict[str, int]:
        """Layer name -> number of its filters, for the layers that are normalized."""
        return {name: site.filters for name, site in self.sites.items()}

    @property
    def pooling(self) -> str:
        """The kinds of pooling between the layers: `max`, `avg`, `max+avg` or `none`."""
        kinds = {type(step.layer).__name__ for step in self.steps}
        found = [word for word, kind in (("max", "MaxPooling"), ("avg", "AveragePooling")) if _any_is(kinds, kind)]
        return "+".join(found) or "none"

    def rescale(self, scales: Mapping[str, Float64]) -> Rescaled:
        """Let the scales travel through the network, and find the weights that go with them.

        Args:
            scales: layer name -> `(filters,)`, positive, what the activations of each site are to be divided by.

        Raises:
            NetworkError: a scale cannot be carried on; the text names the layer.
        """
        weights: dict[str, dict[str, Float64]] = {}
        carried: dict[int, Float64] = {}
        for step in self.steps:
            incoming = [carried[id(tensor)] for tensor in step.inputs]
            changed, carried[id(step.output)] = _carry(step, incoming, scales.get(step.layer.name))
            if changed:
                weights[step.layer.name] = changed
        return Rescaled(weights, [carried[id(tensor)] for tensor in self.model.outputs])


def read_graph(model: keras.Model, *, dense: bool = False) -> Graph:
    """Read a network, and decide what is normalized.

    Normalized are the layers with filters (convolutions; with `dense`, hidden dense layers, too) behind which a
    rectifier follows. Kept at scale 1 are those whose activation is not rectified, and the last before what must not
    change: a softmax or the like at the end, or an output without positions, as class scores are.

    Args:
        model: any functional or sequential model of one input.
        dense: whether dense layers are normalized. Otherwise they take scales in and give none out.

    Raises:
        NetworkError: a layer is of a kind that cannot be rescaled, or not known; or there is nothing to normalize.
    """
    steps = list(_steps(model))
    _refuse_unusual_weights(steps)
    raw = _raw(steps)
    ends = _ends(model, steps, raw)
    sites, kept = _candidates(steps, dense=dense)
    sources = _sources(steps, raw, sites)
    for tensor, what in ends:
        for name in sources[id(tensor)] & sites.keys():
            kept[name] = f"{what} must not change"
            del sites[name]
    if not sites:
        raise NetworkError(f"{model.name}: has no layer whose filters can be normalized{_reasons(kept)}")
    graph = Graph(model, steps, sites, kept)
    # A rehearsal, with unequal scales, finds what cannot be carried before anything is measured.
    graph.rescale({name: 1.0 + np.arange(site.filters) / 7 for name, site in sites.items()})
    return graph


# Reading


def _steps(model: keras.Model) -> Iterator[Step]:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or not hasattr(model, "outputs"):
        raise NetworkError(f"{getattr(model, 'name', model)!r} is no functional or built sequential Keras model")
    if len(model.inputs) != 1:
        raise NetworkError(f"{model.name}: has {len(model.inputs)} inputs; it must take photos and nothing else")
    # Keras has no public way to walk the calls of layers. A functional model keeps them by distance to its output.
    nodes_by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth
    for depth in sorted(nodes_by_depth, reverse=True):
        for node in nodes_by_depth[depth]:
            if len(node.output_tensors) != 1:
                raise NetworkError(f"layer {node.operation.name}: gives several tensors, which is not supported")
            yield Step(node.operation, tuple(node.input_tensors), node.output_tensors[0])


def _refuse_unusual_weights(steps: Sequence[Step]) -> None:
    seen = set()
    for step in steps:
        name = step.layer.name
        if step.is_rescaled or type(step.layer) is layers.BatchNormalization:
            if name in seen:
                raise NetworkError(
                    f"layer {name}: is used more than once, and its weights cannot be rescaled for one use and not for "
                    "the other; give each use a layer of its own"
                )
            seen.add(name)
        weights = {weight.name for weight in step.layer.weights} if step.is_rescaled else set()
        if not weights <= WEIGHT_NAMES:
            raise NetworkError(
                f"layer {name}: has weights of an unknown kind: {', '.join(sorted(weights - WEIGHT_NAMES))}"
            )


def _raw(steps: Sequence[Step]) -> set[int]:
    """Find the tensors that no filter has touched yet: the photo, and what prepares it, whatever that is."""
    raw: set[int] = set()
    for step in steps:
        prepares = type(step.layer) in (layers.BatchNormalization, layers.Normalization)
        has_filters = not prepares and bool(getattr(step.layer, "weights", None))
        if not has_filters and all(id(tensor) in raw for tensor in step.inputs):
            raw.add(id(step.output))
    return raw


def _ends(model: keras.Model, steps: Sequence[Step], raw: set[int]) -> list[tuple[Any, str]]:
    """Find the tensors that must keep scale 1, and for whose sake.

    Raises:
        NetworkError: such a tensor stands inside, with filters behind it.
    """
    leads_on: set[int] = set()  # the tensors on which a rescaled layer depends
    for step in reversed(steps):
        if step.is_rescaled or id(step.output) in leads_on:
            leads_on.update(id(tensor) for tensor in step.inputs)
    ends = []
    for step in steps:
        if id(step.output) in raw or not _is_end(step):
            continue
        if id(step.output) in leads_on:
            raise NetworkError(_refusal(step))
        if not step.is_rescaled:
            ends += [(tensor, f"the input of {step.layer.name}") for tensor in step.inputs]
    return ends + [(tensor, "an output without positions") for tensor in model.outputs if len(tensor.shape) == 2]


def _is_end(step: Step) -> bool:
    """Tell whether a rescaled input would change more than the scale of the output."""
    if step.is_rescaled:
        return function_name(step.layer) not in RECTIFYING_FUNCTIONS | {"linear"}
    if type(step.layer) is layers.Activation and function_name(step.layer) == "linear":
        return False
    passes = PASSING | POOLING_AWAY | MOVING | JOINING | {layers.BatchNormalization}
    return not (type(step.layer) in passes or is_rectifier(step.layer))


def _candidates(steps: Sequence[Step], *, dense: bool) -> tuple[dict[str, Site], dict[str, str]]:
    """Tell the layers with filters that a rectifier follows from the others."""
    sites, kept = {}, {}
    for step in steps:
        if not step.is_rescaled:
            continue
        name, activation = step.layer.name, _activation(step, steps)
        if activation is None:
            kept[name] = f"no rectified linear unit follows it ({function_name(step.layer)})"
        elif type(step.layer) is layers.Dense and not dense:
            kept[name] = "it is a dense layer"
        else:
            sites[name] = _site(step, activation)
    return sites, kept


def _sources(steps: Sequence[Step], raw: set[int], sites: Mapping[str, Site]) -> dict[int, frozenset[str]]:
    """Find the layers whose scales each tensor carries."""
    sources: dict[int, frozenset[str]] = {}
    for step in steps:
        if step.is_rescaled:
            found = frozenset({step.layer.name} & sites.keys())
        elif id(step.output) in raw or _is_end(step):
            found = frozenset()
        else:
            found = frozenset().union(*(sources[id(tensor)] for tensor in step.inputs))
        sources[id(step.output)] = found
    return sources


def _activation(step: Step, steps: Sequence[Step]) -> Any | None:
    """Find the rectified activation of a layer's filters, behind whatever passes their scales on; None if none is."""
    function = function_name(step.layer)
    if function != "linear":
        return step.output if function in RECTIFYING_FUNCTIONS else None
    tensor = step.output
    while True:
        users = [user for user in steps if any(taken is tensor for taken in user.inputs)]
        if len(users) != 1:
            return None
        (user,) = users
        tensor = user.output
        if is_rectifier(user.layer):
            return tensor
        if type(user.layer) not in PASSING | {layers.BatchNormalization}:
            return None


def _site(step: Step, activation: Any) -> Site:
    axis = _channel_axis(step.layer, len(activation.shape))
    rectified = not is_leaky(activation._keras_history.operation)
    return Site(activation, axis, activation.shape[axis], rectified)


# Carrying


def _carry(step: Step, incoming: list[Float64], wanted: Float64 | None) -> tuple[dict[str, Float64], Float64]:
    """Give the weights that change in one call of a layer, and the scale of its output."""
    layer, rank = step.layer, len(step.output.shape)
    if step.is_rescaled:
        axis = _channel_axis(layer, rank)
        scale_in = _along_channels(step, incoming[0], axis)
        scale_out = np.ones(step.output.shape[axis]) if wanted is None else wanted
        return RESCALED[type(layer)](_weights(layer), scale_in, scale_out), as_channels(scale_out, axis, rank)
    if all((scale == 1).all() for scale in incoming):
        return {}, np.ones((1,) * rank)
    if type(layer) is layers.BatchNormalization:
        scale = _along_channels(step, incoming[0], layer.axis)
        return normalize_batch_normalization(_weights(layer), scale), incoming[0]
    return {}, _pass_on(step, incoming)


def _pass_on(step: Step, incoming: list[Float64]) -> Float64:
    """Give the scale of the output of a layer without weights that change."""
    layer, rank = step.layer, len(step.output.shape)
    if type(layer) in JOINING:
        return _join(step, incoming)
    if type(layer) in MOVING:
        return _move(step, incoming[0])
    if type(layer) in POOLING_AWAY:
        scale = _along_channels(step, incoming[0], _channel_axis(layer, len(step.inputs[0].shape)))
        return as_channels(scale, _channel_axis(layer, rank), rank)
    if type(layer) in PASSING and hasattr(layer, "data_format"):
        _along_channels(step, incoming[0], _channel_axis(layer, rank))
    return incoming[0]


def _weights(layer: keras.Layer) -> dict[str, NDArray[Any]]:
    return {weight.name: np.asarray(keras.ops.convert_to_numpy(weight)) for weight in layer.weights}


def _channel_axis(layer: Any, rank: int) -> int:
    """Tell which axis a layer takes for that of the channels, in a tensor of so many axes."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def _along_channels(step: Step, scale: Float64, axis: int) -> Float64:
    """Give the scale of each channel, `(channels,)`, where it is the same at every position."""
    channels = step.inputs[0].shape[axis]
    if scale.size != scale.shape[axis]:
        raise NetworkError(
            f"layer {step.layer.name}: mixes values of different scales along an axis that is not that of its channels"
        )
    return np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float64)


def as_channels(scale: Float64, axis: int, rank: int) -> Float64:
    """Lay a scale `(channels,)` along the axis of the channels of a tensor with so many axes; it broadcasts then."""
    return scale.reshape([-1 if index == axis else 1 for index in range(rank)])


def _join(step: Step, incoming: list[Float64]) -> Float64:
    """Put the scales side by side, as `Concatenate` does the channels."""
    axis = step.layer.axis % len(step.output.shape)
    if any(scale.size != scale.shape[axis] for scale in incoming):
        raise NetworkError(f"layer {step.layer.name}: joins tensors along an axis that is not that of their channels")
    parts = []
    for scale, tensor in zip(incoming, step.inputs, strict=True):  # ones stand for any number of channels
        parts.append(np.broadcast_to(scale.reshape(-1), (tensor.shape[axis],)))
    return as_channels(np.concatenate(parts), axis, len(step.output.shape))


def _move(step: Step, scale: Float64) -> Float64:
    """Move the scales as a flattening or reshaping moves the values: by having the layer itself move their places."""
    shape = step.inputs[0].shape[1:]
    if None in shape:
        raise NetworkError(f"layer {step.layer.name}: needs a network whose input has a fixed size")
    places = np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)
    moved = np.asarray(keras.ops.convert_to_numpy(step.layer(places)))
    values: Float64 = np.broadcast_to(scale, (1, *shape)).reshape(-1)[moved]
    for axis in range(1, values.ndim):  # where all positions are alike, one stands for them
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values


# Words


def _refusal(step: Step) -> str:
    layer, kind = step.layer, type(step.layer)
    if isinstance(layer, keras.Model):
        return (
            f"layer {layer.name}: is a whole model inside the network, which is not read; give that model itself "
            f"(model.get_layer({layer.name!r})), or build the network from its layers"
        )
    reason = REASONS.get(kind, "it is not known to pass a scale on")
    function = function_name(layer)
    if step.is_rescaled:
        reason = REASONS[layers.Activation]
    named = f" with {function!r}" if function != "linear" else ""
    return (
        f"layer {layer.name}: is a {kind.__name__}{named}, so the filters before it cannot be rescaled: {reason}; "
        f"{ADVICE.replace('NAME', 'the layer before')}"
    )


def _reasons(kept: Mapping[str, str]) -> str:
    return "".join(f"; {name}: {reason}" for name, reason in kept.items())


def _any_is(kinds: set[str], beginning: str) -> bool:
    return any(kind.startswith(beginning) for kind in kinds)
