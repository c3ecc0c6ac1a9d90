"""What all commands share: help, the version, bugs, full disks, and what is not imported."""

import errno
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import Result
from command_line import failed, run

import vggnorm
from vggnorm.cli import main
from vggnorm.photos import finding
from vggnorm.photos.geometry import Geometry
from vggnorm.run.checkpoint import Checkpoint
from vggnorm.run.options import Compute, Until

COMMANDS: Mapping[str, click.Command] = main.commands


def test_a_bug_keeps_its_traceback(
    compute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(finding, "find_photos", bug)
    assert isinstance(compute().exception, ZeroDivisionError)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let the system refuse to write files of more than 2,000 bytes, as a full disk would."""
    resource = pytest.importorskip("resource", reason="needs the limits of a Unix system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_while_normalizing(made: Path, chain_file: Path) -> None:
    Path("chain_norm.h5").write_text("precious")
    options = "--means", made / "means.npy", "--network", chain_file
    text = failed(run("normalize", *options, "--force"))
    assert text == "chain_norm.h5: could not be written: File too large"
    assert Path("chain_norm.h5").read_text() == "precious"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_while_measuring(compute: Callable[..., Result]) -> None:
    # It turns out before the first photo is measured.
    text = failed(compute("--limit", "2"))
    assert re.fullmatch(
        r"means\.npy\.checkpoint: the [0-9,]+ bytes that it needs cannot be written: File too "
        "large; make room there, or give a name in another folder",
        text,
    )


def test_what_the_file_system_lacks_is_said_once_and_the_means_are_the_same(
    compute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compute("-o", "means.npy").exit_code == 0
    usual = vggnorm.load_means("means.npy")
    fcntl = pytest.importorskip("fcntl", reason="needs the locks of a Unix system")

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for module, name in ((fcntl, "flock"), (os, "fsync"), (Path, "replace")):
        monkeypatch.setattr(module, name, refuse)
    options = "--force", "--batch-size", "2", "--checkpoint-every", "0"
    result = compute(*options)
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    for text in "cannot be renamed there", "cannot sync a file", "has no locks":
        assert sum(text in line for line in warnings) == 1
    means = vggnorm.load_means("means.npy")
    for layer, mean in means.measured.mean.items():
        np.testing.assert_allclose(mean, usual.measured.mean[layer], rtol=1e-5)


# In a process of its own


def test_names_that_the_output_cannot_encode(
    photo_folder: Path, chain_file: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "é" / "\udce9"
    photos.mkdir(parents=True)
    shutil.copy(photo_folder / "0.jpg", photos)
    (photos / "b\udcff.jpg").touch()
    command: list[str | Path] = [sys.executable, "-m", "vggnorm", "compute-means"]
    command += ["--data", photos, "--size", "32"]
    command += ["--network", chain_file, "--preprocessing", "caffe"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"1 used, 1 skipped" in done.stdout


FRAMEWORKS = {"tensorflow", "keras", "torch", "jax"}
DRAWING = {"matplotlib", "PIL", "scipy"}


def modules_imported_by(*arguments: str | Path) -> set[str]:
    """Run a command in a process of its own, and return all modules that it imported."""
    program = (
        "import sys; from vggnorm.cli import main; main(standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_long(command: tuple[str, ...]) -> None:
    assert not modules_imported_by(*command, "--help") & (FRAMEWORKS | DRAWING)


def test_the_version_imports_nothing_that_takes_long() -> None:
    assert not modules_imported_by("--version") & (FRAMEWORKS | DRAWING)


@pytest.mark.parametrize("name", ["means.npy", "vgg16_norm.h5"])
def test_a_file_is_inspected_without_tensorflow(name: str, made_vgg16: Path) -> None:
    assert not modules_imported_by("inspect", made_vgg16 / name) & (FRAMEWORKS | DRAWING)


def test_commands_that_run_no_network_do_not_import_tensorflow(
    made_vgg16: Path, compute: Callable[..., Result], tmp_path: Path
) -> None:
    weights = made_vgg16 / "vgg16_norm.h5"
    for output in "vgg.safetensors", "vgg.npz", "vgg.mat":
        assert not modules_imported_by("convert", weights, "-o", tmp_path / output) & FRAMEWORKS
    figure = tmp_path / "figure.png"
    assert not modules_imported_by("plot", weights, "-o", figure) & FRAMEWORKS
    parts = [tmp_path / "1.npy", tmp_path / "2.npy"]
    for number, part in enumerate(parts, 1):
        assert compute("--shard", f"{number}/2", "-o", part).exit_code == 0
    merged = tmp_path / "merged.npy"
    assert not modules_imported_by("merge-means", *parts, "-o", merged) & FRAMEWORKS


def test_the_version() -> None:
    assert run("--version").stdout == f"vggnorm {vggnorm.__version__}\n"


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "vggnorm", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"vggnorm {vggnorm.__version__}\n"


# What the help says


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), (
            parameter.name
        )


def library_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function, and of the fields of defaults such as `Geometry()`."""
    defaults: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        value = parameter.default
        if is_dataclass(value):
            defaults |= {field.name: getattr(value, field.name) for field in fields(value)}
        elif value is not inspect.Parameter.empty:
            defaults[name] = value
    return defaults


def value_defaults(*values: type[Any]) -> dict[str, Any]:
    """Return the default of each field of the values that a run takes."""
    return {
        field.name: field.default
        for value in values
        for field in fields(value)
        if field.default is not MISSING
    }


# The command gives these in other ways: they choose the network, its photos and their size.
NOT_COMPARED = {"data", "network", "weights", "preprocessing", "size"}


@pytest.mark.parametrize(
    ("command", "expected", "least"),
    [
        ("compute-means", value_defaults(Compute, Until, Geometry, Checkpoint), 10),
        ("verify", library_defaults(vggnorm.verify), 1),
    ],
)
def test_defaults_are_those_of_the_library(
    command: str, expected: dict[str, Any], least: int
) -> None:
    options = {
        option.name: None if str(option.default) == "Sentinel.UNSET" else option.default
        for option in COMMANDS[command].params
        if option.name in expected and option.name not in NOT_COMPARED
    }
    assert len(options) >= least
    for name, default in options.items():
        assert (default or None) == (expected[str(name)] or None), name
