"""What the network computes in: float32 that is float32, and how fast another precision is on this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import keras
import numpy as np

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


def photos_per_second(measuring: keras.Model, height: int, width: int) -> float:
    """Time a measuring model on a few pictures of noise, after a first run that builds it."""
    noise = np.random.default_rng(0).integers(0, 256, (TRIAL_PHOTOS, height, width, 3), dtype=np.uint8)
    measuring.predict_on_batch(noise)
    start = time.perf_counter()
    measuring.predict_on_batch(noise)
    return TRIAL_PHOTOS / (time.perf_counter() - start)
