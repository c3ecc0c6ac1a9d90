"""What decides the last bits of the means: the processor, its cores and the libraries."""

from importlib import import_module, metadata

from vggnorm.photos.cores import core_count
from vggnorm.processor import processor_name


def describe_machine(backend: str) -> str:
    """Name the processor, the number of cores, and the library that computes, as a line for people.

    Args:
        backend: of Keras: `tensorflow`, `torch`, `jax`.
    """
    try:
        library = f"{backend} {metadata.version(backend)}"
    except metadata.PackageNotFoundError:  # the package has another name
        library = backend
    if backend == "tensorflow":
        library += _onednn()
    cores = core_count()
    return f"{processor_name()}, {cores} core{'s' if cores > 1 else ''}, {library}"


def _onednn() -> str:
    """Tell whether TensorFlow uses oneDNN, as TensorFlow itself says: not every build has it."""
    try:
        enabled = import_module("tensorflow.python.util._pywrap_util_port").IsMklEnabled()
    except (ImportError, AttributeError):  # the module is private to TensorFlow, and may disappear
        return ""
    return " with oneDNN" if enabled else " without oneDNN"
