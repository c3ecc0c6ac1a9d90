"""Weights in a .mat file of MatConvNet: a list of layers, and the mean colour of the photos.

MatConvNet calls a convolution's weights `weights`, `{kernel, bias}`, and called them `filters` and
`biases` before. It keeps the mean colour in `meta.normalization`, and kept it in `normalization`.
Both are read. What is written has the older `normalization` and the fields in the order in which
anishathalye/neural-style and its children take them by number.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError, in_one_line
from vggnorm.files.conventions import CAFFE_MEAN
from vggnorm.files.mat_check import require_sound
from vggnorm.files.tensor import Array, Tensor, of_array

VARIABLES = ("layers", "normalization", "meta")

MEAN_RECOGNIZED = 0.5  # how far a mean colour may be off, of 255

IMAGE_SIDE = 224  # of the mean image


def read_mat(path: Path) -> tuple[dict[str, Tensor], str | None, str]:
    """Read a file.

    Returns:
        The arrays, called after the layers, such as `conv1_1.weights.0` for a kernel and
        `conv1_1.weights.1` for a bias; the convention, if there is a mean colour, and empty if that
        is not known; and the pooling, `max` or `avg`.

    Raises:
        NetworkError: it cannot be read, is damaged, or is not of MatConvNet.
    """
    from scipy.io import loadmat  # noqa: PLC0415  it takes half a second

    require_sound(path, VARIABLES)
    try:
        content = loadmat(path, variable_names=VARIABLES)
    except Exception as error:  # what a stranger's file makes SciPy raise cannot be foreseen
        reason = in_one_line(error)
        raise NetworkError(f"{path}: is damaged: {reason}; get the file again") from error
    if "layers" not in content:
        raise NetworkError(f"{path}: is not a network of MatConvNet: it has no list of layers")
    try:
        layers = content["layers"].ravel()
        tensors = {name: of_array(array) for name, array in _arrays_in(layers)}
        return tensors, _convention(content), _pooling(layers)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise NetworkError(
            f"{path}: is not a network of MatConvNet, which has a list of layers with names and "
            f"weights: {error}"
        ) from error


def write_mat(
    path: Path, arrays: Mapping[str, Array], layers: list[tuple[str, str]], pooling: str
) -> None:
    """Write a file that takes photos as RGB, 0 to 255, minus the mean colour.

    Args:
        path: the file.
        arrays: as `read_mat` gives them. MATLAB has floating-point numbers of 32 and 64 bits.
        layers: the name and the type of each layer, `conv`, `relu`, `pool` or `softmax`, in order.
        pooling: `max` or `avg`.
    """
    from scipy.io import savemat  # noqa: PLC0415

    cells = np.empty((1, len(layers)), dtype=object)
    for index, (name, kind) in enumerate(layers):
        cells[0, index] = _layer(name, kind, arrays, pooling)
    mean = np.broadcast_to(np.array(CAFFE_MEAN), (IMAGE_SIDE, IMAGE_SIDE, 3))
    size = np.array([[IMAGE_SIDE, IMAGE_SIDE, 3]], dtype=np.float64)
    content = {
        "layers": cells,
        "classes": {"name": "", "description": ""},
        "normalization": {"averageImage": mean.copy(), "imageSize": size},
    }
    with path.open("wb") as file:
        savemat(file, content)


def _layer(name: str, kind: str, arrays: Mapping[str, Array], pooling: str) -> dict[str, Any]:
    """Make a layer, whose fields are in the order of the files from before 2016."""
    if kind == "conv":
        weights = np.empty((1, 2), dtype=object)
        weights[0, 0] = arrays[f"{name}.weights.0"]
        weights[0, 1] = arrays[f"{name}.weights.1"].reshape(1, -1)
        pad = (weights[0, 0].shape[0] - 1) // 2 if name.startswith("conv") else 0
        return {"weights": weights, "pad": pad, "type": kind, "name": name, "stride": 1}
    if kind == "pool":
        pool = np.array([[2.0, 2.0]])
        return {"name": name, "stride": 2, "pad": 0, "type": kind, "method": pooling, "pool": pool}
    return {"type": kind, "name": name}


def _arrays_in(layers: NDArray[Any]) -> Iterator[tuple[str, Array]]:
    """Give the weights of all layers, by the names of the layers."""
    names: set[str] = set()
    for cell in layers:
        layer = cell.ravel()[0]
        fields = layer.dtype.names
        name = str(layer["name"].ravel()[0])
        if name in names:
            raise ValueError(f"two layers are called {name[:120]!r}")
        names.add(name)
        parts: list[Array] = []
        if "weights" in fields:
            parts = list(layer["weights"].ravel())
        elif "filters" in fields:
            parts = [layer["filters"], layer["biases"]]
        for index, part in enumerate(parts):
            if part.dtype.kind not in "fiu":
                raise ValueError(f"layer {name[:120]!r} has weights that are not numbers")
            yield f"{name}.weights.{index}", _with_four_axes(part) if index == 0 else part


def _with_four_axes(kernel: Array) -> Array:
    """Give back the last axes, which MATLAB leaves out where they are of length 1."""
    return kernel.reshape(*kernel.shape, *(1,) * (4 - kernel.ndim))


def _convention(content: Mapping[str, Any]) -> str | None:
    """Tell by the mean colour how the network takes photos.

    Returns:
        The convention; None if there is no mean colour, and an empty text if it is not known.
    """
    normalization = content.get("normalization")
    if normalization is None:
        normalization = _field(content.get("meta"), "normalization")
    image = _field(normalization, "averageImage")
    if image is None or image.dtype.kind not in "fiu" or image.size == 0 or image.size % 3:
        return None
    mean = image.reshape(-1, 3).mean(axis=0)
    is_known = np.allclose(mean, CAFFE_MEAN, rtol=0, atol=MEAN_RECOGNIZED)
    return "rgb255" if is_known else ""


def _pooling(layers: NDArray[Any]) -> str:
    """Tell how the network pools; MatConvNet's own files leave out what is `max`."""
    methods = [_field(cell, "method") for cell in layers]
    names = {str(method.ravel()[0]) for method in methods if method is not None and method.size}
    return "avg" if names == {"avg"} else "max"


def _field(struct: NDArray[Any] | None, name: str) -> NDArray[Any] | None:
    """Give a field of a struct of MATLAB; None if there is no such field."""
    if struct is None or struct.size == 0 or name not in (struct.dtype.names or ()):
        return None
    field: NDArray[Any] = struct.ravel()[0][name]
    return field
