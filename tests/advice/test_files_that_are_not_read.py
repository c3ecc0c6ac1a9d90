"""The advice about files of other programs that are not read, followed."""

import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from advice_texts import refused
from safetensors.numpy import save_file
from vgg_files import (
    first_layers,
    first_weights,
    gatys_layers,
    read_all,
    torch_state,
    write_npz,
    write_torch,
)

import vggnorm
from vggnorm.means.filter_means import FilterMeans


def test_arrays_of_a_pickle_are_saved_with_numpy(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pkl"
    path.write_bytes(pickle.dumps(first_layers()))
    with refused(
        "if you trust it, load it in Python and save its arrays with numpy.savez, under the names "
        "of one of the layouts in docs/layouts.md"
    ):
        read_all(path)
    read_all(write_npz(tmp_path / "vgg.npz", pickle.loads(path.read_bytes())))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_program_gives_its_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "program.pt"
    module = torch.nn.Sequential()
    for number, (channels, filters) in enumerate([(3, 64), (64, 64)]):
        module.add_module(f"conv1_{number + 1}", torch.nn.Conv2d(channels, filters, 3))
    torch.jit.script(module).save(path)
    with refused(
        "load it with torch.jit.load and save the weights alone, torch.save(model.state_dict(), "
        "FILE)"
    ):
        read_all(path)
    read_all(write_torch(tmp_path / "vgg.pth", torch.jit.load(path).state_dict()))


def test_objects_in_a_file_of_pytorch_are_left_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "vgg.pth"
    torch.save({"state_dict": torch_state(), "where": Path("x")}, path)
    with refused(
        "if you trust it, load it in PyTorch, save the weights alone, "
        "torch.save(model.state_dict(), FILE), and give that file"
    ):
        read_all(path)
    content = torch.load(path, weights_only=False)
    read_all(write_torch(path, content["state_dict"]))


def test_a_state_dict_is_saved_in_place_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    with refused("save its state_dict"):
        read_all(write_torch(path, [1, 2]))
    with refused("save the network's state_dict"):
        read_all(write_torch(path, {"epoch": 3}))
    read_all(write_torch(path, torch_state()))


def test_a_dense_tensor_is_saved_in_place_of_a_sparse_one(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    sparse = {name: tensor.to_sparse() for name, tensor in torch_state().items()}
    with refused("give the file from before that"):
        read_all(write_torch(path, sparse))
    read_all(write_torch(path, torch_state()))


def test_a_compressed_archive_of_pytorch_is_saved_again(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = write_torch(tmp_path / "vgg.pth", torch_state())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with refused("save it again with torch.save"):
        read_all(path)
    read_all(write_torch(path, torch.load(path, weights_only=True)))


def test_without_pytorch_the_weights_are_saved_as_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vgg.pth"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with refused("or use safetensors, which needs no PyTorch"):
        read_all(path)
    save_file(gatys_layers(), tmp_path / "vgg.safetensors")
    read_all(tmp_path / "vgg.safetensors")


def test_a_model_of_onnx_gives_its_weights(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "vgg.onnx"
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        for name, array in gatys_layers().items()
    ]
    graph = onnx.helper.make_graph([], "vgg", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph, producer_name="test"), path)
    with refused(
        "read its weights with onnx.numpy_helper and save them with "
        "safetensors.numpy.save_file under the names of one of the layouts in docs/layouts.md"
    ):
        read_all(path)
    tensors = onnx.load(path).graph.initializer
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    save_file(arrays, tmp_path / "vgg.safetensors")
    read_all(tmp_path / "vgg.safetensors")


def test_a_mat_file_is_saved_in_the_older_format(tmp_path: Path) -> None:
    """SciPy writes what MATLAB writes with '-v7'."""
    path = tmp_path / "vgg.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["layers"] = [1.0]
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)
    with refused("save it in MATLAB with save(..., '-v7')"):
        read_all(path)
    vggnorm.save_weights(path, first_weights(), force=True)
    read_all(path)


@pytest.mark.parametrize("content", [b"GGUF" + bytes(600)])
def test_another_network_is_replaced_by_a_vgg(content: bytes, good: Path) -> None:
    path = good.with_name("model.gguf")
    path.write_bytes(content)
    with refused("give the file of a VGG"):
        read_all(path)
    read_all(good)


def test_a_web_page_is_replaced_by_the_file_itself(good: Path) -> None:
    content = good.read_bytes()
    good.write_bytes(b"<!DOCTYPE html><html><body>Not found</body></html>")
    with refused("download the file itself"):
        read_all(good)
    good.write_bytes(content)
    read_all(good)


def test_something_unknown_is_replaced_by_the_file_itself(good: Path) -> None:
    content = good.read_bytes()
    good.write_bytes(bytes(1000))
    with refused("get the file again, or give another"):
        read_all(good)
    good.write_bytes(content)
    read_all(good)


def test_means_are_no_network(good: Path, some_means: FilterMeans, tmp_path: Path) -> None:
    vggnorm.save_means(some_means, tmp_path / "means.npy")
    with refused("give the file of a network"):
        read_all(tmp_path / "means.npy")
    read_all(good)
