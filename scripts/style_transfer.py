#!/usr/bin/env python3
"""Paint a picture in the style of another, as Gatys, Ecker and Bethge do (CVPR 2016).

Usage:
    python scripts/style_transfer.py CONTENT STYLE -o out.png --network vgg16_norm.h5
    python scripts/style_transfer.py CONTENT STYLE -o out.png --weights vgg16_imagenet.h5

The program changes the pixels themselves, within 0..255, until the network finds the content of the
first picture and the style of the second in them. gatys_loss.py defines both. At the start it
prints the style loss of each layer: with the original network these losses differ by orders of
magnitude, with the normalized one they are of similar size, so that equal weights work. The
gradients come from TensorFlow, so Keras must use that backend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from descent import WHITE, Picture, minimize_adam, minimize_lbfgs
from PIL import Image

import vggnorm
from vggnorm.disk import check_output, replacing
from vggnorm.errors import OutputError, PhotoError, VggnormError
from vggnorm.photos.decode import load_photo
from vggnorm.photos.geometry import Geometry
from vggnorm.report.printable import echo, echo_report, join_lines, printable
from vggnorm.run.progress import progress_bar
from vggnorm.run.startup import import_keras

if TYPE_CHECKING:
    from gatys_loss import Losses, Objective


@dataclass(frozen=True)
class Settings:
    """The options of the command that say what to paint with, from where, and how long."""

    network: str
    weights: str
    pooling: str
    content_layers: Sequence[str]
    style_layers: Mapping[str, float]
    content_weight: float
    style_weight: float
    start: str
    seed: int
    optimizer: str
    learning_rate: float
    iterations: int


CONTENT_LAYERS = ("block4_conv2",)
STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")
SMALLEST = 32  # pixels: VGG halves a picture four times before block5
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


# Pictures


def read_picture(path: Path, size: int) -> Picture:
    """Read a picture, upright and in RGB, and resize it so that its longer side has `size` pixels.

    Raises:
        PhotoError: the file is not a picture, or its shorter side would be too short for the
            network.
    """
    image = load_photo(path, Geometry(size, "stretch"))
    width, height = (round(side * size / max(image.size)) for side in image.size)
    if min(width, height) < SMALLEST:
        raise PhotoError(
            f"{path}: would be {width} x {height} pixels, and each side must be {SMALLEST} or "
            "more; give a larger size"
        )
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.float64)


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format that the path's ending names."""
    image = Image.fromarray(np.clip(np.rint(picture), 0, WHITE).astype(np.uint8))
    with replacing(path) as temporary:
        image.save(temporary, format=FORMATS[path.suffix.lower()], quality=90)


def check_picture_output(path: Path, *, force: bool) -> None:
    """Check before any work that a picture may be written to `path`.

    Raises:
        OutputError: `check_output` refuses the path, or its ending is not one of `FORMATS`.
    """
    check_output(path, force=force)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: does not end in {', '.join(FORMATS)}; give a name that does")


def intermediate_path(output: Path, iteration: int) -> Path:
    """Return the name for the picture after some iterations: out.png -> out_0050.png."""
    return output.with_name(f"{output.stem}_{iteration:04}{output.suffix}")


def first_picture(start: str, content: Picture, seed: int) -> Picture:
    """Return the picture to start from: the content, or white noise of its size."""
    if start == "content":
        return content
    return np.random.default_rng(seed).uniform(0, WHITE, content.shape)


# The command


def format_losses(losses: "Losses") -> str:
    """Return a table of the loss of each layer."""
    rows = [("content", layer, loss) for layer, loss in losses.content.items()]
    rows += [("style", layer, loss) for layer, loss in losses.style.items()]
    return join_lines(f"{kind:8} {layer:14} {loss:12.4g}" for kind, layer, loss in rows)


def read_style_layers(values: Sequence[str]) -> dict[str, float]:
    """Read `NAME` or `NAME=WEIGHT`; without a weight, it is 1."""
    layers = {}
    for value in values:
        name, _, weight = value.partition("=")
        try:
            layers[name] = float(weight or 1)
        except ValueError:
            layers[name] = -1.0
        if not 0 <= layers[name] < np.inf:
            raise click.BadParameter(
                f"{value}: give NAME=WEIGHT, where WEIGHT is a number and not negative"
            )
    if not sum(layers.values()):
        raise click.BadParameter("at least one layer must have a weight above 0")
    return layers


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("content", type=click.Path(path_type=Path))
@click.argument("style", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="out.png", help="Picture to write."
)
@click.option(
    "--network",
    "--network-file",
    default="vgg16",
    metavar="vgg16|vgg19|FILE",
    help="One of Keras's networks, or a model file without dense layers, such as vgg16_norm.h5.",
)
@click.option(
    "--weights",
    default="imagenet",
    metavar="imagenet|FILE",
    help="The weights of vgg16 or vgg19, as for vggnorm compute-means.",
)
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    default="max",
    help="avg replaces max pooling by average pooling. Use it with a network that was normalized "
    "with it; in any other, the mean activations are no longer 1.",
)
@click.option(
    "--content-layer",
    "content_layers",
    multiple=True,
    default=CONTENT_LAYERS,
    metavar="NAME",
    help="Compare the content in this layer. You can repeat the option.",
)
@click.option(
    "--style-layer",
    "style_layers",
    multiple=True,
    default=STYLE_LAYERS,
    metavar="NAME[=WEIGHT]",
    callback=lambda _context, _option, values: read_style_layers(values),
    help="Compare the style in this layer, with a weight against the other layers. You can repeat "
    "the option.",
)
@click.option(
    "--content-weight", type=click.FloatRange(min=0), default=1.0, help="Weight of the content."
)
@click.option(
    "--style-weight", type=click.FloatRange(min=0), default=1.0, help="Weight of the style."
)
@click.option(
    "--size",
    type=click.IntRange(min=SMALLEST),
    default=256,
    help="Longer side of the picture, in pixels.",
)
@click.option(
    "--style-size",
    type=click.IntRange(min=SMALLEST),
    help="Longer side of the style picture. A smaller one gives smaller patterns in the result.  "
    "[default: --size]",
)
@click.option(
    "--start",
    type=click.Choice(("content", "noise")),
    default="content",
    help="Picture to start from.",
)
@click.option("--seed", type=int, default=0, help="Seed of the noise.")
@click.option(
    "--optimizer", type=click.Choice(("lbfgs", "adam")), default="lbfgs", help="How to minimize."
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    help="Learning rate of Adam, in pixel values.",
)
@click.option("--iterations", type=click.IntRange(min=1), default=200, help="Number of steps.")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also write every N-th picture, as out_0050.png.",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def main(
    *,
    content: Path,
    style: Path,
    output: Path,
    size: int,
    style_size: int | None,
    every: int | None,
    force: bool,
    **options: Any,
) -> None:
    """Paint the picture CONTENT in the style of the picture STYLE."""
    settings = Settings(**options)
    steps = range(every, settings.iterations, every) if every else ()
    kept = {step: intermediate_path(output, step) for step in steps}
    try:
        for path in (output, *kept.values()):
            check_picture_output(path, force=force)
        content_picture = read_picture(content, size)
        style_picture = read_picture(style, style_size or size)
        import_keras()
        paint(content_picture, style_picture, settings, output, kept)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo("", f"{output} is written")


def paint(
    content: Picture, style: Picture, settings: Settings, output: Path, kept: Mapping[int, Path]
) -> None:
    """Paint a picture and write it; print the losses at the start and at the end.

    Args:
        content: the picture whose content to show.
        style: the picture whose style to use.
        settings: how to paint.
        output: the file for the last picture.
        kept: step -> the file for the picture after it.
    """
    objective = make_objective(content, style, settings)
    start = first_picture(settings.start, content, settings.seed)
    echo("losses at the start")
    echo_report(format_losses(objective.losses(start)))
    echo("")
    with progress_bar("steps") as progress:

        def report(done: int, current: Picture) -> None:
            progress(done, settings.iterations, None)
            if done in kept:
                write_picture(current, kept[done])

        iterations = settings.iterations
        if settings.optimizer == "lbfgs":
            picture = minimize_lbfgs(objective, start, iterations, report)
        else:
            picture = minimize_adam(objective, start, iterations, report, settings.learning_rate)
    write_picture(picture, output)
    echo("losses at the end")
    echo_report(format_losses(objective.losses(picture)))


def make_objective(content: Picture, style: Picture, settings: Settings) -> "Objective":
    """Load the network and make the loss of two pictures."""
    from gatys_loss import Objective, Weights

    weights = Weights(
        settings.content_layers,
        settings.style_layers,
        settings.content_weight,
        settings.style_weight,
    )
    model = vggnorm.load_network(settings.network, settings.weights, pooling=settings.pooling)
    return Objective(model, content, style, weights)


if __name__ == "__main__":
    main()
