"""Reading the weights in an HDF5 file, which Keras 2 and Keras 3 lay out in different ways.

Keras 2, and Keras 3 in a file that ends in `.h5`: a group for each layer, at the root of a weights
file or under `model_weights` in a model file. Attributes list the layers and each layer's weights.

Keras 3, in a file that ends in `.weights.h5` or in a `.keras` archive: a group for each layer under
`layers`, called after the layer's kind and its count, as `conv2d_1`. The weights in it are called
`vars/0`, `vars/1` and so on, and an attribute holds the layer's own name. A model inside has groups
`layers` of its own, and its layers are named by their paths, as `vgg16.block1_conv1`. Other layers
that are made of layers have further groups, which are not read here. Earlier files do not hold the
names, see `vggnorm.files.unnamed_layers`; those of TensorFlow 2.12 and 2.13 have another group in
the place of `layers`, and count in twos.

The kernels are taken as they stand. Theano turned kernels by 180 degrees when it convolved, and
TensorFlow does not. Keras 2 wrote into a file which backend its kernels are for; those for Theano
are refused. Keras 1 did not, and nothing else in such a file tells; see docs/weights.md.
"""

from collections.abc import Container, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from vggnorm.errors import NetworkError
from vggnorm.files.older_config import allowed_name
from vggnorm.files.tensor import Array, Layers, Tensor, require_within_float32

CONVENTION = "vggnorm_convention"  # the attribute that says how a network takes photos

TWO_BYTES = np.dtype("V2")  # how h5py gives bfloat16, which HDF5 does not have

# The group of the layers in the layout of Keras 3, and what TensorFlow 2.12 and 2.13 called it.
ROOTS = ("layers", "_layer_checkpoint_dependencies")

# What h5py raises when a file is damaged, or is laid out in another way.
DAMAGED = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


def find_datasets(file: h5py.File, path: Path) -> dict[str, list[h5py.Dataset]]:
    """Find the weights in a file of Keras 2 or 3: layer name -> datasets in Keras's order.

    Raises:
        NetworkError: it is another file, or damaged; a weight in it is not an array; or its kernels
            are for Theano.
    """
    if "theano" in backends_of(file):
        raise NetworkError(
            f"{path}: was written with Theano as Keras's backend, and its kernels are turned by "
            "180 degrees; load it in Keras 2.3 with TensorFlow as backend, which turns them back, "
            "and save it again"
        )
    is_keras3 = is_keras3_layout(file)
    find = _find_keras3_items if is_keras3 else _find_keras2_items
    wanted = "a Keras file" if is_keras3 else "a Keras .h5 file"
    try:
        layers = find(file)
    except DAMAGED as error:
        raise NetworkError(f"{path}: is not {wanted} of weights, or is damaged: {error}") from error
    for layer, items in layers.items():
        _require_datasets(layer, items, path)
    return layers


def read_layers(file: h5py.File, path: Path) -> Layers:
    """Find the weights in a file of Keras 2 or 3: layer name -> arrays, read on demand.

    Raises:
        NetworkError: as of `find_datasets`.
    """
    return {
        layer: [_tensor(dataset, layer, path) for dataset in datasets]
        for layer, datasets in find_datasets(file, path).items()
    }


def layers_apart(file: h5py.File, path: Path, models: Container[str]) -> dict[str, list[str]]:
    """Tell which layer each weight is of, also where a file holds those of a model together.

    Args:
        file: the file.
        path: its name, for messages.
        models: the names of layers that are known to be models.

    Returns:
        Name of a layer in the file -> for each of its weights, the path of the layer that it is of:
        `vgg16.block1_conv1` in an .h5 file that holds the weights of `vgg16`.

    Raises:
        NetworkError: as of `find_datasets`.
    """
    return {
        layer: _paths(layer, datasets, is_model=layer in models)
        for layer, datasets in find_datasets(file, path).items()
    }


def _paths(layer: str, datasets: list[h5py.Dataset], *, is_model: bool) -> list[str]:
    """Give the path of the layer that each weight of a layer in a file is of.

    Keras 2 names a weight `block1_conv1/kernel:0`, and Keras 3 `block1_conv1/kernel`. Only a model
    has kernels of convolutions under more than one name.
    """
    inside = [_name_inside(layer, dataset) for dataset in datasets]
    holds_maps = any(len(dataset.shape) == 4 for dataset in datasets)
    if not is_model and (not holds_maps or len(set(inside)) < 2):
        return [layer] * len(datasets)
    return [f"{layer}.{name}" for name in inside]


def _name_inside(layer: str, dataset: h5py.Dataset) -> str:
    """Give the name of the layer inside from the name of a weight, with dots."""
    name = str(dataset.name).partition(f"/{layer}/")[2].rpartition("/")[0]
    return name.removeprefix(f"{layer}/").replace("/", ".")


def read_array(dataset: h5py.Dataset, layer: str, path: Path) -> Array:
    """Read one weight.

    Raises:
        NetworkError: it cannot be read; or it has numbers that float32, in which networks compute,
            would make infinite.
    """
    try:
        array: Array = dataset[()]
        if dataset.dtype == TWO_BYTES:
            array = array.view(ml_dtypes.bfloat16)
    except (OSError, RuntimeError) as error:
        raise NetworkError(
            f"{path}: the weights of layer {layer} cannot be read: {error}"
        ) from error
    require_within_float32(array, layer, path)
    return array


def is_keras3_layout(file: h5py.File) -> bool:
    """Tell whether the weights are laid out as in a `.weights.h5` of Keras 3."""
    has_root = any(root in file for root in ROOTS)
    return has_root and not {"layer_names", "layer_names0"} & file.attrs.keys()


def holds_names(file: h5py.File) -> bool:
    """Tell whether a file in the layout of Keras 3 holds the names of its layers."""
    groups = _keras3_root(file).values()
    return any("name" in group["vars"].attrs for group in groups if "vars" in group)


def backends_of(file: h5py.File) -> set[str]:
    """Give the backends that Keras 2 wrote into the file, at the root and beside the weights."""
    backends: set[str] = set()
    for group in file, file.get("model_weights"):
        if isinstance(group, h5py.Group):
            values = np.ravel(group.attrs.get("backend", []))
            backends |= {str(to_text(value)).lower() for value in values}
    return backends


def read_names(group: h5py.Group, name: str) -> list[str]:
    """Read a list of names from an attribute, or from several called `name0`, `name1` and so on.

    Raises:
        KeyError: there is no such list.
    """
    if name in group.attrs:
        return [to_text(text) for text in group.attrs[name]]
    if f"{name}0" not in group.attrs:
        raise KeyError(f"there is no {name}")
    names: list[str] = []
    for part in count():
        if f"{name}{part}" not in group.attrs:
            break
        names += [to_text(text) for text in group.attrs[f"{name}{part}"]]
    return names


def to_text(name: str | bytes) -> str:
    """Give a text, which h5py may give as bytes."""
    return name.decode() if isinstance(name, bytes) else name


def _find_keras2_items(file: h5py.File) -> dict[str, list[Any]]:
    root = file.get("model_weights", file)
    items: dict[str, list[Any]] = {}
    for layer in read_names(root, "layer_names"):
        group = root[layer]
        items[allowed_name(layer)] = [group[name] for name in read_names(group, "weight_names")]
    return items


def _find_keras3_items(file: h5py.File) -> dict[str, list[Any]]:
    """Find the weights in the order in which Keras counts the layers of each kind."""
    return dict(_keras3_items(_keras3_root(file), ""))


def _keras3_items(layers: h5py.Group, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    for key in sorted(layers, key=_kind_and_count):
        group = layers[key]["vars"]
        layer = prefix + to_text(group.attrs.get("name", key))
        yield layer, [group[index] for index in sorted(group, key=int)]
        for root in ROOTS:
            if root in layers[key]:
                yield from _keras3_items(layers[key][root], f"{layer}.")


def _keras3_root(file: h5py.File) -> h5py.Group:
    return next(file[root] for root in ROOTS if root in file)


def _kind_and_count(key: str) -> tuple[str, int]:
    """Split `conv2d_10` into the kind and the count, which the first layer of a kind lacks."""
    kind, _, number = key.rpartition("_")
    return (kind, int(number)) if kind and number.isdigit() else (key, 0)


def _require_datasets(layer: str, items: list[Any], path: Path) -> None:
    for item in items:
        if not isinstance(item, h5py.Dataset):
            raise NetworkError(
                f"{path}: is damaged: layer {layer} has a group in the place of a weight, "
                f"{item.name}; get the file again, or save it again"
            )


def _tensor(dataset: h5py.Dataset, layer: str, path: Path) -> Tensor:
    dtype = "bfloat16" if dataset.dtype == TWO_BYTES else dataset.dtype.name
    return Tensor(dataset.shape, dtype, lambda: read_array(dataset, layer, path))
