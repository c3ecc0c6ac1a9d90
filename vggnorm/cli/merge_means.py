"""The command `vggnorm merge-means`."""

from pathlib import Path

import click

from vggnorm.cli.options import force_option, output_option
from vggnorm.disk import check_output
from vggnorm.errors import MeansError
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.merge import merge_means
from vggnorm.report.printable import echo, echo_report
from vggnorm.report.text import format_summary
from vggnorm.run.progress import say


@click.command("merge-means")
@click.argument(
    "files", metavar="PART.npy...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@force_option
@output_option("means.npy", "File to write.")
def command(*, files: tuple[Path, ...], force: bool, output: Path) -> None:
    """Add up means that were measured over parts of the photos.

    Each PART.npy was saved by compute-means --shard. All parts must be given, measured with the
    same recipe on the same weights and photos. The result is that of one run over all photos.
    """
    check_output(output, force=force)
    for file in files:
        if files.count(file) > 1:
            raise MeansError(f"{file} is given twice; give each part once")
    parts = {str(file): load_means(file) for file in files}
    machines = sorted({means.recipe.machine for means in parts.values()} - {""})
    if len(machines) > 1:
        quoted = " and on ".join(map(repr, machines))
        say(f"the last bits may differ from those of one run: measured on {quoted}")
    means = merge_means(parts)
    save_means(means, output, force=force)
    echo_report(format_summary(means))
    echo("", f"{len(files)} parts added up, saved as {output}")
