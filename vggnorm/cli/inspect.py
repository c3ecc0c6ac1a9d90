"""The command `vggnorm inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggnorm import vgg
from vggnorm.cli.options import find_photos, json_option, limit_option
from vggnorm.errors import NetworkError
from vggnorm.files.formats import Kind, load_means, open_weights
from vggnorm.report.printable import echo, echo_json, echo_report
from vggnorm.report.text import format_summary, summarize
from vggnorm.run.options import Until, Watch
from vggnorm.run.progress import progress_bar, say
from vggnorm.run.startup import import_keras

if TYPE_CHECKING:
    import keras

    from vggnorm.means.filter_means import FilterMeans


@click.command("inspect")
@click.argument("file", metavar="means.npy|FILE.h5", type=click.Path(path_type=Path))
@click.option(
    "--original",
    metavar="imagenet|FILE",
    help="Compare FILE.h5, whoever made it, with the network that it may be made from: Keras's "
    "ImageNet weights of VGG16 or VGG19, or a file of a model or of VGG's weights.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="With --original: measure the original's means on this folder of photos, and compare the "
    "scales with them.",
)
@click.option(
    "--means",
    "means_file",
    type=click.Path(path_type=Path),
    help="With --original: compare the scales with the means in this file, written by "
    "compute-means.",
)
@limit_option
@json_option
def command(
    *,
    file: Path,
    original: str | None,
    data: Path | None,
    means_file: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Tell what a file holds and how it was made.

    FILE was saved by compute-means or normalize. With --original, it may be the file of any
    network. Its scales are then found by comparing its weights with those of the original.
    """
    if original is not None:
        if data is not None and means_file is not None:
            raise click.UsageError("give --data or --means, and not both")
        _compare(file, original, data, means_file, limit=limit, as_json=as_json)
        return
    if data is not None or means_file is not None:
        raise click.UsageError("--data and --means need --original")
    with open_weights(file) as opened:
        is_network = opened.kind is not Kind.MEANS
        means = load_means(opened)
    if as_json:
        echo_json(summarize(means))
        return
    what = "a network normalized with the means below" if is_network else "means"
    echo(f"{file}: {what}", f"measured by vggnorm {means.recipe.version}", "")
    echo_report(format_summary(means))


def _compare(
    file: Path,
    original: str,
    data: Path | None,
    means_file: Path | None,
    *,
    limit: int,
    as_json: bool,
) -> None:
    """Compare a file with the original, and with means if there are any."""
    means = None if means_file is None else load_means(means_file)
    import_keras()
    from vggnorm.identification.matching import load_original
    from vggnorm.identification.verdict import identify

    with open_weights(file) as opened:
        model = load_original(original, opened)
        if data is not None:
            means = _measure_original(model, original, data, limit)
        found = identify(opened, model, means)
        names_backend = opened.names_backend
    if not names_backend:
        say(
            f"{file}: does not name the backend that it was written with; only the comparison with "
            "the original tells whether its kernels are turned by 180 degrees, as Theano's are"
        )
    if as_json:
        echo_json(found.to_dict())
    else:
        echo_report(found, title=f"{file}: ")


def _measure_original(model: "keras.Model", original: str, data: Path, limit: int) -> "FilterMeans":
    from vggnorm.measure import compute_means

    if model.name not in vgg.NETWORKS:
        raise NetworkError(
            f"{original}: a model file does not say what it takes photos as; measure it with "
            "compute-means, and give --means"
        )
    photos = find_photos(data)
    with progress_bar() as progress:
        return compute_means(
            model, photos, until=Until(limit=limit), watch=Watch(progress=progress)
        )
