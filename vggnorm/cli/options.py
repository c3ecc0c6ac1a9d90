"""Options that several commands have, and what they stand for."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggnorm import vgg
from vggnorm.errors import NetworkError, StoppedError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.recipe import Recipe
from vggnorm.run import signals
from vggnorm.run.progress import say

if TYPE_CHECKING:
    import keras

    from vggnorm.photos.photo_list import PhotoList

weights_option = click.option(
    "--weights",
    default="imagenet",
    metavar="imagenet|FILE",
    help="Keras's ImageNet weights, which are downloaded once, or an .h5 file.",
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
force_option = click.option("--force", is_flag=True, help="Replace the output file if it exists.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")


def output_option(default: str | None, text: str) -> Callable[[Any], Any]:
    """Make the option that names the file to write."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), default=default, help=text
    )


def photos_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose photos."""
    data = click.option(
        "--data",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder of photos, searched with its subfolders: a COCO root, one of its folders, or "
        "any other folder. Folders with COCO's masks are left out: annotations, stuffthingmaps*, "
        "panoptic_*, pixelmaps_*, *_pixelmaps.",
    )
    annotations = click.option(
        "--annotations",
        type=click.Path(path_type=Path),
        help="COCO instances or captions file. Only the photos listed in it are used.",
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
    data: Path, annotations: Path | None = None, categories: tuple[str, ...] = ()
) -> "PhotoList":
    """Find the photos, and say where they are and what was left out."""
    from vggnorm.photos import folder  # it imports Pillow

    photos = folder.find_photos(data, annotations=annotations, categories=categories)
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
