"""What Keras and its backends raise about a network or a machine, in one line."""

import re
from importlib import import_module

import keras

# So much of a reason is shown.
LONGEST = 240

# How Keras begins when it passes on what another part of it, or a backend, has raised.
PASSED_ON = (
    "Exception encountered when calling",
    "Could not automatically infer the output shape",
)

# What a message about a GPU names.
GPU_WORDS = re.compile(r"cuda|cudnn|DNN library|No algorithm worked|NVIDIA", re.IGNORECASE)

# How JAX, PyTorch (on Windows and Linux) and the libraries of a GPU say that memory is short.
MEMORY_WORDS = re.compile(
    r"RESOURCE_EXHAUSTED|not enough memory|can't allocate memory|out of memory|OOM when",
    re.IGNORECASE,
)
MEMORY_KINDS = ("ResourceExhaustedError", "OutOfMemoryError")


def kinds_of_failure() -> tuple[type[Exception], ...]:
    """List what Keras and its backends raise where a network cannot be built or run.

    Other kinds, such as an AttributeError, are mistakes in a program and are left alone.
    """
    kinds: tuple[type[Exception], ...] = (ValueError, TypeError, RuntimeError, MemoryError)
    if keras.backend.backend() == "tensorflow":
        kinds += (import_module("tensorflow").errors.OpError,)
    return kinds


def reason_of(error: BaseException) -> str:
    """Give the reason that stands in what Keras says, without what Keras puts around it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras writes it in bold
    text = text.partition("Arguments received by")[0]
    text = re.sub(r" for '\{\{node .*", "", text)  # TensorFlow's names for what it built
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(PASSED_ON)]
    reason = said[0].rstrip(".") if said else type(error).__name__
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that Python or a backend has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ in MEMORY_KINDS:
        return True
    return isinstance(error, kinds_of_failure()) and bool(MEMORY_WORDS.search(str(error)))


def is_of_gpu(error: BaseException) -> bool:
    """Tell whether an error is about a GPU, its driver or its libraries."""
    return isinstance(error, kinds_of_failure()) and bool(GPU_WORDS.search(str(error)))


def gpu_text(error: BaseException) -> str:
    """Say that the GPU cannot be used, why, and what to do."""
    return (
        f"the GPU cannot be used: {reason_of(error)}; end other programs that use it, mend its "
        "driver and libraries, or set CUDA_VISIBLE_DEVICES=-1 to compute on the CPU"
    )
