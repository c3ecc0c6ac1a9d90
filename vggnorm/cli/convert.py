"""The command `vggnorm convert`."""

from pathlib import Path
from typing import Any

import click

from vggnorm.cli.options import force_option, preprocessing_of, writing_options
from vggnorm.files.conventions import CONVENTIONS
from vggnorm.files.formats import open_weights
from vggnorm.files.saving import save_weights
from vggnorm.report.printable import echo
from vggnorm.run.progress import say


@click.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .h5, .safetensors, .pth, .pt, .npz or .mat.",
)
@writing_options
@click.option(
    "--preprocessing",
    type=click.Choice(tuple(CONVENTIONS)),
    help="What the network in FILE takes photos as, if neither the file nor its numbers tell.",
)
@force_option
def command(
    *,
    file: Path,
    output: Path,
    preprocessing: str | None,
    force: bool,
    **how: Any,
) -> None:
    """Write the weights of a VGG for another program.

    FILE and the output may be of any format. The numbers stay as they are, but for the first
    convolution, if it is to take photos in another way. Means and recipe travel along.
    """
    with open_weights(file) as opened:
        weights = opened.vgg
        taken_as = preprocessing_of(opened, preprocessing)
        written = save_weights(output, weights, preprocessing=taken_as, force=force, say=say, **how)
    echo(
        f"{weights.network} saved as {output}, layout {written.layout}, taking photos as "
        f"{written.convention}"
    )
