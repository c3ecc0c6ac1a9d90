"""The command `vggnorm plot`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggnorm.cli.options import force_option, output_option
from vggnorm.disk import check_output
from vggnorm.errors import MeansError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.weights_file import Kind
from vggnorm.report.printable import echo
from vggnorm.run.startup import have_temporary_folder

if TYPE_CHECKING:
    from vggnorm.means.filter_means import FilterMeans


@click.command("plot")
@click.argument("file", metavar="means.npy|FILE", type=click.Path(path_type=Path))
@click.argument(
    "after_file", metavar="[AFTER.npy]", required=False, type=click.Path(path_type=Path)
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="Draw a curve for this layer; repeatable.  [default: three layers that differ]",
)
@click.option("--every-layer", is_flag=True, help="Draw a panel for every layer.")
@click.option(
    "--log",
    is_flag=True,
    help="Use a logarithmic axis, as --every-layer and before-and-after always do.",
)
@force_option
@output_option("figure.png", "File to write: .png, .svg or .pdf.")
def command(
    *,
    file: Path,
    after_file: Path | None,
    layers: tuple[str, ...],
    every_layer: bool,
    log: bool,
    force: bool,
    output: Path,
) -> None:
    """Draw how the mean activations of the filters are distributed.

    For means.npy, saved by compute-means, draw its means. For FILE, saved by normalize, draw the
    means that it was made with, and the value 1 that they become. With AFTER.npy, the means that
    compute-means measured on the normalized network, draw before and after.
    """
    check_output(output, force=force)
    have_temporary_folder(output.parent)  # matplotlib may want one when it is imported
    # matplotlib and scipy take a second to import.
    from vggnorm.report.plot import (
        check_figure_output,
        plot_before_after,
        plot_every_layer,
        plot_means,
        save_figure,
    )

    if every_layer and layers:
        raise click.UsageError("--every-layer draws all layers: leave out --layer")
    check_figure_output(output, force=force)
    means, is_network = _read(file)
    after, after_is_network = (None, False) if after_file is None else _read(after_file)
    if after_is_network:
        padding = (
            " --padding reflect" if after is not None and after.recipe.padding == "reflect" else ""
        )
        raise MeansError(
            f"{after_file}: holds the means from before it was normalized; measure it with "
            f"compute-means --network {after_file}{padding}, and give the file that this writes"
        )
    if every_layer:
        figure = plot_every_layer(means, after)
    elif is_network or after is not None:
        figure = plot_before_after(means, after, layers=layers)
    else:
        figure = plot_means(means, layers=layers, log=log)
    save_figure(figure, output, force=force)
    echo(f"figure saved as {output}")


def _read(file: Path) -> "tuple[FilterMeans, bool]":
    """Read the means in a file, and tell whether it is the file of a network."""
    with open_weights(file) as opened:
        return load_means(opened), opened.kind is not Kind.MEANS
