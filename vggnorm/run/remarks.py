"""What a person should know about a run: lines that it says."""

from dataclasses import replace

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.machines import join_machines
from vggnorm.means.recipe import Recipe
from vggnorm.photos.blocks import Part
from vggnorm.photos.photo_list import PhotoList
from vggnorm.run.options import Say


def going_on(kept: FilterMeans, recipe: Recipe, say: Say) -> FilterMeans:
    """Give what an earlier run kept, with the machine of this one beside its own."""
    machines = join_machines([kept.recipe.machine, recipe.machine])
    if kept.recipe.machine not in ("", recipe.machine):
        begun = kept.recipe.machine
        say(f"the last bits may differ: begun on {begun}, continued on {recipe.machine}")
    return replace(kept, recipe=replace(kept.recipe, machine=machines))


def empty_part_line(photos: PhotoList, part: Part) -> str:
    """Say why a part counts no photos."""
    name = f"part {part.number} of {part.count}"
    if photos.names:
        why = f"none of the {len(photos.names)} photos of {name} can be used"
    else:
        blocks = -(-photos.listed // part.block)
        why = f"{name} has no photos: there are {blocks} blocks of up to {part.block} photos"
    return f"{why}; it counts none, and merge-means wants it all the same"


def profiles_line(count: int, means: FilterMeans) -> str:
    """Say how many of the photos of this run carry a colour profile, and what was done with it."""
    carry = "1 photo carries" if count == 1 else f"{count} photos carry"
    if means.recipe.color_profiles == "convert":
        return f"{carry} a colour profile other than sRGB; converted to sRGB"
    return (
        f"{carry} a colour profile other than sRGB; taken as sRGB; --color-profiles convert "
        "converts them"
    )
