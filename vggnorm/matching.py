"""Which network a file of weights may be made from, and which of its layers is which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import keras

from vggnorm.errors import NetworkError
from vggnorm.h5file import holds_model, read_shapes
from vggnorm.network import load_network, name_shapes

Shapes = Mapping[str, Sequence[tuple[int, ...]]]  # layer name -> shapes of its weights
Matched = Literal["name", "order"]

VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions a block
VGG_WIDTHS = (64, 128, 256, 512, 512)  # filters of each
FLATTENED = 7 * 7 * 512  # what VGG's first dense layer takes
TORCH = (".pth", ".pt", ".t7", ".ckpt", ".safetensors")


def load_original(original: str | Path, path: Path) -> keras.Model:
    """Load the network that a file may be made from; see `identify`."""
    shapes = readable_shapes(path)
    if original != "imagenet":
        if Path(original).suffix == ".keras" or holds_model(Path(original)):
            return load_network(str(original))
        own = readable_shapes(Path(original))
        network = _which_vgg(own, Path(original))
        return load_network(network, original, include_top=_has_top(own) and _has_top(shapes))
    return load_network(_which_vgg(shapes, path), include_top=_has_top(shapes))


def readable_shapes(path: Path) -> dict[str, list[tuple[int, ...]]]:
    """Tell the shapes of a file's weights as `read_shapes` does, and say of other programs' files what to do."""
    if path.suffix in TORCH:
        raise NetworkError(
            f"{path}: is a file of PyTorch, and reading one may run code in it; copy its weights into a Keras "
            "model of the same layers, (out, in, h, w) to (h, w, in, out), and save that as .h5"
        )
    return read_shapes(path)


def _which_vgg(shapes: Shapes, path: Path) -> str:
    """Tell VGG16 from VGG19 by the numbers of filters of the convolutions."""
    filters = [found[0][-1] for found in shapes.values() if _is_convolution(found)]
    fits = []
    for network, blocks in VGG_BLOCKS.items():
        expected = [width for width, count in zip(VGG_WIDTHS, blocks, strict=True) for _ in range(count)]
        if filters and filters == expected[: len(filters)]:
            fits.append(network)
    if len(fits) == 1:
        return fits[0]
    why = (
        f"its {len(filters)} convolutions are the first of both VGG16 and VGG19"
        if fits
        else "its convolutions are not those of VGG16 or VGG19"
    )
    raise NetworkError(f"{path}: {why}; give the original model's file with --original")


def _is_convolution(shapes: Sequence[tuple[int, ...]]) -> bool:
    return bool(shapes) and len(shapes[0]) == 4 and not is_preparation(shapes)


def is_preparation(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether a layer's weights are those of a 1x1 convolution from three colours to three."""
    return bool(shapes) and shapes[0] == (1, 1, 3, 3)


def _has_top(shapes: Shapes) -> bool:
    return any(found and found[0] == (FLATTENED, 4096) for found in shapes.values())


def match_layers(model: keras.Model, shapes: Shapes, path: Path) -> tuple[Matched, dict[str, str]]:
    """Find each layer of the original in the file: layer name -> name in the file.

    By name, if the file has any of the names; else by order, a 1x1 convolution of the photo before the first left out.

    Raises:
        NetworkError: a layer has other shapes, or there is none.
    """
    wanted = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
    if wanted.keys() & shapes.keys():
        matched: Matched = "name"
        names = {layer: layer for layer in wanted if layer in shapes}
    else:
        matched = "order"
        own = next(iter(wanted.values()))
        in_order = [name for name, found in shapes.items() if not is_preparation(found) or list(found) == own]
        names = dict(zip(wanted, in_order, strict=False))
    for layer, name in names.items():
        if [tuple(shape) for shape in shapes[name]] != wanted[layer]:
            where = "" if layer == name else f", as {name}"
            raise NetworkError(
                f"{path}: is of another architecture than {model.name}: layer {layer} has weights of the shapes "
                f"{name_shapes(wanted[layer])}, and {name_shapes(shapes[name])} in the file{where}; give the original "
                "that the file is made from with --original"
            )
    if not names:
        raise NetworkError(f"{path}: holds no weights")
    return matched, names
