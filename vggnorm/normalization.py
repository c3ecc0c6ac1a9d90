"""The rule, applied to every layer of a network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.conversion import Say
from vggnorm.means.filter_means import FilterMeans, require_not_negative
from vggnorm.means.renaming import renamed_by_order
from vggnorm.network.copies import require_same_outputs
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import Graph, read_graph
from vggnorm.network.paths import leaf_layers
from vggnorm.network.policies import in_float32, with_float32_weights
from vggnorm.network.surroundings import require_ready
from vggnorm.network.weights import weights_sha256
from vggnorm.rule import Float64


def normalize(model: keras.Model, means: FilterMeans) -> keras.Model:
    """Make an equivalent network in which every filter has mean activation 1.

    The weights change by `vggnorm.rule.rescale`, layer by layer. Each layer computes in the type
    that it had; a layer with weights of float16 or bfloat16 gets weights of float32. With a bound
    from `FilterMeans.with_max_scale`, filters that barely fire are left with a smaller mean.

    Args:
        model: the network that was measured, with its pooling and padding. It is not changed.
        means: what was measured on its weights.

    Raises:
        MeansError: the means were measured on other layers, on other weights, or with other pooling
            or padding, or they are not possible. The text says which.
        NetworkError: the rule does not cover this kind of network, or a new weight is not finite.
    """
    require_ready()
    exact = in_float32(model)
    graph = read_graph(exact, dense=means.recipe.dense)
    means = under_names_of(graph, means)
    require_measured_on(graph, means)
    rescaled = graph.rescale(means.scales)
    if means.recipe.keep_output:
        _require_output_kept(graph, rescaled.outputs)
    normalized = with_float32_weights(model)
    require_same_outputs(exact, in_float32(normalized), "a copy of it")
    copies = leaf_layers(normalized)
    for path, layer in leaf_layers(exact).items():
        if path in rescaled.weights:
            changed = rescaled.weights[path]()
            copies[path].set_weights(_new_weights(layer, path, changed))
    return normalized


def keep_output(model: keras.Model, means: FilterMeans) -> FilterMeans:
    """Give means with which `normalize` leaves the output of a network as it was.

    The filters that give the output keep the scale 1, so their means do not become 1.

    Args:
        model: the network that was measured.
        means: what was measured.

    Raises:
        NetworkError: there are no other filters to normalize.
    """
    require_ready()
    means = with_output_layers(model, means)
    if set(means.recipe.output_layers) == means.mean.keys():
        raise NetworkError(
            f"{model.name}: all of its filters that can be normalized give its output, so nothing "
            "is left if that is kept; normalize it with its output"
        )
    return replace(means, recipe=replace(means.recipe, keep_output=True))


def with_output_layers(model: keras.Model, means: FilterMeans) -> FilterMeans:
    """Write into the recipe of means which layers give the output, as earlier versions did not."""
    graph = read_graph(in_float32(model), dense=means.recipe.dense)
    return replace(means, recipe=replace(means.recipe, output_layers=graph.output_layers))


def _require_output_kept(graph: Graph, outputs: Sequence[Float64]) -> None:
    if any((scale != 1).any() for scale in outputs):
        raise MeansError(
            f"the recipe of the means names other layers than {', '.join(graph.output_layers)} as "
            f"the output of {graph.model.name}; use vggnorm.keep_output with this network"
        )


def means_for(model: keras.Model, means: FilterMeans, say: Say | None = None) -> FilterMeans:
    """Give means under the names that the layers of a network have.

    A network's layers may have other names than when it was measured. Then they are matched in
    network order, if each has as many filters. `normalize` makes sure that the weights are those
    that were measured, whatever the layers are called.

    Args:
        model: the network.
        means: the means.
        say: is told if the names differ.
    """
    graph = read_graph(in_float32(model), dense=means.recipe.dense)
    return under_names_of(graph, means, say)


def under_names_of(graph: Graph, means: FilterMeans, say: Say | None = None) -> FilterMeans:
    """Give means under the names that the layers of a network have: see `means_for`."""
    filters = graph.filters
    if list(filters) == list(means.mean):
        return means
    renamed = renamed_by_order(means, filters)
    if renamed is None:
        return means
    if say is not None:
        measured, here = next(
            pair for pair in zip(means.mean, filters, strict=True) if pair[0] != pair[1]
        )
        say(
            f"the layers of {graph.model.name} have other names than those that were measured and "
            f"are matched by their order: {measured} is {here} here"
        )
    return renamed


def require_measured_on(graph: Graph, means: FilterMeans) -> None:
    """Require that means were measured on this network, over all photos.

    Raises:
        MeansError: the means are those of a part of the photos, or were measured on other layers,
            on other weights, with other pooling, padding or settings, or a mean is negative that
            cannot be. The text says which.
    """
    means.require_whole()
    means.require_layers(graph.filters, source=graph.model.name)
    found, measured = weights_sha256(graph.given), means.recipe.weights_sha256
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
    layer: keras.Layer, path: str, changed: Mapping[str, NDArray[np.floating]]
) -> list[NDArray[np.float32]]:
    """Give the weights of a layer in Keras's order, those that change and those that do not."""
    names = [variable.name for variable in layer.weights]
    arrays = zip(names, layer.get_weights(), strict=True)
    return [_finite(path, changed.get(name, array)) for name, array in arrays]


def _finite(layer: str, array: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # the error below says it better
        rounded = array.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise NetworkError(
            f"layer {layer} would get weights that are not finite; its means are not plausible"
        )
    return rounded
