"""Files of PyTorch: all that people have is read, and no code in a file is ever run."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vgg_files import first_layers, gatys_layers, require_refused, zipped

from vggnorm.files.formats import open_weights
from vggnorm.files.weights_file import Kind, TensorsFile

torch: Any = pytest.importorskip("torch")


def state() -> dict[str, Any]:
    """Make two convolutions in the layout of Gatys's `vgg_conv.pth`."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in gatys_layers().items()
    }


def require_read(path: Path, found_in: str = "") -> None:
    with open_weights(path) as file:
        assert isinstance(file, TensorsFile)
        assert file.found_in == found_in
        for layer in ("block1_conv1", "block1_conv2"):
            for part, array in zip(("kernel", "bias"), file.arrays()[layer], strict=True):
                np.testing.assert_array_equal(array, first_layers()[f"{layer}/{part}"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vgg.pth"


# What people have


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_every_kind_are_read(
    prefix: str, wrapper: str, is_new: bool, path: Path
) -> None:
    content: dict[str, Any] = OrderedDict((prefix + name, value) for name, value in state().items())
    if wrapper:
        content = {"epoch": 3, wrapper: content, "optimizer": {"lr": 0.1}}
    torch.save(content, path, _use_new_zipfile_serialization=is_new)
    with open_weights(path) as file:
        assert file.kind is (Kind.PYTORCH if is_new else Kind.OLD_PYTORCH)
    require_read(path, ".".join(filter(None, [wrapper, prefix])))


def test_tensors_of_any_kind_are_read(path: Path) -> None:
    tensors = state()
    kernel = tensors["conv1_2.weight"]
    tensors["conv1_1.weight"] = torch.nn.Parameter(tensors["conv1_1.weight"])
    tensors["conv1_2.weight"] = kernel.transpose(2, 3).contiguous().transpose(2, 3)
    torch.save(tensors, path)
    require_read(path)


# What could run code


class Toucher:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Caller:
    """Calls the system when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("trap", [Toucher, Caller])
@pytest.mark.parametrize("is_new", [True, False])
def test_no_code_in_a_file_is_run(
    is_new: bool, trap: type[Toucher | Caller], path: Path, tmp_path: Path
) -> None:
    trace, works = tmp_path / "trace", tmp_path / "works"
    torch.save({"trap": trap(works)}, path, _use_new_zipfile_serialization=is_new)
    torch.load(path, weights_only=False)
    assert works.exists()  # the trap itself works
    torch.save({"trap": trap(trace), **state()}, path, _use_new_zipfile_serialization=is_new)
    text = require_refused(path)
    assert "reading that could run code" in text
    assert "torch.save(model.state_dict(), FILE)" in text
    assert not trace.exists()


def test_a_trap_that_pickle_wrote_is_not_run(path: Path, tmp_path: Path) -> None:
    path.write_bytes(pickle.dumps({"trap": Toucher(tmp_path / "trace")}, 2))
    assert require_refused(path).startswith("is a pickle, and reading one can run code in it")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_whole_module_and_what_helps(is_new: bool, path: Path) -> None:
    module = torch.nn.Sequential(
        OrderedDict(conv1_1=torch.nn.Conv2d(3, 64, 3), conv1_2=torch.nn.Conv2d(64, 64, 3))
    )
    module.load_state_dict(state())
    torch.save(module, path, _use_new_zipfile_serialization=is_new)
    text = require_refused(path)
    assert text.startswith("holds torch.nn.modules.container.Sequential, and not tensors alone")
    model = torch.load(path, weights_only=False)  # as it says
    torch.save(model.state_dict(), path)
    require_read(path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_and_what_helps(path: Path) -> None:
    module = torch.nn.Sequential(OrderedDict(conv1_1=torch.nn.Conv2d(3, 64, 3)))
    torch.jit.save(torch.jit.script(module), path)
    text = require_refused(path)
    assert text.startswith(
        "is a TorchScript program, which holds code; load it with torch.jit.load"
    )
    model = torch.jit.load(path)  # as it says
    torch.save(model.state_dict(), path)
    with open_weights(path) as file:
        assert file.vgg.network == "vgg16"


# What is something else


OTHERS = {
    "a list": ([1, 2], "holds an object of the type list, and not the weights"),
    "a tensor": (torch.zeros(3), "holds an object of the type Tensor, and not the weights"),
    "nothing": ({}, "holds no tensors, but nothing"),
    "no tensors": ({"params": {"lr": 1}}, "holds no tensors, but 'params'"),
    "two lines": ({"a\nb": 1}, r"holds no tensors, but 'a\nb'"),
}


@pytest.mark.parametrize("which", OTHERS)
def test_what_is_not_a_state_dict(which: str, path: Path) -> None:
    content, reason = OTHERS[which]
    torch.save(content, path)
    text = require_refused(path)
    assert text.startswith(reason)
    assert "state_dict" in text


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            lambda tensor: tensor.to(torch.int8),
            "has weights of type int8, whose scale is not known",
        ),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "has weights of type float8_e4m3fn"),
        (lambda tensor: tensor.to(torch.complex64), "has weights of type complex64"),
        (lambda tensor: tensor.to_sparse(), "is a sparse or quantized tensor"),
        (lambda tensor: tensor.to("meta"), "is refused: its tensors claim 154,880 bytes"),
    ],
)
def test_tensors_that_are_no_weights(changed: Any, reason: str, path: Path) -> None:
    torch.save({name: changed(tensor) for name, tensor in state().items()}, path)
    assert reason in require_refused(path)


@pytest.mark.parametrize("is_new", [True, False])
def test_one_number_that_claims_to_be_many(is_new: bool, path: Path) -> None:
    huge = torch.zeros(1).expand(10**6, 10**6)
    torch.save({**state(), "huge": huge}, path, _use_new_zipfile_serialization=is_new)
    assert path.stat().st_size < 1_000_000
    assert "is refused: its tensors claim 4,000,000,154,880 bytes" in require_refused(path)


# What is damaged


@pytest.mark.parametrize("kept", [30, 100, 300, 2000, -1])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_file_that_is_cut_off(is_new: bool, kept: int, path: Path) -> None:
    torch.save(state(), path, _use_new_zipfile_serialization=is_new)
    path.write_bytes(path.read_bytes()[:kept])
    text = require_refused(path)
    assert text.startswith("is a zip archive that is cut off" if is_new else "is damaged: ")


def archive_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_compressed_members_are_refused(path: Path) -> None:
    torch.save(state(), path)
    members = archive_members(path)
    swelling = next(name for name in members if name.endswith("/data/0"))
    members[swelling] = bytes(100_000_000)
    path.write_bytes(zipped(members.items(), compressed=True))
    assert path.stat().st_size < 1_000_000
    assert "in it is compressed or claims another size than it has" in require_refused(path)
    torch.save(state(), path)  # as it says
    require_read(path)


def test_a_member_that_is_missing(path: Path) -> None:
    torch.save(state(), path)
    members = archive_members(path)
    del members[next(name for name in members if name.endswith("/data/1"))]
    path.write_bytes(zipped(members.items()))
    assert require_refused(path).startswith("is damaged: ")


def test_a_tensor_that_leads_beyond_its_numbers(path: Path) -> None:
    # PyTorch maps such a file into memory by what the pickle says, and would take what follows.
    torch.save(state(), path)
    members = archive_members(path)
    numbers = next(name for name in members if name.endswith("/data/0"))
    members[numbers] = members[numbers][:-4]
    path.write_bytes(zipped(members.items()))
    assert require_refused(path).startswith("is damaged: a tensor in it claims 6,912 bytes")


@pytest.mark.parametrize("is_new", [True, False])
def test_wrong_bits_in_the_pickle_end_in_one_line(is_new: bool, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state(), buffer, _use_new_zipfile_serialization=is_new)
    whole = buffer.getvalue()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(50, 900, 60):
        content = bytearray(whole)
        content[place] ^= int(random.integers(1, 256))
        path.write_bytes(content)
        try:
            require_read(path)
        except AssertionError:  # a name or a number has changed, and the file is another one
            continue
        except Exception:
            require_refused(path)
            refused += 1
    assert refused > 10
