#!/usr/bin/env python3
"""Paint one picture in the style of another, by the algorithm of Gatys, Ecker and Bethge (CVPR 2016).

Usage:
    python scripts/style_transfer.py CONTENT STYLE -o out.png --network vgg16_norm.h5
    python scripts/style_transfer.py CONTENT STYLE -o out.png --weights vgg16_imagenet.h5

The pixels themselves are optimized, within 0..255, until the network finds in them the content of the one picture and
the style of the other; gatys_loss.py says what that means. At the start the style loss of each layer is printed: with
the original network they lie orders of magnitude apart, with the normalized one they are of one size, so that equal
weights do. Needs Keras's TensorFlow backend, for the gradients.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import vggnorm
from vggnorm.errors import OutputError, PhotoError, VggnormError
from vggnorm.geometry import Geometry
from vggnorm.images import load_photo
from vggnorm.output import check_output, replacing
from vggnorm.printable import echo, echo_report, join_lines, printable
from vggnorm.progress import progress_bar
from vggnorm.startup import import_keras

if TYPE_CHECKING:
    from gatys_loss import Losses, Objective

Picture = NDArray[np.float64]  # (height, width, 3), RGB 0..255
Report = Callable[[int, Picture], None]  # is told after each iteration how many there were, and the picture

CONTENT_LAYERS = ("block4_conv2",)
STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")
SMALLEST = 32  # pixels: VGG halves a picture four times before block5
WHITE = 255.0
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


# Pictures


def read_picture(path: Path, size: int) -> Picture:
    """Read a picture, upright and in RGB, and make its longer side `size` pixels, keeping its proportions.

    Raises:
        PhotoError: the file is no picture, or so oblong that its shorter side would be too short for the network.
    """
    try:
        image = load_photo(path, Geometry(size, "stretch"))
    except PhotoError as error:
        raise PhotoError(f"{path}: {error}") from error
    width, height = (round(side * size / max(image.size)) for side in image.size)
    if min(width, height) < SMALLEST:
        raise PhotoError(
            f"{path}: would be {width} x {height} pixels, and each side must be {SMALLEST} or more; give a larger size"
        )
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.float64)


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format that the path's ending names."""
    image = Image.fromarray(np.clip(np.rint(picture), 0, WHITE).astype(np.uint8))
    with replacing(path) as temporary:
        image.save(temporary, format=FORMATS[path.suffix.lower()], quality=90)


def check_picture_output(path: Path, *, force: bool) -> None:
    """Refuse, before any work is done, a picture that could not or should not be written.

    Raises:
        OutputError: as `check_output` has it, or the ending is not one of `FORMATS`.
    """
    check_output(path, force=force)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: does not end in {', '.join(FORMATS)}; give a name that does")


def intermediate_path(output: Path, iteration: int) -> Path:
    """Name the picture after so many iterations: out.png -> out_0050.png."""
    return output.with_name(f"{output.stem}_{iteration:04}{output.suffix}")


# Optimizing


def minimize_lbfgs(objective: "Objective", start: Picture, iterations: int, report: Report) -> Picture:
    """Minimize with scipy's L-BFGS-B, with the pixels bounded to 0..255, as the paper does but for the bounds.

    Returns:
        The last picture. Where no step makes the loss smaller any more, that comes before `iterations`.
    """
    from scipy.optimize import minimize

    done = 0

    def value_and_gradient(pixels: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = objective.value_and_gradient(pixels.reshape(start.shape))
        return value, gradient.ravel().astype(np.float64)

    def count(pixels: NDArray[np.float64]) -> None:
        nonlocal done
        done += 1
        report(done, pixels.reshape(start.shape))

    result = minimize(
        value_and_gradient,
        start.ravel(),
        method="L-BFGS-B",
        jac=True,
        bounds=[(0.0, WHITE)] * start.size,
        callback=count,
        # The derivative by one pixel of a hundred thousand is tiny: no tolerance may take that for the end.
        options={"maxiter": iterations, "maxfun": 25 * iterations, "ftol": 0.0, "gtol": 0.0},
    )
    picture: Picture = result.x.reshape(start.shape)
    return picture


def minimize_adam(
    objective: "Objective", start: Picture, iterations: int, report: Report, learning_rate: float
) -> Picture:
    """Minimize with Adam, pixels being clipped to 0..255 after each step of up to about `learning_rate`."""
    import keras

    picture = keras.Variable(start, dtype="float32")
    optimizer = keras.optimizers.Adam(learning_rate)
    for iteration in range(1, iterations + 1):
        _, gradient = objective.value_and_gradient(picture.numpy())
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [picture])
        picture.assign(keras.ops.clip(picture, 0, WHITE))
        report(iteration, picture.numpy())
    result: Picture = picture.numpy().astype(np.float64)
    return result


def first_picture(start: str, content: Picture, seed: int) -> Picture:
    """Give the picture to start from: the content, or white noise of its size."""
    if start == "content":
        return content
    return np.random.default_rng(seed).uniform(0, WHITE, content.shape)


# The command


def format_losses(losses: "Losses") -> str:
    """Lay out the loss of each layer as a table."""
    rows = [("content", layer, loss) for layer, loss in losses.content.items()]
    rows += [("style", layer, loss) for layer, loss in losses.style.items()]
    return join_lines(f"{kind:8} {layer:14} {loss:12.4g}" for kind, layer, loss in rows)


def read_style_layers(values: Sequence[str]) -> dict[str, float]:
    """Read `NAME` or `NAME=WEIGHT`, the weight being 1 where none is given."""
    layers = {}
    for value in values:
        name, _, weight = value.partition("=")
        try:
            layers[name] = float(weight or 1)
        except ValueError:
            layers[name] = -1.0
        if not 0 <= layers[name] < np.inf:
            raise click.BadParameter(f"{value}: is no NAME=WEIGHT with a number that is not negative")
    if not sum(layers.values()):
        raise click.BadParameter("one of the layers must have a weight above 0")
    return layers


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("content", type=click.Path(path_type=Path))
@click.argument("style", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default="out.png", help="Picture to write.")
@click.option(
    "--network",
    "--network-file",
    default="vgg16",
    metavar="vgg16|vgg19|FILE",
    help="One of Keras's networks, or the file of one, such as vgg16_norm.h5, without its dense layers.",
)
@click.option("--weights", default="imagenet", metavar="imagenet|FILE", help="As of vggnorm compute-means.")
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    default="max",
    help="avg puts average pooling in the place of max pooling. Give it a network that was normalized with it: in one "
    "that was not, the mean activations are no longer 1.",
)
@click.option(
    "--content-layer",
    "content_layers",
    multiple=True,
    default=CONTENT_LAYERS,
    metavar="NAME",
    help="Where to compare the content. May be given again.",
)
@click.option(
    "--style-layer",
    "style_layers",
    multiple=True,
    default=STYLE_LAYERS,
    metavar="NAME[=WEIGHT]",
    callback=lambda _context, _option, values: read_style_layers(values),
    help="Where to compare the style, and how much that counts among the layers. May be given again.",
)
@click.option("--content-weight", type=click.FloatRange(min=0), default=1.0, help="What the content counts.")
@click.option("--style-weight", type=click.FloatRange(min=0), default=1.0, help="What the style counts.")
@click.option("--size", type=click.IntRange(min=SMALLEST), default=256, help="Longer side of the picture, in pixels.")
@click.option(
    "--style-size",
    type=click.IntRange(min=SMALLEST),
    help="Longer side of the style picture: what is smaller in it becomes smaller in the result.  [default: --size]",
)
@click.option("--start", type=click.Choice(("content", "noise")), default="content", help="What to start from.")
@click.option("--seed", type=int, default=0, help="Of the noise.")
@click.option("--optimizer", type=click.Choice(("lbfgs", "adam")), default="lbfgs", help="How to minimize.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=5.0, help="Of Adam, in pixels.")
@click.option("--iterations", type=click.IntRange(min=1), default=200, help="How many steps to make.")
@click.option("--every", type=click.IntRange(min=1), metavar="N", help="Write each N-th picture, too: out_0050.png.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def main(**options: Any) -> None:
    """Paint the picture CONTENT in the style of the picture STYLE."""
    try:
        transfer_style(**options)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error


def transfer_style(
    *,
    content: Path,
    style: Path,
    output: Path,
    network: str,
    weights: str,
    pooling: str,
    content_layers: Sequence[str],
    style_layers: dict[str, float],
    content_weight: float,
    style_weight: float,
    size: int,
    style_size: int | None,
    start: str,
    seed: int,
    optimizer: str,
    learning_rate: float,
    iterations: int,
    every: int | None,
    force: bool,
) -> None:
    """Do what the command line asks for."""
    kept = {step: intermediate_path(output, step) for step in range(every, iterations, every)} if every else {}
    for path in (output, *kept.values()):
        check_picture_output(path, force=force)
    content_picture, style_picture = read_picture(content, size), read_picture(style, style_size or size)
    import_keras()
    from gatys_loss import Objective, Weights

    objective = Objective(
        vggnorm.load_network(network, weights, pooling=pooling),
        content_picture,
        style_picture,
        Weights(content_layers, style_layers, content_weight, style_weight),
    )
    picture = first_picture(start, content_picture, seed)
    echo("losses at the start")
    echo_report(format_losses(objective.losses(picture)))
    echo("")
    with progress_bar("steps") as progress:

        def report(done: int, current: Picture) -> None:
            progress(done, iterations, None)
            if done in kept:
                write_picture(current, kept[done])

        if optimizer == "lbfgs":
            picture = minimize_lbfgs(objective, picture, iterations, report)
        else:
            picture = minimize_adam(objective, picture, iterations, report, learning_rate)
    write_picture(picture, output)
    echo("losses at the end")
    echo_report(format_losses(objective.losses(picture)))
    echo("", f"{output} is written")


if __name__ == "__main__":
    main()
