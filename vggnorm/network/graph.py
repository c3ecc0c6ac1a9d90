"""The rule on a whole network: which filters are normalized, and what that does to every layer.

A network is read as Keras built it, one call of a layer after the other. Models inside it are
opened first, and their layers named by their paths: see `vggnorm.network.nesting`.
`vggnorm.network.layers` says what each kind of layer does to a scale. If something cannot be
rescaled without changing what the network computes, the network is refused, and the error names the
layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.means.recipe import Padding
from vggnorm.network import operations
from vggnorm.network.layers import (
    FILTER_WEIGHTS,
    FILTERS,
    RULES,
    Carried,
    Changed,
    along_channels,
    keeps_channels,
    passes_scales,
    reason_against,
    rule_of,
)
from vggnorm.network.nesting import opened
from vggnorm.network.operations import is_operation
from vggnorm.network.paths import holder_of, lookup
from vggnorm.network.rectifiers import (
    RECTIFYING,
    function_name,
    function_of,
    is_leaky,
    is_rectifier,
)
from vggnorm.network.reflection import padding_in
from vggnorm.network.steps import Step, require_readable, steps_in
from vggnorm.rule import Float64


@dataclass(frozen=True)
class Site:
    """A layer whose filters are normalized.

    Attributes:
        activation: the tensor that is measured, behind the rectifier.
        axis: the axis of its channels.
        filters: how many filters the layer has.
        rectified: whether the activation is never negative.
    """

    activation: Any
    axis: int
    filters: int
    rectified: bool


@dataclass(frozen=True)
class Rescaled:
    """What given scales do to a network.

    Attributes:
        weights: layer name -> a function that computes the weights that change: weight name -> the
            new array. They are computed only where they are wanted, because they are large.
        incoming: layer name -> `(channels,)`, what the incoming channels are divided by, for each
            layer with filters.
        outputs: for each output of the network, what it is divided by, as an array that broadcasts
            against it.
    """

    weights: dict[str, Callable[[], Changed]]
    incoming: dict[str, Float64]
    outputs: list[Float64]


@dataclass(frozen=True)
class Graph:
    """A network as the rule sees it.

    Attributes:
        given: the network as it was given, perhaps with models inside.
        model: the network, without models inside.
        steps: the calls of its layers, each after those whose output it takes.
        sites: layer name -> what is normalized, in network order.
        kept: layer name -> why its filters are not normalized.
        output_layers: the layers whose filters' scales an output of the network carries.
    """

    given: keras.Model
    model: keras.Model
    steps: list[Step]
    sites: dict[str, Site]
    kept: dict[str, str]
    output_layers: tuple[str, ...]

    @property
    def filters(self) -> dict[str, int]:
        """Layer name -> number of filters, for the layers that are normalized."""
        return {name: site.filters for name, site in self.sites.items()}

    @property
    def pooling(self) -> str:
        """The kinds of pooling between the layers: `max`, `avg`, `max+avg` or `none`."""
        names = [type(step.layer).__name__ for step in self.steps if keeps_channels(step)]
        found = []
        if any("MaxPool" in name for name in names):
            found.append("max")
        if any("AveragePool" in name for name in names):
            found.append("avg")
        return "+".join(found) or "none"

    @property
    def padding(self) -> Padding:
        """What the convolutions have around their input: `zeros` or `reflect`."""
        return padding_in(step.layer for step in self.steps)

    def layer_giving(self, tensor: Any) -> keras.Layer:
        """Give the layer whose output a tensor is."""
        return _steps_by_output(self.steps)[id(tensor)].layer

    def rescale(self, scales: Mapping[str, Float64]) -> Rescaled:
        """Carry scales through the network, and find the weights that go with them.

        Args:
            scales: layer name -> `(filters,)`, positive, what the activations of each site are to
                be divided by.

        Raises:
            NetworkError: a layer cannot carry a scale on; the text names the layer.
        """
        weights: dict[str, Callable[[], Changed]] = {}
        taken: dict[str, Float64] = {}
        carried: dict[int, Float64] = {}  # id of a tensor -> its scale
        for step in self.steps:
            name = step.layer.name
            incoming = [carried[id(tensor)] for tensor in step.inputs]
            changed, carried[id(step.output)] = _carry(step, incoming, scales.get(name))
            if type(step.layer) in FILTERS:
                taken[name] = along_channels(step, incoming[0], step.axis)
            if changed is not None:
                weights[name] = changed
        return Rescaled(weights, taken, [carried[id(tensor)] for tensor in self.model.outputs])


def read_graph(model: keras.Model, *, dense: bool = False) -> Graph:
    """Read a network, and decide which layers are normalized.

    Layers with filters are normalized if a rectifier follows them: convolutions, and with `dense`
    the hidden dense layers as well. Other layers with filters keep the scale 1. So does the last
    layer before what must not change: a softmax or the like at the end, or an output without
    positions, such as class scores.

    Args:
        model: any functional or sequential model of one input. Its layers may be models.
        dense: whether dense layers are normalized. Otherwise they take in scales and give out none.

    Raises:
        NetworkError: a layer is of a kind that is not known or cannot be rescaled, or there is
            nothing to normalize.
    """
    require_readable(model)
    given, model = model, opened(model)
    steps = steps_in(model)
    _refuse_unusual_weights(steps)
    _refuse_whole_numbers(steps)
    raw = _raw(steps)
    ends = _ends(given, model, steps, raw, dense=dense)
    sites, kept = _candidates(steps, dense=dense)
    sources = _sources(steps, raw, sites)
    for tensor, what in ends:
        for name in sources[id(tensor)] & sites.keys():
            kept[name] = f"{what} must not change"
            del sites[name]
    if not sites:
        reasons = "".join(f"; {name}: {reason}" for name, reason in kept.items())
        raise NetworkError(f"{model.name}: has no layer whose filters can be normalized{reasons}")
    reached = frozenset[str]().union(*(sources[id(tensor)] for tensor in model.outputs))
    output_layers = tuple(name for name in sites if name in reached)
    graph = Graph(given, model, steps, sites, kept, output_layers)
    _rehearse(graph)
    return graph


def _rehearse(graph: Graph) -> None:
    """Carry some scales through a network, to find what cannot be carried before measuring."""
    scales = {}
    for index, (name, site) in enumerate(graph.sites.items()):
        scales[name] = 2.0 + index + np.arange(site.filters) / 7919  # all differ, and none is 1
    graph.rescale(scales)


def _carry(step: Step, incoming: list[Float64], wanted: Float64 | None) -> Carried:
    """Give the weights that change in one call of a layer, and the scale of its output."""
    kind = type(step.layer)
    if kind in FILTERS:
        if wanted is None:
            wanted = np.ones(step.output.shape[step.axis])
        return RULES[kind](step, incoming, wanted)
    if all((scale == 1).all() for scale in incoming):  # nothing is rescaled: any layer may be here
        return None, np.ones((1,) * len(step.output.shape))
    return rule_of(step)(step, incoming, np.ones(0))


# Reading


def _steps_by_output(steps: Sequence[Step]) -> dict[int, Step]:
    """Find the call that gives each tensor: id of the tensor -> step."""
    return {id(step.output): step for step in steps}


def _refuse_unusual_weights(steps: Sequence[Step]) -> None:
    seen = set()
    for step in steps:
        name, kind = step.layer.name, type(step.layer)
        if kind not in FILTERS and kind is not layers.BatchNormalization:
            continue
        if name in seen:
            raise NetworkError(
                f"layer {name}: is used more than once, and its weights cannot be rescaled for "
                "one use and not for the other; give each use a layer of its own"
            )
        seen.add(name)
        unknown = {weight.name for weight in step.layer.weights} - FILTER_WEIGHTS
        if kind in FILTERS and unknown:
            raise NetworkError(
                f"layer {name}: has weights of an unknown kind, {', '.join(sorted(unknown))}; give "
                "the network without quantization or adapters"
            )


def _refuse_whole_numbers(steps: Sequence[Step]) -> None:
    """Refuse filters on whole numbers, for which the backends have no convolution."""
    for step in steps:
        if type(step.layer) not in FILTERS:
            continue
        dtype = str(step.inputs[0].dtype)
        if "float" not in dtype:
            raise NetworkError(
                f"layer {step.layer.name}: is given whole numbers ({dtype}), which Keras cannot "
                "multiply by its weights; build the network with an input of float32, or put a "
                "Rescaling layer in front"
            )


def _raw(steps: Sequence[Step]) -> set[int]:
    """Find the tensors before the first filter: the photo, and whatever prepares it."""
    raw: set[int] = set()
    for step in steps:
        has_filters = type(step.layer) in FILTERS
        if not has_filters and all(id(tensor) in raw for tensor in step.inputs):
            raw.add(id(step.output))
    return raw


def _ends(
    given: keras.Model, model: keras.Model, steps: Sequence[Step], raw: set[int], *, dense: bool
) -> list[tuple[Any, str]]:
    """Find the tensors that must keep the scale 1, each with what requires it.

    Raises:
        NetworkError: such a tensor stands inside, with filters behind it.
    """
    leads_on = _leading_to_filters(steps)
    ends = []
    for step in steps:
        if id(step.output) in raw or passes_scales(step):
            continue
        if id(step.output) in leads_on:
            raise NetworkError(_refusal(given, step, steps, dense=dense))
        if type(step.layer) not in FILTERS:
            ends += [(tensor, f"the input of {step.layer.name}") for tensor in step.inputs]
    flat = [tensor for tensor in model.outputs if len(tensor.shape) == 2]
    return ends + [(tensor, "an output without positions") for tensor in flat]


def _leading_to_filters(steps: Sequence[Step]) -> set[int]:
    """Find the tensors on which filters depend."""
    leads_on: set[int] = set()
    for step in reversed(steps):
        if type(step.layer) in FILTERS or id(step.output) in leads_on:
            leads_on.update(id(tensor) for tensor in step.inputs)
    return leads_on


def _refusal(given: keras.Model, step: Step, steps: Sequence[Step], *, dense: bool) -> str:
    """Say that a layer stands where it cannot, and how to leave it out if that leaves filters."""
    layer = step.layer
    kind = type(layer).__name__
    if is_operation(layer):
        kind = f"the operation {kind}"
    elif function_of(layer) is not keras.activations.linear:
        kind += f" with {function_name(layer)!r}"
    trouble = f"layer {layer.name}: {kind} stands before other filters, and {reason_against(layer)}"
    before = _layer_before(step, steps).name
    if not _can_be_read_up_to(given, before, dense=dense):
        return f"{trouble}; replace it"
    model, name = lookup(given, before)
    return (
        f"{trouble}; replace it, or leave out the layers from there on: "
        f"keras.Model({model}.inputs, {model}.get_layer({name!r}).output)"
    )


def _can_be_read_up_to(given: keras.Model, path: str, *, dense: bool) -> bool:
    """Tell whether a network without what is behind a layer has filters to normalize.

    Of a layer inside a model, Keras gives only the output inside. So the model is taken alone.
    """
    model, name = holder_of(given, path)
    try:
        read_graph(keras.Model(model.inputs, model.get_layer(name).output), dense=dense)
    except (AttributeError, NetworkError, ValueError):  # Keras's, of a layer that is used twice
        return False
    return True


def _layer_before(step: Step, steps: Sequence[Step]) -> keras.Layer:
    """Find the last layer, and no operation, whose output a call depends on."""
    by_output = _steps_by_output(steps)
    before = by_output[id(step.inputs[0])]
    while is_operation(before.layer):
        before = by_output[id(before.inputs[0])]
    return before.layer


def _candidates(steps: Sequence[Step], *, dense: bool) -> tuple[dict[str, Site], dict[str, str]]:
    """Tell the layers with filters that a rectifier follows from those that keep the scale 1."""
    sites, kept = {}, {}
    for step in steps:
        if type(step.layer) not in FILTERS:
            continue
        name, rectifying = step.layer.name, _rectifying_step(step, steps)
        if rectifying is None:
            function = function_name(step.layer)
            kept[name] = f"no rectified linear unit follows it directly ({function})"
        elif type(step.layer) is layers.Dense and not dense:
            kept[name] = "it is a dense layer"
        else:
            activation, axis = rectifying.output, step.axis
            filters = activation.shape[axis]
            sites[name] = Site(activation, axis, filters, not _is_leaky(rectifying))
    return sites, kept


def _rectifying_step(step: Step, steps: Sequence[Step]) -> Step | None:
    """Find the call that rectifies the output of a layer with filters; None if none does.

    It is the layer's own, or one behind layers that keep each channel to itself.
    """
    if function_of(step.layer) is not keras.activations.linear:
        return step if function_of(step.layer) in RECTIFYING else None
    while True:
        users = [user for user in steps if any(taken is step.output for taken in user.inputs)]
        if len(users) != 1:
            return None
        (step,) = users
        if not keeps_channels(step) or not passes_scales(step):
            return None
        if _is_rectifier(step):
            return step


def _is_rectifier(step: Step) -> bool:
    return operations.rectifies(step) if is_operation(step.layer) else is_rectifier(step.layer)


def _is_leaky(step: Step) -> bool:
    return operations.leaks(step) if is_operation(step.layer) else is_leaky(step.layer)


def _sources(
    steps: Sequence[Step], raw: set[int], sites: Mapping[str, Site]
) -> dict[int, frozenset[str]]:
    """Find the layers whose scales each tensor carries: id of the tensor -> layer names."""
    sources: dict[int, frozenset[str]] = {}
    for step in steps:
        if type(step.layer) in FILTERS:
            found = frozenset({step.layer.name} & sites.keys())
        elif id(step.output) in raw or not passes_scales(step):
            found = frozenset()
        else:
            found = frozenset().union(*(sources[id(tensor)] for tensor in step.inputs))
        sources[id(step.output)] = found
    return sources
