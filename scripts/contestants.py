"""What scripts/benchmark.py times: vggnorm, other programs, and the machine's best speed.

The other programs are written the way scripts for this job usually are. Two use Keras: one takes
photos one by one through tf.data, the other loads batches in the thread that also runs the
network. The third uses PyTorch with forward hooks. `ceilings.py` holds the convolutions alone.

When you run this file, it does one job, which you give as JSON, and prints what the job took as
JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from ceilings import CEILINGS, ONNX, TORCH, channels_first, plain_network, torch_network
from timed_jobs import Clock, Figures, Job, batches, paths

from vggnorm.means.recipe import Precision
from vggnorm.photos.geometry import Geometry
from vggnorm.run.startup import import_keras


def run_vggnorm(job: Job, clock: Clock, precision: Precision | Literal["auto"]) -> None:
    """Measure the means and save them, as `vggnorm compute-means` does."""
    import vggnorm

    means = vggnorm.compute_means(
        plain_network(job),
        job.folder,
        geometry=Geometry(job.size),
        compute=vggnorm.Compute(precision, batch_size=job.batch_size),
        watch=vggnorm.Watch(progress=clock),
    )
    vggnorm.save_means(means, job.means, force=True)


def run_keras_singly(job: Job, clock: Clock) -> None:
    """Run a plain Keras model on one photo after another, which tf.data loads."""
    import tensorflow as tf

    def load(path: Any) -> Any:
        pixels = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
        return tf.cast(tf.image.resize(pixels, [job.size] * 2), tf.uint8)

    model = plain_means(job)
    total: Any = 0
    photos = tf.data.Dataset.from_tensor_slices(paths(job)).map(load).batch(1)
    for done, photo in enumerate(photos, 1):
        total = total + np.concatenate(model.predict(photo, verbose=0), axis=1)[0]
        clock(done)


def run_keras_in_batches(job: Job, clock: Clock, batch_size: int = 64) -> None:
    """Run a plain Keras model on batches that the same thread loads."""
    import keras

    model, names, done, total = plain_means(job), paths(job), 0, 0.0
    size = job.size, job.size
    while done < len(names):
        batch = [
            np.asarray(keras.utils.load_img(name, target_size=size), np.uint8)
            for name in names[done : done + batch_size]
        ]
        means = np.concatenate(model.predict(np.stack(batch), verbose=0), axis=1)
        total = total + means.sum(axis=0)
        done += len(batch)
        clock(done)


def run_torch_hooks(job: Job, clock: Clock) -> None:
    """Run a PyTorch network with forward hooks on batches from vggnorm's own reader."""
    import torch

    network = torch_network(job)
    sums: dict[str, Any] = {}

    def add(name: str, _: Any, __: Any, output: Any) -> None:
        sums[name] = sums.get(name, 0.0) + output.mean(dim=(2, 3)).double().sum(dim=0)

    for name, layer in network.named_children():
        if isinstance(layer, torch.nn.ReLU):
            layer.register_forward_hook(partial(add, name))
    done = 0
    with torch.inference_mode():
        for pixels in batches(job):
            network(torch.from_numpy(channels_first(pixels)))
            done += len(pixels)
            clock(done)


def run_decoding(job: Job, clock: Clock) -> None:
    """Decode the photos, and do nothing else."""
    done = 0
    for pixels in batches(job):
        done += len(pixels)
        clock(done)


def plain_means(job: Job) -> Any:
    """Make the usual model for this job: a plain mean over the activations of each convolution."""
    import keras
    from keras import ops

    model = plain_network(job)
    activations = [layer.output for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    photos = keras.Input((job.size, job.size, 3), dtype="uint8")
    found = keras.Model(model.inputs[0], activations)(
        keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32"))
    )
    return keras.Model(photos, [ops.mean(activation, axis=(1, 2)) for activation in found])


EXACT, FAST, BASELINE = "vggnorm, float32", "vggnorm, bfloat16", "Keras, batch 1"
HOOKS, DECODING = "PyTorch, hooks", "decoding alone"

CONTESTANTS: dict[str, Callable[[Job, Clock], None]] = {
    EXACT: partial(run_vggnorm, precision="float32"),
    FAST: partial(run_vggnorm, precision="bfloat16"),
    BASELINE: run_keras_singly,
    "Keras, batch 64": run_keras_in_batches,
    HOOKS: run_torch_hooks,
    **CEILINGS,
    DECODING: run_decoding,
}

# What a contestant needs beside vggnorm, and those that do without TensorFlow.
PACKAGES = {HOOKS: "torch", TORCH: "torch", ONNX: "onnxruntime"}
WITHOUT_TENSORFLOW = {*PACKAGES, DECODING}


def missing_package(contestant: str) -> str | None:
    """Name the package that a contestant needs and that is not installed, if there is one."""
    package = PACKAGES.get(contestant)
    return package if package and find_spec(package) is None else None


def work(job: Job, started: float) -> Figures:
    """Do a job in this process, which started at `started` (seconds since the epoch)."""
    if job.contestant not in WITHOUT_TENSORFLOW:
        import_keras()
    offset = time.time() - time.perf_counter()  # converts one clock to the other
    clock = Clock()
    CONTESTANTS[job.contestant](job, clock)
    rate, rate_of_cpu = clock.rates()
    return Figures(rate, rate_of_cpu, clock.told[0][0] + offset - started)


if __name__ == "__main__":
    print(json.dumps(asdict(work(Job(**json.loads(sys.argv[1])), float(sys.argv[2])))))
