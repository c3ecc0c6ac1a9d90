"""Which network a file of weights may be made from, and which of its layers is which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.files.tensor import Shape
from vggnorm.files.weights_file import TensorsFile, WeightsFile
from vggnorm.network.applications import load_vgg
from vggnorm.network.paths import leaf_layers
from vggnorm.network.storage import load_model
from vggnorm.network.weights import name_shapes
from vggnorm.verdicts.identification import Matched

Shapes = Mapping[str, Sequence[Shape]]  # layer name -> shapes of its weights

PREPARATION_KERNEL = (1, 1, 3, 3)  # of a convolution from three colours to three


class Original(NamedTuple):
    """The network that a file may be made from.

    Attributes:
        model: the network.
        convention: how it takes photos: see `vggnorm.files.conventions`; None if it is not known.
        usual: how a network of its kind takes photos, if nothing tells: `caffe` for Keras's VGG.
    """

    model: keras.Model
    convention: str | None
    usual: str | None = None


def load_original(original: str | Path, path: str | Path | WeightsFile) -> keras.Model:
    """Load the network that a file may be made from.

    Args:
        original: `imagenet`, for Keras's weights of VGG16 or VGG19, whichever the file's layers
            fit; or the path of a model, or of VGG16's or VGG19's weights.
        path: the file in question, which may be open already.

    Raises:
        NetworkError: a file cannot be read, or the network cannot be told from the file.
    """
    with open_weights(path) as file:
        return open_original(original, file).model


def open_original(original: str | Path, file: WeightsFile) -> Original:
    """Load the network that a file may be made from: see `load_original`."""
    shapes = file.shapes()
    if original == "imagenet":
        network = _which_vgg(shapes, file.path)
        model = load_vgg(network, "imagenet", include_top=_has_top(shapes))
        return Original(model, "caffe")
    with open_weights(original) as own:
        convention = own.taken_as.convention
        if own.holds_model:
            model = load_model(own)
            is_kerases = model.name in vgg.NETWORKS and not isinstance(own, TensorsFile)
            return Original(model, convention, "caffe" if is_kerases else None)
        network = _which_vgg(own.shapes(), own.path)
        include_top = _has_top(own.shapes()) and _has_top(shapes)
        model = load_vgg(network, own, include_top=include_top)
        return Original(model, convention, "caffe")


def match_layers(model: keras.Model, shapes: Shapes, path: Path) -> tuple[Matched, dict[str, str]]:
    """Find each layer of the original in the file.

    Layers are found by name if the file has any of the names, and else by order. Then a 1x1
    convolution of the photo before the first layer is left out.

    Args:
        model: the original.
        shapes: the file's, layer name -> shapes of its weights.
        path: the file, for messages.

    Returns:
        How they were found, and layer name -> name in the file.

    Raises:
        NetworkError: a layer has other shapes, or there is none.
    """
    wanted = {
        path: [tuple(weight.shape) for weight in layer.weights]
        for path, layer in leaf_layers(model).items()
        if layer.weights
    }
    matched, names = _match(wanted, shapes)
    for layer, name in names.items():
        found = [tuple(shape) for shape in shapes[name]]
        if found != wanted[layer]:
            where = "" if layer == name else f", as {name}"
            raise NetworkError(
                f"{path}: is of another architecture than {model.name}: layer {layer} has weights "
                f"of the shapes {name_shapes(wanted[layer])}, and {name_shapes(found)} in the "
                f"file{where}; give the original that the file is made from with --original"
            )
    if not names:
        raise NetworkError(f"{path}: holds no weights")
    return matched, names


def is_preparation(shapes: Sequence[Shape]) -> bool:
    """Tell whether a layer's weights are those of a 1x1 convolution from three colours to three."""
    return bool(shapes) and shapes[0] == PREPARATION_KERNEL


def _match(wanted: Shapes, shapes: Shapes) -> tuple[Matched, dict[str, str]]:
    """Pair the original's layers with the file's, whatever their shapes."""
    if wanted.keys() & shapes.keys():
        return "name", {layer: layer for layer in wanted if layer in shapes}
    first = next(iter(wanted.values()), [])
    in_order = [
        name
        for name, found in shapes.items()
        if list(found) == list(first) or not is_preparation(found)
    ]
    return "order", dict(zip(wanted, in_order, strict=False))


def _which_vgg(shapes: Shapes, path: Path) -> str:
    """Tell VGG16 from VGG19 by the numbers of filters of the convolutions."""
    filters = [found[0][-1] for found in shapes.values() if _is_convolution(found)]
    fits = [
        network
        for network in vgg.NETWORKS
        if filters and filters == vgg.filters_of(network)[: len(filters)]
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        why = f"its {len(filters)} convolutions are the first of both VGG16 and VGG19"
    else:
        why = "its convolutions are not those of VGG16 or VGG19"
    raise NetworkError(f"{path}: {why}; give the original model's file with --original")


def _is_convolution(shapes: Sequence[Shape]) -> bool:
    return bool(shapes) and len(shapes[0]) == 4 and not is_preparation(shapes)


def _has_top(shapes: Shapes) -> bool:
    kernels = [found[0] for found in shapes.values() if found]
    return vgg.FIRST_DENSE_KERNEL in kernels
