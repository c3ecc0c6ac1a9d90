"""The one place where files of weights and of means are opened, and checked once.

`open_weights` looks at what is in a file, not at its name. What it gives is handed on, so that
nothing else has to open the file or to ask what it is. To add a format, give it a `Kind`, recognize
it in `vggnorm.files.recognition`, and read it in a module of its own.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.carried import Carried, carried_in_metadata, read_beside
from vggnorm.files.keras_file import KerasFile, kind_of_hdf5
from vggnorm.files.mat import read_mat
from vggnorm.files.means_npy import read_means_npy
from vggnorm.files.npz import open_npz
from vggnorm.files.pytorch import read_pytorch
from vggnorm.files.recognition import REFUSED, recognize
from vggnorm.files.safetensors import open_safetensors
from vggnorm.files.tensor import Layers, Tensor
from vggnorm.files.untrusted import open_archive, open_hdf5
from vggnorm.files.vgg_weights import (
    NOT_KNOWN,
    TakenAs,
    VggWeights,
    find_layout,
    recognized_colours,
)
from vggnorm.files.weights_file import Kind, TensorsFile, WeightsFile, taken_as_by_numbers
from vggnorm.means.filter_means import FilterMeans

WRAPPING = "module."  # what PyTorch's DataParallel puts in front of every name


class MeansFile(WeightsFile):
    """A file of means, which holds no weights."""

    @property
    def layers(self) -> Layers:
        """Refuse: there are none."""
        raise NetworkError(f"{self.path}: holds means, and no weights; give the file of a network")

    @property
    def vgg(self) -> VggWeights:
        """Refuse: there is none."""
        raise NetworkError(f"{self.path}: holds means, and no weights; give the file of a network")

    def config(self, registered: Container[str] = ()) -> dict[str, Any] | None:  # noqa: ARG002
        """Give nothing: there is no model."""
        return None

    @property
    def taken_as(self) -> TakenAs:
        """Give nothing: there is no network."""
        return NOT_KNOWN

    @cached_property
    def means(self) -> FilterMeans | None:
        """The means."""
        return read_means_npy(self.path)


@contextmanager
def open_weights(path: str | Path | WeightsFile) -> Iterator[WeightsFile]:
    """Open a file, tell by what is in it what it is, and check it.

    Args:
        path: the file: of Keras (`.h5`, `.weights.h5`, `.keras`), safetensors, of PyTorch, `.npz`,
            `.mat`, or of means. One that is open already is given back as it is, and stays open.

    Raises:
        NetworkError: the file cannot be read, could do harm, or is of a kind that is not read.
    """
    if isinstance(path, WeightsFile):
        yield path
        return
    path = Path(path)
    kind = recognize(path)
    if kind in REFUSED:
        raise NetworkError(f"{path}: {REFUSED[kind]}")
    with OPENERS[kind](path, kind) as file:
        yield file


def load_means(path: str | Path | WeightsFile) -> FilterMeans:
    """Read and check the means in a file that `compute-means` or `normalize` wrote.

    Nothing in the file is executed.

    Args:
        path: the file, which may be open already.

    Raises:
        MeansError: the file cannot be read, or does not hold usable means; the text says which.
    """
    try:
        with open_weights(path) as file:
            path, means = file.path, file.means
    except NetworkError as error:
        raise MeansError(str(error)) from error
    if means is None:
        raise MeansError(
            f"{path}: does not say how it was made; give a file that vggnorm compute-means or "
            "normalize wrote"
        )
    return means


# How each kind of file is opened.


@contextmanager
def _open_means(path: Path, kind: Kind) -> Iterator[WeightsFile]:
    yield MeansFile(path, kind)


@contextmanager
def _open_keras_archive(path: Path, _: Kind) -> Iterator[WeightsFile]:
    with open_archive(path) as (file, config):
        yield KerasFile(path, Kind.KERAS_ARCHIVE, file, config)


@contextmanager
def _open_hdf5(path: Path, _: Kind) -> Iterator[WeightsFile]:
    with open_hdf5(path) as file:
        yield KerasFile(path, kind_of_hdf5(file, path), file)


@contextmanager
def _open_safetensors(path: Path, kind: Kind) -> Iterator[WeightsFile]:
    with open_safetensors(path) as (tensors, metadata):
        yield _tensors_file(path, kind, tensors, carried_in_metadata(metadata, path))


@contextmanager
def _open_pytorch(path: Path, kind: Kind) -> Iterator[WeightsFile]:
    tensors, found_in = read_pytorch(path, is_zip=kind is Kind.PYTORCH)
    yield _tensors_file(path, kind, tensors, read_beside(path), found_in)


@contextmanager
def _open_npz(path: Path, kind: Kind) -> Iterator[WeightsFile]:
    with open_npz(path) as tensors:
        yield _tensors_file(path, kind, tensors, read_beside(path))


@contextmanager
def _open_mat(path: Path, kind: Kind) -> Iterator[WeightsFile]:
    tensors, convention, pooling = read_mat(path)
    beside = read_beside(path)
    carried = Carried(beside.means, beside.convention or convention, pooling)
    yield _tensors_file(path, kind, tensors, carried)


OPENERS: dict[Kind, Callable[[Path, Kind], AbstractContextManager[WeightsFile]]] = {
    Kind.MEANS: _open_means,
    Kind.ZIP: _open_keras_archive,
    Kind.OTHER_HDF5: _open_hdf5,
    Kind.SAFETENSORS: _open_safetensors,
    Kind.PYTORCH: _open_pytorch,
    Kind.OLD_PYTORCH: _open_pytorch,
    Kind.NPZ: _open_npz,
    Kind.MAT: _open_mat,
}


def _tensors_file(
    path: Path,
    kind: Kind,
    tensors: Mapping[str, Tensor],
    carried: Carried,
    found_in: str = "",
) -> TensorsFile:
    """Find the weights of a VGG among arrays."""
    if tensors and all(name.startswith(WRAPPING) for name in tensors):
        tensors = {name.removeprefix(WRAPPING): tensor for name, tensor in tensors.items()}
        found_in = f"{found_in}.{WRAPPING}" if found_in else WRAPPING
    weights = find_layout(tensors, path)
    means = carried.means
    measured = "avg" if means is not None and means.recipe.pooling == "avg" else "max"
    weights = replace(
        weights,
        pooling=carried.pooling or measured,
        means=means,
        taken_as=_taken_as(weights, carried.convention),
    )
    return TensorsFile(path, kind, weights, found_in)


def _taken_as(weights: VggWeights, stated: str | None) -> TakenAs:
    """Tell how a VGG takes photos, by what is most certain first."""
    if weights.colours is not None:
        convention = recognized_colours(weights.colours)
        if convention is not None:
            return TakenAs(convention, "the 1x1 convolution in front of it")
    if stated is not None:
        return TakenAs(stated or None, "the file")
    return taken_as_by_numbers(weights.layers)
