"""The weights of VGGs for tests of files: as Keras has them, and as other programs do."""

import io
import tracemalloc
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.tensor import Array, Tensor, of_array
from vggnorm.files.vgg_weights import TakenAs, VggWeights, read_layout

# Filters of the convolutions, in network order.
FILTERS = {
    "vgg11": (64, 128, 256, 256, 512, 512, 512, 512),
    "vgg13": (64, 64, 128, 128, 256, 256, 512, 512, 512, 512),
    "vgg16": (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    "vgg19": (64, 64, 128, 128, *(256,) * 4, *(512,) * 8),
}

# As many convolutions as fit into a small file.
FEW = ("block1_conv1", "block1_conv2")

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


def first_layers(dtype: str = "float32", seed: int = 0) -> dict[str, Array]:
    """Make the first two convolutions of a VGG under Keras's names, with random numbers."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, channels in zip(FEW, (3, 64), strict=True):
        arrays[f"{name}/kernel"] = random.normal(0, 0.1, (3, 3, channels, 64))
        arrays[f"{name}/bias"] = random.normal(0, 1, 64)
    return {name: array.astype(DTYPES[dtype]) for name, array in arrays.items()}


def in_names(arrays: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    """Give arrays of Keras the names of PyTorch, and kernels its axes, `(out, in, h, w)`."""
    given = {}
    for old, new in names.items():
        array = arrays[old]
        given[new] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return given


def gatys_layers(dtype: str = "float32", seed: int = 0) -> dict[str, Array]:
    """Make the same convolutions as `first_layers` in the layout of Gatys's `vgg_conv.pth`."""
    names = {
        "block1_conv1/kernel": "conv1_1.weight",
        "block1_conv1/bias": "conv1_1.bias",
        "block1_conv2/kernel": "conv1_2.weight",
        "block1_conv2/bias": "conv1_2.bias",
    }
    return in_names(first_layers(dtype, seed), names)


def first_weights(dtype: str = "float32", seed: int = 0) -> VggWeights:
    """Give `first_layers` as the weights of a VGG that takes photos as Caffe did."""
    tensors = {name: of_array(array) for name, array in first_layers(dtype, seed).items()}
    return taken_as("caffe", read_layout(tensors, LAYOUTS["keras"], Path("first.h5")))


def taken_as(convention: str, weights: VggWeights) -> VggWeights:
    """Say how a VGG takes photos, as a user does with `--preprocessing`."""
    return replace(weights, taken_as=TakenAs(convention, "the test"))


def unread(shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
    """Make a tensor that must not be read."""

    def read() -> Array:
        raise AssertionError("a tensor was read of which only the shape was wanted")

    return Tensor(shape, dtype, read)


def need_torch_for(ending: str) -> None:
    """Skip the test where it needs PyTorch, which is not installed."""
    if ending == ".pth":
        pytest.importorskip("torch")


def bits(array: Array) -> tuple[tuple[int, ...], str, bytes]:
    """Give all that makes two arrays the same."""
    return array.shape, array.dtype.name, array.tobytes()


def read_all(path: Path) -> None:
    """Open a file and read all of it."""
    with open_weights(path) as file:
        file.require_plain()
        for layer in file.arrays():
            file.arrays()[layer]


def require_refused(path: Path) -> str:
    """Open a file and read all of it. It must be refused; give what is said, one line."""
    with pytest.raises(NetworkError) as caught:
        read_all(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    """Require that Python and numpy never hold more than so many bytes at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


def zipped(members: Iterable[tuple[str, bytes]], *, compressed: bool = False) -> bytes:
    """Make a zip archive."""
    buffer = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def slots(network: str, before: str, numbers: tuple[int, ...]) -> dict[str, Tensor]:
    """Make convolutions named by their slots, in PyTorch's axes, that must not be read."""
    tensors = {}
    channels = 3
    for number, filters in zip(numbers, FILTERS[network], strict=False):
        tensors[f"{before}{number}.weight"] = unread((filters, channels, 3, 3))
        tensors[f"{before}{number}.bias"] = unread((filters,))
        channels = filters
    return tensors


def write_npz(path: Path, arrays: Mapping[str, Array]) -> Path:
    """Write arrays into a .npz file of any name."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    return path


def torch_state() -> dict[str, Any]:
    """Give `gatys_layers` as tensors of PyTorch; the test is skipped where that is missing."""
    torch = pytest.importorskip("torch")
    return {name: torch.tensor(array) for name, array in gatys_layers().items()}


def write_torch(path: Path, content: Any, **options: Any) -> Path:
    """Write anything into a file of PyTorch; the test is skipped where that is missing."""
    pytest.importorskip("torch").save(content, path, **options)
    return path


def cut_in_half(path: Path) -> None:
    """Lose the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
