"""Run programs in virtual environments of their own, and show in a table what came of it."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vggnorm.errors import VggnormError
from vggnorm.report.printable import printable

TOLERANCE = 1e-4  # float32 stays within 1e-5 over 16 layers; a wrong layer differs by about 1
# Variables that the other programs must not inherit. TensorFlow 2 sets TF2_BEHAVIOR, for example,
# which TensorFlow 1.15 obeys too.
OWN = ("KERAS", "PYTHON", "TF", "VIRTUAL_ENV")
LONGEST = 70  # characters of an error in a table


class TrialError(VggnormError):
    """A program could not be installed or started."""


def run(command: Sequence[str | Path], **environment: str) -> str:
    """Run a program without the settings of this Python, and return what it prints.

    Raises:
        TrialError: the program could not be started, or failed; the text is its last line on
            stderr.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=kept | environment,
        )
    except OSError as error:
        raise TrialError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")]  # pip adds warnings after them
        raise TrialError((errors or said or [f"it ended with exit status {done.returncode}"])[-1])
    return done.stdout


def make_environment(folder: Path, find_python: Callable[[], str], pins: Sequence[str]) -> Path:
    """Make a virtual environment, unless the folder already is a complete one.

    Args:
        folder: where it shall be.
        find_python: tells the path of the Python to make it with, if one is needed.
        pins: what to install, for pip.

    Returns:
        The path of its Python.

    Raises:
        TrialError: it could not be made.
    """
    inside = folder / "bin" / "python"
    complete = folder / "complete"  # written after everything is installed
    if not complete.exists():
        run([find_python(), "-m", "venv", "--clear", folder])
        run([inside, "-m", "pip", "install", "--quiet", "--prefer-binary", *pins])
        complete.touch()
    return inside


def escape(text: str) -> str:
    """Return a text that can be part of a cell."""
    return printable(text).replace("|", r"\|").replace("<", r"\<")


def cell(found: Mapping[str, Any]) -> str:
    """Return the result of one trial: the difference, or the first words of an error."""
    if "error" in found:
        lines = found["error"].splitlines()
        text = lines[0] if len(lines[0]) <= LONGEST else f"{lines[0][:LONGEST].rsplit(' ', 1)[0]} …"
        return escape(text)
    difference = found["difference"]
    return f"{difference:.1e}" if difference <= TOLERANCE else f"**wrong by {difference:.1e}**"
