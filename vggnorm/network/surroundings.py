"""What a program has set in Keras and TensorFlow around a call of this library, and the devices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

from vggnorm.errors import NetworkError
from vggnorm.network.failures import gpu_text, is_of_gpu, is_out_of_memory, kinds_of_failure

# What a driver for NVIDIA's GPUs makes: on Linux, and on Linux inside Windows.
GPU_FILES = ("/dev/nvidia0", "/dev/dxg")


def require_ready() -> None:
    """Require that Keras can compute here and now.

    Raises:
        NetworkError: TensorFlow is in graph mode, or the GPU cannot be used.
    """
    if keras.backend.backend() == "tensorflow":
        _require_eager()
    try:
        keras.ops.convert_to_numpy(keras.ops.ones(1))  # the first computation starts the device
    except kinds_of_failure() as error:
        if not is_of_gpu(error) and not is_out_of_memory(error):
            raise
        raise NetworkError(gpu_text(error)) from error


def _require_eager() -> None:
    if not import_module("tensorflow").executing_eagerly():
        raise NetworkError(
            "TensorFlow is in graph mode, in which no number can be read; call vggnorm outside "
            "tf.function and tf.Graph, in a program that does not call "
            "tf.compat.v1.disable_eager_execution()"
        )


@contextmanager
def usual_settings() -> Iterator[None]:
    """Set Keras to float32 with the channels last, as its VGG wants it, as long as the block lasts.

    The program, or keras.json, may have set something else, which comes back.
    """
    floatx, data_format = keras.config.floatx(), keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(data_format)
        keras.config.set_dtype_policy(policy)


def unused_gpu_line(gpu_files: tuple[str, ...] | None = None) -> str | None:
    """Say that this machine has a GPU which Keras's backend does not use; None if there is no such.

    A GPU that the user has hidden with `CUDA_VISIBLE_DEVICES` is none.

    Args:
        gpu_files: the files by which a GPU is recognized; by default `GPU_FILES`.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return None
    found = [file for file in gpu_files or GPU_FILES if Path(file).exists()]
    if not found or _has_gpu():
        return None
    backend = keras.backend.backend()
    return (
        f"this machine has a GPU ({found[0]}), but {backend} finds none that it can use, and "
        f"computes on the CPU; {GPU_ADVICE[backend]}, or set CUDA_VISIBLE_DEVICES=-1 to hide the "
        "GPU"
    )


_DRIVER = "see with nvidia-smi that its driver works"
GPU_ADVICE = {
    "tensorflow": f"{_DRIVER}, and pip install 'tensorflow[and-cuda]'",
    "jax": f"{_DRIVER}, and pip install 'jax[cuda12]'",
    "torch": f"{_DRIVER}, and install a build of PyTorch for its version of CUDA",
}


def _has_gpu() -> bool:
    backend = keras.backend.backend()
    library: Any = import_module(backend)
    if backend == "tensorflow":
        return bool(library.config.list_physical_devices("GPU"))
    if backend == "jax":
        return bool(library.default_backend() != "cpu")
    return backend != "torch" or bool(library.cuda.is_available())
