#!/usr/bin/env python3
"""Make the two figures of tex/ and of README: how VGG16's means are distributed, and what normalizing makes of them.

Usage:
    python scripts/make_figure.py [FOLDER OF PHOTOS]

tex/Figure.png shows the means over all photos. For tex/normalized.png, the network is normalized with the means over
one half of the photos, taken at random, and measured before and after on the other half: there, the means are 1 but
for the chance of the draw. Both figures are replaced.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import fetch_weights
import sample_photos

import vggnorm
from vggnorm.errors import PhotoError, VggnormError
from vggnorm.means import FilterMeans, load_means, save_means
from vggnorm.printable import echo, echo_report, join_lines, printable
from vggnorm.progress import progress_bar
from vggnorm.startup import import_keras
from vggnorm.summary import summarize

if TYPE_CHECKING:
    from vggnorm.images import PhotoList

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "quickstart" / "photos"  # where scripts/quickstart has them, too
WEIGHTS = ROOT / "quickstart" / "vgg16_imagenet.h5"

# That of the figure in corleypc/vgg-normalize, as far as its numbers tell.
RECIPE: dict[str, Any] = {"size": 256, "fit": "stretch", "interpolation": "nearest"}
MEASURED = ("all", "before", "after")


def measure(model: Any, photos: "PhotoList", **options: Any) -> dict[str, FilterMeans]:
    """Measure the network on all photos; and, on one half of them, before and after it is normalized with the other.

    Args:
        model: the network.
        photos: two or more.
        options: of `vggnorm.compute_means`.

    Returns:
        `all`: the means over all photos. `before`, `after`: those over one half of them, of the network, and of what is
        normalized with its means over the other half.
    """
    count = len(photos.names)
    if count < 2:
        raise PhotoError(f"{photos.folder}: holds one photo; to see what normalizing makes of others takes two or more")
    names = photos.shuffled(0).names
    used, held_out = replace(photos, names=names[: count // 2]), replace(photos, names=names[count // 2 :])
    means = vggnorm.compute_means(model, used, **options)
    normalized = vggnorm.normalize(model, means)
    name = f"{model.name} normalized with {means.image_count:,} other photos"
    return {
        "all": vggnorm.compute_means(model, photos, **options),
        "before": vggnorm.compute_means(model, held_out, **options),
        "after": vggnorm.compute_means(normalized, held_out, network=name, **options),
    }


def draw(measured: Mapping[str, FilterMeans], folder: Path) -> None:
    """Write Figure.png and normalized.png into the folder, from what `measure` gave."""
    vggnorm.save_figure(vggnorm.plot_means(measured["all"]), folder / "Figure.png", force=True)
    before_after = vggnorm.plot_before_after(measured["before"], measured["after"])
    vggnorm.save_figure(before_after, folder / "normalized.png", force=True)


def format_statistics(measured: Mapping[str, FilterMeans]) -> str:
    """Give a line for each of the means, over all their filters."""
    row = "{:<7} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}"
    lines = [row.format("", "photos", "min", "median", "max", "mean", "std dev")]
    for name, means in measured.items():
        figures = summarize(means)["all_layers"]
        columns = ("min", "median", "max", "mean", "standard_deviation")
        lines.append(row.format(name, means.image_count, *(f"{figures[column]:.3f}" for column in columns)))
    return join_lines(lines)


def load_measured(folder: Path) -> dict[str, FilterMeans]:
    """Load what `save_measured` left in the folder; nothing, if a file is missing."""
    paths = {name: folder / f"{name}.npy" for name in MEASURED}
    if not all(path.exists() for path in paths.values()):
        return {}
    return {name: load_means(path) for name, path in paths.items()}


def save_measured(measured: Mapping[str, FilterMeans], folder: Path) -> None:
    """Write all.npy, before.npy and after.npy into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, means in measured.items():
        save_means(means, folder / f"{name}.npy", force=True)


@click.command(context_settings={"show_default": True})
@click.argument("photos", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="VGG16's weights, an .h5 file.  [default: ImageNet's]")
@click.option(
    "--means",
    "means_folder",
    type=click.Path(path_type=Path),
    help="Keep the means in this folder; if they are there already, only draw.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "tex", help="Folder for the figures.")
@click.pass_context
def main(
    context: click.Context, photos: Path | None, weights: Path | None, means_folder: Path | None, output: Path
) -> None:
    """Draw VGG16's means over the photos in FOLDER, and before and after normalizing.

    By default over the sixteen photos that sample_photos.py fetches, with the weights that fetch_weights.py fetches.
    """
    try:
        measured = {} if means_folder is None else load_measured(means_folder)
        if not measured:
            from vggnorm.images import find_photos

            if photos is None:
                photos = PHOTOS
                context.invoke(sample_photos.main, folder=photos)
            found = find_photos(photos)
            if weights is None:
                weights = WEIGHTS
                if not weights.exists():
                    weights.parent.mkdir(parents=True, exist_ok=True)
                    context.invoke(fetch_weights.main, output=weights)
            import_keras()
            logging.getLogger("tensorflow").setLevel(logging.ERROR)  # that several networks are run is as it should be
            model = vggnorm.load_network("vgg16", weights)
            with progress_bar() as progress:
                measured = measure(model, found, weights=weights.name, progress=progress, **RECIPE)
            if means_folder is not None:
                save_measured(measured, means_folder)
        draw(measured, output)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo_report(format_statistics(measured))
    echo(f"figures saved as {output / 'Figure.png'} and {output / 'normalized.png'}")


if __name__ == "__main__":
    main()
