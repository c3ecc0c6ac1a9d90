"""Run a network in real float32, without TF32, and time it on this machine.

This module turns TF32 off while a network runs, turns a backend's lack of memory and the trouble
with a GPU into a readable error, and has a stopwatch that tells whether another precision would be
faster here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.network.failures import gpu_text, is_of_gpu, is_out_of_memory, kinds_of_failure
from vggnorm.network.memory import is_on_cpu, shortage_text, smaller_batches

# Enough to compare two speeds, and not more: where bfloat16 is emulated, each photo takes seconds.
TRIAL_PHOTOS = 4


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keep a GPU from computing float32 as TF32, which rounds what it multiplies to 11 bits."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from tensorflow.config import experimental as config  # noqa: PLC0415  may be missing

        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)
    elif backend == "torch":
        backends: Any = import_module("torch").backends  # its types are incomplete
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
    """Run a batch of photos through a model.

    Args:
        model: a model that measures or compares, see `vggnorm.network.instruments`.
        pixels: `(photos, height, width, 3)`, RGB 0..255.

    Raises:
        NetworkError: there is not enough memory for the batch, or the GPU cannot be used.
    """
    try:
        return model.predict_on_batch(pixels)
    except kinds_of_failure() as error:
        count, *size = pixels.shape[:3]
        if is_out_of_memory(error):
            fitting = _batch_that_runs(model, pixels.shape)
            raise NetworkError(shortage_text(count, (size[0], size[1]), fitting)) from error
        if is_of_gpu(error):
            raise NetworkError(gpu_text(error)) from error
        raise


def _batch_that_runs(model: keras.Model, shape: tuple[int, ...]) -> int | None:
    """Find how many photos can be run at a time, by running blank ones.

    Half of a batch that does not fit is not tried on a CPU, where TensorFlow may end the process.
    """
    count, *photo = shape
    highest = count // 2 if is_on_cpu(model) else count
    for smaller in smaller_batches(highest):
        try:
            model.predict_on_batch(np.zeros((smaller, *photo), np.uint8))
        except kinds_of_failure() as error:
            if not is_out_of_memory(error):
                raise
        else:
            return smaller
    return None


def photos_per_second(measuring: keras.Model, height: int, width: int) -> float:
    """Time a measuring model on a few pictures of noise, after a first run that builds it."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (TRIAL_PHOTOS, height, width, 3), dtype=np.uint8)
    run_batch(measuring, noise)
    start = time.perf_counter()
    run_batch(measuring, noise)
    return TRIAL_PHOTOS / (time.perf_counter() - start)
