"""What all commands share: help, the version, bugs, full disks, and what is not imported."""

import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import click
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
    result = compute("--limit", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    error = result.stderr.splitlines()[-1]
    assert error == "Error: means.npy: could not be written: File too large"


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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["compute-means", "--help"], ["inspect", "{made}"]]
)
def test_tensorflow_is_not_imported_without_need(arguments: list[str], made: Path) -> None:
    program = (
        "import sys; from vggnorm.cli import main; main(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'torch', 'jax', 'PIL'} & set(sys.modules), 'imported'"
    )
    arguments = [argument.format(made=made / "means.npy") for argument in arguments]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


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
