"""The rule, applied to every layer of a network."""

from collections.abc import Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import MeansError, NetworkError
from vggnorm.means.filter_means import FilterMeans, require_not_negative
from vggnorm.network.copies import copy_network, require_same_outputs
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.weights import weights_sha256
from vggnorm.rule import scale_from_mean


def normalize(model: keras.Model, means: FilterMeans) -> keras.Model:
    """Make an equivalent network in which every filter has mean activation 1.

    The weights change by `vggnorm.rule.rescale`, layer by layer.

    Args:
        model: the network that was measured, with its pooling and padding. It is not changed.
        means: what was measured on its weights.

    Raises:
        MeansError: the means were measured on other layers, on other weights, or with other pooling
            or padding, or they are not possible. The text says which.
        NetworkError: the rule does not cover this kind of network, or a new weight is not finite.
    """
    graph = read_graph(model, dense=means.recipe.dense)
    require_measured_on(graph, means)
    rescaled = graph.rescale({name: scale_from_mean(mean) for name, mean in means.mean.items()})
    normalized = copy_network(model)
    require_same_outputs(model, normalized, "a copy of it")
    for layer in model.layers:
        if layer.name in rescaled.weights:
            changed = rescaled.weights[layer.name]()
            normalized.get_layer(layer.name).set_weights(_new_weights(layer, changed))
    return normalized


def require_measured_on(graph: Graph, means: FilterMeans) -> None:
    """Require that means were measured on this network, over all photos.

    Raises:
        MeansError: the means are those of a part of the photos, or were measured on other layers,
            on other weights, with other pooling, padding or settings, or a mean is negative that
            cannot be. The text says which.
    """
    means.require_whole()
    means.require_layers(graph.filters, source=graph.model.name)
    found, measured = weights_sha256(graph.model), means.recipe.weights_sha256
    if found != measured:
        raise MeansError(
            f"the means were measured on other weights, with SHA-256 {measured[:12]}… "
            f"({means.recipe.weights}), and these have {found[:12]}…; give the same --weights, or "
            "measure these"
        )
    if graph.pooling != means.recipe.pooling:
        raise MeansError(
            f"the means were measured with {means.recipe.pooling} pooling, and this network has "
            f"{graph.pooling} pooling; give the same --pooling, or measure this one"
        )
    if graph.padding != means.recipe.padding:
        raise MeansError(
            f"the means were measured with the padding {means.recipe.padding}, and this network "
            f"has the padding {graph.padding}; load it with the same padding, or measure this one"
        )
    known = means.recipe.architecture_sha256
    if known is not None and known != architecture_sha256(graph):
        raise MeansError(
            "the means were measured on another network with the same weights: a setting of a "
            "layer differs, such as a stride, a padding, a slope or an epsilon, or what stands in "
            "front; give that network, or measure this one"
        )
    for name, site in graph.sites.items():
        if site.rectified:
            _require_possible(name, means.mean[name])


def _require_possible(layer: str, mean: NDArray[np.float64]) -> None:
    try:
        require_not_negative(f"the mean of {layer}", mean)
    except ValueError as error:
        raise MeansError(
            f"the means are not possible: {error}, behind a rectified linear unit"
        ) from error


def _new_weights(
    layer: keras.Layer, changed: Mapping[str, NDArray[np.floating]]
) -> list[NDArray[np.float32]]:
    """Give the weights of a layer in Keras's order, those that change and those that do not."""
    names = [variable.name for variable in layer.weights]
    arrays = zip(names, layer.get_weights(), strict=True)
    return [_finite(layer.name, changed.get(name, array)) for name, array in arrays]


def _finite(layer: str, array: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # the error below says it better
        rounded = array.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise NetworkError(
            f"layer {layer} would get weights that are not finite; its means are not plausible"
        )
    return rounded
