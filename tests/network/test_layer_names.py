"""A VGG whose layers have other names than Keras's, recognized by their order and shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from zoo import settle

from vggnorm import vgg
from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.measure import compute_means
from vggnorm.network.storage import load_network, save_network
from vggnorm.network.weights import weights_sha256
from vggnorm.normalization import means_for, normalize
from vggnorm.photos.geometry import Geometry
from vggnorm.verification import verify

PLACES = vgg.places_of("vgg16")
SLOTS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # of torchvision's vgg16.features

# What other programs call the convolutions of VGG16.
OTHERS = {
    "VGGFace": [f"conv{block}_{number}" for block, number in PLACES],
    "torchvision": [f"features_{slot}" for slot in SLOTS],
    "counted from 17": [f"conv2d_{17 + index}" for index in range(len(PLACES))],
}


def layers_of(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give kernel and bias of each convolution of a VGG16 that Keras saved."""
    with h5py.File(path) as file:
        for place in PLACES:
            name = vgg.convolution_name(place)
            group = file[f"model_weights/{name}/{name}"]
            yield group["kernel"][()], group["bias"][()]


def write_keras2(path: Path, layers: dict[str, list[np.ndarray]]) -> Path:
    """Write weights as Keras 2 does: a group a layer, and attributes that list them."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            weights = [f"{name}/{index}:0" for index in range(len(arrays))]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, arrays, strict=True):
                group[weight] = array
    return path


@pytest.mark.parametrize("whose", OTHERS)
def test_weights_under_other_names_are_taken_by_order(
    whose: str, random_vgg16: Path, tmp_path: Path
) -> None:
    layers = dict(zip(OTHERS[whose], map(list, layers_of(random_vgg16)), strict=True))
    path = write_keras2(tmp_path / "other.h5", layers)
    said: list[str] = []
    model = load_network("vgg16", path, say=said.append)
    assert weights_sha256(model) == weights_sha256(load_network("vgg16", random_vgg16))
    first, last = OTHERS[whose][0], OTHERS[whose][-1]
    assert said == [
        f"{path}: the layers have other names than Keras's and are taken by their order and "
        f"shapes: {first} as block1_conv1, …, {last} as block5_conv3"
    ]
    as_network = load_network(path, say=said.append)  # a file of weights alone, for --network
    assert weights_sha256(as_network) == weights_sha256(model)
    assert len(said) == 2
    with open_weights(path) as file:
        assert file.vgg.network == "vgg16"


def test_keras_names_say_nothing(random_vgg16: Path) -> None:
    said: list[str] = []
    load_network("vgg16", random_vgg16, say=said.append)
    assert said == []


def test_other_names_in_another_order_or_shape_are_refused(
    random_vgg16: Path, tmp_path: Path
) -> None:
    layers = dict(zip(OTHERS["VGGFace"], map(list, layers_of(random_vgg16)), strict=True))
    turned = dict(reversed(layers.items()))
    with pytest.raises(NetworkError, match="holds no weights of vgg16"):
        load_network("vgg16", write_keras2(tmp_path / "turned.h5", turned))
    del layers["conv3_2"]
    with pytest.raises(NetworkError, match="holds no weights of vgg16"):
        load_network("vgg16", write_keras2(tmp_path / "part.h5", layers))


def test_batch_normalization_is_not_left_out(random_vgg16: Path, tmp_path: Path) -> None:
    layers: dict[str, list[np.ndarray]] = {}
    for name, (kernel, bias) in zip(OTHERS["VGGFace"], layers_of(random_vgg16), strict=True):
        layers[name] = [kernel, bias]
        layers[f"{name}/bn"] = [np.ones_like(bias)] * 4
    path = write_keras2(tmp_path / "normalized.h5", layers)
    with pytest.raises(NetworkError, match=r"holds a batch normalization, .*_bn, that vgg16 does"):
        load_network("vgg16", path)
    with open_weights(path) as file:
        assert file.vgg.has_batch_norm


def test_batch_normalization_behind_the_convolutions_is_left_out(
    random_vgg16: Path, tmp_path: Path
) -> None:
    names = map(vgg.convolution_name, PLACES)
    layers = dict(zip(names, map(list, layers_of(random_vgg16)), strict=True))
    layers["head"] = [np.ones(512, np.float32)] * 4
    path = write_keras2(tmp_path / "tuned.h5", layers)
    found = weights_sha256(load_network("vgg16", path))
    assert found == weights_sha256(load_network("vgg16", random_vgg16))


# Means that were measured under other names


@pytest.fixture
def renamed(make_chain: Callable[..., Any]) -> tuple[Any, Any]:
    """A small network, and the same with other names."""
    model = settle(make_chain((6, 5, 4)))

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "name": f"features_{config['name']}"})

    other = keras.models.clone_model(model, clone_function=clone)
    other.set_weights(model.get_weights())
    return model, other


def test_means_fit_a_network_with_other_names(
    renamed: tuple[Any, Any], photo_folder: Path, tmp_path: Path
) -> None:
    model, other = renamed
    means = compute_means(model, photo_folder, geometry=Geometry(32))
    expected = normalize(model, means).get_weights()
    said: list[str] = []
    fitting = means_for(other, means, said.append)
    assert said == [
        f"the layers of {other.name} have other names than those that were measured and are "
        "matched by their order: conv1 is features_conv1 here"
    ]
    assert list(fitting.mean) == ["features_conv1", "features_conv2", "features_conv3"]
    normalized = normalize(other, means)
    for found, wanted in zip(normalized.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    save_network(normalized, tmp_path / "norm.h5", fitting)
    report = verify(other, load_network(tmp_path / "norm.h5"), photo_folder, means)
    assert report.passed, report


def test_means_of_other_weights_are_refused_whatever_the_names(
    renamed: tuple[Any, Any], photo_folder: Path
) -> None:
    model, other = renamed
    means = compute_means(model, photo_folder, geometry=Geometry(32))
    other.set_weights([2 * array for array in other.get_weights()])
    with pytest.raises(MeansError, match="the means were measured on other weights"):
        normalize(other, means)


def test_means_are_not_moved_to_a_layer_whose_name_was_measured_elsewhere(
    make_chain: Callable[..., Any], photo_folder: Path
) -> None:
    model = settle(make_chain((4, 4)))
    means = compute_means(model, photo_folder, geometry=Geometry(32))
    swapped = settle(make_chain((4, 4)))
    for layer, name in zip(swapped.layers[1:3], ("conv2", "conv1"), strict=True):
        layer.name = name
    assert means_for(swapped, means) is means
