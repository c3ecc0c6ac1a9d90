"""Recover what each filter of a network was divided by, from its weights and the original's alone.

`vggnorm.identification.layer_scales` solves for the scales of one layer, and has the formulas. Here
the layers are taken in network order, and what was found of one is compared with the next.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations

import keras
import numpy as np
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.identification.layer_scales import (
    DEPTHWISE,
    SEPARABLE,
    TRANSPOSED,
    recover_layer,
    set_common_factor,
    with_drift,
)
from vggnorm.identification.rounding import rounding_of
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.layers import FILTERS
from vggnorm.network.steps import LayerWeights, Step
from vggnorm.rule import Float64
from vggnorm.verdicts.identification import LayerScales, Recovery, Rounding

Colours = tuple[int, ...]


def recover_scales(model: keras.Model, found: Mapping[str, LayerWeights]) -> Recovery:
    """Find what each filter of a network is divided by, compared with the original.

    Args:
        model: the original: convolutions of any kind but separable ones, dense layers, and layers
            that pass scales on, see `vggnorm.network.graph`.
        found: layer name -> weight name -> array, the weights of the other network, in the
            original's shapes. Layers may be missing; the layers after them are still compared.

    Raises:
        NetworkError: the original cannot be rescaled, or has a separable convolution, where the
            weights do not show how a scale is shared between the two kernels.
    """
    graph = read_graph(model, dense=True)
    rounding = rounding_of(found)
    rectified = {id(site.activation) for site in graph.sites.values()}
    first = next(step for step in graph.steps if type(step.layer) in FILTERS)
    colours: Colours = tuple(range(first.inputs[0].shape[first.axis]))
    recovered: dict[str, LayerScales] = {}
    normalizations: dict[str, float] = {}
    undecided = ""  # the first layer, while its common factor is unknown
    for step in _steps_with_weights(graph, found):
        name, kind = step.layer.name, type(step.layer)
        known = {layer: one.scale for layer, one in recovered.items() if layer != undecided}
        rescaled = graph.rescale(_scales_of_sites(graph, known))
        if kind is layers.BatchNormalization:
            changed = rescaled.weights[name]() if name in rescaled.weights else {}
            normalizations[name] = _largest_difference({**step.weights, **changed}, found[name])
            continue
        carried = rescaled.incoming[name]
        layer = recover_layer(
            kind, step.weights, found[name], carried, rounding, is_first=step is first
        )
        if step is first:
            if np.median(layer.explained) < 1:
                colours, layer = _try_colours(step, found[name], carried, rounding, layer)
            if np.median(layer.bias_fits) < 1:
                undecided = name
        elif undecided and len(layer.incoming) == len(recovered[undecided].scale):
            recovered[undecided] = set_common_factor(recovered[undecided], layer.incoming)
            undecided = ""
        if kind not in DEPTHWISE and id(step.inputs[0]) in rectified:
            layer = with_drift(layer, kind, found[name])
        recovered[name] = layer
    return Recovery(recovered, rounding, first.layer.name in found, colours, normalizations)


def turned_back(
    model: keras.Model, found: Mapping[str, LayerWeights], recovery: Recovery
) -> tuple[Recovery, list[str]]:
    """Find layers that are the original's with kernels turned by 180 degrees, and turn them back.

    Theano flips kernels when it convolves, TensorFlow does not. So files written with Theano hold
    them flipped.

    Args:
        model: the original.
        found: the weights that were given to `recover_scales`.
        recovery: the result of `recover_scales`.

    Returns:
        The recovery with these kernels turned back, and the names of their layers.
    """
    strange = [name for name, layer in recovery.layers.items() if np.median(layer.alike) < 1]
    turned = {name: _turned(found[name]) for name in strange if found[name]["kernel"].ndim > 2}
    if not turned:
        return recovery, []
    tried = recover_scales(model, {**found, **turned})
    names = [name for name in turned if np.median(tried.layers[name].alike) == 1]
    if not names:
        return recovery, []
    return recover_scales(model, {**found, **{name: turned[name] for name in names}}), names


def _steps_with_weights(graph: Graph, found: Mapping[str, LayerWeights]) -> Iterator[Step]:
    """Give the calls of the layers with filters or statistics, of those that were found."""
    for step in graph.steps:
        kind = type(step.layer)
        if step.layer.name not in found:
            continue
        if kind in SEPARABLE:
            raise NetworkError(
                f"layer {step.layer.name}: is a separable convolution, where any scale may be "
                "shared between its two kernels; leave out the layers from there on"
            )
        if kind in FILTERS or kind is layers.BatchNormalization:
            yield step


def _scales_of_sites(graph: Graph, known: Mapping[str, Float64]) -> dict[str, Float64]:
    """Give a scale to every layer that is normalized; nan where it is unknown."""
    return {name: known.get(name, np.full(count, np.nan)) for name, count in graph.filters.items()}


def _turned(weights: LayerWeights) -> LayerWeights:
    """Turn the positions of a kernel, which are all axes but the last two, by 180 degrees."""
    kernel = weights["kernel"]
    return {**weights, "kernel": np.flip(kernel, axis=tuple(range(kernel.ndim - 2)))}


def _try_colours(
    step: Step, after: LayerWeights, carried: Float64, rounding: Rounding, as_it_is: LayerScales
) -> tuple[Colours, LayerScales]:
    """Find the order in which the first layer takes the channels of the photo.

    Args:
        step: the call of the first layer.
        after: its weights in the other network.
        carried: `(channels,)`, what the channels are divided by.
        rounding: the format of the other network's weights.
        as_it_is: what was recovered with the channels in order.

    Returns:
        For each channel of the photo, which channel of the original's photo it is, and what was
        recovered with this order.
    """
    kind, before = type(step.layer), step.weights
    in_order: Colours = tuple(range(len(carried)))
    cannot_tell = kind in TRANSPOSED or kind in DEPTHWISE
    if cannot_tell or len(in_order) != 3 or before["kernel"].shape[-2] != 3:
        return in_order, as_it_is
    tried: dict[Colours, LayerScales] = {in_order: as_it_is}
    for order in permutations(in_order):
        if order != in_order:
            moved = {**before, "kernel": before["kernel"][..., list(order), :]}
            tried[order] = recover_layer(kind, moved, after, carried, rounding, is_first=True)
    best = min(tried, key=lambda order: float(np.median(tried[order].residual)))
    return (best, tried[best]) if np.median(tried[best].alike) == 1 else (in_order, as_it_is)


def _largest_difference(wanted: LayerWeights, found: LayerWeights) -> float:
    """Compare a layer's weights with what they should be: the largest relative difference."""
    differences = []
    for name, array in wanted.items():
        known = np.isfinite(array)  # behind a filter of unknown scale, the wanted value is nan
        difference = np.linalg.norm((found[name] - array)[known])
        differences.append(float(difference / (np.linalg.norm(array[known]) or 1.0)))
    return max(differences)
