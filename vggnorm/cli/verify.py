"""The command `vggnorm verify`."""

import sys
from pathlib import Path

import click

from vggnorm import vgg
from vggnorm.cli.options import (
    find_photos,
    json_option,
    limit_option,
    load_original,
    network_file_option,
    photos_options,
    warn_of_unknown_architecture,
    weights_option,
)
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.keras_file import MODELS
from vggnorm.means.recipe import MAX_BATCH
from vggnorm.report.printable import echo_json, echo_report
from vggnorm.run.progress import progress_bar, say
from vggnorm.run.startup import import_keras


@click.command("verify")
@click.argument("normalized_file", metavar="NORMALIZED", type=click.Path(path_type=Path))
@photos_options
@network_file_option
@weights_option
@limit_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=MAX_BATCH),
    default=8,
    metavar="N",
    help="Number of photos that both networks are run on at a time.",
)
@json_option
def command(
    *,
    normalized_file: Path,
    data: str,
    annotations: str | None,
    categories: tuple[str, ...],
    network: str | None,
    weights: str,
    limit: int,
    batch_size: int,
    as_json: bool,
) -> None:
    """Check on photos that the file NORMALIZED keeps its promises.

    Is the mean activation of every filter 1? Does the network compute what the original computes?
    Are the weights finite, and does every filter fire? The exit status is 1 if an answer is no.
    """
    means = load_means(normalized_file)
    photos = find_photos(data, annotations, categories)
    import_keras()
    from vggnorm.network.family import load_normalized
    from vggnorm.verification import verify

    model = load_original(means.recipe, network, weights)
    warn_of_unknown_architecture(model, means)
    _require_as_keras_loads(normalized_file)
    normalized = load_normalized(normalized_file)
    if network is not None and network not in vgg.NETWORKS:
        _require_as_keras_loads(Path(network))
    with progress_bar() as progress:
        report = verify(
            model,
            normalized,
            photos,
            means,
            limit=limit,
            batch_size=batch_size,
            progress=progress,
        )
    if as_json:
        echo_json(report.to_dict())
    else:
        echo_report(report, title=f"{normalized_file}: ")
    if not report.passed:
        sys.exit(1)


def _require_as_keras_loads(path: Path) -> None:
    """Refuse a model file of Keras that Keras itself loads as another network than vggnorm does."""
    from vggnorm.network.storage import load_network, require_as_keras_loads

    with open_weights(path) as file:
        if file.kind not in MODELS:
            return
        model = load_network(file)
    if not require_as_keras_loads(model, path):
        say(
            f"{path}: this Keras cannot load the file by itself, so its own loading was not "
            "compared"
        )
