"""Loading, measuring and rescaling, on small networks and on a VGG16 with random weights."""

import hashlib
import http.client
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from photo_files import decode_file
from reference import activations, reference_layers

from vggnorm.errors import MeansError, NetworkError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.measure import compute_means
from vggnorm.network import applications
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import comparing_model, measuring_model
from vggnorm.network.storage import load_network
from vggnorm.network.weights import weights_sha256
from vggnorm.normalization import normalize
from vggnorm.photos.geometry import Geometry

MakeChain = Callable[..., Any]


# Loading


def test_a_file_of_keras_is_loaded(random_vgg16: Path) -> None:
    model = load_network("vgg16", random_vgg16)
    with h5py.File(random_vgg16) as file:
        for name in read_graph(model).sites:
            for weight, array in zip(
                ("kernel", "bias"), model.get_layer(name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(array, file[f"model_weights/{name}/{name}/{weight}"])


def test_a_file_with_the_dense_layers_will_do(random_vgg16: Path, tmp_path: Path) -> None:
    path = tmp_path / "with_top.h5"
    path.write_bytes(random_vgg16.read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        group.attrs["layer_names"] = [*group.attrs["layer_names"], "fc1"]
        group["fc1/fc1/kernel:0"] = np.ones((8, 8))
        group["fc1"].attrs["weight_names"] = ["fc1/kernel:0"]
    expected, found = load_network("vgg16", random_vgg16), load_network("vgg16", path)
    assert weights_sha256(found) == weights_sha256(expected)


def test_keras_3_weights_are_loaded(random_vgg16: Path, tmp_path: Path) -> None:
    model = load_network("vgg16", random_vgg16)
    model.save_weights(tmp_path / "saved.weights.h5")
    assert weights_sha256(load_network("vgg16", tmp_path / "saved.weights.h5")) == weights_sha256(
        model
    )


@pytest.mark.parametrize("name", ["absent.h5", "absent.weights.h5"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        NetworkError,
        match=rf"{re.escape(name)}: there is no such file; give 'imagenet' or an \.h5 file",
    ):
        load_network("vgg16", tmp_path / name)


@pytest.mark.parametrize("name", ["bad.h5", "bad.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n and no more"])
def test_what_is_no_hdf5_file_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NetworkError, match=re.escape(name)):
        load_network("vgg16", tmp_path / name)


def test_a_truncated_file_is_refused(random_vgg16: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(random_vgg16.read_bytes()[:1_000_000])
    with pytest.raises(NetworkError, match=r"cut\.h5: cannot be read"):
        load_network("vgg16", tmp_path / "cut.h5")


def test_an_hdf5_file_without_weights_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    with pytest.raises(
        NetworkError, match=r"other\.h5: is not a Keras \.h5 file of weights, or is damaged"
    ):
        load_network("vgg16", tmp_path / "other.h5")


def test_weights_of_another_architecture_are_refused(random_vgg16: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NetworkError,
        match="holds no weights of vgg19: layer block3_conv4 has weights of the shapes "
        "3x3x256x256 and 256 there, and none in the file",
    ):
        load_network("vgg19", random_vgg16)
    keras.applications.VGG19(weights=None, include_top=False).save(tmp_path / "vgg19.h5")
    with pytest.raises(
        NetworkError, match="another network than vgg16, with a layer block3_conv4; say which"
    ):
        load_network("vgg16", tmp_path / "vgg19.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="block1_conv1")]).save(
        tmp_path / "dense.h5"
    )
    with pytest.raises(
        NetworkError,
        match=r"block1_conv1 has weights of the shapes 3x3x3x64 and 64 there, and 4x2 and 2",
    ):
        load_network("vgg16", tmp_path / "dense.h5")


def test_keras_3_weights_of_another_architecture_are_refused(
    make_chain: MakeChain, tmp_path: Path
) -> None:
    make_chain().save_weights(tmp_path / "chain.weights.h5")
    # The reason after it is another one in another version of Keras.
    with pytest.raises(NetworkError, match=r"chain\.weights\.h5: holds no weights of vgg16"):
        load_network("vgg16", tmp_path / "chain.weights.h5")


def test_keras_3_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    whole = keras.applications.VGG16(weights=None, include_top=False)
    keras.Model(whole.inputs[0], whole.get_layer("block5_conv2").output).save_weights(
        tmp_path / "part.weights.h5"
    )
    with pytest.raises(NetworkError, match=r"part\.weights\.h5: holds no weights of vgg16"):
        load_network("vgg16", tmp_path / "part.weights.h5")


def test_unreachable_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise Exception(  # noqa: TRY002  as Keras does
            "URL fetch failure on https://host/vgg16.h5: None -- Name or service not known"
        )

    monkeypatch.setitem(applications.APPLICATIONS, "vgg16", fail)
    with pytest.raises(NetworkError) as caught:
        load_network("vgg16")
    assert str(caught.value) == (
        "the ImageNet weights of vgg16 cannot be downloaded (Name or service not known); give a "
        "file with --weights, "
        "for VGG16 the one that 'python scripts/fetch_weights.py -o vgg16_imagenet.h5' makes"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError("timed out"), "timed out"),
        (http.client.RemoteDisconnected("closed without response"), "closed without response"),
        (ValueError("Incomplete or corrupted file detected."), "Incomplete or corrupted file"),
    ],
)
def test_a_download_that_breaks_off_says_what_to_do(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setitem(applications.APPLICATIONS, "vgg16", fail)
    with pytest.raises(
        NetworkError, match=rf"cannot be downloaded \(.*{text}.*\); give a file with --weights"
    ):
        load_network("vgg16")


def test_a_bias_of_another_size_is_refused(random_vgg16: Path, tmp_path: Path) -> None:
    path = tmp_path / "bias.h5"
    path.write_bytes(random_vgg16.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/block1_conv1/block1_conv1/bias"]
        file["model_weights/block1_conv1/block1_conv1/bias"] = np.ones(63, np.float32)
    with pytest.raises(
        NetworkError, match="3x3x3x64 and 64 there, and 3x3x3x64 and 63 in the file"
    ):
        load_network("vgg16", path)


def test_another_error_of_keras_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(applications.APPLICATIONS, "vgg16", fail)
    with pytest.raises(ZeroDivisionError):
        load_network("vgg16")


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(
        NetworkError,
        match="the network 'vgg11' is not known; it must be one of vgg16, vgg19, or a file",
    ):
        load_network("vgg11")


# What is measured


def test_weights_are_identified_as_documented(make_chain: MakeChain) -> None:
    model = make_chain((2, 3))
    content = b"".join(array.astype("<f4").tobytes() for array in model.get_weights())
    assert weights_sha256(model) == hashlib.sha256(content).hexdigest()
    assert weights_sha256(make_chain((2, 3), seed=1)) != weights_sha256(model)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 13), (32, 17)])
def test_position_means_agree_with_the_naive_loop(
    height: int, width: int, make_chain: MakeChain
) -> None:
    model = make_chain((6, 5, 4, 3))
    photos = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = measuring_model(read_graph(model)).predict_on_batch(photos)
    for photo, *means in zip(photos, *found.values(), strict=True):
        expected = activations(photo, reference_layers(model))
        for mean, (name, activation) in zip(means, expected.items(), strict=True):
            np.testing.assert_allclose(
                mean, activation.mean(axis=(0, 1)), rtol=1e-5, atol=1e-5, err_msg=name
            )


def test_only_vectors_leave_the_device(make_chain: MakeChain) -> None:
    measuring = measuring_model(read_graph(make_chain((6, 5))))
    assert {name: tuple(tensor.shape) for name, tensor in measuring.output.items()} == {
        "conv1": (None, 6),
        "conv2": (None, 5),
    }
    assert measuring.inputs[0].dtype == "uint8"


# Normalizing


@pytest.fixture
def measured(make_chain: MakeChain, photo_folder: Path) -> tuple[Any, FilterMeans]:
    model = make_chain()
    return model, compute_means(model, photo_folder, geometry=Geometry(48))


def stacked(photo_folder: Path, size: int) -> np.ndarray:
    return np.stack([decode_file(path, Geometry(size)) for path in sorted(photo_folder.iterdir())])


def test_every_mean_is_1_after_normalizing(
    measured: tuple[Any, FilterMeans], photo_folder: Path
) -> None:
    model, means = measured
    again = compute_means(normalize(model, means), photo_folder, geometry=Geometry(48))
    for layer, values in again.mean.items():
        fires = means.mean[layer] > 0
        assert fires.any()
        np.testing.assert_allclose(values[fires], 1, rtol=1e-5)


def test_activations_times_means_are_the_original(
    measured: tuple[Any, FilterMeans], photo_folder: Path
) -> None:
    # In float64 and without Keras: by the naive loop over both networks' weights.
    model, means = measured
    normalized = normalize(model, means)
    for photo in stacked(photo_folder, 48)[:3]:
        before = activations(photo, reference_layers(model))
        after = activations(photo, reference_layers(normalized))
        for layer, mean in means.mean.items():
            scaled = after[layer] * np.where(mean > 0, mean, 1)
            assert np.abs(scaled - before[layer]).max() <= 1e-5 * before[layer].max()


def test_the_given_network_is_left_as_it_is(measured: tuple[Any, FilterMeans]) -> None:
    model, means = measured
    before = [array.copy() for array in model.get_weights()]
    normalized = normalize(model, means)
    for array, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert [layer.name for layer in normalized.layers] == [layer.name for layer in model.layers]
    assert normalized.name == model.name


def test_a_silent_filter_keeps_its_scale_on_both_sides(
    make_chain: MakeChain, photo_folder: Path
) -> None:
    model = make_chain((4, 3, 2))
    kernel, bias = model.get_layer("conv2").get_weights()
    kernel[..., 1], bias[1] = 0, -1
    model.get_layer("conv2").set_weights([kernel, bias])
    means = compute_means(model, photo_folder, geometry=Geometry(32))
    assert means.silent["conv2"].tolist() == [1]
    normalized = normalize(model, means)
    assert normalized.get_layer("conv2").get_weights()[1][1] == -1
    np.testing.assert_allclose(  # what comes in through the silent filter is not rescaled either
        normalized.get_layer("conv3").get_weights()[0][:, :, 1] * means.mean["conv3"],
        model.get_layer("conv3").get_weights()[0][:, :, 1],
        rtol=1e-6,
    )
    assert all(np.isfinite(array).all() for array in normalized.get_weights())


def test_means_of_other_weights_are_refused(
    measured: tuple[Any, FilterMeans], make_chain: MakeChain
) -> None:
    _, means = measured
    with pytest.raises(
        MeansError,
        match="the means were measured on other weights, with SHA-256 [0-9a-f]{12}…",
    ):
        normalize(make_chain(seed=1), means)


def test_means_of_other_layers_are_refused(
    measured: tuple[Any, FilterMeans], make_chain: MakeChain
) -> None:
    _, means = measured
    with pytest.raises(
        MeansError, match="the means do not fit chain: layer conv2 has 5 filters in the means and 6"
    ):
        normalize(make_chain((4, 6, 3)), means)


def test_implausible_means_give_no_infinite_weights(measured: tuple[Any, FilterMeans]) -> None:
    model, means = measured
    mean = {layer: values.copy() for layer, values in means.mean.items()}
    mean["conv2"][0] = 1e-300
    means = replace(means, measured=replace(means.measured, mean=mean))
    with pytest.raises(NetworkError, match="layer conv2 would get weights that are not finite"):
        normalize(model, means)


def test_comparing_finds_the_deviation_that_is_there(make_chain: MakeChain) -> None:
    # The second network is the first with all of conv1 doubled, and compared as if it had been
    # tripled.
    model, other = make_chain((4,)), make_chain((4,))
    other.get_layer("conv1").set_weights(
        [2 * array for array in model.get_layer("conv1").get_weights()]
    )
    photos = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    found = comparing_model(
        read_graph(model), read_graph(other), {"conv1": np.full(4, 1 / 3)}
    ).predict_on_batch(photos)
    for photo, deviation, largest in zip(
        photos, found["deviation"]["conv1"], found["largest"]["conv1"], strict=True
    ):
        activation = activations(photo, reference_layers(model))["conv1"]
        assert largest == pytest.approx(activation.max(), rel=1e-5)
        assert deviation == pytest.approx(activation.max() / 3, rel=1e-5)
