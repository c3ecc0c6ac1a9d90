"""A network's weights: their order in files, their digest, and how they come out of a file."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.files.tensor import Shape, require_float
from vggnorm.files.weights_file import Kind, WeightsFile
from vggnorm.network.copies import finalize

# What Keras wants a file to be called in which it lays weights out by its own rules.
ENDINGS = {Kind.KERAS_ARCHIVE: ".keras", Kind.KERAS3_WEIGHTS: ".weights.h5"}


def load_weights(model: keras.Model, path: str | Path | WeightsFile) -> None:
    """Give a network the weights in a file. Layers that the network does not have are left out.

    Args:
        model: the network.
        path: an .h5 file of Keras 2 or 3, a `.weights.h5` or a `.keras` file.

    Raises:
        NetworkError: the file cannot be read, holds other weights, or weights that are not finite.
    """
    with open_weights(path) as file:
        file.require_plain()
        give_weights(model, file)
    require_finite(model, file.path)


def give_weights(model: keras.Model, file: WeightsFile) -> None:
    """Give a network the weights in an open file, layer by layer, by the names of the layers.

    Where the names do not suffice in the layout of Keras 3, Keras loads the file. That is so for
    layers that are made of other layers, for layers of the user's own that load their weights by
    themselves, and for files that do not hold the layers' names.

    Raises:
        NetworkError: the file lacks a layer, or is of a larger network.
    """
    shapes = file.shapes()
    strange = _layer_of_other_shapes(model, shapes)
    if file.is_keras3_layout and (strange is not None or _has_layer_that_loads_itself(model)):
        _load_with_keras(model, file)
        return
    if strange is not None:
        wanted = name_shapes(_wanted_shapes(strange))
        found = name_shapes(shapes.get(strange.name))
        raise NetworkError(
            f"{file.path}: holds no weights of {model.name}: layer {strange.name} has weights of "
            f"the shapes {wanted} there, and {found} in the file"
        )
    _require_no_other_convolutions(model, shapes, file.path)
    arrays = file.arrays()
    for layer in model.layers:
        if layer.name in arrays:
            for weight, array in pair_weights(layer, arrays[layer.name], file.path):
                weight.assign(array.astype(weight.dtype))
    finalize(model)


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
    model: keras.Model, shapes: Mapping[str, Sequence[Shape]]
) -> keras.Layer | None:
    """Give the first layer whose weights the file lacks, or has in other shapes."""
    for layer in model.layers:
        wanted = _wanted_shapes(layer)
        if wanted and shapes.get(layer.name) != wanted:
            return layer
    return None


def _require_no_other_convolutions(
    model: keras.Model, shapes: Mapping[str, Sequence[Shape]], path: Path
) -> None:
    """Refuse the weights of a larger network, which Keras would load without a word."""
    own = {layer.name for layer in model.layers}
    convolutions = {
        name for name, found in shapes.items() if any(len(shape) == 4 for shape in found)
    }
    if unknown := convolutions - own:
        raise NetworkError(
            f"{path}: holds the weights of another network than {model.name}, with a layer "
            f"{min(unknown)}; say which with --network"
        )


def _has_layer_that_loads_itself(model: keras.Model) -> bool:
    """Tell whether a layer, not one of Keras's, has its own way of taking weights out of a file."""
    for layer in model.layers:
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
            f"{path}: holds no weights of {model.name}: layers of it are missing"
        ) from error
    except (KeyError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(
            f"{path}: holds no weights of {model.name}, or is damaged: {reason}"
        ) from error
