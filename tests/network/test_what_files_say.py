"""What networks from files are: their types, and how they take photos, pool and normalize."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.io import loadmat, savemat
from vgg_files import DTYPES, first_layers, first_weights, in_names, taken_as
from vgg_parts import IN_ADAIN, Part, in_adain, in_pytorch, random_part

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.files.npz import write_npz
from vggnorm.network.applications import load_vgg
from vggnorm.network.family import taken_as_by
from vggnorm.network.padding import with_padding

FIRST, SECOND = "block1_conv1", "block1_conv2"


def as_float32(dtype: str) -> list[np.ndarray]:
    """Give the first two convolutions, rounded to a type, as a network in float32 has them."""
    return [array.astype(np.float32) for array in first_layers(dtype).values()]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_every_type_become_a_network(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    save_file(first_layers(dtype), path)
    model = vggnorm.load_network(path)
    for found, wanted in zip(model.get_weights(), as_float32(dtype), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_packed_files_become_a_network(tmp_path: Path) -> None:
    """They are smaller than what they hold. Zeros pack best."""
    zeros = {name: np.zeros_like(array) for name, array in first_layers().items()}
    np.savez_compressed(tmp_path / "vgg.npz", allow_pickle=False, **zeros)
    vggnorm.save_weights(tmp_path / "vgg.mat", first_weights())
    content = loadmat(tmp_path / "vgg.mat")
    kept = {name: content[name] for name in ("layers", "classes", "normalization")}
    savemat(tmp_path / "packed.mat", kept, do_compression=True)
    assert (tmp_path / "vgg.npz").stat().st_size < zeros[f"{SECOND}/kernel"].nbytes
    assert not any(
        array.any() for array in vggnorm.load_network(tmp_path / "vgg.npz").get_weights()
    )
    packed = vggnorm.load_network(tmp_path / "packed.mat").get_layer(SECOND).get_weights()
    np.testing.assert_array_equal(packed[0], first_layers()[f"{SECOND}/kernel"])


# How they take photos


def test_weights_that_say_torch_are_not_those_of_kerases_vgg(
    random_vgg16: Path, tmp_path: Path
) -> None:
    """`--weights` takes them for a network that gets photos as Keras's VGG does."""
    path = tmp_path / "torch.h5"
    with open_weights(random_vgg16) as file:
        vggnorm.save_weights(path, file, preprocessing="torch", convention="torch")
    with pytest.raises(NetworkError, match=r"torch\.h5: takes photos as torch, .* --network FILE"):
        load_vgg("vgg16", path)
    with open_weights(path) as file:  # as it says
        assert (vggnorm.load_network(file).name, file.taken_as.convention) == ("vgg16", "torch")


def known_first_convolution() -> list[np.ndarray]:
    """Give a first convolution of which the known filters are Keras's VGG16's."""
    from vggnorm.files.known_kernels import KNOWN

    kernel, bias = np.ones((3, 3, 3, 64), np.float32), np.ones(64, np.float32)
    for one in KNOWN[0].filters:
        kernel[..., one.index] = np.reshape(one.kernel, (3, 3, 3))
        bias[one.index] = one.bias
    return [kernel, bias]


def chain(*front: Any) -> Any:
    photos = keras.Input((32, 32, 3))
    tensor = photos
    for layer in front:
        tensor = layer(tensor)
    convolution = keras.layers.Conv2D(64, 3, padding="same", activation="relu", name=FIRST)
    model = keras.Model(photos, convolution(tensor))
    convolution.set_weights(known_first_convolution())
    return model


def test_known_numbers_say_nothing_behind_another_layer(tmp_path: Path) -> None:
    """A model that prepares the photos itself takes them otherwise than its convolution."""
    plain, prepared = chain(), chain(keras.layers.Rescaling(1.0, offset=-120.0))
    assert taken_as_by(plain).convention == "caffe"
    assert taken_as_by(with_padding(plain, "reflect")).convention == "caffe"
    assert taken_as_by(prepared).convention is None
    for name, model in (("plain", plain), ("prepared", prepared)):
        model.save(tmp_path / f"{name}.keras")
    with open_weights(tmp_path / "plain.keras") as file:
        assert file.taken_as.convention == "caffe"
    with open_weights(tmp_path / "prepared.keras") as file:
        assert file.taken_as.convention is None


@pytest.mark.parametrize("stated", ["foo", np.arange(3)])
def test_a_convention_that_does_not_exist_is_refused(stated: Any, tmp_path: Path) -> None:
    path = tmp_path / "vgg.h5"
    vggnorm.save_weights(path, first_weights())
    with h5py.File(path, "r+") as file:
        file.attrs["vggnorm_convention"] = stated
    with (
        pytest.raises(NetworkError, match=r"vgg\.h5: is damaged: it says that"),
        open_weights(path) as opened,
    ):
        _ = opened.taken_as


def test_a_first_layer_that_is_not_known_is_replaced(tmp_path: Path) -> None:
    """This one takes RGB from 0 to 255, as no program with this layout gives it."""
    part: Part = random_part()
    arrays = in_adain(part)
    right = arrays["0.weight"]
    save_file({**arrays, "0.weight": right / 255}, tmp_path / "odd.safetensors")
    with open_weights(tmp_path / "odd.safetensors") as file:
        assert file.taken_as.convention is None
        vggnorm.save_weights(tmp_path / "new.npz", file, layout="adain", preprocessing="caffe")
    with np.load(tmp_path / "new.npz") as written:
        np.testing.assert_array_equal(written["0.weight"], right)
        np.testing.assert_array_equal(written["2.weight"], in_pytorch(part, IN_ADAIN)["2.weight"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_rounded_network_keeps_its_colours(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    vggnorm.save_weights(path, first_weights(), layout="adain", dtype=dtype)
    with open_weights(path) as file:
        assert (file.taken_as.convention, file.vgg.dtypes) == ("caffe", [dtype])
        assert file.vgg.colours is not None
        mean = file.vgg.colours[1].read()
    np.testing.assert_array_equal(mean, -np.array([103.939, 116.779, 123.68], np.float32))


# What they are made of


@pytest.mark.parametrize("ending", ["safetensors", "mat", "h5"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_pooling_stays(pooling: str, ending: str, tmp_path: Path) -> None:
    said: list[str] = []
    source, path = tmp_path / "source.npz", tmp_path / f"vgg.{ending}"
    write_npz(source, in_pytorch(random_part()))
    with open_weights(source) as file:
        weights = taken_as("rgb255", replace(file.vgg, pooling=pooling))
        vggnorm.save_weights(path, weights, say=said.append)
    assert any("average pooling" in line for line in said) == (pooling == "avg")
    with open_weights(path) as file:
        assert file.vgg.pooling == pooling


def test_batch_normalization_of_weights_alone_has_no_epsilon(
    small_vgg_with_batch_norm: Callable[[], Any], tmp_path: Path
) -> None:
    path = tmp_path / "vgg.weights.h5"
    small_vgg_with_batch_norm().save_weights(path)
    with pytest.raises(NetworkError, match=r"does not say their epsilon; give a \.keras"):
        vggnorm.load_network(path)


@pytest.fixture
def small_vgg_with_batch_norm() -> Callable[[], Any]:
    def build() -> Any:
        from vggnorm.files.vgg_config import vgg_config

        config = vgg_config("vgg16", 2, batch_norm=True)
        return keras.Model.from_config(config["config"])

    return build


def test_the_features_of_torchvision_alone(tmp_path: Path) -> None:
    """As `torch.save(vgg.features.state_dict(), ...)` names them."""
    names = {
        f"{FIRST}/kernel": "0.weight",
        f"{FIRST}/bias": "0.bias",
        f"{SECOND}/kernel": "2.weight",
        f"{SECOND}/bias": "2.bias",
    }
    arrays = {
        name: np.ascontiguousarray(array) for name, array in in_names(first_layers(), names).items()
    }
    save_file(arrays, tmp_path / "features.safetensors")
    with open_weights(tmp_path / "features.safetensors") as file:
        assert file.vgg.layout == "features"
        vggnorm.save_weights(tmp_path / "again.npz", file, layout="features", preprocessing="torch")
        kernel, _ = file.arrays()[SECOND]
    np.testing.assert_array_equal(kernel, first_layers()[f"{SECOND}/kernel"])
    with np.load(tmp_path / "again.npz") as written:
        for name, array in arrays.items():
            np.testing.assert_array_equal(written[name], array)


def test_how_a_network_takes_photos_by_default() -> None:
    weights = vggnorm.weights_of(chain_vgg())
    assert weights.taken_as.convention == "caffe"
    assert taken_as("torch", weights).taken_as.convention == "torch"


def chain_vgg() -> Any:
    from vggnorm.files.vgg_config import vgg_config

    model = keras.Model.from_config(vgg_config("vgg16", 2)["config"])
    model.get_layer(FIRST).set_weights(known_first_convolution())
    return model
