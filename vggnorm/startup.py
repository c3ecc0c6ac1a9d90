"""Starting a command line, and Keras without its noise."""

import os
import sys
import tempfile
from contextlib import suppress

from vggnorm.errors import NetworkError

# What Keras can work with, by the name of the module. It takes the one that a person or keras.json names.
BACKENDS = ("tensorflow", "torch", "jax", "openvino")


def open_closed_streams() -> None:
    """Open to nowhere whichever of stdin, stdout and stderr the program was started without (`2>&-`).

    Else the next file that is opened takes the number, and what a library writes to stderr goes into that file.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  open as long as the program runs


def import_keras() -> None:
    """Import Keras, and keep back what TensorFlow's libraries say of the machine meanwhile, unless the import fails.

    Where no temporary file can be made to keep it in, it is shown.

    Raises:
        NetworkError: the backend that Keras is set to is not installed, or there is none of that name.
    """
    open_closed_streams()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # does not reach what is logged before it is read
    try:
        _import_keras_quietly()
    except (ModuleNotFoundError, ValueError) as error:
        if (missing := _missing_backend(error)) is None:
            raise
        raise NetworkError(
            f"Keras is set to the backend {missing}, by KERAS_BACKEND or in keras.json, and it is not installed; "
            "set KERAS_BACKEND=tensorflow"
        ) from error


def _missing_backend(error: Exception) -> str | None:
    """Name the backend for lack of which Keras could not be imported; None if the failure is another."""
    if isinstance(error, ModuleNotFoundError):
        return error.name if error.name in BACKENDS else None
    unknown = str(error).partition("Unable to import backend : ")[2]  # Keras's words for a name that it does not know
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
