#!/usr/bin/env python3
"""Time vggnorm, other programs for the job, and the best that the machine can do.

Usage:
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5 --scaling
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5 --files
    python scripts/benchmark.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5 --engine-blocks 500

Each contestant runs in a process of its own, on the same photos, and they take turns for some
rounds, so that a machine whose speed drifts is as fast for one as for the other: trust the ratios
more than the photos per second. The table is printed (docs/speed.md shows one), and benchmark.png
is written. With --scaling, scaling.png is written instead: what happens to speed and memory with
more photos, larger photos, larger batches and more threads. With --files, the photos are not used:
it measures what opening and converting a large file of weights takes. With --engine-blocks, neither
photos nor weights are used: it measures how many blocks a second one driver of --engine ray can
hand out and add up, with workers that do nothing.

contestants.py holds the contestants.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import click
import contestants
from benchmark_report import (
    PHOTOS,
    Scaling,
    describe_machine,
    draw_bars,
    draw_scaling,
    format_errors,
    format_table,
    speed_over,
)
from contestants import CONTESTANTS, EXACT, FAST, TORCH, WARM_UP, Figures, Job
from engine_benchmark import report_engine
from file_benchmark import report_files

from vggnorm.files.formats import load_means
from vggnorm.photos.finding import EXTENSIONS

ROOT = Path(__file__).parents[1]

# Running the contestants


def run(job: Job) -> Figures:
    """Do a job in a process of its own.

    On Linux, the peak memory of a process starts with that of its parent. So this process must stay
    small, and does not import TensorFlow.
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
        raise click.ClickException(f"{job.contestant} failed; its message is above")
    return replace(Figures(**json.loads(said)), whole=whole, memory=usage.ru_maxrss / 1024)


def repeat_photos(source: Path, count: int, folder: Path) -> Path:
    """Make a folder of `count` links to the photos of another folder, which repeat if necessary."""
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not photos:
        raise click.ClickException(f"{source}: holds no images; give a folder of photos")
    folder.mkdir()
    for index in range(count):
        photo = photos[index % len(photos)]
        (folder / f"{index:06}{photo.suffix}").symlink_to(photo.resolve())
    return folder


def take_turns(jobs: list[Job], rounds: int) -> dict[str, list[Figures]]:
    """Run all jobs one after another, for some rounds."""
    found: dict[str, list[Figures]] = {job.contestant: [] for job in jobs}
    for turn in range(rounds):
        for job in jobs:
            found[job.contestant].append(figures := run(job))
            click.echo(f"round {turn + 1}: {job.contestant}: {figures.rate:.1f} photos/s", err=True)
    return found


# How the cost grows


def scaling_jobs(
    base: Job,
    many: dict[int, str],
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
) -> dict[str, dict[int, Job]]:
    """Change one setting at a time: the setting -> its value -> the job.

    Args:
        base: the job to change.
        many: number of photos -> a folder with so many.
        sizes: sides of the photos in pixels.
        batches: photos per batch.
        threads: numbers of threads that decode photos.
    """
    return {
        PHOTOS: {count: replace(base, folder=folder, size=64) for count, folder in many.items()},
        "side of the photos in pixels": {size: replace(base, size=size) for size in sizes},
        "photos per batch, of 128 pixels": {
            count: replace(base, batch_size=count, size=128) for count in batches
        },
        "threads, for photos of 64 pixels": {
            count: replace(base, threads=count, size=64) for count in threads
        },
    }


def measure_scaling(jobs: dict[str, dict[int, Job]]) -> Scaling:
    """Run each job once."""
    found: Scaling = {}
    for name, values in jobs.items():
        found[name] = {}
        for value, job in values.items():
            found[name][value] = figures = run(job)
            speed, unit = speed_over(name, figures)
            click.echo(
                f"{job.contestant}: {value} {name}: {speed:.1f} {unit}, {figures.memory:.0f} MB",
                err=True,
            )
    return found


# The command line


def report_speed(folder: Path, jobs: list[Job], rounds: int, output: Path) -> str:
    """Let contestants take turns, write a chart, and return the table."""
    machine = describe_machine()
    found = take_turns(jobs, rounds)
    text = (
        f"{len(list(folder.iterdir()))} photos, {rounds} round{'s' * (rounds > 1)}, medians, on "
        f"{machine}.\n\n"
        f"{format_table(found)}\n"
    )
    saved = {job.contestant: job.means for job in jobs}
    if EXACT in saved and FAST in saved:
        text += f"\n{format_errors(load_means(saved[EXACT]), load_means(saved[FAST]))}\n"
    draw_bars(found, machine, output / "benchmark.png")
    return text


def _require_full_batches(_ctx: click.Context, _param: click.Parameter, value: int) -> int:
    if value % WARM_UP:
        raise click.BadParameter(
            f"{value} is not a multiple of {WARM_UP}; a short last batch would count as slow."
        )
    return value


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--weights",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="VGG16's weights, an .h5 file.",
)
@click.option(
    "--count",
    type=click.IntRange(min=2 * WARM_UP),
    callback=_require_full_batches,
    default=320,
    help=f"Number of photos, a multiple of {WARM_UP}. Those of FOLDER repeat if necessary.",
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, help="Number of turns of each contestant."
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(CONTESTANTS)),
    help=f"Run only this contestant. Repeat it for more.  [default: all; for --scaling {EXACT}]",
    show_default=False,
)
@click.option("--scaling", is_flag=True, help="Measure how the cost grows instead, once.")
@click.option(
    "--scaling-photos",
    type=click.IntRange(min=1),
    multiple=True,
    default=(100, 1000, 10000),
    help="Number of photos.",
)
@click.option(
    "--scaling-size",
    type=click.IntRange(min=32),
    multiple=True,
    default=(64, 128, 224, 320, 512),
    help="Side of the photos in pixels.",
)
@click.option(
    "--scaling-batch",
    type=click.Choice((1, 2, 4, 8, 16, 32, 64)),
    multiple=True,
    default=(1, 4, 16, 64),
    help="Photos per batch.",
)
@click.option(
    "--scaling-threads",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2, 4),
    help="Number of threads that decode.",
)
@click.option(
    "--files", is_flag=True, help="Measure what opening and converting a large file takes instead."
)
@click.option(
    "--engine-blocks",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure instead how fast the driver of --engine ray handles so many blocks.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "docs" / "pictures",
    help="Folder for the charts.",
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
    files: bool,
    engine_blocks: int | None,
    output: Path,
) -> None:
    """Time vggnorm and others on the photos in FOLDER."""
    if engine_blocks is not None:
        click.echo(report_engine(engine_blocks))
        return
    with tempfile.TemporaryDirectory() as directory:
        temporary = Path(directory)
        if files:
            click.echo(report_files(temporary))
            return
        photos = repeat_photos(folder, count, temporary / "photos")

        def job(contestant: str) -> Job:
            return Job(contestant, str(photos), weights, str(temporary / f"{contestant}.npy"))

        if scaling:
            many = {
                number: str(repeat_photos(folder, number, temporary / str(number)))
                for number in scaling_photos
            }
            settings = many, scaling_size, scaling_batch, scaling_threads
            found = {}
            for contestant in only or (EXACT,):
                found[contestant] = measure_scaling(scaling_jobs(job(contestant), *settings))
            draw_scaling(found, describe_machine(), output / "scaling.png")
            return
        names = [name for name in CONTESTANTS if not only or name in only]
        if TORCH in names and find_spec("torch") is None:
            click.echo("PyTorch is not installed, so it is left out", err=True)
            names.remove(TORCH)
        click.echo(report_speed(photos, [job(name) for name in names], rounds, output))


if __name__ == "__main__":
    main()
