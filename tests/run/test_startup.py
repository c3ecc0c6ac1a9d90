"""Keras starts without the messages of TensorFlow, and a start that fails says why."""

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans

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


def test_keras_starts_where_there_is_no_temporary_folder() -> None:
    # As in a read-only container.
    none = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere/at/all']"
    done = run_program(f"{none}\n{PROGRAM}")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_temporary_folder_is_named_only_where_there_is_none(tmp_path: Path) -> None:
    none = "tempfile._candidate_tempdir_list = lambda: ['/nowhere/at/all']"
    for before, expected in ("", tempfile.gettempdir()), (none, str(tmp_path)):
        done = run_program(
            f"import tempfile; {before}\n"
            "from vggnorm.run.startup import have_temporary_folder\n"
            f"have_temporary_folder({str(tmp_path)!r})\n"
            "print(tempfile.gettempdir())"
        )
        assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_matplotlib_is_not_imported_with_keras_and_can_be_afterwards() -> None:
    done = run_program(f"{PROGRAM}print('matplotlib' in sys.modules); import matplotlib")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nFalse\n", "")


def test_keras_starts_with_stderr_closed() -> None:
    close = "import os, sys; os.close(2); sys.stderr = None"
    done = run_program(f"{close}\n{PROGRAM}print('lost', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def run_command_line(
    photos: Path, folder: Path, *options: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KERAS_BACKEND", "KERAS_HOME")
    }
    arguments = ("compute-means", "--data", str(photos), "-o", str(folder / "means.npy"))
    return subprocess.run(
        [sys.executable, "-m", "vggnorm", *arguments, *options],
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


def end_of(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line of the error, after the number of photos."""
    assert done.returncode == 1, done.stderr
    _, error = done.stderr.splitlines()
    return error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"floatx": "float99"}', "Invalid `floatx` configuration"),
        ('{"epsilon": "small"}', "Invalid `epsilon` configuration"),
        ('{"image_data_format": "sideways"}', "Invalid `image_data_format` configuration"),
        ("[1]", "'list' object has no attribute 'get'"),
    ],
)
def test_settings_that_keras_does_not_take_are_named_and_can_be_left(
    text: str, reason: str, chain_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text(text)
    error = end_of(run_command_line(photo_folder, tmp_path, KERAS_HOME=str(tmp_path)))
    assert error.startswith(
        f"Error: Keras cannot use its settings, in {tmp_path / 'keras.json'} or in variables that "
        f"begin with KERAS_: {reason}"
    )
    assert error.endswith("; mend or unset them, or set KERAS_HOME to an empty folder")
    (tmp_path / "empty").mkdir()
    options = ("--network", str(chain_file), "--preprocessing", "caffe", "--size", "32")
    home = str(tmp_path / "empty")
    assert run_command_line(photo_folder, tmp_path, *options, KERAS_HOME=home).returncode == 0


def test_settings_that_cannot_be_read_are_named(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keras.json").mkdir()
    error = end_of(run_command_line(photo_folder, tmp_path, KERAS_HOME=str(tmp_path)))
    assert "Is a directory" in error or "Permission denied" in error


# Other programs' settings with which a run gives what it gives without them.
SETTINGS = [
    {"floatx": "float16", "image_data_format": "channels_first"},
    {"floatx": "float64", "epsilon": 1e-3},
]
VARIABLES = {
    "MPLBACKEND": "of_a_notebook",
    "TF_USE_LEGACY_KERAS": "1",
    "CUDA_VISIBLE_DEVICES": "3",
    "PYTHONWARNINGS": "error",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "HOME": "/nowhere",
}


def test_settings_of_other_programs_change_no_bit(
    chain_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    options = ("--network", str(chain_file), "--preprocessing", "caffe", "--size", "32")

    def run(folder: Path, text: str = "{}", **environment: str) -> dict[str, np.ndarray]:
        folder.mkdir()
        (folder / "keras.json").write_text(text)
        home = {"KERAS_HOME": str(folder)}
        done = run_command_line(photo_folder, folder, *options, **home, **environment)
        assert done.returncode == 0, done.stderr
        return dict(load_means(folder / "means.npy").mean)

    expected = run(tmp_path / "plain")
    every = [run(tmp_path / "variables", **VARIABLES), run(tmp_path / "broken", "{broken")]
    for index, settings in enumerate(SETTINGS):
        every.append(run(tmp_path / str(index), json.dumps(settings)))
    for found in every:
        for layer, mean in expected.items():
            np.testing.assert_array_equal(found[layer], mean)


def test_a_figure_is_drawn_whatever_backend_matplotlib_is_set_to(
    some_means: FilterMeans, tmp_path: Path
) -> None:
    save_means(some_means, tmp_path / "means.npy")
    done = subprocess.run(
        [sys.executable, "-m", "vggnorm", "plot", "means.npy", "-o", "figure.png"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "of_a_notebook", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure.png").stat().st_size > 0
