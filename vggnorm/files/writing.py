"""Writing arrays into a file of any format, whole or not at all."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vggnorm.disk import check_output, replacing, sync
from vggnorm.errors import MeansError, NetworkError, OutputError
from vggnorm.files.carried import means_path, to_beside
from vggnorm.files.containers import CONTAINERS, Arrays, Container
from vggnorm.files.keras_file import WEIGHT_NAMES
from vggnorm.files.keras_h5 import check_h5_output, write_h5
from vggnorm.files.layouts import Layout
from vggnorm.files.means_npy import read_means_beside
from vggnorm.files.pytorch import require_torch
from vggnorm.files.tensor import Array, Tensor, Tensors, of_array
from vggnorm.files.vgg_weights import VggWeights, in_layout
from vggnorm.files.weights_file import config_of
from vggnorm.means.filter_means import FilterMeans

ENDINGS = {
    "h5": (".h5",),
    "safetensors": (".safetensors",),
    "pth": (".pth", ".pt"),
    "npz": (".npz",),
    "mat": (".mat",),
}


def format_of(path: Path) -> str:
    """Tell by its name in which format a file is to be written.

    Raises:
        OutputError: the name tells nothing.
    """
    for name, endings in ENDINGS.items():
        if path.name.endswith(endings):
            return name
    known = ", ".join(ending for endings in ENDINGS.values() for ending in endings)
    raise OutputError(f"{path}: give a name that ends in one of {known}, or --format")


def check_weights_output(
    path: str | Path, file_format: str | None = None, *, force: bool = False
) -> None:
    """Refuse, before any work is done, a file that could not or should not be written.

    Raises:
        OutputError: as of `save_weights`.
    """
    path = Path(path)
    file_format = file_format or format_of(path)
    if file_format == "h5":
        check_h5_output(path, force=force)
        return
    check_output(path, force=force)
    if not CONTAINERS[file_format].holds_means:
        check_output(means_path(path), force=force)
    if file_format == "pth":
        require_torch(path)


def write_weights(path: Path, file_format: str, weights: VggWeights, layout: Layout) -> None:
    """Write a file whole or not at all, and the means with it or beside it.

    Raises:
        OutputError: the format does not have the type of an array, or the file cannot be written.
        NetworkError: a number would not be finite.
    """
    named = _named_tensors(weights, layout)
    _require_finite(named, path)
    if file_format == "h5":
        write_h5(
            path,
            model_config=config_of(weights),
            weights=_LayersByName(weights),
            means=weights.means,
            convention=weights.taken_as.convention,
        )
    else:
        _require_types(named, file_format, path)
        _write_arrays(path, CONTAINERS[file_format], named, weights, layout)


def _write_arrays(
    path: Path, container: Container, named: Tensors, weights: VggWeights, layout: Layout
) -> None:
    # Each array is copied when it is read, so that no two forms of all of them are held at once.
    arrays = {name: np.asarray(tensor.read(), order="C") for name, tensor in named.items()}
    with replacing(path) as temporary:
        container.write(temporary, arrays, weights, layout)
        _require_read_back(temporary, container, arrays)
        if weights.means is not None and not container.holds_means:
            sync(temporary)  # so that the means are not written if the disk is full
            _write_means_beside(path, temporary, weights.means, str(weights.taken_as.convention))
    if weights.means is None and not container.holds_means:
        _remove_means_beside(path)


# Two files cannot be renamed at once. Whatever happens in between, the means beside a file of
# weights are its own, or they name another digest than its, and are refused when it is opened.


def _write_means_beside(path: Path, written: Path, means: FilterMeans, convention: str) -> None:
    """Write the means of a file that is about to be renamed to `path`."""
    content = to_beside(written, means, convention)
    with replacing(means_path(path)) as temporary:
        temporary.write_bytes(content)


def _remove_means_beside(path: Path) -> None:
    """Remove the means of a file that was replaced; means that somebody measured stay."""
    beside = means_path(path)
    try:
        if beside.is_file() and read_means_beside(beside)[1] is None:
            return
    except MeansError:
        pass  # damaged, they would spoil the new file
    try:
        beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{beside}: could not be removed: {error.strerror}") from error


def _named_tensors(weights: VggWeights, layout: Layout) -> dict[str, Tensor]:
    """Give all that is written, under its name in the file."""
    named: dict[str, Tensor] = {}
    if layout.colours is not None and weights.colours is not None:
        named |= zip(layout.colours, weights.colours, strict=True)
    named |= in_layout(weights, layout)
    if layout.count is not None:
        named = {layout.count: of_array(np.array(len(named))), **named}
    return named


class _LayersByName(Mapping[str, Mapping[str, Array]]):
    """Layer name -> weight name -> array, of all layers of a model; read when asked for."""

    def __init__(self, weights: VggWeights) -> None:
        layers = config_of(weights)["config"]["layers"]
        self._names = [layer["name"] for layer in layers]
        self._weights = weights

    def __getitem__(self, layer: str) -> Mapping[str, Array]:
        tensors = self._weights.layers.get(layer, [])
        names = WEIGHT_NAMES.get(len(tensors), ())
        return {name: tensor.read() for name, tensor in zip(names, tensors, strict=True)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _require_types(tensors: Tensors, file_format: str, path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype in CONTAINERS[file_format].lacks:
            raise OutputError(
                f"{path}: a file of the format {file_format} cannot hold {tensor.dtype} ({name}); "
                "use safetensors, or --dtype float32"
            )


def _require_finite(tensors: Tensors, path: Path) -> None:
    for name, tensor in tensors.items():
        array = tensor.read()
        if array.dtype.kind != "i" and not np.isfinite(array).all():
            raise NetworkError(
                f"{path}: is not written: {name} would hold numbers that are not finite in "
                f"{tensor.dtype}; give another --dtype, or get the weights again"
            )


def _require_read_back(path: Path, container: Container, arrays: Arrays) -> None:
    """Read a file that was written, and compare.

    Raises:
        OSError: an array does not read back as it was written.
    """
    with container.read(path) as tensors:
        for name, array in arrays.items():
            read = tensors[name].read()
            is_same = read.dtype == array.dtype and read.size == array.size
            if not is_same or not np.array_equal(read, array.reshape(read.shape)):
                raise OSError(f"{name} does not read back as it was written")
