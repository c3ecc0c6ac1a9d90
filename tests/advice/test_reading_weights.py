"""The advice about files of weights, followed: each file is made again as the message says."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from advice_texts import refused
from safetensors.numpy import load_file, save_file
from vgg_files import (
    cut_in_half,
    first_layers,
    gatys_layers,
    read_all,
    torch_state,
    write_npz,
    write_torch,
)

from vggnorm.files.carried import means_path, to_beside
from vggnorm.means.filter_means import FilterMeans

# Files that are damaged


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth"])
def test_a_damaged_file_is_got_again(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"vgg{ending}"
    if ending == ".npz":
        write_npz(path, first_layers())
    elif ending == ".safetensors":
        save_file(gatys_layers(), path)
    else:
        write_torch(path, torch_state())
    content = path.read_bytes()
    cut_in_half(path)
    with refused("get the file again"):
        read_all(path)
    path.write_bytes(content)
    read_all(path)


def test_a_group_in_the_place_of_a_weight(random_vgg16: Path, tmp_path: Path) -> None:
    path = tmp_path / "vgg.h5"
    path.write_bytes(random_vgg16.read_bytes())
    with h5py.File(path, "r+") as file:
        name = "model_weights/block1_conv1/block1_conv1/bias"
        del file[name]
        file.create_group(name)
    with refused("get the file again, or save it again"):
        read_all(path)
    path.write_bytes(random_vgg16.read_bytes())
    read_all(path)


def test_a_layer_that_is_missing_is_saved_with_the_others(tmp_path: Path) -> None:
    arrays = first_layers()
    bias = arrays.pop("block1_conv2/bias")
    path = tmp_path / "vgg.npz"
    with refused("get the file again, or save it again with all of its layers"):
        read_all(write_npz(path, arrays))
    read_all(write_npz(path, {**arrays, "block1_conv2/bias": bias}))


def test_a_convolution_that_is_missing(tmp_path: Path) -> None:
    arrays = first_layers()
    path = tmp_path / "vgg.npz"
    left = {name: array for name, array in arrays.items() if "conv2" in name}
    with refused("a layer may be missing, or another network's"):
        read_all(write_npz(path, left))
    read_all(write_npz(path, arrays))


def test_means_of_another_file_are_removed(tmp_path: Path, some_means: FilterMeans) -> None:
    path = write_npz(tmp_path / "vgg.npz", first_layers())
    means_path(path).write_bytes(to_beside(path, some_means, "caffe"))
    read_all(path)
    write_npz(path, first_layers(seed=1))
    with refused("remove it, or get the two files again"):
        read_all(path)
    means_path(path).unlink()
    read_all(path)


# Arrays that do not fit


def test_objects_of_python_become_numbers(tmp_path: Path) -> None:
    arrays = first_layers()
    path = tmp_path / "vgg.npz"
    with refused("save the weights as arrays of numbers"):
        read_all(write_npz(path, {**arrays, "x": np.array([None, {}])}))
    read_all(write_npz(path, arrays))


def test_quantized_weights_are_replaced_by_the_original(tmp_path: Path) -> None:
    arrays = gatys_layers()
    path = tmp_path / "vgg.safetensors"
    kernel = np.clip(arrays["conv1_1.weight"] * 100, -127, 127).astype(np.int8)
    save_file({**arrays, "conv1_1.weight": kernel}, path)
    with refused("give the file from before the network was quantized"):
        read_all(path)
    save_file(arrays, path)
    read_all(path)


def test_a_weight_that_float32_cannot_hold(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float64) for name, array in first_layers().items()}
    path = tmp_path / "vgg.npz"
    large = np.full_like(arrays["block1_conv1/bias"], 1e200)
    with refused("the file is damaged, or its training failed"):
        read_all(write_npz(path, {**arrays, "block1_conv1/bias": large}))
    read_all(write_npz(path, arrays))


def test_an_array_without_a_proper_name_is_renamed(tmp_path: Path) -> None:
    arrays = first_layers()
    path = tmp_path / "vgg.safetensors"
    named = {name.replace("block1_conv1/", "block1\n"): array for name, array in arrays.items()}
    save_file(named, path)
    with refused("leave it out, or rename it"):
        read_all(path)
    stored = load_file(path)
    renamed = {name.replace("block1\n", "block1_conv1/"): array for name, array in stored.items()}
    save_file(renamed, path)
    read_all(path)


def test_names_of_no_layout_are_renamed(tmp_path: Path) -> None:
    arrays = first_layers()
    path = tmp_path / "vgg.npz"
    with refused("rename them to one of these"):
        read_all(write_npz(path, {name.replace("block", "b_"): a for name, a in arrays.items()}))
    read_all(write_npz(path, arrays))


def test_a_convolution_that_is_no_vggs_is_left_out(tmp_path: Path) -> None:
    arrays = gatys_layers()
    path = tmp_path / "vgg.safetensors"
    save_file({**arrays, "extra.weight": np.zeros((4, 3, 3, 3), np.float32)}, path)
    with refused("leave it out, or give another file"):
        read_all(path)
    save_file(arrays, path)
    read_all(path)


def test_kernels_for_theano_are_turned_by_keras(random_vgg16: Path, tmp_path: Path) -> None:
    # Keras 2.3 turns kernels about both axes when it loads weights of another backend. Here they
    # are turned in the file, as it would write them.
    path = tmp_path / "vgg.h5"
    path.write_bytes(random_vgg16.read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = b"theano"
    with refused(
        "load it in Keras 2.3 with TensorFlow as backend, which turns them back, and save it again"
    ):
        read_all(path)
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = b"tensorflow"
        for layer in file["model_weights"].values():
            for name, weight in layer.items():
                if isinstance(weight, h5py.Dataset) and name.endswith("kernel"):
                    weight[...] = weight[...][::-1, ::-1]
    read_all(path)
