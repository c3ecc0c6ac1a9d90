#!/usr/bin/env python3
"""Time vggnorm beside what else there is for the job, and beside what the machine can do at best.

Usage:
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5 --scaling

Each contestant runs in a process of its own, on the same photos, and they take turns for some rounds, so that a machine
whose speed drifts is as fast for one as for the other: trust the ratios more than the photos per second. Written are
benchmark.md and benchmark.png; with --scaling, instead, scaling.png: what becomes of speed and memory with more photos,
larger photos, larger batches and more threads.

What the contestants are stands in contestants.py.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import click
import contestants
import numpy as np
from contestants import BASELINE, CEILINGS, CONTESTANTS, DECODING, EXACT, FAST, TORCH, WARM_UP, Figures, Job

from vggnorm.images import EXTENSIONS
from vggnorm.means import FilterMeans, load_means

ROOT = Path(__file__).parents[1]
COLOURS = ("#0072B2", "#E69F00", "#999999")  # ours, others', ceilings

# Running them


def run(job: Job) -> Figures:
    """Do a job in a process of its own.

    Linux has the peak memory of a process begin with that of the one that starts it: this one must stay small, and so
    does without TensorFlow.
    """
    command = [sys.executable, contestants.__file__, json.dumps(asdict(job)), str(time.time())]
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

    names = [name for name in found if name != DECODING][::-1]  # decoding is faster by far
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
            speed, unit = speed_over(name, figures)
            click.echo(f"{job.contestant}: {value} {name}: {speed:.1f} {unit}, {figures.memory:.0f} MB", err=True)
    return found


def speed_over(name: str, figures: Figures) -> tuple[float, str]:
    """Choose what to show as speed, with its unit: for numbers of photos the seconds they take, else the rate."""
    return (figures.whole, "s, whole process") if name == PHOTOS else (figures.rate, "photos/s")


def draw_scaling(found: dict[str, Scaling], machine: str, path: Path) -> None:
    """Draw speed and memory over each of the things that were changed.

    Args:
        found: contestant -> what was measured.
        machine: in words.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    names = list(next(iter(found.values())))
    figure = Figure(figsize=(3 * len(names), 5), layout="constrained")
    figure.suptitle(machine, fontsize=9)
    grid = figure.subplots(2, len(names), sharex="col", squeeze=False)
    for (speed, memory), name in zip(grid.T, names, strict=True):
        for contestant, scaling in found.items():
            values = list(scaling[name])
            speeds, units = zip(*(speed_over(name, figures) for figures in scaling[name].values()), strict=True)
            speed.plot(values, speeds, "o-", label=contestant)
            speed.set_ylabel(units[0])
            memory.plot(values, [figures.memory for figures in scaling[name].values()], "o-")
        for axes in (speed, memory):
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
        if name == PHOTOS:  # over a logarithmic axis, what grows in proportion is straight on another
            speed.set_yscale("log")
        else:
            speed.set_ylim(0, 1.08 * speed.dataLim.ymax)
        memory.set_ylim(0, 1.08 * memory.dataLim.ymax)
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
    with tempfile.TemporaryDirectory() as directory:
        temporary = Path(directory)
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
        names = [name for name in CONTESTANTS if not only or name in only]
        if TORCH in names and find_spec("torch") is None:
            click.echo("PyTorch is not installed, and is left out", err=True)
            names.remove(TORCH)
        click.echo(report_speed(photos, [job(name) for name in names], rounds, output))


if __name__ == "__main__":
    main()
