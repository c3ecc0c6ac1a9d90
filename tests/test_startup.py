"""Keras starts without TensorFlow's noise, and a start that fails says why."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = "from vggnorm.startup import import_keras; import_keras(); import sys; print('keras' in sys.modules)"


def test_nothing_is_said_of_the_machine() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_was_said_before_a_failure_is_shown(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("import os; os.write(2, b'the reason\\n'); raise RuntimeError('broken')\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the reason\n")
    assert "RuntimeError: broken" in done.stderr


def test_stderr_is_there_again_afterwards() -> None:
    program = f"{PROGRAM}; print('seen', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "seen\n"


def test_where_no_temporary_file_can_be_made_keras_starts_all_the_same() -> None:
    program = f"import tempfile; tempfile.tempdir = '/nowhere/at/all'\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_keras_starts_with_stderr_closed() -> None:
    program = f"import os, sys; os.close(2); sys.stderr = None\n{PROGRAM}; print('lost', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def run_command_line(photos: Path, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "KERAS_HOME")}
    arguments = ("compute-means", "--data", str(photos), "-o", str(folder / "means.npy"))
    return subprocess.run(
        [sys.executable, "-m", "vggnorm", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("backend", ["theano", "torch", "jax"])
def test_a_backend_that_is_not_installed_is_named_in_one_line(backend: str, photo_folder: Path, tmp_path: Path) -> None:
    if find_spec(backend) is not None:
        pytest.skip(f"{backend} is installed")
    done = run_command_line(photo_folder, tmp_path, KERAS_BACKEND=backend)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"9 photos in {photo_folder}",
        f"Error: Keras is set to the backend {backend}, by KERAS_BACKEND or in keras.json, and it is not installed; "
        "set KERAS_BACKEND=tensorflow",
    ]


def test_a_backend_named_in_the_settings_of_keras_is_named_in_one_line(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "theano"}))
    done = run_command_line(photo_folder, tmp_path, KERAS_HOME=str(tmp_path))
    assert done.returncode == 1
    _, error = done.stderr.splitlines()  # after the number of photos
    assert error.startswith("Error: Keras is set to the backend theano, ")


def test_another_module_that_is_missing_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("import a_module_of_keras\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "No module named 'a_module_of_keras'" in done.stderr
