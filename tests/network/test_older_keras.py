"""Files of Keras 2 and of the first versions of Keras 3, which the newest Keras does not read.

tf_keras writes the files as TensorFlow 2.15 did, and computes the outputs that are expected. Older
layouts are made from these by hand, after files that the named versions really wrote.
"""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from vggnorm.errors import NetworkError
from vggnorm.files.older_config import to_newest
from vggnorm.network.storage import load_network
from vggnorm.network.weights import load_weights

# Saves small networks in every form, with what each computes on noise.
WRITE = """
import sys, numpy as np, tf_keras
from pathlib import Path

layers, folder, random = tf_keras.layers, Path(sys.argv[1]), np.random.default_rng(0)


def body():
    return [
        layers.Conv2D(6, 3, kernel_initializer="he_normal", name="z_first"),
        layers.BatchNormalization(name="z_norm"),
        layers.ReLU(name="rectifier"),
        layers.Conv2D(6, 3, padding="same", activation="relu", name="a_second"),
        layers.BatchNormalization(name="a_norm"),
        layers.Conv2D(6, 3, padding="same", activation="relu", name="m_third"),
    ]


def statistics():
    layer = layers.Normalization(name="statistics")
    layer.adapt(random.uniform(0, 255, (4, 12, 12, 3)).astype("float32"))
    return layer


def functional(kept):
    photo = features = tf_keras.Input((12, 12, 3), name="photo")
    for layer in kept:
        features = layer(features)
    return tf_keras.Model(photo, features)


def others():
    return [
        layers.SeparableConv2D(5, 3, activation="relu", name="separable"),
        layers.SpatialDropout2D(0.5, name="dropped"),
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise"),
        layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="transposed"),
    ]


def branches():
    photo = tf_keras.Input((12, 12, 3), name="photo")
    one = layers.Conv2D(4, 3, padding="same", name="z")(photo)
    two = layers.Conv2D(4, 3, padding="same", name="b")(photo)
    deep = layers.Conv2D(4, 3, padding="same", name="a")(two)
    return tf_keras.Model(photo, layers.Concatenate()([deep, one]))


augmented = [layers.RandomFlip(name="flip"), layers.RandomZoom(0.1, name="zoom"), *body()]
def fire():
    # As SqueezeNet names its layers (Iandola et al., 2016).
    photo = tf_keras.Input((12, 12, 3))
    squeezed = layers.Conv2D(3, 1, activation="relu", name="fire2/squeeze1x1")(photo)
    one = layers.Conv2D(4, 1, activation="relu", name="fire2/expand1x1")(squeezed)
    three = layers.Conv2D(4, 3, padding="same", activation="relu", name="fire2/expand3x3")(squeezed)
    return tf_keras.Model(photo, layers.Concatenate(name="fire2/concat")([one, three]))


models = {
    "fire": fire(),
    "functional": functional(body()),
    "statistics": functional([statistics(), *body()]),
    "sequential": tf_keras.Sequential([tf_keras.Input((12, 12, 3)), *body()]),
    "others": functional(others()),
    "branches": branches(),
    "augmented": functional(augmented),
}
for name, model in models.items():
    for layer in model.layers:
        if layer.weights and layer.name != "statistics":
            arrays = [random.uniform(-0.3, 0.7, array.shape) for array in layer.get_weights()]
            if "norm" in layer.name:
                arrays[3] += 1  # a variance
            layer.set_weights(arrays)
    noise = random.uniform(0, 255, (2, 12, 12, 3)).astype("float32")
    np.savez(folder / f"{name}.npz", noise=noise, output=model(noise, training=False))
    model.save_weights(folder / f"{name}_weights.h5")  # in the layout of Keras 2
    model.save_weights(folder / f"{name}.weights.h5")
    for ending in ("h5", "keras"):
        model.save(folder / f"{name}.{ending}")
"""

NETWORKS = ["functional", "statistics", "sequential", "others", "branches", "augmented", "fire"]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that tf_keras wrote."""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-c", WRITE, folder], check=True, capture_output=True)
    return folder


def require_computes(model: Any, npz: Path) -> None:
    """Require the output that tf_keras computed; both round to float32."""
    with np.load(npz) as arrays:
        plain = keras.Model(model.inputs[0], model.outputs[0])  # files of Keras 2 have lists of one
        found = keras.ops.convert_to_numpy(plain(arrays["noise"], training=False))
        largest = np.abs(arrays["output"]).max()
        np.testing.assert_allclose(found, arrays["output"], rtol=0, atol=1e-5 * largest)


def rewritten(
    path: Path,
    target: Path,
    config: Callable[[dict[str, Any]], Any] = lambda config: config,
    weights: Callable[[h5py.File], None] = lambda _: None,
) -> Path:
    """Copy a `.keras` archive and change what is in it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = json.dumps(config(json.loads(members["config.json"]))).encode()
    stream = io.BytesIO(members["model.weights.h5"])
    with h5py.File(stream, "r+") as file:
        weights(file)
    members["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def with_config(path: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Copy an `.h5` file and change its configuration."""
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "r+") as file:
        config = change(json.loads(file.attrs["model_config"]))
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config).encode()
    return target


def in_twos(file: h5py.File) -> None:
    """Lay the weights out as TensorFlow 2.13.1 does."""
    root = file.create_group("_layer_checkpoint_dependencies")
    for key in list(file["layers"]):
        kind, _, count = key.rpartition("_")
        doubled = f"{kind}_{2 * int(count)}" if count.isdigit() else key
        file.move(f"layers/{key}", f"{root.name}/{doubled}")
    del file["layers"]


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_files_of_tensorflow_2_15(name: str, ending: str, old: Path) -> None:
    require_computes(load_network(old / f"{name}.{ending}"), old / f"{name}.npz")


@pytest.mark.parametrize("name", NETWORKS)
def test_archives_of_tensorflow_2_13(name: str, old: Path, tmp_path: Path) -> None:
    path = rewritten(old / f"{name}.keras", tmp_path / "old.keras", weights=in_twos)
    require_computes(load_network(path), old / f"{name}.npz")


@pytest.mark.parametrize("name", ["any name", "vgg.weights.h5"])
@pytest.mark.parametrize("layout", ["2.9", "2.13", "2.15"])
def test_weights_are_read_whatever_their_layout_and_name(
    layout: str, name: str, old: Path, tmp_path: Path
) -> None:
    # TensorFlow 2.9 knows only the layout of Keras 2, also under the ending .weights.h5.
    path = tmp_path / name
    written = old / ("functional_weights.h5" if layout == "2.9" else "functional.weights.h5")
    path.write_bytes(written.read_bytes())
    if layout == "2.13":
        with h5py.File(path, "r+") as file:
            in_twos(file)
    model = load_network(old / "functional.h5")
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    load_weights(model, path)
    require_computes(model, old / "functional.npz")


def test_archives_of_keras_3_0(old: Path, tmp_path: Path) -> None:
    # Keras 3.0.5 and 3.3.3 hold no names of layers; those of today do.
    load_network(old / "statistics.h5").save(tmp_path / "newest.keras")

    def without_names(file: h5py.File) -> None:
        for group in file["layers"].values():
            group["vars"].attrs.clear()

    path = rewritten(tmp_path / "newest.keras", tmp_path / "no name", weights=without_names)
    require_computes(load_network(path), old / "statistics.npz")


def as_keras_2_1(config: dict[str, Any]) -> dict[str, Any]:
    """Write a Sequential model as Keras 2.1.6 does: a list of layers, without the input."""
    first, *layers = config["config"]["layers"]
    layers[0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
    return {"class_name": "Sequential", "config": layers}


def as_keras_2_2(config: dict[str, Any]) -> dict[str, Any]:
    """Write a Sequential model as Keras 2.2.4 does: a name, and layers without the input."""
    layers = as_keras_2_1(config)["config"]
    return {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": layers}}


@pytest.mark.parametrize("change", [as_keras_2_1, as_keras_2_2])
def test_sequential_models_of_early_keras_2(
    change: Callable[[dict[str, Any]], Any], old: Path, tmp_path: Path
) -> None:
    path = with_config(old / "sequential.h5", tmp_path / "old.h5", change)
    require_computes(load_network(path), old / "sequential.npz")


def test_initializers_of_tensorflow_1(old: Path, tmp_path: Path) -> None:
    def with_types(config: dict[str, Any]) -> dict[str, Any]:
        for layer in config["config"]["layers"]:
            for name, value in layer["config"].items():
                if name.endswith("_initializer"):
                    layer["config"][name] = {
                        "class_name": value["class_name"],
                        "config": {**value["config"], "dtype": "float32"},
                    }
        return config

    path = with_config(old / "functional.h5", tmp_path / "old.h5", with_types)
    require_computes(load_network(path), old / "functional.npz")


def test_slashes_in_names_become_underscores(old: Path) -> None:
    model = load_network(old / "fire.h5")
    require_computes(model, old / "fire.npz")
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == ["fire2_squeeze1x1", "fire2_expand1x1", "fire2_expand3x3"]


def test_slashes_in_the_names_of_models_inside_become_underscores() -> None:
    """Behind a layer with a slash in its name, a model inside could not be connected."""
    inside = {
        "class_name": "Functional",
        "name": "b/inside",
        "config": {"name": "b/inside", "layers": [], "input_layers": [["c/photos", 0, 0]]},
        "inbound_nodes": [[["a/conv", 0, 0, {}]]],
    }
    model = {"class_name": "Functional", "config": {"name": "whole", "layers": [inside]}}
    assert to_newest(model)["config"]["layers"] == [
        {
            "class_name": "Functional",
            "name": "b_inside",
            "config": {"name": "b_inside", "layers": [], "input_layers": ["c_photos", 0, 0]},
            "inbound_nodes": [[["a_conv", 0, 0, {}]]],
        }
    ]


# What is not left out


def test_a_setting_that_says_something_stays_and_keras_gives_its_reason(
    old: Path, tmp_path: Path
) -> None:
    def grouped(config: dict[str, Any]) -> dict[str, Any]:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 2
        return config

    path = with_config(old / "others.h5", tmp_path / "old.h5", grouped)
    with pytest.raises(NetworkError) as caught:
        load_network(path)
    assert str(caught.value) == (
        f"{path}: cannot be loaded as a Keras model: Unrecognized keyword arguments passed to "
        "DepthwiseConv2D: {'groups': 2}"
    )


def test_batch_normalization_over_two_axes_is_refused(old: Path, tmp_path: Path) -> None:
    def over_two(config: dict[str, Any]) -> dict[str, Any]:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "BatchNormalization":
                layer["config"]["axis"] = [1, 3]
        return config

    path = rewritten(old / "functional.keras", tmp_path / "old.keras", config=over_two)
    with pytest.raises(NetworkError, match=re.escape(f"{path}: cannot be loaded as a Keras")):
        load_network(path)


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {},
        {"class_name": "Sequential"},
        {"class_name": "Sequential", "config": []},
        {"class_name": ["Functional"], "config": {"layers": [None, 1, {"class_name": "Conv2D"}]}},
        {"class_name": "Sequential", "config": [{"class_name": "Conv2D", "config": []}]},
    ],
)
def test_what_is_no_configuration_is_left_to_the_check(config: Any) -> None:
    to_newest(config)  # it raises nothing


def test_a_model_inside_gives_its_output_and_no_list() -> None:
    # As TensorFlow 2.15.1 writes Sequential([VGG16(...), Flatten(), Dense(...)]).
    base = {
        "name": "base",
        "layers": [],
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["fire/concat", 0, 0]],
    }
    layers = [{"class_name": "Functional", "config": base}]
    config = {"class_name": "Sequential", "config": {"name": "whole", "layers": layers}}
    inside = to_newest(config)["config"]["layers"][0]["config"]
    assert inside["input_layers"] == ["input_1", 0, 0]
    assert inside["output_layers"] == ["fire_concat", 0, 0]


def test_augmentation_and_preprocessing_as_keras_3_3_writes_them(tmp_path: Path) -> None:
    """There, RandomRotation has a range of values, and Stack no name among its settings."""
    photo = keras.Input((16, 16, 3))
    turned = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip()(photo))
    prepared = keras.applications.vgg16.preprocess_input(turned)
    model = keras.Model(photo, keras.layers.Conv2D(4, 3, activation="relu")(prepared))

    def as_keras_3_3(config: dict[str, Any]) -> dict[str, Any]:
        for layer in config["config"]["layers"]:
            if layer["class_name"] in ("RandomFlip", "RandomRotation"):
                layer["config"]["value_range"] = [0, 255]
            if layer["class_name"] == "Stack":
                del layer["config"]["name"]
        return config

    model.save(tmp_path / "newest.keras")
    path = rewritten(tmp_path / "newest.keras", tmp_path / "old.keras", config=as_keras_3_3)
    noise = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    found = load_network(path).predict(noise, verbose=0)
    np.testing.assert_array_equal(found, model.predict(noise, verbose=0))


def test_what_the_newest_keras_writes_is_read_as_it_is(make_chain: Any) -> None:
    model = make_chain()
    config = json.loads(model.to_json())
    assert to_newest(config) == config
