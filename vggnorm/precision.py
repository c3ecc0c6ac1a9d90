"""What the network computes in: float32 that is float32, and how fast another precision is on this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError

TRIAL_PHOTOS = 4  # enough for the ratio of two speeds; where bfloat16 is emulated, each takes seconds


@contextmanager
def exact_float32() -> Iterator[None]:
    """Have a GPU compute float32 as float32, and not as TF32, which rounds what it multiplies to 11 bits."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from tensorflow.config import experimental as config  # noqa: PLC0415  only the backend in use is there

        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)
    elif backend == "torch":
        backends: Any = import_module("torch").backends  # its types do not tell all that it has
        places = backends.cuda.matmul, backends.cudnn.conv
        settings = [place.fp32_precision for place in places]
        for place in places:
            place.fp32_precision = "ieee"
        try:
            yield
        finally:
            for place, setting in zip(places, settings, strict=True):
                place.fp32_precision = setting
    elif backend == "jax":
        import jax  # noqa: PLC0415

        with jax.default_matmul_precision("highest"):
            yield
    else:
        yield


def run_batch(model: keras.Model, pixels: NDArray[Any]) -> Any:
    """Run a batch of photos through a measuring model.

    Raises:
        NetworkError: there is not enough memory for it.
    """
    try:
        return model.predict_on_batch(pixels)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        count, height, width = pixels.shape[:3]
        raise NetworkError(
            f"{model.name}: there is not enough memory for a batch of {count} photos of {height} x {width} pixels; "
            "give a smaller --batch-size, with --fresh if a run has begun, or a smaller --size"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error is that of a backend, or of Python, without memory. Each has a class of its own for it."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError"):
        return True
    return "RESOURCE_EXHAUSTED" in str(error) or "not enough memory" in str(error)  # JAX's and PyTorch's words


def photos_per_second(measuring: keras.Model, height: int, width: int) -> float:
    """Time a measuring model on a few pictures of noise, after a first run that builds it."""
    noise = np.random.default_rng(0).integers(0, 256, (TRIAL_PHOTOS, height, width, 3), dtype=np.uint8)
    run_batch(measuring, noise)
    start = time.perf_counter()
    run_batch(measuring, noise)
    return TRIAL_PHOTOS / (time.perf_counter() - start)
