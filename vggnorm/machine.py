"""What decides the last bits of the means, beside the recipe: the processor, the threads and the libraries.

Counting the cores needs neither Keras nor TensorFlow.
"""

import os
import platform
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path

SEPARATOR = "; "  # between machines, of a run that went on elsewhere and of parts added up


def core_count() -> int:
    """Count the cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def join_machines(machines: Iterable[str]) -> str:
    """Name each machine once, in the order given. Those that are not known, of version 0.1.0, are left out."""
    names = [name for line in machines for name in line.split(SEPARATOR) if name]
    return SEPARATOR.join(dict.fromkeys(names))


def _onednn() -> str:
    """Tell what TensorFlow itself says: it reads the variable once, in its own way, and not every build has oneDNN."""
    try:
        enabled = import_module("tensorflow.python.util._pywrap_util_port").IsMklEnabled()
    except (ImportError, AttributeError):  # the module is TensorFlow's own, and may go
        return ""
    return " with oneDNN" if enabled else " without oneDNN"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # there is none but on Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
