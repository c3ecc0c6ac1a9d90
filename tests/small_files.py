"""Files of small networks, as Keras writes them, and ways to change what is in them."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
from keras import layers


def small(*steps: Any) -> Any:
    """A network of a few weights, all of them named."""
    tensor = photo = keras.Input((4, 4, 3), name="photo")
    for step in steps or (layers.Conv2D(2, 3, activation="relu", name="conv"),):
        tensor = step(tensor)
    return keras.Model(photo, tensor, name="small")


def rewritten(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the configuration in a model file, and leave the rest as it is."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def change_inner(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change an HDF5 file, or the one in a `.keras` archive."""
    if path.suffix != ".keras":
        with h5py.File(path, "r+") as file:
            change(file)
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    members["model.weights.h5"] = buffer.getvalue()
    write_archive(path, list(members.items()))


def write_archive(path: Path, members: Sequence[tuple[Any, bytes]], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path
