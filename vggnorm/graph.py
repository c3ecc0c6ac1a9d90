"""The rule on a whole network: which filters can be normalized, and what their scales do to every layer's weights.

The network is read as Keras built it, layer call by layer call, and `vggnorm.layers` says of each kind of layer what it
does to a scale. What cannot be rescaled without changing what the network computes is refused, by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.layers import (
    CHANNEL_BY_CHANNEL,
    FILTER_WEIGHTS,
    FILTERS,
    RECTIFYING,
    RULES,
    Carried,
    Changed,
    Step,
    along_channels,
    function_name,
    function_of,
    is_leaky,
    is_rectifier,
    passes_scales,
    reason_against,
)
from vggnorm.rescale import Float64


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
        weights: layer name -> a function that computes what changes: weight name -> the new array. A network's weights
            are large, and not everybody who asks for the scales of the outputs wants them.
        incoming: layer name -> `(channels,)`, what the channels that come in are divided by, of layers with filters.
        outputs: of each output of the network, what it is divided by; broadcasts against it.
    """

    weights: dict[str, Callable[[], Changed]]
    incoming: dict[str, Float64]
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
        kinds = " ".join(type(step.layer).__name__ for step in self.steps if type(step.layer) in CHANNEL_BY_CHANNEL)
        return "+".join(word for word, kind in (("max", "MaxPool"), ("avg", "AveragePool")) if kind in kinds) or "none"

    def rescale(self, scales: Mapping[str, Float64]) -> Rescaled:
        """Let the scales travel through the network, and find the weights that go with them.

        Args:
            scales: layer name -> `(filters,)`, positive, what the activations of each site are to be divided by.

        Raises:
            NetworkError: a scale cannot be carried on; the text names the layer.
        """
        weights: dict[str, Callable[[], Changed]] = {}
        taken: dict[str, Float64] = {}
        carried: dict[int, Float64] = {}
        for step in self.steps:
            incoming = [carried[id(tensor)] for tensor in step.inputs]
            changed, scale = _carry(step, incoming, scales.get(step.layer.name))
            carried[id(step.output)] = scale
            if type(step.layer) in FILTERS:
                taken[step.layer.name] = along_channels(step, incoming[0], step.axis)
            if changed is not None:
                weights[step.layer.name] = changed
        return Rescaled(weights, taken, [carried[id(tensor)] for tensor in self.model.outputs])


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
        reasons = "".join(f"; {name}: {reason}" for name, reason in kept.items())
        raise NetworkError(f"{model.name}: has no layer whose filters can be normalized{reasons}")
    graph = Graph(model, steps, sites, kept)
    # A rehearsal finds what cannot be carried before anything is measured. All its scales differ, and none is 1.
    graph.rescale({name: 2.0 + k + np.arange(site.filters) / 7919 for k, (name, site) in enumerate(sites.items())})
    return graph


def _carry(step: Step, incoming: list[Float64], wanted: Float64 | None) -> Carried:
    """Give what changes in one call of a layer, and the scale of its output."""
    if type(step.layer) in FILTERS:
        return RULES[type(step.layer)](
            step, incoming, np.ones(step.output.shape[step.axis]) if wanted is None else wanted
        )
    if all((scale == 1).all() for scale in incoming):  # any layer may stand where nothing is rescaled
        return None, np.ones((1,) * len(step.output.shape))
    return RULES[type(step.layer)](step, incoming, np.ones(0))


# Reading


def _steps(model: keras.Model) -> Iterator[Step]:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or not hasattr(model, "outputs"):
        raise NetworkError(
            f"{getattr(model, 'name', model)!r} is no functional or built sequential model of Keras 3; build it, or "
            "load its file with Keras 3"
        )
    if len(model.inputs) != 1:
        raise NetworkError(f"{model.name}: has {len(model.inputs)} inputs; it must take photos and nothing else")
    # Keras has no public way to walk the calls of layers. A functional model keeps them by distance to its output.
    nodes_by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth
    for depth in sorted(nodes_by_depth, reverse=True):
        for node in nodes_by_depth[depth]:
            _refuse_unusual_call(node)
            yield Step(node.operation, tuple(node.input_tensors), node.output_tensors[0])


def _refuse_unusual_call(node: Any) -> None:
    """Refuse what could not be copied and saved, wherever it stands."""
    layer, arguments = node.operation, node.arguments
    if not isinstance(layer, keras.Layer):
        trouble = "is an operation, and no layer; write it as a layer, as Rescaling or Activation"
    elif isinstance(layer, layers.Lambda):
        trouble = "is a Lambda, whose code is neither copied nor saved; write it as a layer"
    elif isinstance(layer, keras.Model) or any(inner.weights for inner in layer._flatten_layers(include_self=False)):
        trouble = (
            "holds layers of its own, which are not looked into; build the network from those layers, or give that "
            f"part alone: model.get_layer({layer.name!r})"
        )
    elif len(node.output_tensors) != 1:
        trouble = "gives several tensors; leave it out, or split the network there"
    elif arguments.kwargs.get("training"):
        trouble = "is called with training=True, by which its output is not the same every time; leave that out"
    elif not node.is_input and len(arguments.args) + ("inputs" in arguments.kwargs) != 1:
        trouble = "is called with several arguments; only layers of one argument, or of a list, are supported"
    else:
        return
    raise NetworkError(f"layer {layer.name}: {trouble}")


def _refuse_unusual_weights(steps: Sequence[Step]) -> None:
    seen = set()
    for step in steps:
        name, kind = step.layer.name, type(step.layer)
        if kind in FILTERS or kind is layers.BatchNormalization:
            if name in seen:
                raise NetworkError(
                    f"layer {name}: is used more than once, and its weights cannot be rescaled for one use and not for "
                    "the other; give each use a layer of its own"
                )
            seen.add(name)
        unknown = {weight.name for weight in step.layer.weights} - FILTER_WEIGHTS if kind in FILTERS else set()
        if unknown:
            raise NetworkError(
                f"layer {name}: has weights of an unknown kind, {', '.join(sorted(unknown))}; give the network without "
                "quantization or adapters"
            )


def _raw(steps: Sequence[Step]) -> set[int]:
    """Find the tensors that no filter has touched yet: the photo, and what prepares it, whatever that is."""
    raw: set[int] = set()
    for step in steps:
        if type(step.layer) not in FILTERS and all(id(tensor) in raw for tensor in step.inputs):
            raw.add(id(step.output))
    return raw


def _ends(model: keras.Model, steps: Sequence[Step], raw: set[int]) -> list[tuple[Any, str]]:
    """Find the tensors that must keep scale 1, and for whose sake.

    Raises:
        NetworkError: such a tensor stands inside, with filters behind it.
    """
    leads_on: set[int] = set()  # the tensors on which filters depend
    for step in reversed(steps):
        if type(step.layer) in FILTERS or id(step.output) in leads_on:
            leads_on.update(id(tensor) for tensor in step.inputs)
    ends = []
    for step in steps:
        if id(step.output) in raw or passes_scales(step.layer):
            continue
        if id(step.output) in leads_on:
            raise NetworkError(_refusal(step))
        if type(step.layer) not in FILTERS:
            ends += [(tensor, f"the input of {step.layer.name}") for tensor in step.inputs]
    return ends + [(tensor, "an output without positions") for tensor in model.outputs if len(tensor.shape) == 2]


def _refusal(step: Step) -> str:
    layer, function = step.layer, function_of(step.layer)
    named = "" if function is keras.activations.linear else f" with {function_name(layer)!r}"
    before = step.inputs[0]._keras_history.operation.name
    return (
        f"layer {layer.name}: {type(layer).__name__}{named} stands before other filters, and {reason_against(layer)}; "
        "replace it, or leave out the layers from there on: "
        f"keras.Model(model.inputs, model.get_layer({before!r}).output)"
    )


def _candidates(steps: Sequence[Step], *, dense: bool) -> tuple[dict[str, Site], dict[str, str]]:
    """Tell the layers with filters that a rectifier follows from the others."""
    sites, kept = {}, {}
    for step in steps:
        if type(step.layer) not in FILTERS:
            continue
        name, activation = step.layer.name, _activation(step, steps)
        if activation is None:
            kept[name] = f"no rectified linear unit follows it directly ({function_name(step.layer)})"
        elif type(step.layer) is layers.Dense and not dense:
            kept[name] = "it is a dense layer"
        else:
            rectified = not is_leaky(activation._keras_history.operation)
            sites[name] = Site(activation, step.axis, activation.shape[step.axis], rectified)
    return sites, kept


def _activation(step: Step, steps: Sequence[Step]) -> Any | None:
    """Find the rectified activation of a layer's filters, behind what passes channel by channel; None if none is."""
    if function_of(step.layer) is not keras.activations.linear:
        return step.output if function_of(step.layer) in RECTIFYING else None
    tensor = step.output
    while True:
        users = [user for user in steps if any(taken is tensor for taken in user.inputs)]
        if len(users) != 1 or type(users[0].layer) not in CHANNEL_BY_CHANNEL or not passes_scales(users[0].layer):
            return None
        tensor = users[0].output
        if is_rectifier(users[0].layer):
            return tensor


def _sources(steps: Sequence[Step], raw: set[int], sites: Mapping[str, Site]) -> dict[int, frozenset[str]]:
    """Find the layers whose scales each tensor carries."""
    sources: dict[int, frozenset[str]] = {}
    for step in steps:
        if type(step.layer) in FILTERS:
            found = frozenset({step.layer.name} & sites.keys())
        elif id(step.output) in raw or not passes_scales(step.layer):
            found = frozenset()
        else:
            found = frozenset().union(*(sources[id(tensor)] for tensor in step.inputs))
        sources[id(step.output)] = found
    return sources
