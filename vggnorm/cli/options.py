"""Options that several commands have, and what they stand for."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggnorm import vgg
from vggnorm.errors import NetworkError, StoppedError
from vggnorm.files.conventions import ADAIN, CONVENTIONS, WRITTEN
from vggnorm.files.conversion import DTYPES
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.weights_file import TensorsFile, WeightsFile
from vggnorm.files.writing import ENDINGS
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.recipe import Recipe
from vggnorm.run import signals
from vggnorm.run.progress import say

if TYPE_CHECKING:
    import keras

    from vggnorm.photos.photo_list import PhotoList

DATA = "FOLDER|ARCHIVE|ADDRESS"

weights_option = click.option(
    "--weights",
    default="imagenet",
    metavar="imagenet|FILE",
    help="Keras's ImageNet weights, which are downloaded once, or a file of any format.",
)
network_file_option = click.option(
    "--network",
    metavar="FILE",
    help="The file of the original network, if it is not one of Keras's.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=64,
    metavar="N",
    help="Number of photos to use.",
)
network_to_normalize_option = click.option(
    "--network",
    metavar="vgg16|vgg19|FILE",
    help="The original network.  [default: the one of Keras's that was measured]",
)
force_option = click.option("--force", is_flag=True, help="Replace the output file if it exists.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")


def output_option(default: str | None, text: str) -> Callable[[Any], Any]:
    """Make the option that names the file to write."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), default=default, help=text
    )


def writing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how weights are written."""
    layout = click.option(
        "--layout",
        type=click.Choice(tuple(LAYOUTS)),
        help="The program whose names and order of axes the file has: see docs/layouts.md.  "
        "[default: keras for .h5, torchvision for .safetensors and .pth, list for .npz, matconvnet "
        "for .mat]",
    )
    convention = click.option(
        "--convention",
        type=click.Choice((*WRITTEN, ADAIN)),
        help="What the network in the written file takes photos as. caffe: BGR, 0..255, minus the "
        "mean colour. rgb255: the same, in RGB. torch: RGB, 0..1, standardized. adain: RGB, 0..1, "
        "with a 1x1 convolution in front, for the layouts that have one.  [default: the layout's]",
    )
    file_format = click.option(
        "--format",
        "file_format",
        type=click.Choice(tuple(ENDINGS)),
        help="The format to write.  [default: what the output's name ends in]",
    )
    up_to = click.option(
        "--up-to", metavar="conv4_1", help="Write the convolutions up to this one.  [default: all]"
    )
    with_classifier = click.option(
        "--with-classifier",
        is_flag=True,
        help="Write the dense layers, too, which strict loaders want; zeros if the network has "
        "none.",
    )
    dtype = click.option(
        "--dtype",
        type=click.Choice(tuple(DTYPES)),
        help="The type of the numbers.  [default: as they are]",
    )
    for option in (dtype, with_classifier, up_to, file_format, convention, layout):
        command = option(command)
    return command


def warn_if_other(file: WeightsFile, preprocessing: str) -> None:
    """Warn if a file says, or its numbers show, that its network takes photos in another way."""
    known = file.taken_as
    if known.convention not in (None, preprocessing):
        say(
            f"warning: {file.path}: takes photos as {known.convention}, according to "
            f"{known.source}; --preprocessing {preprocessing} is used all the same"
        )


def preprocessing_of(file: WeightsFile, given: str | None) -> str:
    """Tell what the network in a file takes photos as: as the user says, or as the file shows.

    Raises:
        NetworkError: neither says it.
    """
    if isinstance(file, TensorsFile) and file.has_unknown_colours:
        say(f"warning: {file.path}: its 1x1 convolution in front is not known; it is left out")
    if given is not None:
        warn_if_other(file, given)
        return given
    known = file.taken_as
    if known.convention is None:
        raise NetworkError(
            f"{file.path}: nothing in the file says what it takes photos as; give --preprocessing, "
            f"one of {', '.join(CONVENTIONS)}"
        )
    say(f"{file.path}: takes photos as {known.convention}, according to {known.source}")
    return known.convention


def photos_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose photos."""
    data = click.option(
        "--data",
        required=True,
        metavar=DATA,
        help="Photos: a folder, searched with its subfolders; a .zip or .tar, or several, as in "
        "'shards-{000..015}.tar'; or the http(s)://, s3://, gs://, az:// or hf:// address of an "
        "archive or, except for http(s), of a folder. Folders with COCO's masks are left out: "
        "annotations, stuffthingmaps*, panoptic_*, pixelmaps_*, *_pixelmaps.",
    )
    annotations = click.option(
        "--annotations",
        metavar="FILE|ADDRESS",
        help="COCO annotation file of any kind. Only the photos listed in it are used.",
    )
    category = click.option(
        "--category",
        "categories",
        multiple=True,
        metavar="NAME",
        help="Use only photos showing this COCO category; repeatable. Needs --annotations.",
    )
    return data(annotations(category(command)))


def refuse_nan(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which a `click.FloatRange` accepts."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("must be a number, not nan.")
    return value


def find_photos(
    data: str, annotations: str | None = None, categories: tuple[str, ...] = ()
) -> "PhotoList":
    """Find the photos, and say where they are and what was left out."""
    from vggnorm.photos import finding  # it imports Pillow

    photos = finding.find_photos(data, annotations=annotations, categories=categories)
    for line in photos.describe():
        say(line)
    return photos


def load_original(
    recipe: Recipe, network: str | None, weights: str, pooling: str | None = None
) -> "keras.Model":
    """Load the network that the means were measured on, or the one that was given instead."""
    from vggnorm.network.storage import load_network

    if network is None and recipe.network not in vgg.NETWORKS:
        raise NetworkError(
            f"the means were measured on {recipe.network}; give that model's file with --network"
        )
    is_vgg = network is None or network in vgg.NETWORKS
    measured_pooling = "avg" if recipe.pooling == "avg" else "max"
    return load_network(
        network or recipe.network,
        weights,
        include_top=recipe.include_top and is_vgg,
        pooling=pooling or measured_pooling,
        padding=recipe.padding,
        say=say,
    )


def warn_of_unknown_architecture(model: "keras.Model", means: FilterMeans) -> None:
    """Warn where nobody knows whether the means belong to this network."""
    from vggnorm.network.applications import is_application

    if means.recipe.architecture_sha256 is None and not is_application(model):
        say(
            "warning: these means, of version 0.1.0, do not say on which layers they were "
            "measured; the strides and slopes of this network are not compared"
        )


@contextmanager
def stopping() -> Iterator[Callable[[], int | None]]:
    """Let the signals that end programs stop a run after it has saved what it has.

    Yields:
        A function that gives the number of the signal that has come, or None.
    """
    with signals.noting() as noted:
        try:
            yield noted
        except StoppedError as stopped:
            raise signals.Interrupted(noted() or 0, f"Interrupted: {stopped}") from stopped
