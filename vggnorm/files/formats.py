"""The desk for files of weights and of means: it decides what a file is, and checks it, once.

`open_weights` looks at what is in a file, not at its name. What it gives is handed on, so that
nothing else has to open the file or to ask what it is. To add a format, give it a `Kind`, recognize
it in `_recognize`, and read it in a module of its own.
"""

import zipfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from vggnorm.disk import require_regular_file
from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.keras_weights import (
    Array,
    StoredArrays,
    backends_of,
    find_datasets,
    is_keras3_layout,
    require_plain,
)
from vggnorm.files.means_npy import is_npy, read_means_npy
from vggnorm.files.stored_means import read_stored_means
from vggnorm.files.untrusted import BAD_ARCHIVE, open_archive, open_hdf5, parse_model_config
from vggnorm.means.filter_means import FilterMeans

Shape = tuple[int, ...]


class Kind(Enum):
    """What a file is."""

    KERAS2_MODEL = "a model of Keras 2 in an .h5 file"
    KERAS2_WEIGHTS = "an .h5 file of weights in the layout of Keras 2"
    KERAS3_MODEL = "a model of Keras 3 in an .h5 file"
    KERAS3_WEIGHTS = "an .h5 file of weights in the layout of Keras 3"
    KERAS_ARCHIVE = "a model in a .keras archive"
    MEANS = "a file of means"
    OTHER_HDF5 = "an HDF5 file of another program"
    ZIP = "a zip archive"
    PICKLE = "a pickle, as PyTorch writes"
    SAFETENSORS = "a safetensors file"
    WEB_PAGE = "a web page"
    UNKNOWN = "not known"


MODELS = (Kind.KERAS2_MODEL, Kind.KERAS3_MODEL, Kind.KERAS_ARCHIVE)

_BY_HAND = (
    "copy its weights into a Keras model of the same layers, (out, in, h, w) to (h, w, in, out), "
    "and save that as .h5"
)

# What is said of files that are not read.
_REFUSED = {
    Kind.PICKLE: "is a pickle, as PyTorch writes, and reading one can run code in it, so that it "
    f"is not read; if you trust it, load it in PyTorch, {_BY_HAND}",
    Kind.SAFETENSORS: "is a safetensors file, which vggnorm does not read yet; load it with the "
    f"package safetensors, {_BY_HAND}",
    Kind.WEB_PAGE: "is a web page and not a file of weights; download the file itself",
    Kind.UNKNOWN: "cannot be read: it is not an HDF5 file, a .keras archive or a .npy file, or it "
    "is damaged; get the file again, or give another",
}

HEAD = 512  # bytes by which a file is recognized

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second is an empty archive's

PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


class WeightsFile:
    """An open file, checked: a model, weights or means.

    Attributes:
        path: the file.
        kind: what it is.
    """

    def __init__(
        self, path: Path, kind: Kind, file: h5py.File | None, archived_config: bytes | None = None
    ) -> None:
        self.path = path
        self.kind = kind
        self._file = file
        self._archived_config = archived_config

    @property
    def holds_model(self) -> bool:
        """Whether it is a whole model, and not weights or means alone."""
        return self.kind in MODELS

    @property
    def is_keras3_layout(self) -> bool:
        """Whether the weights are laid out as in a `.weights.h5` of Keras 3, also in an archive."""
        return self._file is not None and is_keras3_layout(self._file)

    @property
    def names_backend(self) -> bool:
        """Whether it tells for which backend its kernels are, as every file of Keras 3 does."""
        return self.is_keras3_layout or bool(backends_of(self._hdf5))

    def shapes(self) -> dict[str, list[Shape]]:
        """Give the shapes of the weights: layer name -> shapes, layers without weights left out.

        Raises:
            NetworkError: it does not hold weights, or is damaged; or its kernels are for Theano.
        """
        return {
            layer: [dataset.shape for dataset in datasets]
            for layer, datasets in self._datasets.items()
            if datasets
        }

    def arrays(self) -> Mapping[str, list[Array]]:
        """Give the weights: layer name -> arrays in Keras's order and layout, kernel before bias.

        A layer is read when it is asked for. (Keras's own reader takes all that a file lists for a
        layer into memory before it looks how much a layer needs.) Layers come in the file's order.

        Raises:
            NetworkError: as of `shapes`; or, when a layer is read, that it cannot be read, or has
                numbers beyond those of float32.
        """
        return StoredArrays(self._datasets, self.path)

    def require_plain(self) -> None:
        """Refuse weights that Keras would turn into other numbers without a word.

        Raises:
            NetworkError: as of `shapes`; or a kernel has whole numbers, or a weight has numbers
                beyond those of float32.
        """
        require_plain(self._datasets, self.path)

    def config(self, registered: Container[str] = ()) -> dict[str, Any] | None:
        """Give the configuration of the model, `class_name` and `config`; None if there is none.

        Args:
            registered: names of classes and functions that the running program has registered with
                Keras; see `vggnorm.files.allowlist.require_known`.

        Raises:
            NetworkError: it names something that is not known to be harmless, or is damaged.
        """
        if not self.holds_model:
            return None
        text: Any = self._archived_config
        if text is None:
            text = _attribute(self._hdf5, "model_config", self.path)
        return parse_model_config(text, self.path, registered)

    @cached_property
    def means(self) -> FilterMeans | None:
        """The means that it is a file of, or that a normalized network was made with.

        Raises:
            MeansError: the means are damaged.
        """
        if self._file is None:
            return read_means_npy(self.path)
        return read_stored_means(self._file, self.path)

    @cached_property
    def _datasets(self) -> dict[str, list[h5py.Dataset]]:
        return find_datasets(self._hdf5, self.path)

    @property
    def _hdf5(self) -> h5py.File:
        if self._file is None:
            raise NetworkError(
                f"{self.path}: holds means, and no weights; give the file of a network"
            )
        return self._file


@contextmanager
def open_weights(path: str | Path | WeightsFile) -> Iterator[WeightsFile]:
    """Open a file, tell by what is in it what it is, and check it.

    Args:
        path: the file. One that is open already is given back as it is, and stays open.

    Raises:
        NetworkError: the file cannot be read, could do harm, or is of a kind that is not read.
    """
    if isinstance(path, WeightsFile):
        yield path
        return
    path = Path(path)
    kind = _recognize(path)
    if kind in _REFUSED:
        raise NetworkError(f"{path}: {_REFUSED[kind]}")
    if kind is Kind.MEANS:
        yield WeightsFile(path, kind, None)
    elif kind is Kind.ZIP:
        with open_archive(path) as (file, config):
            yield WeightsFile(path, Kind.KERAS_ARCHIVE, file, config)
    else:
        with open_hdf5(path) as file:
            yield WeightsFile(path, _kind_of_hdf5(file, path), file)


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


def _recognize(path: Path) -> Kind:
    """Tell by its first bytes what a file is; of HDF5 files and zip archives, only that much.

    Raises:
        NetworkError: the file cannot be read.
    """
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror}") from error
    if is_npy(head):
        return Kind.MEANS
    if head.startswith(ZIP_MAGICS):
        return Kind.PICKLE if _is_pytorch_archive(path) else Kind.ZIP
    if head.startswith(PICKLE_STARTS):
        return Kind.PICKLE
    if _is_safetensors(head, path):
        return Kind.SAFETENSORS
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return Kind.WEB_PAGE
    is_hdf5 = head.startswith(HDF5_MAGIC) or h5py.is_hdf5(path)  # it may begin with other bytes
    return Kind.OTHER_HDF5 if is_hdf5 else Kind.UNKNOWN


def _is_pytorch_archive(path: Path) -> bool:
    """Tell whether a zip archive holds the pickle that PyTorch 1.6 and later write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, *BAD_ARCHIVE):
        return False  # whatever is wrong with it is said when it is opened


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Tell whether a file begins with the length of a JSON text that is in it, and that text."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 8 + length <= path.stat().st_size


def _kind_of_hdf5(file: h5py.File, path: Path) -> Kind:
    if "model_config" in file.attrs:
        version = str(_attribute(file, "keras_version", path))
        return Kind.KERAS3_MODEL if version.startswith("3") else Kind.KERAS2_MODEL
    if is_keras3_layout(file):
        return Kind.KERAS3_WEIGHTS
    if "model_weights" in file or {"layer_names", "layer_names0"} & file.attrs.keys():
        return Kind.KERAS2_WEIGHTS
    return Kind.OTHER_HDF5


def _attribute(file: h5py.File, name: str, path: Path) -> Any:
    """Read an attribute of the root; an empty text if there is none."""
    try:
        return file.attrs.get(name, "")
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: is damaged: {error}") from error
