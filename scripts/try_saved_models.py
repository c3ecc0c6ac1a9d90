#!/usr/bin/env python3
"""Try the networks that tutorials build on VGG16, saved by several versions of Keras.

Usage:
    python scripts/try_saved_models.py --weights vgg16_imagenet.h5 --photos FOLDER
        [--cache FOLDER] [--python 3.11=/path/to/python3.11] [-o TABLE.md]

Each version of Keras builds VGG16 in five ways and saves each as .h5 and .keras. vggnorm measures
the network in each file, normalizes it, saves it, loads it again and verifies it. Then the version
that made the network, and the newest, load the normalized file. As class scores stay what they
were, their output must be that of the original. The program prints a table in Markdown, for
docs/networks.md. It needs 4 GB on disk.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from trials import TrialError, cell, escape, run
from try_keras_versions import NEWEST, Version, make_environment, read_pythons

import vggnorm
from vggnorm.disk import check_output, replacing
from vggnorm.errors import VggnormError
from vggnorm.report.printable import echo, printable
from vggnorm.run.startup import import_keras

CHILD = Path(__file__).with_name("saved_models.py")
VERSIONS = (
    Version("TensorFlow 2.15.1", "tensorflow.keras", "3.11", ("tensorflow-cpu==2.15.1",)),
    Version("Keras 3.3.3", "keras", "3.11", ("tensorflow-cpu==2.16.2", "keras==3.3.3")),
    Version("Keras, the newest", "keras", "3.11", NEWEST),
)
SIDE = 96  # of the photos, as in saved_models.py
INSIDE = "prepared"  # the way in which the network prepares the photos itself
COLUMNS = ("Made by", "Way", "File", "Layers", "verify", "There", "In the newest")


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        weights: the file of VGG16's weights.
        photos: a folder of photos.
        cache: where the virtual environments are kept.
        limit: how many photos are measured.
    """

    weights: Path
    photos: Path
    cache: Path
    limit: int


def child(python: Path, command: str, version: Version, *paths: Path, cache: Path) -> Any:
    """Run saved_models.py in a virtual environment, and return what it found.

    Raises:
        TrialError: it failed.
    """
    settings = {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(cache / "keras"),  # not the settings of the user
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    printed = run([python, CHILD, command, version.module, *paths], **settings)
    return json.loads(printed.splitlines()[-1])


def normalize_file(path: Path, target: Path, places: Places) -> tuple[str, str]:
    """Measure, normalize, save, load and verify; give how many layers there are, and the verdict.

    Raises:
        Exception: any step failed.
    """
    model = vggnorm.load_network(path)
    means = vggnorm.compute_means(
        model,
        places.photos,
        preprocessing="none" if path.stem == INSIDE else "caffe",
        geometry=vggnorm.Geometry(SIDE),
        until=vggnorm.Until(limit=places.limit),
    )
    normalized = vggnorm.normalize(model, means)
    vggnorm.save_network(normalized, target, means, force=True)
    loaded = vggnorm.load_network(target)
    report = vggnorm.verify(model, loaded, places.photos, means, limit=places.limit)
    # On a few small photos, some filters of VGG16 never fire, and verify would name them.
    passed = report.means.passed and report.activations.passed
    return str(len(means.mean)), "pass" if passed else "**fail**"


def rows_of(version: Version, python: Path, newest: Path, places: Places) -> Iterator[list[str]]:
    """Try all networks of one version of Keras; give the rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = child(python, "build", version, places.weights, folder, cache=places.cache)
        for file, trouble in made.items():
            path = folder / file
            start = [version.name, path.stem, path.suffix]
            if trouble is not None:
                yield [*start, "", escape(trouble), "", ""]
                continue
            yield [*start, *_results(version, path, (python, newest), places)]


def _results(version: Version, path: Path, pythons: tuple[Path, Path], places: Places) -> list[str]:
    target = path.with_name("normalized.h5")
    try:
        found = normalize_file(path, target, places)
    except Exception as error:  # any error goes into the table
        text = error if isinstance(error, VggnormError) else f"{type(error).__name__}: {error}"
        return ["", cell({"error": str(text).removeprefix(f"{path}: ")}), "", ""]
    expected = path.with_suffix(".npz")
    cells = []
    for python, module in zip(pythons, (version, VERSIONS[-1]), strict=True):
        cells.append(cell(child(python, "load", module, target, expected, cache=places.cache)))
    return [*found, *cells]


def write_table(pythons: Mapping[str, str], places: Places, output: Path | None) -> None:
    """Try all versions, and print the table, or write it."""
    places.cache.mkdir(parents=True, exist_ok=True)
    import_keras()
    newest = Path(sys.executable)
    lines = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(['---'] * len(COLUMNS))} |"]
    for version in VERSIONS:
        python = newest
        if version is not VERSIONS[-1]:
            python = make_environment(version, places.cache, pythons)
        for row in rows_of(version, python, newest, places):
            lines.append(f"| {' | '.join(row)} |")
            echo(lines[-1])
    if output is not None:
        with replacing(output) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


@click.command()
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Weights of VGG16, for example the file that fetch_weights.py makes.",
)
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of photos.",
)
@click.option("--limit", default=8, metavar="N", help="Number of photos to use.  [default: 8]")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(click.get_app_dir("vggnorm-keras-versions")),
    help="Folder for the virtual environments, which later runs use again, and "
    "try_keras_versions.py, too.  [default: a folder of the user's]",
)
@click.option(
    "--python",
    "pythons",
    metavar="X.Y=PATH",
    multiple=True,
    callback=read_pythons,
    help="Path of a version of Python that is not on PATH as pythonX.Y. You can repeat the option.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the table.")
def main(
    *,
    weights: Path,
    photos: Path,
    limit: int,
    cache: Path,
    pythons: dict[str, str],
    output: Path | None,
) -> None:
    """Try all networks and print the table, with the reason where one fails."""
    try:
        if output is not None:
            check_output(output, force=True)
        places = Places(weights.resolve(), photos, cache.resolve(), limit)
        write_table(pythons, places, output)
    except (TrialError, VggnormError) as error:
        raise click.ClickException(printable(error)) from error


if __name__ == "__main__":
    main()
