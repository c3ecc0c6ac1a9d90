"""Adding up means that were measured over parts of the photos."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from itertools import chain
from operator import add

from vggnorm.errors import MeansError
from vggnorm.images import sum_sha256
from vggnorm.machine import join_machines
from vggnorm.means import FilterMeans


def merge_means(parts: Mapping[str, FilterMeans]) -> FilterMeans:
    """Give the means over all photos from those over all parts of them.

    They are what one run over all photos gives, but for the order in which float64 sums are taken, and that of the
    photos skipped.

    Args:
        parts: what to call each part in an error, as its file; and what `compute_means` gave for its `shard`.

    Raises:
        MeansError: a part is missing, there twice or not measured to its end, or differs from the others in its recipe,
            weights or photos; the text names it.
    """
    if not parts:
        raise MeansError("there are no parts to add up")
    first, kept = next(iter(parts.items()))
    numbered: dict[int, str] = {}
    for name, means in parts.items():
        _require_part(name, means)
        differences = means.recipe.differences(kept.recipe, besides=("shard",))
        if differences:
            raise MeansError(f"{name} does not go with {first}: {', '.join(differences)}; measure all parts alike")
        number, count = _shard(means)
        if count != _shard(kept)[1]:
            raise MeansError(f"{name} is one of {count} parts, {first} one of {_shard(kept)[1]}; they overlap")
        if number in numbered:
            raise MeansError(f"{name} and {numbered[number]} are both part {number} of {count}; give each part once")
        means.require_layers({layer: len(values) for layer, values in kept.mean.items()}, first)
        numbered[number] = name
    count = _shard(kept)[1]
    missing = [str(number) for number in range(1, count + 1) if number not in numbered]
    if missing:
        raise MeansError(f"of {count} parts, there are not: {', '.join(missing)}; measure them, or give their files")
    ordered = [parts[numbered[number]] for number in range(1, count + 1)]
    corrections = [means.correction for means in ordered if means.correction is not None]
    merged = FilterMeans(
        measured=reduce(add, (means.measured for means in ordered)),
        recipe=replace(
            kept.recipe,
            shard=None,
            taken_sha256=sum_sha256(means.recipe.taken_sha256 for means in ordered),
            photos_sha256=sum_sha256(means.recipe.photos_sha256 for means in ordered),
            machine=join_machines(means.recipe.machine for means in ordered),
        ),
        skipped=tuple(chain.from_iterable(means.skipped for means in ordered)),
        correction=reduce(add, corrections) if corrections else None,
    )
    merged.require_control()
    return merged


def _require_part(name: str, means: FilterMeans) -> None:
    if means.recipe.shard is None:
        raise MeansError(f"{name} is no part: it was measured without --shard; it needs no merging")
    number, count = means.recipe.shard
    size = len(range(number - 1, means.recipe.listed, count))
    done = means.image_count + len(means.skipped)
    if done != size:
        raise MeansError(
            f"{name} is not finished: it has {done} of the {size} photos of part {number} of {count}; run its command "
            "again"
        )


def _shard(means: FilterMeans) -> tuple[int, int]:
    assert means.recipe.shard is not None
    return means.recipe.shard
