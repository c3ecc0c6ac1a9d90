"""Adding up means that were measured over parts of the photos."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vggnorm.errors import MeansError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.machines import join_machines
from vggnorm.photos.blocks import Part


def merge_means(parts: Mapping[str, FilterMeans]) -> FilterMeans:
    """Add up means that were measured over all parts of the photos.

    The result is what one run over all photos gives, except for the order in which float64 sums
    are taken. A part may count no photos.

    Args:
        parts: what to call each part in an error, such as its file -> what `compute_means` gave
            for this part.

    Raises:
        MeansError: a part is missing, is given twice or is not finished, was not made of whole
            blocks of photos, or differs from the others in its recipe, weights or photos; the text
            names it. Or no part has a photo that can be used.
    """
    if not parts:
        raise MeansError("there are no parts to add up")
    first = next(iter(parts))
    names: dict[int, str] = {}  # the number of a part -> what to call it
    for name, means in parts.items():
        _require_finished(name, means)
        _require_alike(name, means, first, parts[first])
        number, count = _part(means).number, _part(means).count
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
    if not merged.image_count:
        first_skipped = merged.skipped[0]
        raise MeansError(
            f"none of the {merged.recipe.listed} photos can be used; the first, "
            f"{first_skipped.photo}, {first_skipped.reason}"
        )
    merged.require_control()
    return merged


def _add(parts: Sequence[FilterMeans]) -> FilterMeans:
    """Add up all parts, in their order."""
    merged = parts[0]
    for means in parts[1:]:
        merged = merged.plus(means.sums)
    machine = join_machines(means.recipe.machine for means in parts)
    return replace(merged, recipe=replace(merged.recipe, shard=None, machine=machine))


def _require_finished(name: str, means: FilterMeans) -> None:
    recipe = means.recipe
    if recipe.shard is None:
        raise MeansError(
            f"{name} is not a part: it was measured without --shard; it needs no merging"
        )
    if recipe.batches_per_block is None:
        raise MeansError(
            f"{name} was measured by vggnorm {recipe.version}, whose parts are not made of blocks "
            "of photos, so they do not add up to one run; measure all parts again"
        )
    part = _part(means)
    size, done = part.size(recipe.listed), means.taken.count
    if done != size:
        raise MeansError(
            f"{name} is not finished: it has {done} of the {size} photos of part {part.number} of "
            f"{part.count}; run its command again"
        )


def _require_alike(name: str, means: FilterMeans, first: str, first_means: FilterMeans) -> None:
    differences = means.recipe.differences(first_means.recipe, besides=("shard",))
    if differences:
        raise MeansError(
            f"{name} does not go with {first}: {', '.join(differences)}; measure all parts alike"
        )
    count, first_count = _part(means).count, _part(first_means).count
    if count != first_count:
        raise MeansError(
            f"{name} is one of {count} parts, {first} one of {first_count}; they overlap"
        )
    filters = {layer: len(values) for layer, values in first_means.mean.items()}
    means.require_layers(filters, first)


def _part(means: FilterMeans) -> Part:
    part = means.recipe.part
    assert part is not None
    return part
