"""The command `vggnorm inspect`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from vggnorm.cli.identify import ORIGINAL, compare
from vggnorm.cli.options import DATA, json_option, limit_option
from vggnorm.errors import NetworkError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.weights_file import Kind, TensorsFile, WeightsFile
from vggnorm.report.printable import echo, echo_json, echo_report
from vggnorm.report.text import format_summary, summarize
from vggnorm.report.weights import format_weights


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--original",
    metavar=ORIGINAL,
    help="Compare FILE with the network that it may be made from, as vggnorm identify does.",
)
@click.option(
    "--data",
    metavar=DATA,
    help="With --original: as for identify.",
)
@click.option(
    "--means",
    "means_file",
    type=click.Path(path_type=Path),
    help="With --original: as for identify.",
)
@limit_option
@json_option
def command(
    *,
    file: Path,
    original: str | None,
    data: str | None,
    means_file: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Tell what a file holds and how it was made.

    FILE may be a file of means, or a file of weights that anyone made: of Keras, safetensors, of
    PyTorch, .npz or .mat. If vggnorm made it, its means and its recipe are shown.
    """
    if original is not None:
        compare(file, original, data, means_file, limit=limit, as_json=as_json)
        return
    if data is not None or means_file is not None:
        raise click.UsageError("--data and --means need --original")
    with open_weights(file) as opened:
        is_network = opened.kind is not Kind.MEANS
        facts = _facts(opened) if is_network else {}
        means = opened.means if is_network else load_means(opened)
    if as_json:
        of_means = {} if means is None else summarize(means)
        echo_json({**of_means, "weights": facts} if is_network else of_means)
        return
    if is_network:
        echo_report(format_weights(facts), title=f"{file}: ")
        echo("")
    if means is not None:
        what = "a network normalized with the means below" if is_network else "means"
        echo(f"{file}: {what}", f"measured by vggnorm {means.recipe.version}", "")
        echo_report(format_summary(means))


def _facts(file: WeightsFile) -> dict[str, Any]:
    """Say what a file of weights holds."""
    layout, network, not_read = None, None, []
    with suppress(NetworkError):  # a file of Keras may hold another network than a VGG
        layout, network, not_read = file.vgg.layout, file.vgg.network, list(file.vgg.surplus)
    layers = {name: tensors for name, tensors in file.layers.items() if tensors}
    return {
        "container": file.kind.value,
        "layout": layout,
        "network": network,
        "found_in": file.found_in if isinstance(file, TensorsFile) else "",
        "convention": file.taken_as.convention,
        "convention_source": file.taken_as.source,
        "dtypes": sorted({tensor.dtype for tensors in layers.values() for tensor in tensors}),
        "not_read": not_read,
        "layers": {
            name: [list(tensor.shape) for tensor in tensors] for name, tensors in layers.items()
        },
    }
