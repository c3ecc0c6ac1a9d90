"""Writing a normalized network: a whole model in the HDF5 layout of Keras 2, with its means.

TensorFlow's Keras 2, and Keras 3.4 and later, load the file as a model with
`keras.models.load_model`. Keras 3.0 to 3.3 cannot: they want a single input or output in a list,
but newer versions would then make `model.input` a list. In every version,
`model.load_weights(path)` and `keras.applications.VGG16(weights=path)` work. Besides what Keras
reads, the file says how it was made: see `vggnorm.files.stored_means`. This module does not need
Keras.
"""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vggnorm.disk import check_output, replacing
from vggnorm.errors import NetworkError, OutputError
from vggnorm.files.keras_weights import CONVENTION, find_datasets
from vggnorm.files.stored_means import write_stored_means
from vggnorm.files.untrusted import open_hdf5
from vggnorm.means.filter_means import FilterMeans

# Layer name -> weight name -> array, in Keras's order.
NetworkWeights = Mapping[str, Mapping[str, NDArray[Any]]]

WRITTEN_AS = "2.15.0"  # the version of Keras whose layout the file has

# Bytes in one attribute, as in Keras. HDF5's own limit, 64 KiB, includes a header.
MAX_NAMES = 64_512


def check_h5_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse, before any work is done, a model file that could not or should not be written.

    Raises:
        OutputError: as of `check_output`; or Keras would expect another layout in a file of that
            name.
    """
    name = Path(path).name
    if not name.endswith(".h5") or name.endswith(".weights.h5"):
        raise OutputError(
            f"{path}: give a name that ends in .h5 and not in .weights.h5, or Keras will not load "
            "the file"
        )
    return check_output(path, force=force)


def write_h5(
    path: Path,
    *,
    model_config: Mapping[str, Any],
    weights: NetworkWeights,
    means: FilterMeans | None = None,
    convention: str | None = None,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        model_config: the configuration in the words of Keras 2, see `vggnorm.files.keras2_config`.
        weights: layer name -> weight name (`kernel`, `bias`) -> array. Layers are in the model's
            order, and those without weights are among them.
        means: the means that the model was normalized with.
        convention: how it takes photos, if that is known: see `vggnorm.files.conventions`.

    Raises:
        OutputError: the operating system cannot write the file.
    """
    # If the disk is full, the view of the stream must not outlive it, as it would in the frames of
    # `Path.write_bytes`: collecting both as garbage has crashed Python 3.12.
    stream = _image(model_config, weights, means, convention)
    with replacing(path) as temporary:
        with stream.getbuffer() as content, temporary.open("wb") as file:
            file.write(content)
        _check_written(temporary, weights)


def require_writable(
    model_config: Mapping[str, Any], weight_names: Mapping[str, Iterable[str]]
) -> None:
    """Try in memory whether a model file with such layers can be written, at any size of weights.

    Args:
        model_config: as of `write_h5`.
        weight_names: layer name -> the names of its weights.

    Raises:
        NetworkError: the name of a layer is too long for the file.
    """
    one_number = np.zeros(1)
    weights = {layer: dict.fromkeys(names, one_number) for layer, names in weight_names.items()}
    _image(model_config, weights, None, None)


def _image(
    model_config: Mapping[str, Any],
    weights: NetworkWeights,
    means: FilterMeans | None,
    convention: str | None,
) -> io.BytesIO:
    """Build the file in memory.

    HDF5 can lose an error, or crash, when the disk fills up while it writes.
    """
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        _write_text(file, "model_config", json.dumps(model_config))
        model = file.create_group("model_weights")
        for group in file, model:
            _write_text(group, "keras_version", WRITTEN_AS)
            _write_text(group, "backend", "tensorflow")
        _write_weights(model, weights)
        if means is not None:
            write_stored_means(file, means)
        if convention is not None:
            _write_text(file, CONVENTION, convention)
    return stream


def _write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write a text of any length as Keras 2 wrote it, which calls `decode` on what it reads.

    h5py 2 gives bytes for an ASCII text of variable length, and str for a UTF-8 one. A text of
    fixed length would have to be shorter than 64 KiB.
    """
    group.attrs.create(name, text.encode("ascii"), dtype=h5py.string_dtype("ascii"))


def _write_names(group: h5py.Group, name: str, texts: Iterable[str]) -> None:
    """Write a list of names; a long list in parts, `name0`, `name1` and so on, as Keras does."""
    names = np.array([text.encode() for text in texts], dtype="S")
    if names.dtype.itemsize > MAX_NAMES:
        longest = max(names, key=len).decode()
        raise NetworkError(
            f"layer {longest[:60]}…: its name is too long, because an .h5 file holds names of up "
            f"to {MAX_NAMES:,} bytes; give it a shorter name"
        )
    if names.nbytes <= MAX_NAMES:
        group.attrs[name] = names
        return
    step = MAX_NAMES // names.dtype.itemsize
    for part, start in enumerate(range(0, len(names), step)):
        group.attrs[f"{name}{part}"] = names[start : start + step]


def _write_weights(model: h5py.Group, weights: NetworkWeights) -> None:
    _write_names(model, "layer_names", weights)
    for layer, arrays in weights.items():
        group = model.create_group(layer)
        names = {f"{layer}/{name}:0": array for name, array in arrays.items()}
        _write_names(group, "weight_names", names)
        for name, array in names.items():
            group.create_dataset(name, data=array)


def _check_written(path: Path, weights: NetworkWeights) -> None:
    with open_hdf5(path) as file:
        for layer, datasets in find_datasets(file, path).items():
            for dataset, array in zip(datasets, weights[layer].values(), strict=True):
                if not _is_same(dataset[()], array):
                    raise OSError(f"layer {layer} does not read back as it was written")


def _is_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # To compare with nan takes several copies, so it is only done if it must be.
    return np.array_equal(one, other) or np.array_equal(one, other, equal_nan=True)
