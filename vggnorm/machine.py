"""What decides the last bits of the means, beside the recipe: the processor, the threads and the libraries.

Needs no Keras.
"""

import os
import platform
from importlib import metadata
from pathlib import Path


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
        # TensorFlow reads the variable when it is imported; see vggnorm/__init__.py.
        library += " with oneDNN" if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0" else " without oneDNN"
    cores = core_count()
    return f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {library}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # there is none but on Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
