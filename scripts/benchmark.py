#!/usr/bin/env python3
"""Time vggnorm, other programs for the job, and the best that the machine can do.

Usage:
    python scripts/benchmark.py all FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py speed FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py startup FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py growth FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/benchmark.py files
    python scripts/benchmark.py engine --blocks 500

`pip install '.[bench]'` adds the other programs' packages; what is not installed is left out.

`speed` gives each contestant a process of its own, on the same photos, and lets them take turns for
some rounds, so that a machine whose speed drifts is as fast for one as for the other: trust the
ratios more than the photos per second. `startup` takes the start of the program apart. `growth`
runs it over more and more photos. `all` does these three and prints what docs/speed.md says of a
machine. `files` measures what opening and converting a large file of weights takes. `engine`
measures how many blocks a second one driver of --engine ray can hand out and add up, with workers
that do nothing.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import contestants
from benchmark_report import (
    Runs,
    describe_machine,
    draw_bars,
    format_errors,
    format_table,
)
from contestants import CONTESTANTS, EXACT, FAST, missing_package
from engine_benchmark import report_engine
from file_benchmark import report_files
from growth_benchmark import report_growth
from processes import run_process
from startup_benchmark import report_startup
from timed_folder import repeat_photos
from timed_jobs import WARM_UP, Figures, Job

from vggnorm.files.formats import load_means

ROOT = Path(__file__).parents[1]


def run(job: Job) -> Figures:
    """Do a job in a process of its own."""
    command = (sys.executable, contestants.__file__, json.dumps(asdict(job)), str(time.time()))
    cost = run_process(command)
    return replace(Figures(**json.loads(cost.output)), whole=cost.seconds, memory=cost.memory)


def take_turns(jobs: list[Job], rounds: int) -> Runs:
    """Run all jobs one after another, for some rounds."""
    found: Runs = {job.contestant: [] for job in jobs}
    for turn in range(rounds):
        for job in jobs:
            found[job.contestant].append(figures := run(job))
            click.echo(f"round {turn + 1}: {job.contestant}: {figures.rate:.1f} photos/s", err=True)
    return found


def report_speed(folder: Path, jobs: list[Job], rounds: int, output: Path) -> str:
    """Let contestants take turns, write a chart, and return the table."""
    machine = describe_machine()
    found = take_turns(jobs, rounds)
    turns = "1 round" if rounds == 1 else f"{rounds} rounds, medians and ranges"
    text = f"{len(list(folder.iterdir()))} photos, {turns}, on {machine}.\n\n{format_table(found)}"
    saved = {job.contestant: job.means for job in jobs}
    if EXACT in saved and FAST in saved:
        text += f"\n\n{format_errors(load_means(saved[EXACT]), load_means(saved[FAST]))}"
    draw_bars(found, machine, output / "benchmark.png")
    return text


def make_jobs(photos: Path, weights: str, folder: Path, only: tuple[str, ...]) -> list[Job]:
    """Make the job of each contestant, of those in `only` if there are any."""
    jobs = []
    for name in only or CONTESTANTS:
        package = missing_package(name)
        if package is None:
            jobs.append(Job(name, str(photos), weights, str(folder / f"{name}.npy")))
        else:
            click.echo(f"{name} is left out: {package} is not installed", err=True)
    return jobs


# The command line


def _require_full_batches(_ctx: click.Context, _param: click.Parameter, value: int) -> int:
    if value % WARM_UP:
        raise click.BadParameter(
            f"{value} is not a multiple of {WARM_UP}; a short last batch would count as slow."
        )
    return value


folder_argument = click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
weights_option = click.option(
    "--weights",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="VGG16's weights, an .h5 file.",
)
rounds_option = click.option(
    "--rounds", type=click.IntRange(min=1), default=3, help="Number of turns."
)
count_option = click.option(
    "--count",
    type=click.IntRange(min=2 * WARM_UP),
    callback=_require_full_batches,
    default=320,
    help=f"Number of photos, a multiple of {WARM_UP}. Those of FOLDER repeat if necessary.",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "docs" / "pictures",
    help="Folder for the chart.",
)


def photos_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what all commands that measure photos take."""
    return folder_argument(weights_option(command))


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Time vggnorm and others on this machine."""


@main.command()
@photos_options
@count_option
@rounds_option
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(CONTESTANTS)),
    help="Run only this contestant. Repeat it for more.  [default: all]",
    show_default=False,
)
@output_option
def speed(
    *, folder: Path, weights: str, count: int, rounds: int, only: tuple[str, ...], output: Path
) -> None:
    """Let vggnorm, other programs and the convolutions alone take turns."""
    with _temporary_folder() as temporary:
        photos = repeat_photos(folder, count, temporary / "photos")
        click.echo(
            report_speed(photos, make_jobs(photos, weights, temporary, only), rounds, output)
        )


@main.command()
@photos_options
@rounds_option
def startup(*, folder: Path, weights: str, rounds: int) -> None:
    """Take the start of the program apart."""
    with _temporary_folder() as temporary:
        photos = repeat_photos(folder, WARM_UP, temporary / "photos")
        click.echo(report_startup(photos, weights, rounds))


@main.command()
@photos_options
def growth(*, folder: Path, weights: str) -> None:
    """Run the program over 10, 100, 1,000 and 10,000 photos."""
    with _temporary_folder() as temporary:
        click.echo(report_growth(folder, weights, temporary))


@main.command("all")
@photos_options
@count_option
@rounds_option
@output_option
@click.pass_context
def everything(context: click.Context, /, **options: Any) -> None:
    """Measure speed, start and growth: what docs/speed.md says of a machine."""
    data = {name: options[name] for name in ("folder", "weights")}
    click.echo("### Speed\n")
    context.invoke(speed, **options, only=())
    click.echo("\n### Start\n")
    context.invoke(startup, **data, rounds=options["rounds"])
    click.echo("\n### Growth\n")
    context.invoke(growth, **data)


@main.command()
def files() -> None:
    """Measure what opening and converting a large file of weights takes."""
    with _temporary_folder() as temporary:
        click.echo(report_files(temporary))


@main.command()
@click.option(
    "--blocks", type=click.IntRange(min=1), default=3000, metavar="N", help="Number of blocks."
)
def engine(*, blocks: int) -> None:
    """Measure how fast the driver of --engine ray hands out blocks and adds them up."""
    click.echo(report_engine(blocks))


if __name__ == "__main__":
    main()
