"""The command line. A command is a few lines that call the library."""

import io
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import vggnorm
from vggnorm import signals
from vggnorm.checkpoint import say_what_is_kept
from vggnorm.errors import MeansError, NetworkError, OutputError, StoppedError, VggnormError
from vggnorm.geometry import MAX_SIDE, ColorProfiles, Fit, Geometry, Interpolation, Preprocessing
from vggnorm.h5file import check_h5_output, is_hdf5, names_backend, read_means
from vggnorm.lock import locked
from vggnorm.means import FilterMeans, load_means, save_means
from vggnorm.output import check_output, remove_leftovers
from vggnorm.printable import echo, echo_json, echo_report, printable
from vggnorm.progress import progress_bar, say
from vggnorm.recipe import MAX_BATCH, Precision, Recipe
from vggnorm.startup import import_keras, open_closed_streams
from vggnorm.summary import format_summary, summarize

if TYPE_CHECKING:
    from vggnorm.images import PhotoList

VGG = ("vgg16", "vgg19")


class _Group(click.Group):
    """Turns what a user can mend into one line on stderr. Any other exception keeps its traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        open_closed_streams()
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _printable_usage():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.raising(), _printable_usage():
                return super().invoke(ctx)
        except VggnormError as error:
            raise click.ClickException(printable(error)) from error
        except signals.Interrupted as interrupted:
            echo(str(interrupted), err=True)
            ctx.exit(interrupted.status)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Have what click says of wrong arguments, which it quotes, in printable characters."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # to be assigned once, as its type has it
        raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(vggnorm.__version__, message="vggnorm %(version)s")
def main() -> None:
    """Rescale a trained VGG network so that every convolutional filter has mean activation 1.

    First measure the means over a folder of photos, then normalize with them:

    \b
    vggnorm compute-means --data coco/
    vggnorm normalize --means means.npy -o vgg16_norm.h5
    """  # noqa: D301  click's mark for lines not to be wrapped
    warnings.filterwarnings("ignore", module="PIL")  # what it has to say of a damaged photo, the summary says
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")


weights_option = click.option(
    "--weights",
    default="imagenet",
    metavar="imagenet|FILE",
    help="Keras's ImageNet weights, downloaded once, or an .h5 file.",
)
network_file_option = click.option(
    "--network", metavar="FILE", help="The original network, where that is a model file and not one of Keras's."
)


def photos_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose photos."""
    for option in (
        click.option(
            "--category",
            "categories",
            multiple=True,
            metavar="NAME",
            help="Take only photos that show this COCO category, or another one given. Needs --annotations.",
        ),
        click.option(
            "--annotations",
            type=click.Path(path_type=Path),
            help="COCO instances or captions file: take only the photos it lists.",
        ),
        click.option(
            "--data",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder of photos, searched recursively: a COCO root, one of its folders, or any other. Folders of "
            "COCO's masks in it are left out: annotations, stuffthingmaps*, panoptic_*, pixelmaps_*, *_pixelmaps.",
        ),
    ):
        command = option(command)
    return command


force_option = click.option("--force", is_flag=True, help="Replace the output if it exists.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")


def _parse_shard(text: str) -> tuple[int, int]:
    """Read one of several parts, as 3/16."""
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{text!r} is not I/N with I from 1 to N, as 3/16.")
    return int(found[1]), int(found[2])


def _refuse_nan(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # a click.FloatRange lets it through
        raise click.BadParameter("nan is no number.")
    return value


@main.command()
@photos_options
@click.option(
    "--network",
    default="vgg16",
    metavar="vgg16|vgg19|FILE",
    help="Which network to measure: one of Keras's, or a model in a .keras or .h5 file.",
)
@weights_option
@click.option("--include-top", is_flag=True, help="Take VGG with its dense layers; its class scores stay as they are.")
@click.option(
    "--pooling",
    type=click.Choice(("max", "avg")),
    default="max",
    help="max: as it was trained. avg: average pooling in the place of max pooling, as style transfer often has it.",
)
@click.option(
    "--preprocessing",
    type=click.Choice(get_args(Preprocessing)),
    help="What the network takes photos as: caffe: BGR less the mean colour, as VGG does. torch: 0..1, standardized. "
    "tf: -1..1. none: RGB 0..255. Needed for a FILE.  [default: caffe for VGG]",
)
@click.option("--dense", is_flag=True, help="Normalize hidden dense layers, too.")
@click.option(
    "--size",
    type=click.IntRange(min=32, max=MAX_SIDE),
    help="Make photos so many pixels square.  [default: what the network takes, or 224 where it takes any]",
)
@click.option(
    "--fit",
    type=click.Choice(get_args(Fit)),
    default=Geometry.fit,
    help="crop: cut the central square, 224/256 of the shorter side wide. stretch: use all, lose the proportions.",
)
@click.option(
    "--interpolation",
    type=click.Choice(get_args(Interpolation)),
    default=Geometry.interpolation,
    help="How to resize. All but nearest are antialiased.",
)
@click.option(
    "--color-profiles",
    type=click.Choice(get_args(ColorProfiles)),
    default=Geometry.color_profiles,
    help="What to do with a colour profile that a photo carries. ignore: take the photo as sRGB, as Keras does. "
    "convert: convert it to sRGB.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure N photos only, a random sample.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=_refuse_nan,
    metavar="E",
    help="Stop when 95 % of the filters that fire are known to E, as 0.05 for 5 %: half the width of the 95 % "
    "confidence interval, relative to the mean. Looked at after each batch, from 100 photos on.",
)
@click.option(
    "--shard",
    callback=lambda _ctx, _param, value: None if value is None else _parse_shard(value),
    metavar="I/N",
    help="Measure the I-th of N parts of the photos, for merge-means. Not with --limit, --tolerance or --precision "
    "auto, which depend on what the others measure.",
)
@click.option("--seed", type=int, default=0, help="Seed of the random order in which photos are taken.")
@click.option(
    "--precision",
    type=click.Choice((*get_args(Precision), "auto")),
    default="float32",
    help="What to compute in. bfloat16: fast where the machine has units for it; the mean difference from float32 over "
    "--control photos is added. auto: time both, take the faster.",
)
@click.option("--control", type=click.IntRange(min=2), default=64, help="Photos to run in float32, too.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that decode photos.  [default: one a core]")
@click.option("--batch-size", type=click.IntRange(min=1, max=MAX_BATCH), default=32, help="Photos to run at a time.")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    callback=_refuse_nan,
    default=60.0,
    metavar="SECONDS",
    help="How often to save what is measured so far, beside the output. The same command goes on from there.",
)
@click.option("--fresh", is_flag=True, help="Start over, whatever was measured before.")
@click.option("--strict", is_flag=True, help="Stop at a photo that cannot be used, instead of leaving it out.")
@force_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default="means.npy", help="File to write.")
def compute_means(
    *,
    data: Path,
    annotations: Path | None,
    categories: tuple[str, ...],
    network: str,
    weights: str,
    include_top: bool,
    pooling: str,
    preprocessing: Preprocessing | None,
    force: bool,
    output: Path,
    **options: Any,
) -> None:
    """Measure the mean activation of every filter.

    Over the photos of a folder and over all positions, each photo counting once. The means are saved with the recipe
    they were measured by.
    """
    if options["shard"] is not None:
        for option, value in (("--limit", options["limit"]), ("--tolerance", options["tolerance"])):
            if value is not None:
                raise click.UsageError(f"--shard does not go with {option}")
        if options["precision"] == "auto":
            raise click.UsageError("--shard does not go with --precision auto; name a precision")
    check_output(output, force=force)
    with locked(output):
        remove_leftovers(output)
        photos = _find_photos(data, annotations, categories)
        is_file = network not in VGG
        if is_file and preprocessing is None:
            raise NetworkError(f"{network}: a model file does not say what it takes photos as; give --preprocessing")
        import_keras()
        model = vggnorm.load_network(network, weights, include_top=include_top, pooling=pooling)
        checkpoint = output.with_name(f"{output.name}.checkpoint")
        with progress_bar() as progress, _stopping() as stop:
            means = vggnorm.compute_means(
                model,
                photos,
                network=Path(network).name,
                weights=Path(network if is_file else weights).name,
                preprocessing=preprocessing or "caffe",
                checkpoint=checkpoint,
                stop=stop,
                progress=progress,
                say=say,
                **options,
            )
        try:
            save_means(means, output, force=force)
        except OutputError as error:
            if checkpoint.exists():
                raise OutputError(f"{error}; {say_what_is_kept(checkpoint, means)}") from error
            raise
        checkpoint.unlink(missing_ok=True)
    echo_report(format_summary(means))
    for layer, reason in vggnorm.graph.read_graph(model, dense=means.recipe.dense).kept.items():
        echo(f"{layer} is not normalized: {reason}")
    echo("", f"means saved as {output}")


def _find_photos(data: Path, annotations: Path | None = None, categories: tuple[str, ...] = ()) -> "PhotoList":
    """Find the photos, and say where they are and what was left out."""
    from vggnorm import images  # noqa: PLC0415  Pillow, for those who need it

    photos = images.find_photos(data, annotations=annotations, categories=categories)
    for line in photos.describe():
        say(line)
    return photos


@contextmanager
def _stopping() -> Iterator[Callable[[], int | None]]:
    """Have a run stopped by the signals that end programs, after it has saved what it has."""
    with signals.noting() as noted:
        try:
            yield noted
        except StoppedError as stopped:
            raise signals.Interrupted(noted() or 0, f"Interrupted: {stopped}") from stopped


@main.command()
@click.argument("files", metavar="PART.npy...", nargs=-1, required=True, type=click.Path(path_type=Path))
@force_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default="means.npy", help="File to write.")
def merge_means(*, files: tuple[Path, ...], force: bool, output: Path) -> None:
    """Add up means that were measured over parts of the photos.

    Each PART.npy is what compute-means --shard saved. All parts must be there, measured by one recipe on the same
    weights and photos. The result is that of one run over all photos.
    """
    check_output(output, force=force)
    repeated = [str(file) for file in files if files.count(file) > 1]
    if repeated:
        raise MeansError(f"{repeated[0]} is given twice; give each part once")
    parts = {str(file): load_means(file) for file in files}
    machines = sorted({means.recipe.machine for means in parts.values()} - {""})
    if len(machines) > 1:
        say(f"the last bits may differ from those of one run: measured on {' and on '.join(map(repr, machines))}")
    means = vggnorm.merge_means(parts)
    save_means(means, output, force=force)
    echo_report(format_summary(means))
    echo("", f"{len(files)} parts added up, saved as {output}")


@main.command()
@click.option(
    "--means",
    "means_file",
    required=True,
    type=click.Path(path_type=Path),
    help="What compute-means saved. The network is the one it names.",
)
@network_file_option
@weights_option
@click.option("--pooling", type=click.Choice(("max", "avg")), help="As of compute-means.  [default: as measured]")
@force_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: vgg16_norm.h5, by the network's name]",
)
def normalize(
    *, means_file: Path, network: str | None, weights: str, pooling: str | None, force: bool, output: Path | None
) -> None:
    """Rescale a network with measured means.

    The result computes what the network computes, with every filter's activation divided by its mean. It is a Keras
    model file. Its weights load in Keras 2 and 3, also through keras.applications. The whole model loads in TensorFlow
    1.15 to 2.15, in tf_keras, and in Keras 3.4 and later.
    """
    means = load_means(means_file)
    if output is None:
        output = Path(f"{Path(means.recipe.network).stem}_norm.h5")
    check_h5_output(output, force=force)
    import_keras()
    model = _load_original(means.recipe, network, weights, pooling)
    _warn_of_unknown_architecture(model, means)
    normalized = vggnorm.normalize(model, means)
    vggnorm.save_network(normalized, output, means, force=force)
    echo(
        f"{means.recipe.network}, {means.filter_count} filters in {len(means.mean)} layers, "
        f"normalized with means over {means.image_count} photos, saved as {output}"
    )


@main.command()
@click.argument("normalized_file", metavar="NORMALIZED.h5", type=click.Path(path_type=Path))
@photos_options
@network_file_option
@weights_option
@click.option("--limit", type=click.IntRange(min=1), default=64, help="Use so many photos.")
@json_option
def verify(
    *,
    normalized_file: Path,
    data: Path,
    annotations: Path | None,
    categories: tuple[str, ...],
    network: str | None,
    weights: str,
    limit: int,
    as_json: bool,
) -> None:
    """Check on photos that NORMALIZED.h5 does what it promises.

    Is every filter's mean activation 1? Does the network compute what the original does? Are the weights finite, and
    does every filter fire? Exit status 1 if one of the answers is no.
    """
    means = read_means(normalized_file)
    photos = _find_photos(data, annotations, categories)
    import_keras()
    model = _load_original(means.recipe, network, weights)
    _warn_of_unknown_architecture(model, means)
    normalized = vggnorm.load_network(str(normalized_file))
    _require_as_keras_loads(normalized, normalized_file)
    if network is not None and network not in VGG:
        _require_as_keras_loads(model, Path(network))
    with progress_bar() as progress:
        report = vggnorm.verify(model, normalized, photos, means, limit=limit, progress=progress)
    if as_json:
        echo_json(report.to_dict())
    else:
        echo_report(report, title=f"{normalized_file}: ")
    if not report.passed:
        sys.exit(1)


def _warn_of_unknown_architecture(model: Any, means: FilterMeans) -> None:
    """Say that nobody knows whether the means belong to this network, where that is so."""
    from vggnorm.network import is_application  # noqa: PLC0415

    if means.recipe.architecture_sha256 is None and not is_application(model):
        say(
            "warning: these means, of version 0.1.0, do not say on which layers they were measured; the strides and "
            "slopes of this network are not compared"
        )


def _require_as_keras_loads(model: Any, path: Path) -> None:
    from vggnorm.network import require_as_keras_loads  # noqa: PLC0415

    if not require_as_keras_loads(model, path):
        say(f"{path}: this Keras cannot load the file by itself, so that its own loading was not compared")


def _load_original(recipe: Recipe, network: str | None, weights: str, pooling: str | None = None) -> Any:
    """Load the network that the recipe names, or the one that was given, as it was measured."""
    if network is None and recipe.network not in VGG:
        raise NetworkError(f"the means were measured on {recipe.network}; give that model's file with --network")
    return vggnorm.load_network(
        network or recipe.network,
        weights,
        include_top=recipe.include_top and (network is None or network in VGG),
        pooling=pooling or ("avg" if recipe.pooling == "avg" else "max"),
    )


@main.command()
@click.argument("file", metavar="means.npy|FILE.h5", type=click.Path(path_type=Path))
@click.option(
    "--original",
    metavar="imagenet|FILE",
    help="Compare FILE.h5, made by anyone, with the network it may be made from: Keras's ImageNet weights of VGG16 or "
    "VGG19, or a file of a model or of VGG's weights.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="With --original: measure the original's means on this folder of photos, and compare the scales with them.",
)
@click.option(
    "--means",
    "means_file",
    type=click.Path(path_type=Path),
    help="With --original: compare the scales with these means, which compute-means saved.",
)
@click.option("--limit", type=click.IntRange(min=1), default=64, help="Use so many photos of --data.")
@json_option
def inspect(
    *, file: Path, original: str | None, data: Path | None, means_file: Path | None, limit: int, as_json: bool
) -> None:
    """Tell what a file holds and how it was made.

    FILE is what compute-means or normalize saved; with --original, any network's file. Its scales are then found by
    comparing its weights with the original's.
    """
    if original is not None:
        found = _identify(file, original, data, means_file, limit)
        if not names_backend(file):
            say(
                f"{file}: does not name the backend that it was written with; whether its kernels are turned by 180 "
                "degrees, as Theano's are, only the comparison with the original tells"
            )
        if as_json:
            echo_json(found.to_dict())
        else:
            echo_report(found, title=f"{file}: ")
        return
    if data is not None or means_file is not None:
        raise click.UsageError("--data and --means need --original")
    is_network, means = _read_any_means(file)
    if as_json:
        echo_json(summarize(means))
        return
    echo(
        f"{file}: {'a network normalized with the means below' if is_network else 'means'}",
        f"measured by vggnorm {means.recipe.version}",
        "",
    )
    echo_report(format_summary(means))


def _read_any_means(file: Path) -> tuple[bool, FilterMeans]:
    """Tell whether a file is a network's, and read its means, or those that it is a file of."""
    is_network = is_hdf5(file)
    return is_network, read_means(file) if is_network else load_means(file)


def _identify(file: Path, original: str, data: Path | None, means_file: Path | None, limit: int) -> Any:
    """Compare a file with the original, and with means if there are any."""
    if data is not None and means_file is not None:
        raise click.UsageError("give --data or --means, and not both")
    means = None if means_file is None else load_means(means_file)
    import_keras()
    model = vggnorm.load_original(original, file)
    if data is not None:
        if model.name not in VGG:
            raise NetworkError(
                f"{original}: a model file does not say what it takes photos as; measure it with compute-means, and "
                "give --means"
            )
        photos = _find_photos(data)
        with progress_bar() as progress:
            means = vggnorm.compute_means(model, photos, limit=limit, progress=progress)
    return vggnorm.identify(file, model, means)


@main.command()
@click.argument("file", metavar="means.npy|FILE.h5", type=click.Path(path_type=Path))
@click.argument("after_file", metavar="[AFTER.npy]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="Give this layer a curve of its own, or another one given.  [default: three that differ]",
)
@click.option("--every-layer", is_flag=True, help="Give every layer a panel of its own.")
@click.option("--log", is_flag=True, help="Take a logarithmic axis, as --every-layer and before and after always have.")
@force_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="figure.png",
    help="File to write: .png, .svg or .pdf.",
)
def plot(
    *,
    file: Path,
    after_file: Path | None,
    layers: tuple[str, ...],
    every_layer: bool,
    log: bool,
    force: bool,
    output: Path,
) -> None:
    """Draw how the mean activations of the filters are distributed.

    Of means.npy, those that compute-means saved; of FILE.h5, which normalize saved, those it was made with, and 1,
    which it makes of them. With AFTER.npy, for which compute-means measured the normalized network, before and after.
    """
    from vggnorm.plot import check_figure_output  # noqa: PLC0415  matplotlib and scipy, for those who need them

    if every_layer and layers:
        raise click.UsageError("--every-layer draws all of them: leave out --layer")
    check_figure_output(output, force=force)
    is_network, means = _read_any_means(file)
    if after_file is not None and is_hdf5(after_file):
        raise MeansError(
            f"{after_file}: holds the means from before it was normalized; measure it with compute-means "
            f"--network {after_file} --preprocessing {means.recipe.preprocessing}, and give the means which that saves"
        )
    after = None if after_file is None else load_means(after_file)
    if every_layer:
        figure = vggnorm.plot_every_layer(means, after)
    elif is_network or after is not None:
        figure = vggnorm.plot_before_after(means, after, layers=layers)
    else:
        figure = vggnorm.plot_means(means, layers=layers, log=log)
    vggnorm.save_figure(figure, output, force=force)
    echo(f"figure saved as {output}")
