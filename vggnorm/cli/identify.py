"""The command `vggnorm identify`."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from vggnorm.cli.options import DATA, find_photos, json_option, limit_option
from vggnorm.errors import NetworkError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.report.printable import echo_json, echo_report
from vggnorm.run.options import Until, Watch
from vggnorm.run.progress import progress_bar, say
from vggnorm.run.startup import import_keras

if TYPE_CHECKING:
    from vggnorm.identification.matching import Original
    from vggnorm.means.filter_means import FilterMeans
    from vggnorm.photos.geometry import Preprocessing

ORIGINAL = "imagenet|FILE"


@click.command("identify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--original",
    metavar=ORIGINAL,
    default="imagenet",
    help="The network that FILE may be made from: Keras's ImageNet weights of VGG16 or VGG19, "
    "whichever its layers fit, or a file.",
)
@click.option(
    "--data",
    metavar=DATA,
    help="Measure the original's means on these photos, and compare the scales with them.",
)
@click.option(
    "--means",
    "means_file",
    type=click.Path(path_type=Path),
    help="Compare the scales with the means in this file, written by compute-means.",
)
@limit_option
@json_option
def command(
    *,
    file: Path,
    original: str,
    data: str | None,
    means_file: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Tell whether anyone's file is a normalized network, and with what means.

    What each filter was divided by is found by comparing the file's weights with those of the
    original.
    """
    compare(file, original, data, means_file, limit=limit, as_json=as_json)


def compare(
    file: Path,
    original: str,
    data: str | None,
    means_file: Path | None,
    *,
    limit: int,
    as_json: bool,
) -> None:
    """Compare a file with the original, and with means if there are any."""
    if data is not None and means_file is not None:
        raise click.UsageError("give --data or --means, and not both")
    means = None if means_file is None else load_means(means_file)
    import_keras()
    from vggnorm.identification.matching import open_original
    from vggnorm.identification.verdict import identify

    with open_weights(file) as opened:
        known = open_original(original, opened)
        if data is not None:
            means = _measure_original(known, original, data, limit)
        found = identify(opened, known, means)
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


def _measure_original(known: "Original", original: str, data: str, limit: int) -> "FilterMeans":
    from vggnorm.measure import compute_means

    preprocessing = known.convention or known.usual
    if preprocessing is None:
        raise NetworkError(
            f"{original}: a model file does not say what it takes photos as; measure it with "
            "compute-means, and give --means"
        )
    if known.convention is None:
        say(f"{original}: does not say how it takes photos; measured as {preprocessing}")
    photos = find_photos(data)
    with progress_bar() as progress:
        return compute_means(
            known.model,
            photos,
            preprocessing=cast("Preprocessing", preprocessing),
            until=Until(limit=limit),
            watch=Watch(progress=progress),
        )
