"""The formats of files of arrays: how each is written, and how it is read back, in one table."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vggnorm import vgg
from vggnorm.files.carried import to_metadata
from vggnorm.files.layouts import Layout
from vggnorm.files.mat import read_mat, write_mat
from vggnorm.files.npz import open_npz, write_npz
from vggnorm.files.pytorch import read_pytorch, write_pytorch
from vggnorm.files.safetensors import open_safetensors, write_safetensors
from vggnorm.files.tensor import Array, Tensors
from vggnorm.files.vgg_weights import VggWeights

Arrays = Mapping[str, Array]  # name in the file -> array


@dataclass(frozen=True)
class Container:
    """A format.

    Attributes:
        write: writes arrays into a file, given the weights and the layout that they are of.
        read: opens a file for reading.
        lacks: the types that the format does not have.
        holds_means: whether the means of the weights go into the file, and not beside it.
    """

    write: Callable[[Path, Arrays, VggWeights, Layout], None]
    read: Callable[[Path], AbstractContextManager[Tensors]]
    lacks: tuple[str, ...] = ()
    holds_means: bool = False


def _write_safetensors(path: Path, arrays: Arrays, weights: VggWeights, layout: Layout) -> None:
    convention = str(weights.taken_as.convention)
    metadata = to_metadata(weights.means, convention, layout.name, weights.pooling)
    write_safetensors(path, arrays, metadata)


@contextmanager
def _read_safetensors(path: Path) -> Iterator[Tensors]:
    with open_safetensors(path) as (tensors, _):
        yield tensors


def _write_pytorch(path: Path, arrays: Arrays, _: VggWeights, __: Layout) -> None:
    write_pytorch(path, arrays)


@contextmanager
def _read_pytorch(path: Path) -> Iterator[Tensors]:
    yield read_pytorch(path, is_zip=True)[0]


def _write_npz(path: Path, arrays: Arrays, _: VggWeights, __: Layout) -> None:
    write_npz(path, arrays)


def _write_mat(path: Path, arrays: Arrays, weights: VggWeights, _: Layout) -> None:
    write_mat(path, arrays, _mat_layers(weights), weights.pooling)


@contextmanager
def _read_mat(path: Path) -> Iterator[Tensors]:
    yield read_mat(path)[0]


def _mat_layers(weights: VggWeights) -> list[tuple[str, str]]:
    """Name the layers of a .mat file and their types, in order."""
    layers = []
    for place in weights.places:
        block, number = place
        layers += [(f"conv{block}_{number}", "conv"), (f"relu{block}_{number}", "relu")]
        is_last = place == weights.places[-1] and not weights.is_whole
        if vgg.ends_block(place, weights.network) and not is_last:
            layers.append((f"pool{block}", "pool"))
    if weights.classes is not None:
        for dense in ("6", "7"):
            layers += [(f"fc{dense}", "conv"), (f"relu{dense}", "relu")]
        layers += [("fc8", "conv"), ("prob", "softmax")]
    return layers


CONTAINERS = {
    "safetensors": Container(_write_safetensors, _read_safetensors, holds_means=True),
    "pth": Container(_write_pytorch, _read_pytorch),
    "npz": Container(_write_npz, open_npz, lacks=("bfloat16",)),
    "mat": Container(_write_mat, _read_mat, lacks=("bfloat16", "float16")),
}
