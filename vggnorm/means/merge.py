"""Adding up means that were measured over parts of the photos."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain
from operator import add

from vggnorm.errors import MeansError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.machines import join_machines
from vggnorm.photos.digests import sum_sha256


def merge_means(parts: Mapping[str, FilterMeans]) -> FilterMeans:
    """Add up means that were measured over all parts of the photos.

    The result is what one run over all photos gives, except for the order in which float64 sums
    are taken, and the order of the skipped photos.

    Args:
        parts: what to call each part in an error, such as its file -> what `compute_means` gave
            for this part.

    Raises:
        MeansError: a part is missing, is given twice or is not finished, or differs from the others
            in its recipe, weights or photos; the text names it.
    """
    if not parts:
        raise MeansError("there are no parts to add up")
    first = next(iter(parts))
    names: dict[int, str] = {}  # the number of a part -> what to call it
    for name, means in parts.items():
        _require_finished(name, means)
        _require_alike(name, means, first, parts[first])
        number, count = _part(means)
        if number in names:
            raise MeansError(
                f"{name} and {names[number]} are both part {number} of {count}; give each part once"
            )
        names[number] = name
    missing = [str(number) for number in range(1, count + 1) if number not in names]
    if missing:
        raise MeansError(
            f"of {count} parts, these are missing: {', '.join(missing)}; measure them, or give "
            "their files"
        )
    merged = _add([parts[names[number]] for number in sorted(names)])
    merged.require_control()
    return merged


def _add(parts: Sequence[FilterMeans]) -> FilterMeans:
    """Add up all parts, in their order."""
    corrections = [means.correction for means in parts if means.correction is not None]
    recipes = [means.recipe for means in parts]
    recipe = replace(
        recipes[0],
        shard=None,
        taken_sha256=sum_sha256(recipe.taken_sha256 for recipe in recipes),
        photos_sha256=sum_sha256(recipe.photos_sha256 for recipe in recipes),
        machine=join_machines(recipe.machine for recipe in recipes),
    )
    return FilterMeans(
        measured=reduce(add, [means.measured for means in parts]),
        recipe=recipe,
        skipped=tuple(chain.from_iterable(means.skipped for means in parts)),
        correction=reduce(add, corrections) if corrections else None,
    )


def _require_finished(name: str, means: FilterMeans) -> None:
    if means.recipe.shard is None:
        raise MeansError(
            f"{name} is not a part: it was measured without --shard; it needs no merging"
        )
    number, count = means.recipe.shard
    size = len(range(number - 1, means.recipe.listed, count))
    done = means.image_count + len(means.skipped)
    if done != size:
        raise MeansError(
            f"{name} is not finished: it has {done} of the {size} photos of part {number} of "
            f"{count}; run its command again"
        )


def _require_alike(name: str, means: FilterMeans, first: str, first_means: FilterMeans) -> None:
    differences = means.recipe.differences(first_means.recipe, besides=("shard",))
    if differences:
        raise MeansError(
            f"{name} does not go with {first}: {', '.join(differences)}; measure all parts alike"
        )
    count, first_count = _part(means)[1], _part(first_means)[1]
    if count != first_count:
        raise MeansError(
            f"{name} is one of {count} parts, {first} one of {first_count}; they overlap"
        )
    filters = {layer: len(values) for layer, values in first_means.mean.items()}
    means.require_layers(filters, first)


def _part(means: FilterMeans) -> tuple[int, int]:
    """Give the number of a part and the count of all parts."""
    assert means.recipe.shard is not None
    return means.recipe.shard
