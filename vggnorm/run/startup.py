"""The start of the command line, and of Keras without its noise."""

import os
import sys
import tempfile
from contextlib import suppress

from vggnorm.errors import NetworkError

# The backends of Keras, by the names of their modules. A user or keras.json names one of them.
BACKENDS = ("tensorflow", "torch", "jax", "openvino")


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
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123


def import_keras() -> None:
    """Import Keras, and hide what TensorFlow's libraries print meanwhile, unless the import fails.

    The text is kept in a temporary file. It is shown where no such file can be made.

    Raises:
        NetworkError: the backend that Keras is set to is not installed or does not exist.
    """
    open_closed_streams()
    # This hides most of TensorFlow's log, but not what is logged before the variable is read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _import_keras_quietly()
    except (ModuleNotFoundError, ValueError) as error:
        missing = _missing_backend(error)
        if missing is None:
            raise
        raise NetworkError(
            f"Keras is set to the backend {missing}, by KERAS_BACKEND or in keras.json, and it is "
            "not installed; set KERAS_BACKEND=tensorflow"
        ) from error


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
            if _missing_backend(error) is None:
                said.seek(0)
                os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
