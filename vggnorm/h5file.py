"""The normalized network's file: a whole model in the HDF5 layout of Keras 2, and the means it was made with.

`keras.models.load_model` of TensorFlow's Keras 2 and of Keras 3.4 and later loads it as a model. Keras 3.0 to 3.3
cannot: they want a single input or output in a list, and for a list, newer ones would make `model.input` a list. There,
as everywhere, `model.load_weights(path)` and `keras.applications.VGG16(weights=path)` work. Beside what Keras reads,
the root attribute `vggnorm` (JSON) and the group `vggnorm_means` tell years later what the file is. Needs no Keras.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import vggnorm
from vggnorm.errors import MeansError, NetworkError, OutputError
from vggnorm.means import (
    COUNTS,
    FILTERS,
    TEXTS,
    VECTORS,
    FilterMeans,
    flatten_layers,
    means_from_parts,
    means_to_parts,
)
from vggnorm.output import check_output, replacing
from vggnorm.untrusted import open_hdf5, open_weights

Weights = Mapping[str, Mapping[str, NDArray[Any]]]  # layer name -> weight name -> array, in Keras's order

WRITTEN_AS = "2.15.0"  # the Keras whose layout the file has
MAX_NAMES = 64_512  # bytes in one attribute, as in Keras; HDF5's own limit, 64 KiB, includes a header


def is_hdf5(path: Path) -> bool:
    """Tell by its first bytes whether a file is an HDF5 file; not so if it cannot be read."""
    return path.is_file() and bool(h5py.is_hdf5(path))  # a pipe would be waited for


def holds_model(path: Path) -> bool:
    """Tell whether an HDF5 file is a whole model's, and not one of weights alone.

    Raises:
        NetworkError: the file cannot be read, or is no HDF5 file.
    """
    with open_weights(path) as file:
        return "model_config" in file.attrs


def holds_means(path: Path) -> bool:
    """Tell whether a file says with which means it was made; see `read_means`.

    Raises:
        NetworkError: the file cannot be read, or is no HDF5 file.
    """
    with open_weights(path) as file:
        return "vggnorm" in file.attrs


def check_h5_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse, before any work is done, a model file that could not or should not be written.

    Raises:
        OutputError: as of `check_output`; or the name would make Keras expect another layout.
    """
    name = Path(path).name
    if not name.endswith(".h5") or name.endswith(".weights.h5"):
        raise OutputError(f"{path}: give a name that ends in .h5 and not in .weights.h5, else Keras will not load it")
    return check_output(path, force=force)


def write_h5(
    path: Path,
    *,
    model_config: Mapping[str, Any],
    weights: Weights,
    means: FilterMeans | None = None,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        model_config: in the words of Keras 2, see `vggnorm.keras2_config`.
        weights: layer name -> weight name (`kernel`, `bias`) -> array; layers in the model's order, also those without
            weights.
        means: what the model was normalized with.

    Raises:
        OutputError: the operating system would not write.
    """
    image = _image(model_config, weights, means)
    with replacing(path) as temporary:
        temporary.write_bytes(image)
        _check_written(temporary, weights)


def require_writable(model_config: Mapping[str, Any], weight_names: Mapping[str, Iterable[str]]) -> None:
    """Try in memory whether a model file with such layers can be written, however large the weights are.

    Args:
        model_config: as of `write_h5`.
        weight_names: layer name -> the names of its weights.

    Raises:
        NetworkError: the name of a layer is too long for the file.
    """
    _image(model_config, {layer: dict.fromkeys(names, np.zeros(1)) for layer, names in weight_names.items()}, None)


def read_shapes(path: Path) -> dict[str, list[tuple[int, ...]]]:
    """Tell the shapes of the weights in a model or weights file: layer name -> shapes, layers without left out.

    The file may be one of Keras 2, a `.weights.h5` of Keras 3, or a `.keras`.

    Raises:
        NetworkError: the file is no such file, or damaged.
    """
    with open_weights(path) as file:
        return {
            layer: [dataset.shape for dataset in datasets]
            for layer, datasets in _datasets(file, path).items()
            if datasets
        }


def read_weights(path: Path) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Read the weights in such a file, layer by layer: its name, and arrays in Keras's order, kernel before bias.

    (Keras's own reader takes all that a file lists for a layer into memory before it looks how much a layer needs.)

    The kernels are taken as they stand. Theano turned kernels by 180 degrees when it convolved, and TensorFlow does
    not. Keras 2 wrote into a file which backend its kernels are for; those for Theano are refused. Keras 1 did not, and
    nothing else in such a file tells; see docs/weights.md.

    Raises:
        NetworkError: the file is no such file, or damaged; or its kernels are for Theano.
    """
    with open_weights(path) as file:
        for layer, datasets in _datasets(file, path).items():
            yield layer, [_read_array(dataset, path, layer) for dataset in datasets]


def _read_array(dataset: h5py.Dataset, path: Path, layer: str) -> NDArray[Any]:
    """Read one weight; refuse numbers that float32, in which networks compute, would make infinite."""
    try:
        array: NDArray[Any] = dataset[()]
    except (OSError, RuntimeError) as error:
        raise NetworkError(f"{path}: the weights of layer {layer} cannot be read: {error}") from error
    if array.dtype == np.float64:
        largest = np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max(initial=0.0)
        if largest > np.finfo(np.float32).max:
            raise NetworkError(
                f"{path}: layer {layer} has a weight of {largest:.1e}, and float32, in which networks compute, ends at "
                f"{np.finfo(np.float32).max:.1e}; the file is damaged, or its training failed"
            )
    return array


def names_backend(path: Path) -> bool:
    """Tell whether a file says for which backend its kernels are; those of Keras 3, which has no Theano, need not.

    Raises:
        NetworkError: the file cannot be read, or is no HDF5 file.
    """
    with open_weights(path) as file:
        return _is_keras3(file) or bool(_backends(file))


def require_plain_weights(path: Path) -> None:
    """Refuse what Keras would turn into other numbers without a word.

    Those are kernels of whole numbers, as quantized networks have, whose scale stands elsewhere; and numbers beyond
    float32's.

    Raises:
        NetworkError: the file has such a weight, or is no file of weights, or damaged.
    """
    with open_weights(path) as file:
        for layer, datasets in _datasets(file, path).items():
            for dataset in datasets:
                if dataset.dtype == np.float64:
                    _read_array(dataset, path, layer)
                if len(dataset.shape) > 1:
                    require_float(path, layer, dataset.dtype)


def require_float(path: Path, layer: str, dtype: np.dtype[Any]) -> None:
    """Refuse weights of whole numbers where a network has others.

    Raises:
        NetworkError: the type is another than one of floating-point numbers.
    """
    if dtype.kind != "f":
        raise NetworkError(
            f"{path}: layer {layer} has weights of type {dtype}, whose scale is not known; give the file from before "
            "the network was quantized"
        )


def read_means(path: Path) -> FilterMeans:
    """Read the means from a file that `write_h5` wrote.

    Raises:
        NetworkError: the file cannot be read, or is no HDF5 file.
        MeansError: it holds no usable means.
    """
    with open_hdf5(path) as file:
        try:
            if "vggnorm" not in file.attrs or "vggnorm_means" not in file:
                raise MeansError(f"{path}: does not say how it was made; it was not written by vggnorm normalize")
            group = file["vggnorm_means"]
            if "layers" in group:
                parts = {name: group[name][()] for name in (*VECTORS, FILTERS)}
            else:  # a file of version 0.1.0
                layers = json.loads(file.attrs["vggnorm"])["layers"]
                parts = flatten_layers({name: {layer: group[name][layer][()] for layer in layers} for name in VECTORS})
            parts |= {name: group[name][()].item() for name in COUNTS}
            parts |= {name: group[name].asstr()[()] for name in TEXTS if name in group}
            return means_from_parts(parts)
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise MeansError(f"{path}: what it says of its making is damaged: {error}") from error


def _image(model_config: Mapping[str, Any], weights: Weights, means: FilterMeans | None) -> bytes:
    """Build the file in memory: HDF5 can lose an error, or itself, when the disk fills up while it writes."""
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        _write_text(file, "model_config", json.dumps(model_config))
        model = file.create_group("model_weights")
        for group in file, model:
            _write_text(group, "keras_version", WRITTEN_AS)
            _write_text(group, "backend", "tensorflow")
        _write_weights(model, weights)
        if means is not None:
            _write_means(file, means)
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


def _write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write a text of any length as Keras 2 wrote it, which calls `decode` on what it reads.

    h5py 2 gives bytes for an ASCII text of variable length, and str for a UTF-8 one. One of fixed length would have to
    be shorter than 64 KiB.
    """
    group.attrs.create(name, text.encode("ascii"), dtype=h5py.string_dtype("ascii"))


def _write_names(group: h5py.Group, name: str, texts: Iterable[str]) -> None:
    """Write a list of names; one that is too long for an attribute in parts `name0`, `name1`, as Keras does."""
    names = np.array([text.encode() for text in texts], dtype="S")
    if names.dtype.itemsize > MAX_NAMES:
        longest = max(names, key=len).decode()
        raise NetworkError(
            f"layer {longest[:60]}…: its name is too long, an .h5 file holds names of up to {MAX_NAMES:,} bytes; "
            "give it a shorter name"
        )
    if names.nbytes <= MAX_NAMES:
        group.attrs[name] = names
        return
    step = MAX_NAMES // names.dtype.itemsize
    for part, start in enumerate(range(0, len(names), step)):
        group.attrs[f"{name}{part}"] = names[start : start + step]


def _read_names(group: h5py.Group, name: str) -> list[str]:
    """Read what `_write_names` or Keras wrote.

    Raises:
        KeyError: there is no such list.
    """
    if name in group.attrs:
        return [_text(text) for text in group.attrs[name]]
    if f"{name}0" not in group.attrs:
        raise KeyError(f"there is no {name}")
    parts = takewhile(group.attrs.__contains__, (f"{name}{part}" for part in count()))
    return [_text(text) for part in parts for text in group.attrs[part]]


def _write_weights(model: h5py.Group, weights: Weights) -> None:
    _write_names(model, "layer_names", weights)
    for layer, arrays in weights.items():
        group = model.create_group(layer)
        names = {f"{layer}/{name}:0": array for name, array in arrays.items()}
        _write_names(group, "weight_names", names)
        for name, array in names.items():
            group.create_dataset(name, data=array)


def _write_means(file: h5py.File, means: FilterMeans) -> None:
    file.attrs["vggnorm"] = json.dumps(
        {
            "version": vggnorm.__version__,
            "image_count": means.image_count,
            "layers": list(means.mean),
            "recipe": means.recipe.to_dict(),
        }
    )
    group = file.create_group("vggnorm_means")
    for name, part in means_to_parts(means).items():
        group[name] = part


def _check_written(path: Path, weights: Weights) -> None:
    with open_hdf5(path) as file:
        for layer, datasets in _datasets(file, path).items():
            for dataset, array in zip(datasets, weights[layer].values(), strict=True):
                if not np.array_equal(dataset[()], array, equal_nan=True):
                    raise OSError(f"layer {layer} reads back otherwise than it was written")


def _datasets(file: h5py.File, path: Path) -> dict[str, list[h5py.Dataset]]:
    """Find the weights in a file of Keras 2 or 3.

    Raises:
        NetworkError: it is no such file, damaged, or a weight in it is no array; or its kernels are for Theano.
    """
    if "theano" in _backends(file):
        raise NetworkError(
            f"{path}: was written with Theano as Keras's backend, and its kernels are turned by 180 degrees; load it "
            "in Keras 2.3 with TensorFlow as backend, which turns them back, and save it again"
        )
    items_of, kind = (_keras3_items, "Keras file") if _is_keras3(file) else (_keras2_items, "Keras .h5 file")
    try:
        layers = items_of(file)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: is no {kind} of weights, or damaged: {error}") from error
    for layer, items in layers.items():
        for item in items:
            if not isinstance(item, h5py.Dataset):
                raise NetworkError(
                    f"{path}: is damaged: layer {layer} has a group in the place of a weight, {item.name}; get the "
                    "file again, or save it again"
                )
    return layers


def _is_keras3(file: h5py.File) -> bool:
    return "layers" in file and not {"layer_names", "layer_names0"} & file.attrs.keys()


def _backends(file: h5py.File) -> set[str]:
    """Tell what Keras 2 wrote of the backend, at the root or beside the weights."""
    groups = [file, file.get("model_weights")]
    values = [group.attrs.get("backend", []) for group in groups if isinstance(group, h5py.Group)]
    return {str(_text(value)).lower() for group_values in values for value in np.ravel(group_values)}


def _keras2_items(file: h5py.File) -> dict[str, list[Any]]:
    """Look where Keras 2 kept the weights: at the root, or under `model_weights` in a whole model's file."""
    root = file.get("model_weights", file)
    return {
        layer: [root[layer][name] for name in _read_names(root[layer], "weight_names")]
        for layer in _read_names(root, "layer_names")
    }


def _keras3_items(file: h5py.File) -> dict[str, list[Any]]:
    """Look where Keras 3 keeps the weights: `layers/conv2d_1/vars/0`, with the layer's own name as an attribute.

    The order is that in which Keras counts the layers of a kind; of several kinds, one comes after the other.
    """
    groups = {name: file["layers"][name]["vars"] for name in sorted(file["layers"], key=_counted)}
    return {
        _text(group.attrs.get("name", name)): [group[index] for index in sorted(group, key=int)]
        for name, group in groups.items()
    }


def _counted(name: str) -> tuple[str, int]:
    """Split `conv2d_10` into the kind and its count, which the first of a kind lacks."""
    kind, _, count = name.rpartition("_")
    return (kind, int(count)) if kind and count.isdigit() else (name, 0)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
