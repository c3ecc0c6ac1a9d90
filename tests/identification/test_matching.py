"""Which layer of a file is which layer of the original, and which VGG a file is made from."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.identification.verdict import identify
from vggnorm.means.filter_means import FilterMeans


def save(path: Path, layers: dict[str, dict[str, Any]]) -> Path:
    """Write a file of weights as Keras 2 does."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}_{name}".encode() for name in arrays])
            for name, array in arrays.items():
                group[f"{layer}_{name}"] = array
    return path


@pytest.fixture
def arrays(model: Any) -> dict[str, dict[str, Any]]:
    """The original's weights, under other names."""
    return {
        f"conv_{index}": dict(zip(("W", "b"), layer.get_weights(), strict=True))
        for index, layer in enumerate([layer for layer in model.layers if layer.weights])
    }


def test_layers_of_other_names_are_matched_by_order(
    model: Any, arrays: Any, tmp_path: Path
) -> None:
    found = identify(save(tmp_path / "other.h5", arrays), model)
    assert (found.kind, found.matched, found.intact) == ("original", "order", True)
    assert found.names == {f"conv{index + 1}": f"conv_{index}" for index in range(4)}
    assert found.sentence.endswith(
        "Its layers have other names; they were matched by order and shape."
    )


def test_a_part_of_the_layers(model: Any, arrays: Any, tmp_path: Path) -> None:
    found = identify(
        save(tmp_path / "part.h5", {name: arrays[name] for name in ("conv_0", "conv_1")}), model
    )
    assert (found.kind, found.missing) == ("original", ["conv3", "conv4"])
    assert found.sentence.endswith("It lacks conv3, conv4.")
    assert "conv4 not in the file" in str(found)


def test_layers_that_the_original_does_not_have(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays["decoder"] = {"W": np.ones((3, 3, 48, 3)), "b": np.zeros(3)}
    found = identify(save(tmp_path / "more.h5", arrays), model)
    assert (found.kind, found.extra) == ("original", ["decoder"])
    assert "Not compared, because the original has no such layers: decoder." in found.sentence


def test_a_convolution_that_prepares_the_photo(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays = {
        "prepare": {"W": 255 * np.eye(3)[::-1].reshape(1, 1, 3, 3), "b": np.zeros(3)}
    } | arrays
    found = identify(save(tmp_path / "prepared.h5", arrays), model)
    assert (found.kind, found.prepended) == ("original", "prepare")
    assert (
        "Its first layer follows prepare, a 1x1 convolution that prepares the photo"
        in found.sentence
    )


def test_weights_of_other_shapes_are_refused(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays["conv_2"]["W"] = arrays["conv_2"]["W"][..., :47]
    path = save(tmp_path / "other.h5", arrays)
    text = (
        r"other\.h5: is of another architecture than chain: layer conv3 has weights of the shapes "
        r"3x3x40x48 and 48, and 3x3x40x47 and 48 in the file, as conv_2; give the original"
    )
    with pytest.raises(NetworkError, match=text):
        identify(path, model)


@pytest.mark.parametrize("name", ["whole.keras", "only.weights.h5", "whole.h5"])
def test_files_of_keras_itself(name: str, model: Any, means: FilterMeans, tmp_path: Path) -> None:
    normalized = vggnorm.normalize(model, means)
    if name == "only.weights.h5":
        normalized.save_weights(tmp_path / name)
    else:
        normalized.save(tmp_path / name)
    found = identify(tmp_path / name, model, means)
    assert (found.kind, found.matched, found.intact) == ("normalized", "name", True)


def test_a_pickle_is_not_opened(model: Any, tmp_path: Path) -> None:
    (tmp_path / "vgg_normalised.pth").write_bytes(b"\x80\x02}.")
    with pytest.raises(
        NetworkError,
        match=r"vgg_normalised\.pth: is a pickle, .* save its arrays with numpy\.savez",
    ):
        identify(tmp_path / "vgg_normalised.pth", model)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x05\x06" + bytes(18)])
def test_files_without_weights(content: bytes, model: Any, tmp_path: Path) -> None:
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(NetworkError, match=r"file\.h5: "):
        identify(tmp_path / "file.h5", model)


@pytest.mark.parametrize(("network", "convolutions"), [("vgg16", 13), ("vgg19", 16)])
def test_shapes_show_which_vgg_a_file_is(network: str, convolutions: int, tmp_path: Path) -> None:
    model = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[network](
        weights=None, include_top=False
    )
    layers = {
        layer.name: {
            "W": np.zeros(layer.kernel.shape, np.float16),
            "b": np.zeros(layer.filters, np.float16),
        }
        for layer in model.layers
        if layer.weights
    }
    path = save(tmp_path / "weights.h5", layers)
    model.save(tmp_path / "original.h5")
    found = identify(path, tmp_path / "original.h5")
    assert len(found.recovery.layers) == convolutions
    with h5py.File(tmp_path / "original.h5", "r+") as file:
        del file.attrs["model_config"]  # weights alone
    found = identify(path, tmp_path / "original.h5")
    assert len(found.recovery.layers) == convolutions
    first = {name: layers[name] for name in list(layers)[:4]}
    text = (
        "its 4 convolutions are the first of both VGG16 and VGG19; give the original model's "
        "file with --original"
    )
    with pytest.raises(NetworkError, match=text):
        identify(save(tmp_path / "first.h5", first))


def test_imagenet_is_for_vgg(arrays: Any, tmp_path: Path) -> None:
    with pytest.raises(
        NetworkError, match=r"other\.h5: its convolutions are not those of VGG16 or VGG19; give the"
    ):
        identify(save(tmp_path / "other.h5", arrays))
