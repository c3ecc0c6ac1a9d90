"""Keras starts without the messages of TensorFlow, and a start that fails says why."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = """
import sys
from vggnorm.run.startup import import_keras
import_keras()
print("keras" in sys.modules)
"""


def run_program(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in another process."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def with_own_keras(folder: Path, source: str) -> str:
    """Return the program with a module `keras` of this source in the place of Keras."""
    (folder / "keras.py").write_text(source)
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n{PROGRAM}"


def test_tensorflow_stays_quiet_and_stderr_works_afterwards() -> None:
    done = run_program(f"{PROGRAM}print('seen', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "seen\n")


def test_what_was_said_before_a_failure_is_shown(tmp_path: Path) -> None:
    source = "import os; os.write(2, b'the reason\\n'); raise RuntimeError('broken')\n"
    done = run_program(with_own_keras(tmp_path, source))
    assert done.returncode == 1
    assert done.stderr.startswith("the reason\n")
    assert "RuntimeError: broken" in done.stderr


def test_keras_starts_without_a_temporary_file(tmp_path: Path) -> None:
    program = with_own_keras(tmp_path, "import os; os.write(2, b'noise\\n')\n")
    done = run_program(f"import tempfile; tempfile.tempdir = '/nowhere/at/all'\n{program}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "noise\n")


def test_keras_starts_with_stderr_closed() -> None:
    close = "import os, sys; os.close(2); sys.stderr = None"
    done = run_program(f"{close}\n{PROGRAM}print('lost', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def run_command_line(
    photos: Path, folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KERAS_BACKEND", "KERAS_HOME")
    }
    arguments = ("compute-means", "--data", str(photos), "-o", str(folder / "means.npy"))
    return subprocess.run(
        [sys.executable, "-m", "vggnorm", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("backend", ["theano", "torch", "jax"])
def test_a_backend_that_is_not_installed_is_named_in_one_line(
    backend: str, photo_folder: Path, tmp_path: Path
) -> None:
    if find_spec(backend) is not None:
        pytest.skip(f"{backend} is installed")
    done = run_command_line(photo_folder, tmp_path, KERAS_BACKEND=backend)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"9 photos in {photo_folder}",
        f"Error: Keras is set to the backend {backend}, by KERAS_BACKEND or in keras.json, and it "
        "is not installed; "
        "set KERAS_BACKEND=tensorflow",
    ]


def test_a_backend_named_in_the_settings_of_keras_is_named_in_one_line(
    photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "theano"}))
    done = run_command_line(photo_folder, tmp_path, KERAS_HOME=str(tmp_path))
    assert done.returncode == 1
    _, error = done.stderr.splitlines()  # after the number of photos
    assert error.startswith("Error: Keras is set to the backend theano, ")


def test_another_module_that_is_missing_keeps_its_traceback(tmp_path: Path) -> None:
    done = run_program(with_own_keras(tmp_path, "import a_module_of_keras\n"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "No module named 'a_module_of_keras'" in done.stderr
