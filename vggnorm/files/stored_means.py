"""The means that a normalized network's file carries, in the group `vggnorm_means`.

The root attribute `vggnorm` (JSON) tells people the same in short: the version, the number of
photos, the layers and the recipe.
"""

import json
from pathlib import Path

import h5py

from vggnorm.errors import MeansError
from vggnorm.files.means_parts import (
    COUNTS,
    CUBES,
    FILTERS,
    TEXTS,
    VECTORS,
    flatten_layers,
    means_from_parts,
    means_to_parts,
)
from vggnorm.means.filter_means import FilterMeans
from vggnorm.version import __version__

DESCRIPTION, GROUP = "vggnorm", "vggnorm_means"


def write_stored_means(file: h5py.File, means: FilterMeans) -> None:
    """Write the means that a network was normalized with into its open file."""
    description = {
        "version": __version__,
        "image_count": means.image_count,
        "layers": list(means.mean),
        "recipe": means.recipe.to_dict(),
    }
    file.attrs[DESCRIPTION] = json.dumps(description)
    group = file.create_group(GROUP)
    for name, part in means_to_parts(means).items():
        group[name] = part


def read_stored_means(file: h5py.File, path: Path) -> FilterMeans | None:
    """Read the means from an open file; None if it was not written by `vggnorm normalize`.

    Raises:
        MeansError: the means in it are damaged.
    """
    if DESCRIPTION not in file.attrs:
        return None
    try:
        group = file[GROUP]
        if "layers" in group:
            cubes = (CUBES,) if CUBES in group else ()
            parts = {name: group[name][()] for name in (*VECTORS, *cubes, FILTERS)}
        else:  # a file of version 0.1.0
            layers = json.loads(file.attrs[DESCRIPTION])["layers"]
            vectors = {
                name: {layer: group[name][layer][()] for layer in layers} for name in VECTORS
            }
            parts = flatten_layers(vectors)
        for name in COUNTS:
            parts[name] = group[name][()].item()
        for name in TEXTS:
            if name in group:
                parts[name] = group[name].asstr()[()]
        return means_from_parts(parts)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise MeansError(f"{path}: the means stored in it are damaged: {error}") from error
