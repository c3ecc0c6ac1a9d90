"""What travels with weights: the means that they were normalized with, and their convention.

In a safetensors file, they stand in the metadata. Strict loaders refuse other names in a file of
PyTorch, and the other formats have no place for them, so that they stand beside such a file, in
`NAME.means.npy`. That file names the digest of the file of weights, so that it is not taken for the
means of another file that has come to have that name.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vggnorm.errors import MeansError
from vggnorm.files.conventions import CONVENTIONS
from vggnorm.files.means_npy import Beside, means_from_npy, means_to_npy, read_means_beside
from vggnorm.files.vgg_config import POOLING
from vggnorm.means.filter_means import FilterMeans
from vggnorm.version import __version__

DESCRIPTION, MEANS = "vggnorm", "vggnorm.means"  # keys of the metadata


class Carried(NamedTuple):
    """What a file says beside its weights.

    Attributes:
        means: the means that the network was normalized with.
        convention: how it takes photos; empty if the file says something that is not known.
        pooling: `max` or `avg`.
    """

    means: FilterMeans | None = None
    convention: str | None = None
    pooling: str | None = None


def to_metadata(
    means: FilterMeans | None, convention: str, layout: str, pooling: str
) -> dict[str, str]:
    """Give the metadata of a safetensors file: for people, and the means to the last bit."""
    description: dict[str, Any] = {
        "version": __version__,
        "layout": layout,
        "convention": convention,
        "pooling": pooling,
    }
    metadata = {}
    if means is not None:
        description["image_count"] = means.image_count
        description["recipe"] = means.recipe.to_dict()
        metadata[MEANS] = base64.b64encode(means_to_npy(means)).decode("ascii")
    return {DESCRIPTION: json.dumps(description), **metadata}


def carried_in_metadata(metadata: Mapping[str, str], path: Path) -> Carried:
    """Read what `to_metadata` gave; nothing if another program wrote the file.

    Raises:
        MeansError: it is damaged.
    """
    if DESCRIPTION not in metadata:
        return Carried()
    try:
        description = json.loads(metadata[DESCRIPTION])
        convention, pooling = description["convention"], description["pooling"]
        CONVENTIONS[convention], POOLING[pooling]  # raises for one that does not exist
        if MEANS not in metadata:
            return Carried(None, convention, pooling)
        content = base64.b64decode(metadata[MEANS], validate=True)
        return Carried(means_from_npy(content, path), convention, pooling)
    except (binascii.Error, KeyError, RecursionError, TypeError, ValueError) as error:
        raise MeansError(f"{path}: what it says of its making is damaged: {error}") from error


def means_path(path: Path) -> Path:
    """Name the file of means beside a file of weights."""
    return path.with_name(f"{path.name}.means.npy")


def to_beside(written: Path, means: FilterMeans, convention: str) -> bytes:
    """Give the content of the file of means beside a file of weights.

    Args:
        written: the file of weights.
        means: the means.
        convention: how the network takes photos.
    """
    return means_to_npy(means, Beside(file_sha256(written), convention))


def read_beside(path: Path) -> Carried:
    """Read the means beside a file of weights; nothing if there are none, or another file's.

    Raises:
        MeansError: they are damaged.
    """
    beside = means_path(path)
    if not beside.is_file():
        return Carried()
    means, known = read_means_beside(beside)
    if known is None:  # means of the same name that somebody measured
        return Carried()
    if known.file_sha256 != file_sha256(path):
        raise MeansError(
            f"{beside}: holds the means of another file than {path.name} is now; remove it, or get "
            "the two files again"
        )
    return Carried(means, known.convention)


def file_sha256(path: Path) -> str:
    """Compute the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
