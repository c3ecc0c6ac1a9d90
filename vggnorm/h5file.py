"""The normalized network's file: a whole model in the HDF5 layout of Keras 2, and the means it was made with.

Keras 3, Keras 2 and `keras.applications` load it. Beside what they read, the root attribute `vggnorm` (JSON) and the
group `vggnorm_means` tell years later what the file is. Needs no Keras.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import vggnorm
from vggnorm.errors import MeansError, NetworkError, OutputError
from vggnorm.means import COUNTS, TEXTS, VECTORS, FilterMeans, means_from_parts, means_to_parts
from vggnorm.output import check_output, replacing
from vggnorm.untrusted import open_hdf5, open_weights

Weights = Mapping[str, Mapping[str, NDArray[Any]]]  # layer name -> weight name -> array, in Keras's order

WRITTEN_AS = "2.15.0"  # the Keras whose layout the file has


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
    # Built in memory: HDF5 can lose an error, or itself, when the disk fills up while it writes.
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        file.attrs["model_config"] = json.dumps(model_config)
        model = file.create_group("model_weights")
        for group in file, model:
            group.attrs["keras_version"] = WRITTEN_AS
            group.attrs["backend"] = "tensorflow"
        _write_weights(model, weights)
        if means is not None:
            _write_means(file, means)
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as temporary:
        temporary.write_bytes(image)
        _check_written(temporary, weights)


def read_shapes(path: Path) -> dict[str, list[tuple[int, ...]]]:
    """Tell the shapes of the weights in a model or weights file: layer name -> shapes, layers without left out.

    The file may be one of Keras 2, a `.weights.h5` of Keras 3, or a `.keras`.

    Raises:
        NetworkError: the file is no such file, or damaged.
    """
    with open_weights(path) as file:
        return {
            layer: [dataset.shape for dataset in datasets] for layer, datasets in _datasets(file).items() if datasets
        }


def read_weights(path: Path) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Read the weights in such a file, layer by layer: its name, and arrays in Keras's order, kernel before bias.

    (Keras's own reader takes all that a file lists for a layer into memory before it looks how much a layer needs.)

    Raises:
        NetworkError: the file is no such file, or damaged.
    """
    with open_weights(path) as file:
        for layer, datasets in _datasets(file).items():
            try:
                arrays = [dataset[()] for dataset in datasets]
            except (OSError, RuntimeError) as error:
                raise NetworkError(f"{path}: the weights of layer {layer} cannot be read: {error}") from error
            yield layer, arrays


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
            layers = json.loads(file.attrs["vggnorm"])["layers"]
            group = file["vggnorm_means"]
            parts: dict[str, Any] = {}
            for name in VECTORS:
                parts[name] = {layer: np.asarray(group[name][layer][()]) for layer in layers}
            for name in COUNTS:
                parts[name] = int(group[name][()])
            for name in TEXTS:
                parts[name] = group[name].asstr()[()]
            return means_from_parts(parts)
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise MeansError(f"{path}: what it says of its making is damaged: {error}") from error


def _write_weights(model: h5py.Group, weights: Weights) -> None:
    model.attrs["layer_names"] = np.array([layer.encode() for layer in weights])
    for layer, arrays in weights.items():
        group = model.create_group(layer)
        names = {f"{layer}/{name}:0": array for name, array in arrays.items()}
        group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S")
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
        if name in VECTORS:
            for layer, values in part.items():
                group[f"{name}/{layer}"] = values
        else:
            group[name] = part


def _check_written(path: Path, weights: Weights) -> None:
    with open_hdf5(path) as file:
        for layer, datasets in _datasets(file).items():
            for dataset, array in zip(datasets, weights[layer].values(), strict=True):
                if not np.array_equal(dataset[()], array, equal_nan=True):
                    raise OSError(f"layer {layer} reads back otherwise than it was written")


def _datasets(file: h5py.File) -> dict[str, list[h5py.Dataset]]:
    """Find the weights where Keras 2 kept them: at the root, or under `model_weights` in a whole model's file."""
    if "layers" in file and "layer_names" not in file.attrs:
        return _keras3_datasets(file)
    try:
        root = file.get("model_weights", file)
        return {
            _text(layer): [root[_text(layer)][_text(name)] for name in root[_text(layer)].attrs["weight_names"]]
            for layer in root.attrs["layer_names"]
        }
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{file.filename}: is no Keras .h5 file of weights, or damaged: {error}") from error


def _keras3_datasets(file: h5py.File) -> dict[str, list[h5py.Dataset]]:
    """Find the weights where Keras 3 keeps them: `layers/conv2d_1/vars/0`, with the layer's own name as an attribute.

    The order is that in which Keras counts the layers of a kind; of several kinds, one comes after the other.
    """
    try:
        groups = {name: file["layers"][name]["vars"] for name in sorted(file["layers"], key=_counted)}
        return {
            _text(group.attrs.get("name", name)): [group[index] for index in sorted(group, key=int)]
            for name, group in groups.items()
        }
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{file.filename}: is no Keras file of weights, or damaged: {error}") from error


def _counted(name: str) -> tuple[str, int]:
    """Split `conv2d_10` into the kind and its count, which the first of a kind lacks."""
    kind, _, count = name.rpartition("_")
    return (kind, int(count)) if kind and count.isdigit() else (name, 0)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
