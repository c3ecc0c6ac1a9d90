"""What a file of another program is said to be, by its bytes, and what is said to do with it."""

import io
import pickle
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper
from vgg_files import gatys_layers, require_refused

from vggnorm.errors import MeansError, OutputError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.npz import write_npz
from vggnorm.files.recognition import recognize
from vggnorm.files.weights_file import Kind
from vggnorm.files.writing import check_weights_output


def gguf() -> bytes:
    """Begin as the format's specification says: a mark, the version, and two counts."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


def old_tar() -> bytes:
    """Make a tar of the names that PyTorch before 0.2 gave its members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


def matlab_73() -> bytes:
    """Make an HDF5 file behind a block of 512 bytes that begins as MATLAB writes it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        file["layers"] = [1.0]
    content = bytearray(buffer.getvalue())
    mark = b"MATLAB 7.3 MAT-file, Platform: GLNXA64"
    content[: len(mark)] = mark
    return bytes(content)


def onnx_model() -> bytes:
    weight = onnx.numpy_helper.from_array(np.zeros((64, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    shape = [1, 3, 8, 8]
    photo = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "vgg", [photo], [result], [weight])
    return bytes(helper.make_model(graph, producer_name="pytorch").SerializeToString())


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


OTHERS = {
    "GGUF": (gguf(), r"is a GGUF file, of a language model; give the file of a VGG"),
    "tar": (old_tar(), r"is a tar archive, as PyTorch before 0\.2 wrote; load it in PyTorch 1\.x"),
    "MATLAB 7.3": (matlab_73(), r"is a \.mat file of MATLAB 7\.3; save it .* with save\(.*'-v7'\)"),
    "ONNX": (onnx_model(), r"is an ONNX model, .* read its weights with onnx\.numpy_helper"),
    "web page": (
        b"\n<!DOCTYPE html>\n<html>",
        r"is a web page and not a file of weights",
    ),
    "web page without a type": (b"<HTML><body>", r"is a web page"),
    "pickle": (pickle.dumps({"a": 1}, 2), r"is a pickle, and reading one can run code in it"),
    "new pickle": (pickle.dumps({"a": 1}, 5), r"is a pickle, and reading one can run code in it"),
    "TensorFlow's list": (
        b'model_checkpoint_path: "vgg"\n',
        r"is a TensorFlow checkpoint;",
    ),
    "list of files": (
        b'{"metadata": {"total_size": 62240.0}, "weight_map": {}}',
        r"lists weights in several files; load it with model\.load_weights",
    ),
    "architecture": (
        b'{"module": "keras", "class_name": "Functional", "config": {}}',
        r"describes a network without its weights; build it with",
    ),
    "TorchScript": (zip_of("vgg/data.pkl", "vgg/constants.pkl"), r"is a TorchScript program"),
    "photos": (zip_of("photo.jpg"), r"is refused: it holds 'photo.jpg', and may hold"),
    "text": (
        b"no weights",
        r"cannot be read: it is not a file of Keras, safetensors, PyTorch, numpy",
    ),
    "nothing": (b"", r"cannot be read: it is not a file of Keras"),
    "short": (bytes(3), r"cannot be read: it is not a file of Keras"),
    "cut HDF5": (b"\x89HDF\r\n\x1a\n", r"cannot be read: it is not an HDF5 file, or is damaged"),
    "empty archive": (b"PK\x05\x06" + bytes(18), r"cannot be loaded as a Keras model"),
    "cut archive": (zip_of("a.npy")[:40], r"is a zip archive that is cut off or damaged"),
}


@pytest.mark.parametrize("name", ["file.h5", "file.keras", "file.safetensors", "file.pth"])
@pytest.mark.parametrize("what", OTHERS)
def test_files_of_others_are_refused_with_what_to_do(what: str, name: str, tmp_path: Path) -> None:
    content, reason = OTHERS[what]
    path = tmp_path / name
    path.write_bytes(content)
    text = require_refused(path)
    with pytest.raises(MeansError, match=rf"^{path}: {reason}") as caught:
        load_means(path)
    assert str(caught.value) == f"{path}: {text}"


def test_a_checkpoint_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow

    variable = tensorflow.Variable(np.zeros((3, 3, 3, 64), np.float32))
    prefix = tensorflow.train.Checkpoint(kernel=variable).save(tmp_path / "vgg")
    files = [
        Path(f"{prefix}.index"),
        Path(f"{prefix}.data-00000-of-00001"),
        tmp_path / "checkpoint",
    ]
    for path in files:
        text = require_refused(path)
        assert text.startswith("is a TensorFlow checkpoint; load it into its model in TensorFlow")


def test_weights_of_onnx_and_what_helps(tmp_path: Path) -> None:
    from onnx import numpy_helper
    from safetensors.numpy import save_file

    path = tmp_path / "vgg.onnx"
    path.write_bytes(onnx_model())
    assert "safetensors.numpy.save_file" in require_refused(path)
    model = onnx.load(path)  # as it says
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    arrays = {"conv1_1.weight": arrays["w"], "conv1_1.bias": np.zeros(64, np.float32)}
    save_file(arrays, tmp_path / "vgg.safetensors")
    with open_weights(tmp_path / "vgg.safetensors") as file:
        assert len(file.vgg.places) == 1


def test_arrays_of_a_pickle_and_what_helps(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pkl"
    path.write_bytes(pickle.dumps(gatys_layers(), 2))
    assert "save its arrays with numpy.savez" in require_refused(path)
    arrays: dict[str, Any] = pickle.loads(path.read_bytes())  # as it says
    np.savez(tmp_path / "vgg.npz", **arrays)
    with open_weights(tmp_path / "vgg.npz") as file:
        assert file.vgg.layout == "gatys"


def test_without_pytorch_its_files_are_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it then fails
    path = tmp_path / "vgg.pth"
    path.write_bytes(zip_of("vgg/data.pkl", "vgg/data/0"))
    text = require_refused(path)
    assert (
        "pip install '.[torch]' in vggnorm's own folder; or use safetensors, which needs no PyTorch"
        in text
    )
    path.unlink()
    with pytest.raises(OutputError, match=r"pip install '\.\[torch\]'"):
        check_weights_output(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["model", "weights"])
def test_an_archive_is_numpys_only_if_all_in_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "vgg"
    if kind == "weights":
        write_npz(path, gatys_layers())
        assert recognize(path) is Kind.NPZ
    else:
        path.write_bytes(zip_of("config.json", "a.npy"))
        assert recognize(path) is Kind.ZIP


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert require_refused(tmp_path / "absent").startswith("cannot be read: No such file")
    assert require_refused(tmp_path).startswith("is a folder; name the file in it that holds")
