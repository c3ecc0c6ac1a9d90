"""Keras starts without TensorFlow's noise, and a start that fails says why."""

import subprocess
import sys
from pathlib import Path

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
