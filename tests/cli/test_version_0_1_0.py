"""The commands read the files of version 0.1.0, which are written here by hand."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from command_line import run
from numpy.typing import NDArray
from photo_files import decode_file
from reference import filter_means, reference_layers

from vggnorm.photos.geometry import Geometry

SIZE = 40
FILTERS = {"conv1": 6, "conv2": 5, "conv3": 4}
PerLayer = Mapping[str, NDArray[np.float64]]


def old_recipe(model: Any, photos: Mapping[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Return the recipe as version 0.1.0 wrote it: flat, and without the fields that came later."""
    weights = b"".join(array.tobytes() for array in model.get_weights())
    return {
        "network": "chain.keras",
        "include_top": False,
        "weights": "chain.keras",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "pooling": "max",
        "dense": False,
        "preprocessing": "caffe",
        "size": SIZE,
        "fit": "crop",
        "interpolation": "bilinear",
        "precision": "float32",
        "control": 0,
        "accuracy": None,
        "photos": "somewhere/photos",
        "annotations": "",
        "categories": [],
        "listed": 10,
        "listed_sha256": "3" * 64,
        "limit": None,
        "tolerance": None,
        "shard": None,
        "seed": 0,
        "batch_size": 32,
        "taken_sha256": sum_of_digests(name.encode() for name in photos),
        "photos_sha256": sum_of_digests(
            os.fsencode(name) + b"\0" + pixels.tobytes() for name, pixels in photos.items()
        ),
        "version": "0.1.0",
    }


def sum_of_digests(texts: Any) -> str:
    """Add up the SHA-256 of all texts, which does not depend on their order."""
    total = sum(int(hashlib.sha256(text).hexdigest(), 16) for text in texts)
    return f"{total % 2**256:064x}"


def old_parts(model: Any, photos: Mapping[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Return what both files of version 0.1.0 hold: arrays by layer, counts and JSON texts."""
    singles = [filter_means([pixels], reference_layers(model)) for pixels in photos.values()]
    per_photo = {layer: np.array([single[layer] for single in singles]) for layer in FILTERS}
    mean = {layer: values.mean(axis=0) for layer, values in per_photo.items()}
    deviation = {
        layer: ((values - mean[layer]) ** 2).sum(axis=0) for layer, values in per_photo.items()
    }
    nothing = {layer: np.zeros(count) for layer, count in FILTERS.items()}
    return {
        "mean": mean,
        "measured": mean,
        "squared_deviation": deviation,
        "image_count": len(photos),
        "correction": nothing,
        "correction_squared_deviation": nothing,
        "control_count": 0,
        "recipe": json.dumps(old_recipe(model, photos)),
        "skipped": json.dumps([{"photo": "empty.png", "reason": "is empty"}]),
    }


def save_old_means(parts: Mapping[str, Any], path: Path) -> None:
    """Write means.npy with a field for each layer, as version 0.1.0 did."""
    layers = np.dtype([(layer, "<f8", (count,)) for layer, count in FILTERS.items()])
    arrays = {
        name: np.array(tuple(part.values()), layers) if isinstance(part, dict) else np.array(part)
        for name, part in parts.items()
    }
    record = np.zeros((), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        record[name] = array
    np.save(path, record)


def save_old_network(model: Any, parts: Mapping[str, Any], path: Path) -> None:
    """Write chain_norm.h5 as version 0.1.0 did: a model of Keras 2, with groups for the means."""
    recipe = json.loads(parts["recipe"])
    about = {
        "version": "0.1.0",
        "image_count": parts["image_count"],
        "layers": list(FILTERS),
        "recipe": recipe,
    }
    with h5py.File(path, "w") as file:
        file.attrs["vggnorm"] = json.dumps(about)
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(keras_2_config())
        save_normalized_weights(model, parts["mean"], file.create_group("model_weights"))
        for name, part in parts.items():
            if isinstance(part, dict):
                for layer, values in part.items():
                    file[f"vggnorm_means/{name}/{layer}"] = values
            else:
                file[f"vggnorm_means/{name}"] = part


def save_normalized_weights(model: Any, mean: PerLayer, group: Any) -> None:
    """Write the weights that the rule gives."""
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = "2.15.0"
    group.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
    mean_in = np.ones(3)
    for layer in model.layers:
        inner = group.create_group(layer.name)
        if not layer.weights:
            inner.attrs["weight_names"] = np.array([], "S1")
            continue
        kernel, bias = layer.get_weights()
        mean_out = mean[layer.name]
        names = [f"{layer.name}/kernel:0", f"{layer.name}/bias:0"]
        inner.attrs["weight_names"] = [name.encode() for name in names]
        inner[names[0]] = (kernel * mean_in[:, None] / mean_out).astype(np.float32)
        inner[names[1]] = (bias / mean_out).astype(np.float32)
        mean_in = mean_out


def keras_2_config() -> dict[str, Any]:
    """Return the description of the chain that Keras 2 reads."""
    pixels = {"batch_input_shape": [None, None, None, 3], "dtype": "float32", "name": "pixels"}
    pooling = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "name": "pool2"}
    layers = [
        keras_2_layer("InputLayer", pixels, None),
        keras_2_layer("Conv2D", keras_2_convolution("conv1"), "pixels"),
        keras_2_layer("Conv2D", keras_2_convolution("conv2"), "conv1"),
        keras_2_layer("MaxPooling2D", pooling | {"data_format": "channels_last"}, "conv2"),
        keras_2_layer("Conv2D", keras_2_convolution("conv3"), "pool2"),
    ]
    config = {
        "name": "chain",
        "layers": layers,
        "input_layers": ["pixels", 0, 0],
        "output_layers": ["conv3", 0, 0],
    }
    return {"class_name": "Functional", "config": config}


def keras_2_layer(kind: str, config: dict[str, Any], before: str | None) -> dict[str, Any]:
    """Return the description of a layer after another one."""
    nodes = [] if before is None else [[[before, 0, 0, {}]]]
    return {"class_name": kind, "config": config, "name": config["name"], "inbound_nodes": nodes}


def keras_2_convolution(name: str) -> dict[str, Any]:
    """Return the settings of a convolution."""
    return {
        "name": name,
        "trainable": True,
        "dtype": "float32",
        "filters": FILTERS[name],
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "groups": 1,
        "activation": "relu",
        "use_bias": True,
    }


@pytest.fixture(scope="session")
def old(chain_file: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with means.npy and chain_norm.h5 of version 0.1.0."""
    folder = tmp_path_factory.mktemp("old")
    model = keras.saving.load_model(chain_file)
    photos = {path.name: decode_file(path, Geometry(SIZE)) for path in photo_folder.iterdir()}
    parts = old_parts(model, photos)
    save_old_means(parts, folder / "means.npy")
    save_old_network(model, parts, folder / "chain_norm.h5")
    return folder


UNKNOWN = "these means, of version 0.1.0, do not say on which layers they were measured"


@pytest.mark.parametrize("name", ["means.npy", "chain_norm.h5"])
def test_inspect_reads_them(name: str, old: Path) -> None:
    result = run("inspect", old / name)
    assert result.exit_code == 0, result.output
    assert "measured by vggnorm 0.1.0\n" in result.stdout
    assert "9 used, 1 skipped, from somewhere/photos\n" in result.stdout
    assert "geometry  40 x 40, crop, bilinear\n" in result.stdout
    assert "empty.png: is empty\n" in result.stdout
    read = json.loads(run("inspect", old / name, "--json").stdout)
    record = np.load(old / "means.npy")
    for layer in FILTERS:
        assert read["layers"][layer]["means"] == record["mean"][layer].tolist()


def test_normalize_takes_the_means(old: Path, chain_file: Path) -> None:
    result = run("normalize", "--means", old / "means.npy", "--network", chain_file)
    assert result.exit_code == 0, result.output
    assert UNKNOWN in result.stderr
    with h5py.File(old / "chain_norm.h5") as by_hand, h5py.File("chain_norm.h5") as found:
        for layer in FILTERS:
            for weight in "kernel:0", "bias:0":
                place = f"model_weights/{layer}/{layer}/{weight}"
                np.testing.assert_allclose(found[place][...], by_hand[place][...], rtol=1e-6)


def test_verify_judges_the_network(old: Path, chain_file: Path, photo_folder: Path) -> None:
    options = "--data", photo_folder, "--network", chain_file
    result = run("verify", old / "chain_norm.h5", *options)
    assert result.exit_code == 0, result.output
    assert UNKNOWN in result.stderr
    assert result.stdout.count("pass  ") == 3
    assert "on the photos measured" in result.stdout


def test_inspect_compares_the_network_with_the_original(old: Path, chain_file: Path) -> None:
    result = run("inspect", old / "chain_norm.h5", "--original", chain_file)
    assert result.exit_code == 0, result.output
    assert "with exactly the means that the file has (9 photos)" in result.stdout
