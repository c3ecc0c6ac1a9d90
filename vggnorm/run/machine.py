"""What decides the last bits of the means: the processor, its cores and the libraries."""

import platform
from importlib import import_module, metadata
from pathlib import Path

from vggnorm.photos.cores import core_count


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
    return f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {library}"


def _onednn() -> str:
    """Tell whether TensorFlow uses oneDNN, as TensorFlow itself says: not every build has it."""
    try:
        enabled = import_module("tensorflow.python.util._pywrap_util_port").IsMklEnabled()
    except (ImportError, AttributeError):  # the module is private to TensorFlow, and may disappear
        return ""
    return " with oneDNN" if enabled else " without oneDNN"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # only Linux has this file
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
