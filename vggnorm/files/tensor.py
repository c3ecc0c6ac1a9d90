"""An array in a file, which is read when it is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError

Array = NDArray[Any]
Shape = tuple[int, ...]

LARGEST = float(np.finfo(np.float32).max)

# bfloat16 is not one of numpy's own types: its kind is that of raw bytes.
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array in a file.

    Attributes:
        shape: its shape.
        dtype: the name of its type, such as `float32` or `bfloat16`.
        read: reads it.
    """

    shape: Shape
    dtype: str
    read: Callable[[], Array]

    def turned(self, axes: tuple[int, ...]) -> "Tensor":
        """Give the same array with its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return Tensor(shape, self.dtype, lambda: self.read().transpose(axes))

    def reshaped(self, shape: Shape) -> "Tensor":
        """Give the same numbers in another shape."""
        return Tensor(shape, self.dtype, lambda: self.read().reshape(shape))


Tensors = Mapping[str, Tensor]

# Layer name -> its weights in Keras's order and axes, kernel before bias.
Layers = Mapping[str, Sequence[Tensor]]


class LayerArrays(Mapping[str, list[Array]]):
    """Layer name -> its arrays; a layer is read when it is asked for."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def __getitem__(self, layer: str) -> list[Array]:
        return [tensor.read() for tensor in self._layers[layer]]

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers  # Mapping's own would read the layer

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def shapes_of(layers: Layers) -> dict[str, list[Shape]]:
    """Give the shapes of the weights: layer name -> shapes, layers without weights left out."""
    return {
        layer: [tensor.shape for tensor in tensors] for layer, tensors in layers.items() if tensors
    }


def of_array(array: Array) -> Tensor:
    """Give an array that is in memory."""
    return Tensor(array.shape, array.dtype.name, lambda: array)


def require_float(dtype: str, layer: str, path: Path) -> None:
    """Refuse weights of whole numbers where a network has floating-point numbers.

    Raises:
        NetworkError: the type is not one of floating-point numbers.
    """
    if dtype not in FLOATS:
        raise NetworkError(
            f"{path}: layer {layer} has weights of type {dtype}, whose scale is not known; give "
            "the file from before the network was quantized"
        )


def require_within_float32(array: Array, layer: str, path: Path) -> None:
    """Refuse numbers that float32, in which networks compute, would make infinite.

    Raises:
        NetworkError: there is such a number.
    """
    if array.dtype != np.float64:
        return
    finite = np.abs(array[np.isfinite(array)])
    largest = finite.max(initial=0.0)
    if largest > LARGEST:
        raise NetworkError(
            f"{path}: layer {layer} has a weight of {largest:.1e}, but networks compute in "
            f"float32, which ends at {LARGEST:.1e}; the file is damaged, or its training failed"
        )
