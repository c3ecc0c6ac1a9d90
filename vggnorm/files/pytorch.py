"""Arrays in a file of PyTorch, which is read as tensors and nothing else.

Such a file holds a pickle. PyTorch's own reader of weights, `weights_only=True`, takes from it
tensors and plain containers, and refuses all that would run code.
"""

import pickle
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vggnorm.errors import NetworkError, OutputError, in_one_line
from vggnorm.files.archives import open_zip, require_stored
from vggnorm.files.tensor import Array, Tensor

# Where checkpoints keep the weights, beside an optimizer or a number of epochs.
WRAPPERS = ("state_dict", "model_state_dict", "model")

MISSING = (
    "PyTorch, which is not installed, reads and writes such files: pip install '.[torch]' in "
    "vggnorm's own folder"
)

# The number that PyTorch before 1.6 pickles first.
OLD_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def read_pytorch(path: Path, *, is_zip: bool) -> tuple[dict[str, Tensor], str]:
    """Read a file of weights.

    Args:
        path: the file.
        is_zip: whether it is a zip archive, as PyTorch 1.6 and later write. Its arrays are then
            mapped into memory and read when they are used.

    Returns:
        The arrays, and under which name the file keeps them: empty if it holds nothing else.

    Raises:
        NetworkError: it cannot be read, is damaged, or holds something else than tensors.
    """
    torch = _import_torch(path, NetworkError)
    sizes: Counter[int] = Counter()
    if is_zip:
        with open_zip(path) as archive:
            require_stored(archive, path)
            sizes.update(member.file_size for member in archive.infolist())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd pickle, whose error or tensors follow
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise NetworkError(f"{path}: {_say_what_else(str(error))}") from error
    except Exception as error:  # what a stranger's file makes PyTorch raise cannot be foreseen
        reason = in_one_line(error)
        raise NetworkError(f"{path}: is damaged: {reason}; get the file again") from error
    found, wrapper = _find_tensors(content, torch, path)
    _require_room(found, path)
    tensors = {name: _tensor(tensor, name, torch, path) for name, tensor in found.items()}
    if is_zip:
        _require_own_numbers(found, sizes, path)
    return tensors, wrapper


def write_pytorch(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a flat state dict.

    Raises:
        OutputError: PyTorch is not installed.
        OSError: the operating system refused.
    """
    torch = _import_torch(path, OutputError)
    tensors = {name: _to_torch(array, torch) for name, array in arrays.items()}
    try:
        with path.open("wb") as file:  # by its name, PyTorch would write the name into the file
            torch.save(tensors, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # what PyTorch hides, such as a full disk
            raise error.__context__ from error
        raise


def require_torch(path: Path) -> None:
    """Refuse to write a file of PyTorch without PyTorch, before any work is done.

    Raises:
        OutputError: it is not installed.
    """
    _import_torch(path, OutputError)


def _import_torch(path: Path, kind: type[NetworkError | OutputError]) -> Any:
    try:
        import torch  # noqa: PLC0415  it takes seconds, and most files need none of it
    except ImportError as error:
        raise kind(f"{path}: {MISSING}; or use safetensors, which needs no PyTorch") from error
    return torch


def _say_what_else(message: str) -> str:
    """Say what a file holds that PyTorch's reader of weights refuses."""
    named = re.search(r"(?:GLOBAL|Unsupported class|function) ([\w.]+)", message)
    what = "something else than tensors"
    if named is not None:
        what = f"{named[1]}, and not tensors alone"
    return (
        f"holds {what}, and reading that could run code; if you trust it, load it in PyTorch, save "
        "the weights alone, torch.save(model.state_dict(), FILE), and give that file"
    )


def _find_tensors(content: Any, torch: Any, path: Path) -> tuple[dict[str, Any], str]:
    """Find the weights in what a file holds, and say under which name they were."""
    wrapper = ""
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content, wrapper = content[name], name
            break
    if not isinstance(content, Mapping):
        raise NetworkError(
            f"{path}: holds an object of the type {type(content).__name__}, and not the weights of "
            "a network by name; save its state_dict"
        )
    found = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise NetworkError(
            f"{path}: holds no tensors, but {_some(content)}; save the network's state_dict"
        )
    return found, wrapper


def _some(content: Mapping[Any, Any]) -> str:
    names = [repr(str(name)[:40]) for name in list(content)[:5]]
    return ", ".join(names) or "nothing"


def _require_room(tensors: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that repeat a few numbers to claim more memory than the file has bytes."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > path.stat().st_size:
        raise NetworkError(
            f"{path}: is refused: its tensors claim {claimed:,} bytes, more than the file has"
        )


def _require_own_numbers(tensors: Mapping[str, Any], sizes: Counter[int], path: Path) -> None:
    """Refuse numbers that are not those of a whole member of the archive.

    PyTorch maps the archive into memory by what the pickle says of the sizes. If that is more than
    a member has, the bytes that follow are taken for numbers.
    """
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors.values()}
    for tensor in storages.values():
        size = tensor.untyped_storage().nbytes()
        sizes[size] -= 1
        if size > 0 and sizes[size] < 0:
            raise NetworkError(
                f"{path}: is damaged: a tensor in it claims {size:,} bytes, and no member of the "
                "archive has as many; get the file again"
            )


def _tensor(tensor: Any, name: str, torch: Any, path: Path) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise NetworkError(
            f"{path}: {name[:120]!r} is a sparse or quantized tensor; give the file from before "
            "that"
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Tensor(tuple(tensor.shape), dtype, lambda: _to_numpy(tensor, torch))


def _to_numpy(tensor: Any, torch: Any) -> Array:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # which PyTorch does not give to numpy
        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    array: Array = tensor.numpy()
    return array


def _to_torch(array: Array, torch: Any) -> Any:
    array = np.require(array, requirements=["C", "W"])
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
