"""A network's weights: their order in files, their digest, and how they come out of a file."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.conversion import Say
from vggnorm.files.formats import open_weights
from vggnorm.files.tensor import Layers, Shape, require_float, shapes_of
from vggnorm.files.unnamed_layers import named_in_order
from vggnorm.files.vgg_by_order import line_about_names, names_by_order
from vggnorm.files.weights_file import Kind, WeightsFile
from vggnorm.network.copies import finalize
from vggnorm.network.paths import leaf_layers

# What Keras wants a file to be called in which it lays weights out by its own rules.
ENDINGS = {Kind.KERAS_ARCHIVE: ".keras", Kind.KERAS3_WEIGHTS: ".weights.h5"}


def load_weights(
    model: keras.Model, path: str | Path | WeightsFile, say: Say | None = None
) -> None:
    """Give a network the weights in a file. Layers that the network does not have are left out.

    Args:
        model: the network.
        path: an .h5 file of Keras 2 or 3, a `.weights.h5` or a `.keras` file.
        say: is told if the file's layers have other names.

    Raises:
        NetworkError: the file cannot be read, holds other weights, or weights that are not finite.
    """
    with open_weights(path) as file:
        file.require_plain()
        give_weights(model, file, say)
    require_finite(model, file.path)


def give_weights(model: keras.Model, file: WeightsFile, say: Say | None = None) -> None:
    """Give a network the weights in an open file, layer by layer, by the names of the layers.

    A VGG gets the weights of a VGG whose layers have other names, too: see
    `vggnorm.files.vgg_by_order`. Where the names do not suffice in the layout of Keras 3, Keras
    loads the file. That is so for layers that are made of other layers, and for layers of the
    user's own that load their weights by themselves.

    Args:
        model: the network.
        file: the file.
        say: is told if the file's layers have other names.

    Raises:
        NetworkError: the file lacks a layer, or is of a larger network.
    """
    layers = _layers_in_file(model, file)
    held = _under_names_of(layers, file, say)
    shapes = shapes_of(held)
    strange = _layer_of_other_shapes(layers, shapes)
    part = None if strange is None else _part_that_fits(model, file)
    if part is not None:
        _assign(leaf_layers(model), part, file.path)
        finalize(model)
        return
    if file.is_keras3_layout and (strange is not None or _has_layer_that_loads_itself(layers)):
        _load_with_keras(model, file)
        return
    if strange is not None:
        wanted = name_shapes(_wanted_shapes(layers[strange]))
        found = name_shapes(shapes.get(strange))
        advice = ""
        if strange == vgg.TOP and strange in shapes:  # the network has other classes
            advice = "; give the file itself as the network, --network FILE"
        raise NetworkError(
            f"{file.path}: holds no weights of {model.name}: layer {strange} has weights of "
            f"the shapes {wanted} there, and {found} in the file{advice}"
        )
    _require_no_other_convolutions(model, layers, shapes, file.path)
    _require_no_other_normalization(model, layers, shapes, file)
    _assign(layers, held, file.path)
    finalize(model)


def _assign(layers: Mapping[str, keras.Layer], held: Layers, path: Path) -> None:
    """Give layers their weights, those of one layer after the other."""
    for name, layer in layers.items():
        arrays = [tensor.read() for tensor in held.get(name, [])]
        if arrays:
            for weight, array in pair_weights(layer, arrays, path):
                weight.assign(array.astype(weight.dtype))


def _part_that_fits(model: keras.Model, file: WeightsFile) -> Layers | None:
    """Find a network as a model inside the one whose weights a file holds.

    Returns:
        The weights by the names of the network's own layers; None if there is no such model.

    Raises:
        NetworkError: there are several, of which any could be meant.
    """
    wanted = {path: _wanted_shapes(layer) for path, layer in leaf_layers(model).items()}
    wanted = {path: shapes for path, shapes in wanted.items() if shapes}
    shapes = file.shapes()
    first = f".{next(iter(wanted), '')}"
    models = [name.removesuffix(first) for name in shapes if name.endswith(first)]
    fitting = [
        name
        for name in models
        if all(shapes.get(f"{name}.{path}") == found for path, found in wanted.items())
    ]
    if len(fitting) > 1:
        raise NetworkError(
            f"{file.path}: holds the weights of {model.name} in several models, "
            f"{' and '.join(fitting)}; give the file of the whole model with --network"
        )
    return {path: file.layers[f"{fitting[0]}.{path}"] for path in wanted} if fitting else None


def _layers_in_file(model: keras.Model, file: WeightsFile) -> dict[str, keras.Layer]:
    """Give the layers under whose names a file holds a network's weights.

    An .h5 file of Keras holds all weights of a model inside together, under the name of that model.
    The layout of Keras 3 has each layer by itself.
    """
    if file.is_keras3_layout:
        return leaf_layers(model)
    return {layer.name: layer for layer in model.layers}


def _under_names_of(model: Mapping[str, keras.Layer], file: WeightsFile, say: Say | None) -> Layers:
    """Give the weights in a file under the names of a network's layers, as far as that is clear.

    Args:
        model: name of a layer -> the layer.
        file: the file.
        say: is told if the layers have other names in the file.
    """
    layers = file.layers_as_written
    if not file.names_layers:
        in_order = [(type(layer).__name__, name) for name, layer in model.items()]
        layers = named_in_order(layers, in_order) or layers
    names = names_by_order(layers)
    # A model in a file under names of its own needs no others.
    if names is None or model.keys() & names.keys() or not model.keys() & set(names.values()):
        return layers
    if say is not None:
        say(f"{file.path}: {line_about_names(names)}")
    return {names.get(layer, layer): tensors for layer, tensors in layers.items()}


def pair_weights(
    layer: keras.Layer, arrays: Sequence[NDArray[Any]], path: Path
) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Give each weight of a layer with its array in a file.

    Raises:
        NetworkError: an array has whole numbers where the weight has floating-point numbers.
    """
    for weight, array in zip(weights_in_files_order(layer), arrays, strict=True):
        if "float" in str(weight.dtype):
            require_float(array.dtype.name, layer.name, path)
        yield weight, array


def weights_in_files_order(layer: keras.Layer) -> list[Any]:
    """Give a layer's weights in the order of an .h5 file: what is trained comes first.

    That is not always the order of `layer.weights`, which a layer made of other layers lists one by
    one.
    """
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def name_shapes(shapes: Sequence[Shape] | None) -> str:
    """Write down the shapes of a layer's weights, for people."""
    if not shapes:
        return "none"
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def weights_sha256(model: keras.Model) -> str:
    """Identify a network's weights.

    The SHA-256 goes over all layers in network order and over each layer's weights in Keras's
    order, as little-endian float32. For a convolution, these are the kernel, `(height, width,
    channels in, filters)`, and then the bias.
    """
    digest = hashlib.sha256()
    for layer in model.layers:
        for array in layer.get_weights():
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def layers_not_finite(model: keras.Model) -> list[str]:
    """Name the layers that have a weight which is nan or infinite."""
    return [layer.name for layer in model.layers if not _is_finite(layer)]


def require_finite(model: keras.Model, path: Path) -> None:
    """Refuse a network from a file if a weight is nan or infinite.

    Raises:
        NetworkError: there is such a weight; the text names the first layer.
    """
    if broken := layers_not_finite(model):
        raise NetworkError(f"{path}: has weights that are not finite, in layer {broken[0]}")


def _is_finite(layer: keras.Layer) -> bool:
    return all(np.isfinite(array).all() for array in layer.get_weights())


def _wanted_shapes(layer: keras.Layer) -> list[Shape]:
    return [tuple(weight.shape) for weight in weights_in_files_order(layer)]


def _layer_of_other_shapes(
    layers: Mapping[str, keras.Layer], shapes: Mapping[str, Sequence[Shape]]
) -> str | None:
    """Name the first layer whose weights the file lacks, or has in other shapes."""
    for name, layer in layers.items():
        wanted = _wanted_shapes(layer)
        if wanted and shapes.get(name) != wanted:
            return name
    return None


def _require_no_other_convolutions(
    model: keras.Model,
    layers: Mapping[str, keras.Layer],
    shapes: Mapping[str, Sequence[Shape]],
    path: Path,
) -> None:
    """Refuse the weights of a larger network, which Keras would load without a word."""
    convolutions = {
        name for name, found in shapes.items() if any(len(shape) == 4 for shape in found)
    }
    if unknown := convolutions - layers.keys():
        raise NetworkError(
            f"{path}: holds the weights of another network than {model.name}, with a layer "
            f"{min(unknown)}; say which with --network"
        )


def _require_no_other_normalization(
    model: keras.Model,
    layers: Mapping[str, keras.Layer],
    shapes: Mapping[str, Sequence[Shape]],
    file: WeightsFile,
) -> None:
    """Refuse batch normalization between the convolutions of a file, if the network has none there.

    Keras would leave it out without a word, and the network would compute something else.
    """
    convolutions = [name for name, found in shapes.items() if len(found[0]) == 4]
    if not convolutions:
        return
    order = list(shapes)
    between = order[: order.index(convolutions[-1])] if file.is_in_network_order else order
    for name in between:
        is_normalization = len(shapes[name]) == 4 and len(set(shapes[name])) == 1
        if name not in layers and is_normalization:
            raise NetworkError(
                f"{file.path}: holds a batch normalization, {name}, that {model.name} does not "
                "have; give the file of the whole model, --network FILE"
            )


def _has_layer_that_loads_itself(layers: Mapping[str, keras.Layer]) -> bool:
    """Tell whether a layer, not one of Keras's, has its own way of taking weights out of a file."""
    for layer in layers.values():
        kind = type(layer)
        is_kerases = kind.__module__.startswith("keras.")
        if not is_kerases and kind.load_own_variables is not keras.Layer.load_own_variables:
            return True
    return False


def _load_with_keras(model: keras.Model, file: WeightsFile) -> None:
    path, ending = file.path, ENDINGS[file.kind]
    if not path.name.endswith(ending):  # Keras goes by the name
        raise NetworkError(
            f"{path}: only Keras can load these weights into {model.name}, and it knows such a "
            f"file by its name; rename it so that it ends in {ending}"
        )
    try:
        with warnings.catch_warnings():
            # Keras would leave layers as they are, and only warn.
            warnings.filterwarnings("error", "Skipping nested container")
            model.load_weights(path)
    except UserWarning as error:
        raise NetworkError(
            f"{path}: holds no weights of {model.name}: layers of it are missing; if it is of a "
            f"larger network, in which {model.name} is one layer, give the file of that whole "
            "model with --network"
        ) from error
    except (KeyError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(
            f"{path}: holds no weights of {model.name}, or is damaged: {reason}"
        ) from error
