#!/usr/bin/env python3
"""Draw the two figures of VGG16's means: their distribution, and before and after normalizing.

Usage:
    python scripts/make_figure.py [FOLDER OF PHOTOS]

tex/figure.png shows the means over all photos. For tex/normalized.png, the program normalizes the
network with the means over a random half of the photos, and measures it before and after on the
other half. There, the means are 1, except for the chance in the choice of the halves. Both figures
are replaced.
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
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry
from vggnorm.report.printable import echo, echo_report, join_lines, printable
from vggnorm.report.text import summarize
from vggnorm.run.progress import progress_bar
from vggnorm.run.startup import import_keras

if TYPE_CHECKING:
    from vggnorm.photos.photo_list import PhotoList

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "quickstart" / "photos"  # scripts/quickstart keeps them there too
WEIGHTS = ROOT / "quickstart" / "vgg16_imagenet.h5"

# The recipe of the figure in corleypc/vgg-normalize, as far as its numbers show.
GEOMETRY = Geometry(256, "stretch", "nearest")
MEASURED = ("all", "before", "after")


def measure(
    model: Any,
    photos: "PhotoList",
    geometry: Geometry,
    weights: str = "unnamed",
    watch: vggnorm.Watch | None = None,
) -> dict[str, FilterMeans]:
    """Measure a network on all photos, and before and after normalizing on half of them.

    Args:
        model: the network.
        photos: two or more photos.
        geometry: what the photos are made into.
        weights: what to call the weights in the recipe.
        watch: who watches the runs.

    Returns:
        `all`: the means over all photos. `before` and `after`: the means over half of the photos,
        for the network as it is, and normalized with the means over the other half.
    """
    count = len(photos.names)
    if count < 2:
        raise PhotoError(
            f"{photos.source.locate()}: holds one photo; give a folder of two or more, because one "
            "half is for measuring"
        )

    def run(network: Any, chosen: "PhotoList", name: str | None = None) -> FilterMeans:
        labels = vggnorm.Labels(name, weights)
        return vggnorm.compute_means(network, chosen, geometry=geometry, watch=watch, labels=labels)

    names = photos.shuffled(0).names
    used = replace(photos, names=names[: count // 2])
    held_out = replace(photos, names=names[count // 2 :])
    means = run(model, used)
    normalized = vggnorm.normalize(model, means)
    name = f"{model.name} normalized with {means.image_count:,} other photos"
    return {
        "all": run(model, photos),
        "before": run(model, held_out),
        "after": run(normalized, held_out, name),
    }


def draw(measured: Mapping[str, FilterMeans], folder: Path) -> None:
    """Draw the means from `measure`, and write figure.png and normalized.png into the folder."""
    vggnorm.save_figure(vggnorm.plot_means(measured["all"]), folder / "figure.png", force=True)
    before_after = vggnorm.plot_before_after(measured["before"], measured["after"])
    vggnorm.save_figure(before_after, folder / "normalized.png", force=True)


def format_statistics(measured: Mapping[str, FilterMeans]) -> str:
    """Return a table with a line for each of the means, over all their filters."""
    row = "{:<7} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}"
    lines = [row.format("", "photos", "min", "median", "max", "mean", "std dev")]
    for name, means in measured.items():
        figures = summarize(means)["all_layers"]
        columns = ("min", "median", "max", "mean", "standard_deviation")
        lines.append(
            row.format(name, means.image_count, *(f"{figures[column]:.3f}" for column in columns))
        )
    return join_lines(lines)


def load_measured(folder: Path) -> dict[str, FilterMeans]:
    """Load the means that `save_measured` wrote; an empty dict if a file is missing."""
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
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="VGG16's weights, an .h5 file.  [default: ImageNet's]",
)
@click.option(
    "--means",
    "means_folder",
    type=click.Path(path_type=Path),
    help="Keep the means in this folder. If they are already there, only draw.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=ROOT / "tex",
    help="Folder for the figures.",
)
@click.pass_context
def main(
    context: click.Context,
    photos: Path | None,
    weights: Path | None,
    means_folder: Path | None,
    output: Path,
) -> None:
    """Draw VGG16's means over the photos in FOLDER, and before and after normalizing.

    Without FOLDER, sample_photos.py fetches sixteen photos. Without --weights, fetch_weights.py
    fetches those of ImageNet.
    """
    try:
        measured = {} if means_folder is None else load_measured(means_folder)
        if not measured:
            measured = measure_vgg16(context, photos, weights)
            if means_folder is not None:
                save_measured(measured, means_folder)
        draw(measured, output)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo_report(format_statistics(measured))
    echo(f"figures saved as {output / 'figure.png'} and {output / 'normalized.png'}")


def measure_vgg16(
    context: click.Context, photos: Path | None, weights: Path | None
) -> dict[str, FilterMeans]:
    """Measure VGG16 for the figures, and fetch the photos and the weights that are not given."""
    from vggnorm.photos.finding import find_photos

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
    # TensorFlow warns when one program runs several networks, which is intended here.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    model = vggnorm.load_network("vgg16", weights)
    with progress_bar() as progress:
        watch = vggnorm.Watch(progress=progress)
        return measure(model, found, GEOMETRY, weights.name, watch)


if __name__ == "__main__":
    main()
