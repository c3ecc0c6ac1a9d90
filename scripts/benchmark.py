#!/usr/bin/env python3
"""Time vggnorm beside what else there is for the job, and beside what the machine can do at best.

Usage:
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5 --scaling

Each contestant runs in a process of its own, on the same photos, and they take turns for some rounds, so that a machine
whose speed drifts is as fast for one as for the other: trust the ratios more than the photos per second. Written are
benchmark.md and benchmark.png; with --scaling, instead, scaling.png: what becomes of speed and memory with more photos,
larger photos, larger batches and more threads.

The baselines are written here as scripts for this job commonly do it: a plain mean over each activation, photos one by
one through tf.data, or batches that one thread loads while the network waits; and PyTorch with forward hooks.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import click
import numpy as np

from vggnorm.images import EXTENSIONS, PhotoReader, find_photos
from vggnorm.means import FilterMeans, load_means
from vggnorm.startup import import_keras

ROOT = Path(__file__).parents[1]
# How many photos come before the rate counts: as many as the largest batch has, and as bfloat16 runs in float32, too.
WARM_UP = 64
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Job:
    """What a contestant is to do."""

    contestant: str
    folder: str  # of photos
    weights: str
    means: str  # where vggnorm saves them
    size: int = 224
    batch_size: int = 32
    threads: int | None = None


@dataclass(frozen=True)
class Figures:
    """What one run of a contestant took.

    Attributes:
        rate: photos a second in steady state: behind the first `WARM_UP`.
        first: seconds from the start of the process to the end of the first batch.
        importing: seconds of them for importing TensorFlow.
        whole: seconds that the whole process took.
        memory: its peak, in MB.
    """

    rate: float
    first: float
    importing: float
    whole: float = 0.0
    memory: float = 0.0


class Clock:
    """Is told after each batch how many photos are done, and knows the rate in steady state."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def __call__(self, done: int, *_: object) -> None:
        """Note the time, once photos are done."""
        if done:
            self.told.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        """Photos a second from the first time that `WARM_UP` are done to the end; nan if there are no more of them."""
        warm = [(now, done) for now, done in self.told if done >= WARM_UP]
        if len(warm) < 2:
            return float("nan")
        (start, before), (end, done) = warm[0], warm[-1]
        return (done - before) / (end - start)


# The contestants: each runs the photos of a job, and tells the clock.


def run_vggnorm(job: Job, clock: Clock, precision: Literal["float32", "bfloat16", "auto"]) -> None:
    """Run `vggnorm compute-means` as it is called in a shell, but that its progress is told to the clock."""
    from vggnorm import cli

    options = {
        "--data": job.folder,
        "--weights": job.weights,
        "--size": job.size,
        "--batch-size": job.batch_size,
        "--precision": precision,
        "--output": job.means,
    } | ({} if job.threads is None else {"--threads": job.threads})
    arguments = [str(part) for option in options.items() for part in option]
    with patch.object(cli, "progress_bar", lambda: nullcontext(clock)), redirect_stdout(io.StringIO()):
        cli.main.main(["compute-means", "--force", *arguments], standalone_mode=False)


def run_keras_singly(job: Job, clock: Clock) -> None:
    """Run a plain Keras model photo by photo, as tf.data gives them."""
    import tensorflow as tf

    def load(path: Any) -> Any:
        pixels = tf.image.resize(tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False), [job.size] * 2)
        return tf.cast(pixels, tf.uint8)

    model = plain_means(job)
    total: Any = 0
    for done, photo in enumerate(tf.data.Dataset.from_tensor_slices(paths(job)).map(load).batch(1), 1):
        total = total + np.concatenate(model.predict(photo, verbose=0), axis=1)[0]
        clock(done)


def run_keras_in_batches(job: Job, clock: Clock, batch_size: int = 64) -> None:
    """Run a plain Keras model on batches that the same thread loads."""
    import keras

    model, names, done, total = plain_means(job), paths(job), 0, 0.0
    while done < len(names):
        batch = [
            np.asarray(keras.utils.load_img(name, target_size=(job.size, job.size)), np.uint8)
            for name in names[done : done + batch_size]
        ]
        total = total + np.concatenate(model.predict(np.stack(batch), verbose=0), axis=1).sum(axis=0)
        done += len(batch)
        clock(done)


def run_torch(job: Job, clock: Clock) -> None:
    """Run a network of PyTorch whose forward hooks take the means, on batches that vggnorm's reader gives."""
    import torch

    network = torch_network(job)
    sums: dict[str, Any] = {}

    def add(name: str, _: Any, __: Any, output: Any) -> None:
        sums[name] = sums.get(name, 0.0) + output.mean(dim=(2, 3)).double().sum(dim=0)

    for name, layer in network.named_children():
        if isinstance(layer, torch.nn.ReLU):
            layer.register_forward_hook(partial(add, name))
    mean_colour = torch.tensor([103.939, 116.779, 123.68]).reshape(1, 3, 1, 1)
    done = 0
    with torch.inference_mode():
        for pixels in batches(job):
            photos = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)))
            network(photos.float() - mean_colour)
            done += len(pixels)
            clock(done)


def run_convolutions(job: Job, clock: Clock, precision: Precision) -> None:
    """Run the network alone, with no means, on a batch that is in memory: as fast as it can be."""
    alone = convolutions_alone(job, precision)
    batch, done = next(batches(job)), 0
    while done < max(len(paths(job)), 3 * len(batch)):
        alone.predict_on_batch(batch)
        done += len(batch)
        clock(done)


def run_decoding(job: Job, clock: Clock) -> None:
    """Only decode the photos."""
    done = 0
    for pixels in batches(job):
        done += len(pixels)
        clock(done)


CONTESTANTS: dict[str, Callable[[Job, Clock], None]] = {
    "vggnorm, float32": partial(run_vggnorm, precision="float32"),
    "vggnorm, bfloat16": partial(run_vggnorm, precision="bfloat16"),
    "vggnorm, auto": partial(run_vggnorm, precision="auto"),
    "Keras, batch 1": run_keras_singly,
    "Keras, batch 64": run_keras_in_batches,
    "PyTorch, hooks": run_torch,
    "convolutions alone, float32": partial(run_convolutions, precision="float32"),
    "convolutions alone, bfloat16": partial(run_convolutions, precision="bfloat16"),
    "decoding alone": run_decoding,
}
EXACT, FAST, BASELINE, TORCH = "vggnorm, float32", "vggnorm, bfloat16", "Keras, batch 1", "PyTorch, hooks"
CEILINGS = {EXACT: "convolutions alone, float32", FAST: "convolutions alone, bfloat16"}
NO_KERAS = ("decoding alone",)
COLOURS = ("#0072B2", "#E69F00", "#999999")  # ours, others', ceilings


def paths(job: Job) -> list[str]:
    """List the photos of a job."""
    return sorted(str(path) for path in Path(job.folder).iterdir())


def batches(job: Job) -> Iterator[Any]:
    """Give the photos of a job, `(photos, height, width, 3)` uint8."""
    from vggnorm.geometry import Geometry

    reader = PhotoReader(find_photos(job.folder), Geometry(job.size), threads=job.threads)
    return (batch.pixels for batch in reader.batches(job.batch_size))


def plain_network(job: Job) -> Any:
    """Load VGG16 as Keras has it."""
    import vggnorm

    return vggnorm.load_network("vgg16", job.weights)


def plain_means(job: Job) -> Any:
    """Make the model that scripts for this job make: the activations of all convolutions, each with a plain mean."""
    import keras
    from keras import ops

    model = plain_network(job)
    activations = [layer.output for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    photos = keras.Input((job.size, job.size, 3), dtype="uint8")
    found = keras.Model(model.inputs[0], activations)(
        keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32"))
    )
    return keras.Model(photos, [ops.mean(activation, axis=(1, 2)) for activation in found])


def convolutions_alone(job: Job, precision: Precision) -> Any:
    """Make the network of nothing but convolutions, rectifiers and poolings: the largest of each filter leaves it."""
    import keras
    from keras import ops

    model = plain_network(job)

    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": precision})

    network = keras.models.clone_model(model, clone_function=clone)
    network.set_weights(model.get_weights())
    photos = keras.Input((job.size, job.size, 3), dtype="uint8")
    features = network(keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32")))
    alone = keras.Model(photos, ops.max(features, axis=(1, 2)))
    alone.compile(jit_compile=False)
    return alone


def torch_network(job: Job) -> Any:
    """Make the same network in PyTorch."""
    import torch
    from keras import layers

    network = torch.nn.Sequential()
    for layer in plain_network(job).layers:
        if isinstance(layer, layers.Conv2D):
            kernel, bias = layer.get_weights()  # (height, width, in, out)
            convolution = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], padding="same")
            weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            convolution.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)})
            network.add_module(layer.name, convolution)
            network.add_module(f"{layer.name}_relu", torch.nn.ReLU())
        elif isinstance(layer, layers.MaxPooling2D):
            network.add_module(layer.name, torch.nn.MaxPool2d(2))
    return network.eval()


# Running them


def work(job: Job, started: float) -> Figures:
    """Do a job in this process."""
    before = time.perf_counter()
    if job.contestant not in NO_KERAS:
        import_keras()
    importing = time.perf_counter() - before
    offset = time.time() - time.perf_counter()  # from one clock to the other
    clock = Clock()
    CONTESTANTS[job.contestant](job, clock)
    return Figures(clock.rate, clock.told[0][0] + offset - started, importing)


def run(job: Job) -> Figures:
    """Do a job in a process of its own.

    Linux has the peak memory of a process begin with that of the one that starts it: this one must stay small, and so
    does without TensorFlow.
    """
    command = [sys.executable, __file__, "--work", json.dumps(asdict(job)), str(time.time())]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    whole = time.perf_counter() - start
    if process.returncode:
        raise click.ClickException(f"{job.contestant} failed; what it said stands above")
    return replace(Figures(**json.loads(said)), whole=whole, memory=usage.ru_maxrss / 1024)


def repeat_photos(source: Path, count: int, folder: Path) -> Path:
    """Make a folder of so many links to the photos of another one, each again as often as that takes."""
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not photos:
        raise click.ClickException(f"{source}: holds no images; give a folder of photos")
    folder.mkdir()
    for index in range(count):
        photo = photos[index % len(photos)]
        (folder / f"{index:06}{photo.suffix}").symlink_to(photo.resolve())
    return folder


def take_turns(jobs: list[Job], rounds: int) -> dict[str, list[Figures]]:
    """Run all jobs, one after the other, for some rounds."""
    found: dict[str, list[Figures]] = {job.contestant: [] for job in jobs}
    for turn in range(rounds):
        for job in jobs:
            found[job.contestant].append(figures := run(job))
            click.echo(f"round {turn + 1}: {job.contestant}: {figures.rate:.1f} photos/s", err=True)
    return found


# Saying what was found


def describe_machine() -> str:
    """Say in a line on what this runs."""
    model, flags = platform.machine(), ""
    if (cpu := Path("/proc/cpuinfo")).exists():
        lines = [line.partition(":") for line in cpu.read_text().splitlines()]
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
        flags = next((value for name, _, value in lines if name.strip() == "flags"), "")
    units = [words for flag, words in (("avx512_bf16", "AVX-512 BF16"), ("amx_bf16", "AMX")) if flag in flags.split()]
    versions = ", ".join(f"{name} {version(name.lower())}" for name in ("TensorFlow", "Keras"))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, bfloat16 units: {' and '.join(units) or 'none'}; {versions}"


def median_ratio(found: dict[str, list[Figures]], one: str, other: str, name: str = "rate") -> float:
    """Give the median over the rounds of the ratio of two contestants' figures; nan if one did not run."""
    pairs = zip(found.get(one, ()), found.get(other, ()), strict=False)
    ratios = [getattr(first, name) / getattr(second, name) for first, second in pairs]
    return statistics.median(ratios) if ratios else float("nan")


def format_table(found: dict[str, list[Figures]]) -> str:
    """Lay out the medians as a table in Markdown."""
    lines = [
        "| | photos/s | of convolutions alone | times Keras, batch 1 | whole process, s | first batch after, s | "
        "of that importing, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        rate, first, importing, whole, memory = (
            statistics.median(getattr(figures, field) for figures in runs)
            for field in ("rate", "first", "importing", "whole", "memory")
        )
        ratios = (median_ratio(found, name, other) for other in (CEILINGS.get(name, ""), BASELINE))
        ceiling, times = ("" if np.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)
        seconds = (f"{value:.1f}" for value in (whole, first, importing))
        cells = (name, f"{rate:.1f}", ceiling, times, *seconds, f"{memory:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_errors(exact: FilterMeans, fast: FilterMeans) -> str:
    """Say how far the means of two precisions are apart."""
    one, other = (np.concatenate(list(means.mean.values())) for means in (exact, fast))
    fires = one > 0
    errors = np.abs(other[fires] / one[fires] - 1)
    return (
        f"bfloat16's answer against float32's over {exact.image_count} photos, "
        f"{fast.correction.count if fast.correction else 0} of them in both: relative error in the median filter "
        f"{np.median(errors):.1e}, in the 99th percentile {np.quantile(errors, 0.99):.1e}, at worst {errors.max():.1e}."
    )


def draw_bars(found: dict[str, list[Figures]], machine: str, path: Path) -> None:
    """Draw the rates as bars."""
    from matplotlib.figure import Figure

    names = [name for name in found if name not in NO_KERAS][::-1]  # decoding is faster by far
    rates = [statistics.median(figures.rate for figures in found[name]) for name in names]
    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    ours, others, ceiling = COLOURS
    colours = [ours if "vggnorm" in name else ceiling if "alone" in name else others for name in names]
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel(f"photos a second, in steady state\n{machine}", fontsize=8)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


# How the cost grows

PHOTOS = "photos, of 64 pixels"
Scaling = dict[str, dict[int, Figures]]  # what was changed -> its value -> what that took


def scaling_jobs(
    base: Job, many: dict[int, str], sizes: tuple[int, ...], batches: tuple[int, ...], threads: tuple[int, ...]
) -> dict[str, dict[int, Job]]:
    """Change one thing at a time: what it is -> its value -> the job.

    Args:
        base: what they all have, the photos too, but where their number is what changes.
        many: how many photos -> a folder of so many.
        sizes: sides of the photos in pixels.
        batches: photos a batch.
        threads: how many decode photos.
    """
    return {
        PHOTOS: {count: replace(base, folder=folder, size=64) for count, folder in many.items()},
        "side of the photos in pixels": {size: replace(base, size=size) for size in sizes},
        "photos a batch, of 128 pixels": {count: replace(base, batch_size=count, size=128) for count in batches},
        "threads, for photos of 64 pixels": {count: replace(base, threads=count, size=64) for count in threads},
    }


def measure_scaling(jobs: dict[str, dict[int, Job]]) -> Scaling:
    """Run each of them once."""
    found: Scaling = {}
    for name, values in jobs.items():
        found[name] = {}
        for value, job in values.items():
            found[name][value] = figures = run(job)
            click.echo(
                f"{job.contestant}: {value} {name}: {figures.rate:.1f} photos/s, {figures.whole:.1f} s, "
                f"{figures.memory:.0f} MB",
                err=True,
            )
    return found


def draw_scaling(found: dict[str, Scaling], machine: str, path: Path) -> None:
    """Draw speed and memory over each of the things that were changed; for the number of photos, seconds for speed.

    Args:
        found: contestant -> what was measured.
        machine: in words.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    names = list(next(iter(found.values())))
    figure = Figure(figsize=(3 * len(names), 5), layout="constrained")
    figure.suptitle(f"vggnorm compute-means on {machine}", fontsize=9)
    grid = figure.subplots(2, len(names), sharex="col", squeeze=False)
    for (speed, memory), name in zip(grid.T, names, strict=True):
        for (contestant, scaling), colour in zip(found.items(), COLOURS, strict=False):
            figures = scaling[name].values()
            speeds = [each.whole if name == PHOTOS else each.rate for each in figures]
            speed.plot(list(scaling[name]), speeds, "o-", color=colour, label=contestant)
            memory.plot(list(scaling[name]), [each.memory for each in figures], "o-", color=colour)
        ticks = list(scaling[name])
        for axes in (speed, memory):
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{value:,}" for value in ticks])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
        speed.set_ylabel("whole process, s" if name == PHOTOS else "photos/s")
        if name == PHOTOS:
            speed.set_yscale("log")
        memory.set_ylabel("peak memory, MB")
        memory.set_xlabel(name)
    grid[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


# The command line


def report_speed(folder: Path, jobs: list[Job], rounds: int, output: Path) -> str:
    """Let contestants take turns; write a table and a chart, and give the text."""
    machine = describe_machine()
    found = take_turns(jobs, rounds)
    text = (
        f"{len(list(folder.iterdir()))} photos, {rounds} round{'s' * (rounds > 1)}, medians, on {machine}.\n\n"
        f"{format_table(found)}\n"
    )
    saved = {job.contestant: job.means for job in jobs}
    if EXACT in saved and FAST in saved:
        text += f"\n{format_errors(load_means(saved[EXACT]), load_means(saved[FAST]))}\n"
    (output / "benchmark.md").write_text(text)
    draw_bars(found, machine, output / "benchmark.png")
    return text


def _require_full_batches(_ctx: click.Context, _param: click.Parameter, value: int) -> int:
    if value % WARM_UP:
        raise click.BadParameter(f"{value} is no multiple of {WARM_UP}; a short last batch would count as slow.")
    return value


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--weights", required=True, type=click.Path(exists=True, dir_okay=False), help="VGG16's, an .h5 file.")
@click.option(
    "--count",
    type=click.IntRange(min=2 * WARM_UP),
    callback=_require_full_batches,
    default=320,
    help=f"Photos to run, a multiple of {WARM_UP}; those of FOLDER repeat.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="How many turns each contestant has.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(CONTESTANTS)),
    help=f"Leave out the others.  [default: all; for --scaling {EXACT}]",
    show_default=False,
)
@click.option("--scaling", is_flag=True, help="Measure how the cost grows, once, instead.")
@click.option(
    "--scaling-photos", type=click.IntRange(min=1), multiple=True, default=(100, 1000, 10000), help="So many photos."
)
@click.option(
    "--scaling-size",
    type=click.IntRange(min=32),
    multiple=True,
    default=(64, 128, 224, 320, 512),
    help="Sides of the photos.",
)
@click.option(
    "--scaling-batch",
    type=click.Choice((1, 2, 4, 8, 16, 32, 64)),
    multiple=True,
    default=(1, 4, 16, 64),
    help="Batches.",
)
@click.option(
    "--scaling-threads", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4), help="Threads that decode."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "tex",
    help="Folder for the results.",
)
def main(
    *,
    folder: Path,
    weights: str,
    count: int,
    rounds: int,
    only: tuple[str, ...],
    scaling: bool,
    scaling_photos: tuple[int, ...],
    scaling_size: tuple[int, ...],
    scaling_batch: tuple[int, ...],
    scaling_threads: tuple[int, ...],
    output: Path,
) -> None:
    """Time vggnorm and others on the photos in FOLDER."""
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        photos = repeat_photos(folder, count, temporary / "photos")

        def job(contestant: str) -> Job:
            return Job(contestant, str(photos), weights, str(temporary / f"{contestant}.npy"))

        if scaling:
            many = {number: str(repeat_photos(folder, number, temporary / str(number))) for number in scaling_photos}
            found = {
                contestant: measure_scaling(
                    scaling_jobs(job(contestant), many, scaling_size, scaling_batch, scaling_threads)
                )
                for contestant in only or (EXACT,)
            }
            draw_scaling(found, describe_machine(), output / "scaling.png")
            return
        contestants = [contestant for contestant in CONTESTANTS if not only or contestant in only]
        if TORCH in contestants and find_spec("torch") is None:
            click.echo("PyTorch is not installed, and is left out", err=True)
            contestants.remove(TORCH)
        click.echo(report_speed(photos, [job(contestant) for contestant in contestants], rounds, output))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(asdict(work(Job(**json.loads(sys.argv[2])), float(sys.argv[3])))))
    else:
        main()
