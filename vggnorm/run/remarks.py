"""What a person should know about a run: lines that it says."""

from dataclasses import replace

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.machines import join_machines
from vggnorm.means.recipe import Recipe
from vggnorm.photos.blocks import Part
from vggnorm.photos.noticed import Noticed
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


def noticed_lines(noticed: Noticed, means: FilterMeans) -> list[str]:
    """Say what was noticed about the photos of this run, and what was done with them."""
    lines = []
    count = noticed.with_profile
    if count:
        carry = "1 photo carries" if count == 1 else f"{count} photos carry"
        line = f"{carry} a colour profile other than sRGB; "
        if means.recipe.color_profiles == "convert":
            lines.append(f"{line}converted to sRGB")
        else:
            lines.append(f"{line}taken as sRGB; --color-profiles convert converts them")
    count = noticed.without_end
    if count:
        lack = "1 JPEG lacks" if count == 1 else f"{count} JPEGs lack"
        lines.append(f"{lack} the mark of the end, but no pixels; used")
    return lines
