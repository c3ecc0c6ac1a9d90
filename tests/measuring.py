"""Measure with the options of a run given one by one, for tests that vary them."""

from pathlib import Path
from typing import Any

from vggnorm.means.filter_means import FilterMeans
from vggnorm.measure import compute_means, geometry_for
from vggnorm.photos.finding import find_photos
from vggnorm.photos.photo_list import PhotoList
from vggnorm.run.checkpoint import Checkpoint
from vggnorm.run.options import Compute, Until, Watch


def measure(model: Any, photos: str | Path | PhotoList, **options: Any) -> FilterMeans:
    """Call `compute_means`, and gather the options in the values that it takes.

    Args:
        model: the network.
        photos: a folder, or photos that were found.
        options: the options of `geometry_for`; the fields of `Compute`, `Until` and `Watch`;
            `seed` and `shard`; `checkpoint` (a path), `checkpoint_every` and `fresh`;
            `preprocessing` and `dense`.
    """

    def take(*names: str) -> dict[str, Any]:
        return {name: options.pop(name) for name in names if name in options}

    found = photos if isinstance(photos, PhotoList) else find_photos(photos)
    if found.seed is None:
        found = found.shuffled(options.pop("seed", 0))
    part = options.pop("shard", None)
    compute = Compute(**take("precision", "control", "batch_size", "threads"))
    path, every = options.pop("checkpoint", None), options.pop("checkpoint_every", 60.0)
    fresh = options.pop("fresh", False)
    return compute_means(
        model,
        found if part is None else found.shard(*part, batch_size=compute.batch_size),
        geometry=geometry_for(model, **take("size", "fit", "interpolation", "color_profiles")),
        compute=compute,
        until=Until(**take("limit", "tolerance", "strict")),
        watch=Watch(**take("stop", "progress", "say")),
        checkpoint=None if path is None else Checkpoint(path, every, fresh),
        **options,
    )
