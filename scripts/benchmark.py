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

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from vggnorm.images import EXTENSIONS, PhotoReader, find_photos
from vggnorm.means import FilterMeans, load_means, save_means
from vggnorm.startup import import_keras

ROOT = Path(__file__).parents[1]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Job:
    """What a contestant is to do."""

    contestant: str
    folder: str  # of photos
    weights: str
    means: str = ""  # where to save the means, if anywhere
    size: int = 224
    batch_size: int = 32
    threads: int | None = None


@dataclass(frozen=True)
class Figures:
    """What one run of a contestant took.

    Attributes:
        rate: photos a second in steady state: in the median batch, the first left out.
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
        """Photos a second in the median batch after the first; nan if there is one only."""
        steps = [(now - then, done - before) for (then, before), (now, done) in pairwise(self.told)]
        return statistics.median(photos / seconds for seconds, photos in steps) if steps else float("nan")


# The contestants: each runs the photos of a job, and tells the clock.


def run_vggnorm(job: Job, clock: Clock, precision: Literal["float32", "bfloat16", "auto"]) -> None:
    """Run `vggnorm.compute_means`, as the command line does."""
    import vggnorm

    means: FilterMeans = vggnorm.compute_means(
        vggnorm.load_network("vgg16", job.weights),
        job.folder,
        size=job.size,
        batch_size=job.batch_size,
        threads=job.threads,
        precision=precision,
        progress=clock,
        say=lambda line: print(line, file=sys.stderr),
    )
    if job.means:
        save_means(means, job.means, force=True)


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
BASELINE, EXACT, FAST = "Keras, batch 1", "vggnorm, float32", "vggnorm, bfloat16"
CEILINGS = {EXACT: "convolutions alone, float32", FAST: "convolutions alone, bfloat16"}
NO_KERAS = ("decoding alone",)


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
        ceiling = f"{median_ratio(found, name, CEILINGS[name]):.2f}" if name in CEILINGS else ""
        times = median_ratio(found, name, BASELINE)
        lines.append(
            f"| {name} | {rate:.1f} | {ceiling} | {times:.2f} | {whole:.1f} | {first:.1f} | {importing:.1f} | "
            f"{memory:.0f} |"
        )
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
    colours = ["#0072B2" if "vggnorm" in name else "#999999" if "alone" in name else "#E69F00" for name in names]
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel(f"photos a second, in steady state\n{machine}", fontsize=8)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


# How the cost grows


def measure_scaling(base: Job, source: Path, photo_counts: list[int], folder: Path) -> dict[str, list[list[float]]]:
    """Measure with one thing changed at a time: its name -> rows of its value, photos/s, MB."""

    def row(value: float, job: Job) -> list[float]:
        figures = run(job)
        click.echo(f"{value}: {figures.rate:.1f} photos/s, {figures.memory:.0f} MB", err=True)
        return [value, figures.rate, figures.memory]

    few = str(repeat_photos(source, 4 * 64, folder / "few"))
    return {
        "photos": [
            row(count, replace(base, folder=str(repeat_photos(source, count, folder / str(count)))))
            for count in photo_counts
        ],
        "side of the photos in pixels": [
            row(size, replace(base, folder=few, size=size)) for size in (64, 96, 128, 160, 224, 320)
        ],
        "photos a batch": [row(size, replace(base, folder=few, batch_size=size, size=128)) for size in (1, 4, 16, 64)],
        "threads that decode": [row(count, replace(base, folder=few, threads=count, size=64)) for count in (1, 2, 4)],
    }


def draw_scaling(found: dict[str, list[list[float]]], title: str, path: Path) -> None:
    """Draw photos a second, and memory, over each of the things that were changed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(2, len(found), sharex="col")
    for column, (name, rows) in enumerate(found.items()):
        values, rates, memory = zip(*rows, strict=True)
        for axes, numbers, label in zip(grid[:, column], (rates, memory), ("photos/s", "peak memory, MB"), strict=True):
            axes.plot(values, numbers, "o-", color="#0072B2")
            axes.set_xscale("log", base=10 if name == "photos" else 2)
            axes.set_ylim(bottom=0)
            axes.set_ylabel(label if column == 0 else "")
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
        grid[1, column].set_xlabel(name)
    figure.savefig(path, dpi=110)


@click.command(context_settings={"show_default": True})
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--weights", required=True, type=click.Path(exists=True, dir_okay=False), help="VGG16's, an .h5 file.")
@click.option("--count", type=click.IntRange(min=64), default=320, help="Photos to run; those of FOLDER repeat.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="How many turns each contestant has.")
@click.option("--only", multiple=True, type=click.Choice(tuple(CONTESTANTS)), help="Leave out the others.")
@click.option("--scaling", is_flag=True, help="Measure how the cost grows, in float32, instead.")
@click.option("--scaling-photos", type=int, multiple=True, default=(100, 1000, 10000), help="So many photos.")
@click.option("--scaling-size", type=int, default=64, help="Side of the photos for that, in pixels.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "tex", help="Folder for the results.")
def main(
    *,
    photos: Path,
    weights: str,
    count: int,
    rounds: int,
    only: tuple[str, ...],
    scaling: bool,
    scaling_photos: tuple[int, ...],
    scaling_size: int,
    output: Path,
) -> None:
    """Time vggnorm and others on the photos in FOLDER."""
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = Job(EXACT, "", weights, size=scaling_size)
        if scaling:
            found_scaling = measure_scaling(base, photos, list(scaling_photos), folder)
            title = f"{EXACT}; {scaling_size} pixels for photos, 128 for batches, 64 for threads\n{machine}"
            draw_scaling(found_scaling, title, output / "scaling.png")
            click.echo(json.dumps(found_scaling))
            return
        contestants = [name for name in CONTESTANTS if not only or name in only]
        if find_spec("torch") is None:
            click.echo("PyTorch is not installed, and is left out", err=True)
            contestants = [name for name in contestants if name != "PyTorch, hooks"]
        source = str(repeat_photos(photos, count, folder / "photos"))
        jobs = [Job(name, source, weights, str(folder / f"{index}.npy")) for index, name in enumerate(contestants)]
        found = take_turns(jobs, rounds)
        text = f"{count} photos, {rounds} rounds, medians, on {machine}.\n\n{format_table(found)}\n"
        saved = {job.contestant: Path(job.means) for job in jobs}
        if EXACT in saved and FAST in saved:
            text += f"\n{format_errors(load_means(saved[EXACT]), load_means(saved[FAST]))}\n"
        (output / "benchmark.md").write_text(text)
        draw_bars(found, machine, output / "benchmark.png")
        click.echo(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(asdict(work(Job(**json.loads(sys.argv[2])), float(sys.argv[3])))))
    else:
        main()
