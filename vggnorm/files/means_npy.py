"""The file of means: one 0-d structured record that `np.load` reads without pickle."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vggnorm.disk import check_name, replacing
from vggnorm.errors import MeansError
from vggnorm.files.means_parts import (
    COUNTS,
    CUBES,
    FILTERS,
    PARTS,
    TEXTS,
    VECTORS,
    flatten_layers,
    means_from_parts,
    means_to_parts,
)
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe

BESIDE = "beside"  # JSON; only in a file that lies beside a file of weights

# Bytes of the header. In files of version 0.1.0, each vector is a record of layers. This is enough
# for thousands of layers, and Python can parse any text of that length without harm.
MAX_HEADER = 1 << 18


@dataclass(frozen=True)
class Beside:
    """Which file of weights the means lie beside.

    Attributes:
        file_sha256: its digest.
        convention: how its network takes photos: see `vggnorm.files.conventions`.
    """

    file_sha256: str
    convention: str


def save_means(means: FilterMeans, path: str | Path, *, force: bool = False) -> None:
    """Write the means as one structured record that `np.load(path)` reads without pickle.

    The record holds the values of all filters, layer after layer. With numpy alone, the mean of
    each layer is::

        means = np.load("means.npy")
        layers = json.loads(str(means["layers"]))
        mean = dict(zip(layers, np.split(means["mean"], means["filters"].cumsum()[:-1])))

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    path = check_name(path, force=force)
    content = means_to_npy(
        means
    )  # when numpy writes to a file itself, it hides the system's errors
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        read_means_npy(temporary)


def require_saveable(filters: Mapping[str, int], recipe: Recipe) -> int:
    """Try, before any photo is measured, whether plain `np.load` could read such means.

    Args:
        filters: layer name -> number of filters.
        recipe: how they are to be measured.

    Returns:
        The size of the file in bytes, without the list of photos that are skipped.

    Raises:
        MeansError: it could not; the text says why.
    """
    of_one_photo = replace(Moments.of_none(filters), count=1)
    content = io.BytesIO(means_to_npy(FilterMeans(of_one_photo, recipe)))
    try:
        means_from_parts(_parts(np.load(content, allow_pickle=False)))
    except ValueError as error:
        raise MeansError(f"the means could not be saved: {error}") from error
    return len(content.getvalue())


def is_npy(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a .npy file."""
    return head.startswith(npy_format.MAGIC_PREFIX)


def read_means_npy(path: Path) -> FilterMeans:
    """Read and check a file that `save_means` wrote. Nothing in the file is executed.

    Use `vggnorm.files.formats.load_means`, which makes sure that the file is a .npy file.

    Raises:
        MeansError: the file is damaged, or does not hold usable means; the text says which.
    """
    return _means_of(_load_record(path), path)


def read_means_beside(path: Path) -> tuple[FilterMeans, Beside | None]:
    """Read means that lie beside a file of weights; None if they do not say beside which.

    Raises:
        MeansError: as of `read_means_npy`.
    """
    record = _load_record(path)
    means = _means_of(record, path)
    if BESIDE not in (record.dtype.names or ()):
        return means, None
    try:
        return means, Beside(**json.loads(str(record[BESIDE])))
    except (RecursionError, TypeError, ValueError) as error:
        raise MeansError(f"{path}: is damaged: {error}") from error


def means_to_npy(means: FilterMeans, beside: Beside | None = None) -> bytes:
    """Give the content of the .npy file.

    Args:
        means: the means.
        beside: the file of weights that the file will lie beside.
    """
    parts = {name: np.asarray(part) for name, part in means_to_parts(means).items()}
    if beside is not None:
        parts[BESIDE] = np.asarray(json.dumps(asdict(beside)))
    fields = [(name, part.dtype, part.shape) for name, part in parts.items()]
    record = np.zeros((), dtype=fields)
    for name, part in parts.items():
        record[name] = part
    content = io.BytesIO()
    np.save(content, record)
    return content.getvalue()


def means_from_npy(content: bytes, path: Path) -> FilterMeans:
    """Read the content of a .npy file that stands in another file.

    Args:
        content: what `means_to_npy` gave.
        path: the other file, for messages.

    Raises:
        MeansError: as of `read_means_npy`.
    """
    stream = io.BytesIO(content)
    try:
        record = npy_format.read_array(stream, allow_pickle=False, max_header_size=MAX_HEADER)
    except Exception as error:  # what numpy raises for a damaged header cannot be foreseen
        raise MeansError(f"{path}: the means in it are damaged: {error}") from error
    return _means_of(_require_record(record, path), path)


def _parts(record: NDArray[np.void]) -> dict[str, Any]:
    """Give the parts that a record holds, which may be one of version 0.1.0."""
    names = record.dtype.names or ()
    parts: dict[str, Any] = {name: np.asarray(record[name]) for name in names}
    if "layers" not in parts:
        parts |= flatten_layers({name: _layers_of(parts[name]) for name in VECTORS})
    for name in COUNTS:
        parts[name] = parts[name].item()
    for name in TEXTS:
        parts[name] = str(parts[name])
    return parts


def _layers_of(record: NDArray[np.void]) -> dict[str, Any]:
    """Give the vectors of a record of layers, as in version 0.1.0: layer name -> vector."""
    return {layer: record[layer] for layer in record.dtype.names or ()}


def _load_record(path: Path) -> NDArray[np.void]:
    try:
        # Mapped, a header that promises more than the file holds is refused before memory is
        # allocated for it.
        record = npy_format.open_memmap(path, mode="r", max_header_size=MAX_HEADER)
    except Exception as error:  # what numpy raises for a damaged header cannot be foreseen
        raise MeansError(
            f"{path}: is damaged, or holds pickled objects, which are never loaded ({error}); if "
            "they are weights, save them as arrays with numpy.savez"
        ) from error
    return _require_record(record, path)


def _require_record(record: NDArray[Any], path: Path) -> NDArray[np.void]:
    names = set(record.dtype.names or ()) - {BESIDE}
    of_version_0_1_0 = set(PARTS) - {"layers", FILTERS}
    if record.shape != () or names not in ({*PARTS, CUBES}, set(PARTS), of_version_0_1_0):
        raise MeansError(f"{path}: holds no means; give a file that compute-means wrote")
    return record


def _means_of(record: NDArray[np.void], path: Path) -> FilterMeans:
    try:
        return means_from_parts(_parts(record))
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise MeansError(
            f"{path}: not usable as means: {error}; measure again with compute-means"
        ) from error
