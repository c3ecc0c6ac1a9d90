"""The start of the command line, and of Keras without its noise."""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggnorm.errors import NetworkError, in_one_line

# The backends of Keras, by the names of their modules. A user or keras.json names one of them.
BACKENDS = ("tensorflow", "torch", "jax", "openvino")

SETTINGS_READER = "keras/src/backend/config.py"  # of Keras's own modules


def open_closed_streams() -> None:
    """Open stdin, stdout and stderr to nowhere where the program was started without them (`2>&-`).

    Otherwise the next file that is opened takes the number of the missing stream, and what a
    library writes to stderr goes into that file.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def have_temporary_folder(folder: str | Path = ".") -> None:
    """Name a temporary folder where the system has none, as in a read-only container.

    TensorFlow only asks for its name. Matplotlib writes into it if it has no other place.

    Args:
        folder: to be used where no usual temporary folder can be written.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.path.abspath(folder)  # noqa: PTH100  as `gettempdir` gives it


def import_keras() -> None:
    """Import Keras, and hide what TensorFlow's libraries print meanwhile, unless the import fails.

    The text is kept in a temporary file. It is shown where no such file can be made.

    Raises:
        NetworkError: the backend that Keras is set to is not installed or does not exist, or Keras
            cannot use its settings.
    """
    open_closed_streams()
    have_temporary_folder()
    # This hides most of TensorFlow's log, but not what is logged before the variable is read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _without_matplotlib():
            _import_keras_quietly()
    except (AttributeError, ImportError, OSError, ValueError) as error:
        missing = _missing_backend(error)
        if missing is None and _is_of_settings(error):
            raise NetworkError(
                f"Keras cannot use its settings, in {_settings_file()} or in variables that begin "
                f"with KERAS_: {in_one_line(error)}; mend or unset them, or set KERAS_HOME to an "
                "empty folder"
            ) from error
        if missing is None:
            raise
        raise NetworkError(
            f"Keras is set to the backend {missing}, by KERAS_BACKEND or in keras.json, and it is "
            "not installed; set KERAS_BACKEND=tensorflow"
        ) from error


def _is_of_settings(error: Exception) -> bool:
    """Tell whether an import of Keras failed in the module that reads the settings."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).as_posix().endswith(SETTINGS_READER)


def _settings_file() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")  # noqa: PTH111, PTH118  as Keras does; a missing home is no error
    return Path(home, "keras.json")


@contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Keep Keras from importing matplotlib, for pictures that this program never asks for.

    It would take a second, and fail where no folder can be written. Keras goes on without it.
    """
    if "matplotlib" in sys.modules:
        yield
        return
    sys.modules["matplotlib"] = None  # type: ignore[assignment]  # as for what is missing
    try:
        yield
    finally:
        del sys.modules["matplotlib"]


def _missing_backend(error: Exception) -> str | None:
    """Name the missing backend that kept Keras from being imported; None for another failure."""
    if isinstance(error, ModuleNotFoundError):
        return error.name if error.name in BACKENDS else None
    # Keras's words for a name that it does not know.
    _, _, unknown = str(error).partition("Unable to import backend : ")
    return unknown or None


def _import_keras_quietly() -> None:
    try:
        said = tempfile.TemporaryFile()  # noqa: SIM115  closed below
    except OSError:
        import keras  # noqa: PLC0415

        return
    stderr = os.dup(2)
    with said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401, PLC0415
        except Exception as error:
            if _missing_backend(error) is None and not _is_of_settings(error):
                said.seek(0)
                os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
