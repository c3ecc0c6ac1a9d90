"""The command `vggnorm compute-means`."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import click

from vggnorm import vgg
from vggnorm.cli.options import (
    find_photos,
    force_option,
    output_option,
    photos_options,
    preprocessing_of,
    refuse_nan,
    stopping,
    weights_option,
)
from vggnorm.errors import EngineError
from vggnorm.files.formats import open_weights
from vggnorm.means.recipe import MAX_BATCH, Padding, Precision
from vggnorm.photos.geometry import (
    MAX_SIDE,
    ColorProfiles,
    Fit,
    Geometry,
    Interpolation,
    Preprocessing,
)
from vggnorm.report.printable import echo, echo_report
from vggnorm.report.text import format_summary
from vggnorm.run.options import NO_RAY, Compute, Labels, Until, Watch
from vggnorm.run.output import means_output
from vggnorm.run.progress import progress_bar, say
from vggnorm.run.startup import import_keras

if TYPE_CHECKING:
    from vggnorm.run.engine import Engine

Part = tuple[int, int]


def _parse_shard(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Part | None:
    """Read one of several parts, such as 3/16."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{text!r} is not I/N with I from 1 to N, such as 3/16.")
    return int(found[1]), int(found[2])


def _require_share(
    _ctx: click.Context, _param: click.Parameter, value: float | None
) -> float | None:
    """Refuse a number of GPUs above 1 that is not whole."""
    if value is not None and not (0 <= value <= 1 or value % 1 == 0):
        raise click.BadParameter(f"{value:g} is neither a whole number nor between 0 and 1.")
    return value


def _require_whole_part(
    limit: int | None, tolerance: float | None, precision: str, engine: str | None
) -> None:
    """Refuse options that depend on what the runs over the other parts measure."""
    if engine is not None:
        raise click.UsageError("--shard does not go with --engine, which measures all photos")
    for option, value in (("--limit", limit), ("--tolerance", tolerance)):
        if value is not None:
            raise click.UsageError(f"--shard does not go with {option}")
    if precision == "auto":
        raise click.UsageError("--shard does not go with --precision auto; name a precision")


def _require_engine(
    engine: str | None, worker_cpus: int | None, worker_gpus: float | None, precision: str
) -> None:
    """Refuse options that do not go with an engine, or do nothing without one."""
    if engine is not None and precision == "auto":
        raise click.UsageError("--engine does not go with --precision auto; name a precision")
    if engine is not None and find_spec("ray") is None:
        raise EngineError(NO_RAY)
    for option, value in (("--worker-cpus", worker_cpus), ("--worker-gpus", worker_gpus)):
        if engine is None and value is not None:
            raise click.UsageError(f"{option} needs --engine")


def _make_engine(
    name: str | None, worker_cpus: int | None, worker_gpus: float | None
) -> "Engine | None":
    """Make the engine that was asked for, if any."""
    if name is None:
        return None
    from vggnorm.run.ray import Ray

    return Ray(worker_cpus or Ray.worker_cpus, worker_gpus or Ray.worker_gpus)


@click.command("compute-means")
@photos_options
@click.option(
    "--network",
    default="vgg16",
    metavar="vgg16|vgg19|FILE",
    help="Network to measure: one of Keras's; a model in a .keras or .h5 file; or the weights of a "
    "VGG in a file of any program.",
)
@weights_option
@click.option(
    "--include-top",
    is_flag=True,
    help="Use VGG with its dense layers. The class scores stay as they are.",
)
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    default="max",
    help="max: the pooling that VGG was trained with. avg: average pooling in its place, which "
    "style transfer often uses.",
)
@click.option(
    "--padding",
    type=click.Choice(get_args(Padding)),
    default="zeros",
    help="zeros: what VGG has around the input of its convolutions. reflect: the reflection of the "
    "input in its place, which style transfer in PyTorch often uses.",
)
@click.option(
    "--preprocessing",
    type=click.Choice(get_args(Preprocessing)),
    help="What the network takes photos as. caffe: BGR minus the mean colour, as VGG does. "
    "rgb255: RGB minus the mean colour. torch: 0..1, standardized. tf: -1..1. none: RGB 0..255. "
    "Required for a FILE that does not say it and whose numbers are not known.  [default: caffe "
    "for VGG]",
)
@click.option("--dense", is_flag=True, help="Normalize hidden dense layers, too.")
@click.option(
    "--size",
    type=click.IntRange(min=32, max=MAX_SIDE),
    help="Side of the square that photos are resized to, in pixels.  [default: what the network "
    "takes, or 224 where it takes any]",
)
@click.option(
    "--fit",
    type=click.Choice(get_args(Fit)),
    default=Geometry.fit,
    help="crop: cut out the central square, 224/256 of the shorter side wide. stretch: use the "
    "whole photo and change its proportions.",
)
@click.option(
    "--interpolation",
    type=click.Choice(get_args(Interpolation)),
    default=Geometry.interpolation,
    help="How photos are resized. All but nearest are antialiased.",
)
@click.option(
    "--color-profiles",
    type=click.Choice(get_args(ColorProfiles)),
    default=Geometry.color_profiles,
    help="What to do with a colour profile that a photo carries. ignore: take the photo as sRGB, "
    "as Keras does. convert: convert it to sRGB.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of photos to use, a random sample.  [default: all]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=refuse_nan,
    metavar="E",
    help="Stop when 95 % of the filters that fire are known to E, such as 0.05 for 5 %: the longer "
    "side of the 95 % confidence interval, relative to the mean. Checked after each batch, from "
    "100 photos on.",
)
@click.option(
    "--engine",
    type=click.Choice(("ray",)),
    help="Measure with the workers of a Ray cluster: that of the environment variable RAY_ADDRESS "
    "or, without it, one that is started on this machine and ends with the run. See "
    "docs/clusters.md. Cannot be combined with --shard or --precision auto.",
)
@click.option(
    "--worker-cpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of cores that each of the engine's workers has.  [default: 1]",
)
@click.option(
    "--worker-gpus",
    type=click.FloatRange(min=0),
    callback=_require_share,
    metavar="N",
    help="Number of GPUs that each of the engine's workers has, such as 1, or 0.5 for two workers "
    "to share one.  [default: 0]",
)
@click.option(
    "--shard",
    callback=_parse_shard,
    metavar="I/N",
    help="Measure the I-th of N parts of the photos, for merge-means: every N-th block of 8 "
    "batches. Cannot be combined with --limit, --tolerance or --precision auto, which depend on "
    "what the other parts measure.",
)
@click.option(
    "--seed", type=int, default=0, help="Seed of the random order in which photos are taken."
)
@click.option(
    "--precision",
    type=click.Choice((*get_args(Precision), "auto")),
    default=Compute.precision,
    help="What to compute in. bfloat16: fast where the machine has units for it; the mean "
    "difference from float32 over --control photos is added. auto: time both and take the faster "
    "one.",
)
@click.option(
    "--control",
    type=click.IntRange(min=2),
    default=Compute.control,
    metavar="N",
    help="Number of photos that bfloat16 runs in float32, too.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads that decode photos.  [default: one for each core]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=MAX_BATCH),
    default=Compute.batch_size,
    metavar="N",
    help="Number of photos to run at a time.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    callback=refuse_nan,
    default=60.0,
    metavar="SECONDS",
    help="How often to save what is measured so far, in a file beside the output. The same "
    "command goes on from there.",
)
@click.option("--fresh", is_flag=True, help="Start over, and ignore the checkpoint.")
@click.option(
    "--strict", is_flag=True, help="Stop at a photo that cannot be used, instead of skipping it."
)
@force_option
@output_option("means.npy", "File to write.")
def command(
    *,
    data: str,
    annotations: str | None,
    categories: tuple[str, ...],
    network: str,
    weights: str,
    include_top: bool,
    pooling: str,
    padding: Padding,
    preprocessing: Preprocessing | None,
    dense: bool,
    size: int | None,
    fit: Fit,
    interpolation: Interpolation,
    color_profiles: ColorProfiles,
    limit: int | None,
    tolerance: float | None,
    engine: str | None,
    worker_cpus: int | None,
    worker_gpus: float | None,
    shard: Part | None,
    seed: int,
    precision: Precision | Literal["auto"],
    control: int,
    threads: int | None,
    batch_size: int,
    checkpoint_every: float,
    fresh: bool,
    strict: bool,
    force: bool,
    output: Path,
) -> None:
    """Measure the mean activation of every filter.

    The mean is taken over all photos and over all positions. Each photo counts once.
    The means are saved together with the recipe that they were measured by.
    """
    if shard is not None:
        _require_whole_part(limit, tolerance, precision, engine)
    _require_engine(engine, worker_cpus, worker_gpus, precision)
    with means_output(output, force=force) as reserved:
        photos = find_photos(data, annotations, categories).shuffled(seed)
        if shard is not None:
            photos = photos.shard(*shard, batch_size=batch_size)
        is_file = network not in vgg.NETWORKS
        if is_file:
            with open_weights(network) as file:
                preprocessing = cast("Preprocessing", preprocessing_of(file, preprocessing))
        if engine is not None:
            # On a machine that has a GPU, this process must leave it to the workers.
            os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        import_keras()
        from vggnorm.measure import compute_means, geometry_for
        from vggnorm.network.storage import load_network

        model = load_network(
            network,
            weights,
            include_top=include_top,
            pooling=pooling,
            padding=padding,
            say=say,
        )
        geometry = geometry_for(
            model, size, fit=fit, interpolation=interpolation, color_profiles=color_profiles
        )
        with progress_bar() as progress, stopping() as stop:
            means = compute_means(
                model,
                photos,
                preprocessing=preprocessing,
                dense=dense,
                geometry=geometry,
                compute=Compute(precision, control, batch_size, threads),
                until=Until(limit, tolerance, strict),
                checkpoint=reserved.checkpoint(every=checkpoint_every, fresh=fresh),
                watch=Watch(stop, progress, say),
                labels=Labels(
                    network=Path(network).name,
                    weights=Path(network if is_file else weights).name,
                ),
                engine=_make_engine(engine, worker_cpus, worker_gpus),
            )
        reserved.save(means)
    echo_report(format_summary(means))
    echo("", f"means saved as {output}")
