#!/usr/bin/env python3
"""Try which versions of Keras load a normalized network, and write docs/keras-versions.md.

Usage:
    python scripts/try_keras_versions.py [--cache FOLDER] [--python 3.7=/path/to/python3.7 ...]
        [-o TABLE.md]

The program makes a normalized VGG16 from random weights. For each version, it makes a virtual
environment in the cache and loads the file there in four ways. It compares the output of each
network with that of the original, divided by the means. It needs some 16 GB on disk.
"""

import datetime
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import click
import numpy as np
import trials
from PIL import Image
from trials import TrialError, cell, escape, run

import vggnorm
from vggnorm.disk import check_output, replacing
from vggnorm.errors import VggnormError
from vggnorm.report.printable import echo, printable
from vggnorm.run.startup import import_keras

ROOT = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).with_name("load_in_old_keras.py")
COLUMNS = ("load_model", "applications", "load_weights", "by_name")


@dataclass(frozen=True)
class Version:
    """A version of Keras, and how to get it."""

    name: str
    module: str
    python: str
    pins: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of the virtual environment, which versions with equal pins share."""
        pins = "_".join(pin.replace("==", "-").replace("<", "-below-") for pin in self.pins)
        return f"python-{self.python}_{pins}"


EARLY = ("h5py<3", "protobuf<3.20")  # early versions of TensorFlow 2 do not run with newer ones
KERAS_2_2 = ("tensorflow==1.15.5", "keras==2.2.4", "h5py<3", "protobuf<3.21")
KERAS_2_3 = ("tensorflow==1.15.5", "keras==2.3.1", "h5py<3", "protobuf<3.21")
NEWEST = ("tensorflow-cpu", "keras", "tf_keras")
VERSIONS = (
    Version("Keras 2.2.4 on TensorFlow 1.15.5", "keras", "3.7", KERAS_2_2),
    Version("Keras 2.3.1 on TensorFlow 1.15.5", "keras", "3.7", KERAS_2_3),
    Version("TensorFlow 1.15.5", "tensorflow.keras", "3.7", KERAS_2_2),
    Version("TensorFlow 2.0.4", "tensorflow.keras", "3.7", ("tensorflow==2.0.4", *EARLY)),
    Version("TensorFlow 2.1.4", "tensorflow.keras", "3.7", ("tensorflow-cpu==2.1.4", *EARLY)),
    Version("TensorFlow 2.2.3", "tensorflow.keras", "3.7", ("tensorflow-cpu==2.2.3", *EARLY)),
    Version("TensorFlow 2.3.4", "tensorflow.keras", "3.7", ("tensorflow-cpu==2.3.4", *EARLY)),
    Version(
        "TensorFlow 2.4.4", "tensorflow.keras", "3.7", ("tensorflow-cpu==2.4.4", "protobuf<3.20")
    ),
    Version(
        "TensorFlow 2.9.3",
        "tensorflow.keras",
        "3.10",
        ("tensorflow-cpu==2.9.3", "numpy<2", "protobuf<3.20"),
    ),
    Version("TensorFlow 2.15.1", "tensorflow.keras", "3.11", ("tensorflow-cpu==2.15.1",)),
    *(
        Version(
            f"Keras {version}", "keras", "3.11", ("tensorflow-cpu==2.16.2", f"keras=={version}")
        )
        for version in ("3.0.5", "3.1.1", "3.2.1", "3.3.3", "3.4.1")
    ),
    Version("Keras 3.11.3", "keras", "3.11", ("tensorflow-cpu==2.20.0", "keras==3.11.3")),
    Version("Keras, the newest", "keras", "3.11", NEWEST),
    Version("tf_keras, the newest", "tf_keras", "3.11", NEWEST),
)


def find_python(wanted: str, given: Mapping[str, str]) -> str:
    """Return the path of a Python.

    Args:
        wanted: a version such as `3.7`.
        given: version -> path, from the command line.

    Raises:
        TrialError: it is not installed.
    """
    found = given.get(wanted) or shutil.which(f"python{wanted}")
    if found is None:
        raise TrialError(
            f"python{wanted} is not on PATH; give it with --python {wanted}=/path/to/python"
        )
    return found


def make_environment(version: Version, cache: Path, given: Mapping[str, str]) -> Path:
    """Make the virtual environment of a version, unless the cache has it.

    Returns:
        The path of its Python.

    Raises:
        TrialError: it could not be made.
    """
    return trials.make_environment(
        cache / version.folder, lambda: find_python(version.python, given), version.pins
    )


def make_files(folder: Path) -> tuple[Path, Path]:
    """Write a normalized VGG16 and the output expected from it, which its original computes."""
    import keras

    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            centred = kernel - kernel.mean(axis=(0, 1, 2))  # so that every filter fires often
            layer.set_weights([centred / 2, random.uniform(0.5, 1, bias.shape)])
    photos = folder / "noise"
    photos.mkdir()
    for index in range(4):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            photos / f"{index}.png"
        )
    means = vggnorm.compute_means(model, photos, geometry=vggnorm.Geometry(64))

    pixels = random.uniform(-100, 100, (2, 64, 96, 3)).astype(np.float32)
    output = model.predict(pixels, verbose=0) / means.mean["block5_conv3"]
    model_path, expected_path = folder / "vgg16_norm.h5", folder / "expected.npz"
    vggnorm.save_network(vggnorm.normalize(model, means), model_path, means)
    np.savez(expected_path, pixels=pixels, output=output)
    return model_path, expected_path


def try_version(
    python: Path, version: Version, model: Path, expected: Path, cache: Path
) -> dict[str, Any]:
    """Run load_in_old_keras.py in a virtual environment, and return what it found.

    Raises:
        TrialError: it failed.
    """
    settings = {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(cache / "keras"),  # not the settings of the user
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    printed = run([python, CHILD, version.module, model, expected], **settings)
    last = printed.splitlines()[-1]  # Keras 2 prints its progress before it
    return dict(json.loads(last))


def row(version: Version, found: Mapping[str, Any] | TrialError) -> str:
    """Return a row of the table, from the results of a version or the error that prevented them."""
    if isinstance(found, TrialError):
        cells = ["", "", "", f"not tried: {escape(str(found))}", *[""] * (len(COLUMNS) - 1)]
    else:
        cells = [
            found["version"],
            found["tensorflow"],
            found["python"],
            *(cell(found["ways"][way]) for way in COLUMNS),
        ]
    pins = ", ".join(f"`{pin}`" for pin in version.pins)
    return f"| {' | '.join([version.name, *cells, pins])} |"


def table(found: Mapping[Version, Mapping[str, Any] | TrialError]) -> str:
    """Return the whole page."""
    head = [
        "Tried",
        "Version",
        "TensorFlow",
        "Python",
        *(f"`{way}`" for way in COLUMNS),
        "Installed with",
    ]
    lines = [
        "# Which versions of Keras load a normalized network",
        "",
        "`scripts/try_keras_versions.py` made this page on "
        f"{datetime.datetime.now(datetime.UTC).date()}. "
        f"vggnorm {vggnorm.__version__} wrote the file with Keras {installed_version('keras')}, on "
        f"{platform.system()} ({platform.machine()}).",
        "",
        "The file is a normalized VGG16 without its dense layers, with random weights. Each "
        "version loads it in four",
        "ways and computes its output on noise. A number is the largest difference from the "
        "expected output, relative to",
        "the largest expected value. The expected output is that of the original network, divided "
        "by the means. Up to",
        "1e-5, differences come from the rounding of float32. Words are the beginning of an error.",
        "",
        "- `load_model` is `keras.models.load_model(file, compile=False)`.",
        "- `applications` is `keras.applications.VGG16(weights=file, include_top=False)`.",
        "- `load_weights` is `model.load_weights(file)`, on such a VGG16 with other weights.",
        "- `by_name` is `model.load_weights(file, by_name=True)`.",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join(['---'] * len(head))} |",
        *(row(version, result) for version, result in found.items()),
    ]
    return "\n".join(lines) + "\n"


def read_pythons(
    _context: click.Context, _option: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    """Read `3.7=/path` from the command line."""
    pairs = [value.partition("=") for value in values]
    if any(not (wanted and path) for wanted, _, path in pairs):
        raise click.BadParameter("give a version and its path, as 3.7=/path/to/python3.7")
    return {wanted: path for wanted, _, path in pairs}


@click.command()
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(click.get_app_dir("vggnorm-keras-versions")),
    help="Folder for the virtual environments, which later runs use again.  [default: a folder of "
    "the user's]",
)
@click.option(
    "--python",
    "pythons",
    metavar="X.Y=PATH",
    multiple=True,
    callback=read_pythons,
    help="Path of a version of Python that is not on PATH as pythonX.Y. You can repeat the option.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=ROOT / "docs" / "keras-versions.md",
    help="Page to write.  [default: docs/keras-versions.md]",
)
def main(cache: Path, pythons: dict[str, str], output: Path) -> None:
    """Try all versions and write the table; it also lists versions that cannot be installed."""
    try:
        check_output(output, force=True)
        write_table(cache.resolve(), pythons, output)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"{output} has {len(VERSIONS)} rows")


def write_table(cache: Path, pythons: Mapping[str, str], output: Path) -> None:
    """Try all versions and write the table."""
    cache.mkdir(parents=True, exist_ok=True)
    import_keras()
    found: dict[Version, Mapping[str, Any] | TrialError] = {}
    with tempfile.TemporaryDirectory() as folder:
        model, expected = make_files(Path(folder))
        for version in VERSIONS:
            try:
                python = make_environment(version, cache, pythons)
                found[version] = try_version(python, version, model, expected, cache)
            except TrialError as error:
                found[version] = error
            echo(row(version, found[version]))
    with replacing(output) as temporary:
        temporary.write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
