"""The configuration of a VGG without Keras, against what Keras itself has for VGG16 and VGG19."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from vgg_files import FILTERS

from vggnorm.files.keras2_config import to_keras2
from vggnorm.files.vgg_config import is_plain_vgg, vgg_config

NETWORKS = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}

# Convolutions in each block.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def own(network: str = "vgg16", **options: Any) -> dict[str, Any]:
    return vgg_config(network, len(FILTERS[network]), **options)


def in_keras_2(model: Any) -> dict[str, Any]:
    return to_keras2(type(model).__name__, model.get_config())


def in_keras_3(model: Any) -> dict[str, Any]:
    return dict(json.loads(model.to_json()))


def archived(model: Any, folder: Path) -> dict[str, Any]:
    model.save(folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        return dict(json.loads(archive.read("config.json")))


@pytest.fixture(scope="module")
def kerass_vgg16() -> Any:
    return keras.applications.VGG16(weights=None, include_top=False)


# What Keras has


@pytest.mark.parametrize("network", NETWORKS)
def test_keras_itself_has_a_plain_vgg(network: str, tmp_path: Path) -> None:
    model = NETWORKS[network](weights=None, include_top=False)
    for config in (in_keras_2(model), in_keras_3(model), archived(model, tmp_path)):
        assert is_plain_vgg(config, own(network))
    other = "vgg19" if network == "vgg16" else "vgg16"
    assert not is_plain_vgg(in_keras_2(model), own(other))


@pytest.mark.parametrize("network", NETWORKS)
def test_keras_builds_the_same_network_from_it(network: str) -> None:
    model = NETWORKS[network](weights=None, include_top=False)
    made = keras.Model.from_config(json_like(own(network)["config"]))
    assert [layer.name for layer in made.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert [tuple(weight.shape) for weight in made.weights] == [
        tuple(weight.shape) for weight in model.weights
    ]
    made.set_weights(model.get_weights())
    photo = np.random.default_rng(0).normal(0, 50, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(made(photo), model(photo))


def json_like(config: Any) -> Any:
    return json.loads(json.dumps(config))


def test_with_its_dense_layers() -> None:
    names = [layer["config"]["name"] for layer in own(classes=7)["config"]["layers"]]
    assert names[-4:] == ["flatten", "fc1", "fc2", "predictions"]
    dense = [layer["config"] for layer in own(classes=7)["config"]["layers"][-3:]]
    assert [(each["units"], each["activation"]) for each in dense] == [
        (4096, "relu"),
        (4096, "relu"),
        (7, "softmax"),
    ]


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 13])
def test_the_first_layers_end_with_their_last_convolution(count: int, pooling: str) -> None:
    config = vgg_config("vgg16", count, pooling=pooling)
    kinds = [layer["class_name"] for layer in config["config"]["layers"]]
    assert kinds.count("Conv2D") == count
    poolings = {1: 0, 2: 0, 3: 1, 9: 3, 13: 5}[count]  # none behind the last, unless it is whole
    assert kinds.count("MaxPooling2D" if pooling == "max" else "AveragePooling2D") == poolings
    assert (kinds[-1] == "Conv2D") == (count < 13)


def test_batch_normalization_stands_between_convolution_and_rectifier() -> None:
    layers_of = vgg_config("vgg16", 1, batch_norm=True)["config"]["layers"]
    assert [layer["class_name"] for layer in layers_of] == [
        "InputLayer",
        "Conv2D",
        "BatchNormalization",
        "Activation",
    ]
    assert layers_of[1]["config"]["activation"] == "linear"
    assert layers_of[2]["config"]["epsilon"] == 1e-5  # torchvision's
    assert layers_of[3]["config"]["activation"] == "relu"


# What is the same


def sequential() -> Any:
    steps: list[Any] = [keras.Input((None, None, 3))]
    for block, count in enumerate(BLOCKS["vgg16"], 1):
        filters = min(64 * 2 ** (block - 1), 512)
        steps += [
            layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"b{block}c{number}")
            for number in range(count)
        ]
        steps.append(layers.MaxPooling2D())
    return keras.Sequential(steps)


def test_a_sequential_model_of_other_names_is_plain(tmp_path: Path) -> None:
    model = sequential()
    for config in (in_keras_2(model), in_keras_3(model), archived(model, tmp_path)):
        assert is_plain_vgg(config, own())


def test_dropout_and_the_size_of_the_photos_do_not_matter() -> None:
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 48, 3))
    assert is_plain_vgg(in_keras_3(model), own())
    tensor = layers.Dropout(0.5)(model.output)
    assert is_plain_vgg(in_keras_3(keras.Model(model.input, tensor)), own())


# What is not


def with_setting(model: Any, layer: str, **settings: Any) -> dict[str, Any]:
    config = json_like(in_keras_3(model))
    for each in config["config"]["layers"]:
        if each["config"]["name"] == layer:
            each["config"].update(settings)
    return dict(config)


CHANGES = [
    ("block1_conv2", {"strides": [2, 2]}),
    ("block3_conv1", {"dilation_rate": [2, 2]}),
    ("block5_conv3", {"activation": "elu"}),
    ("block5_conv3", {"activation": "linear"}),
    ("block2_conv1", {"padding": "valid"}),
    ("block2_conv1", {"groups": 2}),
    ("block2_conv1", {"use_bias": False}),
    ("block4_conv1", {"filters": 256}),
    ("block4_conv1", {"kernel_size": [5, 5]}),
    ("block4_conv1", {"data_format": "channels_first"}),
    ("block1_pool", {"strides": [1, 1]}),
    ("block1_pool", {"pool_size": [3, 3]}),
    ("block1_pool", {"padding": "same"}),
]


@pytest.mark.parametrize(("layer", "settings"), CHANGES)
def test_another_setting_is_not_plain(
    layer: str, settings: dict[str, Any], kerass_vgg16: Any
) -> None:
    assert is_plain_vgg(with_setting(kerass_vgg16, layer), own())
    assert not is_plain_vgg(with_setting(kerass_vgg16, layer, **settings), own())


def chain(change: Callable[[Any, int], Any]) -> Any:
    """Build a VGG16, and change what follows each convolution."""
    photo = tensor = keras.Input((None, None, 3))
    index = 0
    for block, count in enumerate(BLOCKS["vgg16"], 1):
        filters = min(64 * 2 ** (block - 1), 512)
        for _ in range(count):
            before = tensor
            tensor = layers.Conv2D(filters, 3, padding="same", activation="relu")(tensor)
            tensor = change((before, tensor), index)
            index += 1
        tensor = layers.MaxPooling2D()(tensor)
    return keras.Model(photo, tensor)


def added(tensors: Any, index: int) -> Any:
    before, tensor = tensors
    return layers.Add()([before, tensor]) if index == 1 else tensor


def lost(tensors: Any, index: int) -> Any:
    before, tensor = tensors
    return layers.Activation("relu")(before) if index == 1 else tensor


def nothing(tensors: Any, _: int) -> Any:
    return tensors[1]


def test_a_residual_connection_is_not_plain() -> None:
    for config in (in_keras_2, in_keras_3):
        assert is_plain_vgg(config(chain(nothing)), own())
        assert not is_plain_vgg(config(chain(added)), own())


def test_a_shared_layer_is_not_plain() -> None:
    # The layers are those of VGG16, but one of them is used twice.
    model = chain(nothing)
    tensor = keras.Input((None, None, 3))
    photo = tensor
    for layer in model.layers[1:]:
        tensor = layer(tensor)
        if layer is model.layers[2]:
            tensor = layer(tensor)
    shared = keras.Model(photo, tensor)
    assert [type(layer) for layer in shared.layers] == [type(layer) for layer in model.layers]
    for config in (in_keras_2, in_keras_3):
        assert not is_plain_vgg(config(shared), own())


def test_layers_in_another_order_of_connections_are_not_plain(kerass_vgg16: Any) -> None:
    # The list of layers stays; the second and the third of block 3 change places.
    config = json_like(in_keras_2(kerass_vgg16))
    for layer in config["config"]["layers"]:
        if layer["name"] == "block3_conv3":
            layer["inbound_nodes"][0][0][0] = "block3_conv1"
    assert not is_plain_vgg(config, own())


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_average_pooling_is_told_from_max_pooling(pooling: str, kerass_vgg16: Any) -> None:
    assert is_plain_vgg(in_keras_3(kerass_vgg16), own(pooling=pooling)) == (pooling == "max")


def test_a_network_with_a_layer_more_or_less_is_not_plain(kerass_vgg16: Any) -> None:
    tensor = layers.ReLU()(kerass_vgg16.output)
    assert not is_plain_vgg(in_keras_3(keras.Model(kerass_vgg16.input, tensor)), own())
    shorter = keras.Model(kerass_vgg16.input, kerass_vgg16.layers[-2].output)
    assert not is_plain_vgg(in_keras_3(shorter), own())
