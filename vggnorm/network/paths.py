"""The layers of a network and of the models inside it, by their paths.

A layer inside is named by its path: `vgg16.block1_conv1` is the layer `block1_conv1` of the model
that is the layer `vgg16`. Keras does not take the slash of a variable's path in the name of a
layer.
"""

from collections.abc import Iterator
from typing import Any

import keras

DOT = "."


def is_opened(layer: Any) -> bool:
    """Tell whether a layer is a functional or built sequential model of Keras's own classes.

    A class of the user's own may compute something else than its graph.
    """
    is_kerases = type(layer).__module__.startswith("keras.")
    return isinstance(layer, keras.Model) and is_kerases and bool(getattr(layer, "inputs", None))


def leaf_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """List the layers that are no models: path -> layer, in the order of the network.

    The path of a layer of the network itself is its name, and that of a layer inside a model is
    `model.layer`.
    """
    return dict(leaves_in(model))


def leaves_in(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Give the path and the layer of each layer that is no model, even if two paths are alike."""
    for layer in model.layers:
        path = prefix + layer.name
        if is_opened(layer):
            yield from leaves_in(layer, path + DOT)
        else:
            yield path, layer


def lookup(model: keras.Model, path: str) -> tuple[str, str]:
    """Write down how a program gets at a layer, for people.

    Returns:
        The model that holds the layer, such as `model.get_layer('vgg16')`; and the layer's name.
    """
    way, name = _way_to(model, path)
    return "model" + "".join(f".get_layer({inside.name!r})" for inside in way), name


def holder_of(model: keras.Model, path: str) -> tuple[keras.Model, str]:
    """Find the model that holds a layer, and the layer's name."""
    way, name = _way_to(model, path)
    return (way[-1] if way else model), name


def _way_to(model: keras.Model, path: str) -> tuple[list[keras.Model], str]:
    """List the models inside which a layer stands, the innermost last; and give its name."""
    way = []
    inside = _model_on_the_way(model, path)
    while inside is not None:
        way.append(inside)
        path = path.removeprefix(inside.name + DOT)
        inside = _model_on_the_way(inside, path)
    return way, path


def _model_on_the_way(model: keras.Model, path: str) -> keras.Model | None:
    """Give the model inside that a path leads into; None if the path is the name of a layer."""
    for layer in model.layers:
        if is_opened(layer) and path.startswith(layer.name + DOT):
            return layer
    return None
