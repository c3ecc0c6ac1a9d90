"""What scripts/benchmark.py times: vggnorm, other programs for the same job, and what the machine can do at best.

The other programs are written here as scripts for this job commonly are: a plain mean over each activation, photos one
by one through tf.data, or batches that one thread loads while the network waits; and PyTorch with forward hooks.

Run as a program, it does one job, given as JSON, and prints as JSON what that took.
"""

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

from vggnorm.geometry import Geometry
from vggnorm.h5file import read_weights
from vggnorm.images import PhotoReader, find_photos
from vggnorm.recipe import Precision
from vggnorm.startup import import_keras

# How many photos come before the rate counts: as many as the largest batch has, and as bfloat16 runs in float32, too.
WARM_UP = 64


@dataclass(frozen=True)
class Job:
    """What a contestant is to do."""

    contestant: str
    folder: str  # of photos
    weights: str
    means: str  # where vggnorm saves them
    size: int = 224
    batch_size: int = 32
    threads: int | None = None


@dataclass(frozen=True)
class Figures:
    """What one run of a contestant took.

    Attributes:
        rate: photos a second in steady state: behind the first `WARM_UP`.
        first: seconds from the start of the process to the end of the first batch.
        importing: seconds of them for importing TensorFlow, or PyTorch.
        whole: seconds that the whole process took.
        memory: its peak, in MB.
    """

    rate: float
    first: float
    importing: float
    whole: float = 0.0
    memory: float = 0.0


class Clock:
    """Is told after each batch how many photos are done, and knows the rate in steady state."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def __call__(self, done: int, *_: object) -> None:
        """Note the time, once photos are done."""
        if done:
            self.told.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        """Photos a second from the first time that `WARM_UP` are done to the end; nan if there are no more of them."""
        warm = [(now, done) for now, done in self.told if done >= WARM_UP]
        if len(warm) < 2:
            return float("nan")
        (start, before), (end, done) = warm[0], warm[-1]
        return (done - before) / (end - start)


# The contestants: each runs the photos of a job, and tells the clock.


def run_vggnorm(job: Job, clock: Clock, precision: Precision | Literal["auto"]) -> None:
    """Run `vggnorm compute-means` as it is called in a shell, but that its progress is told to the clock."""
    from vggnorm import cli

    options = {
        "--data": job.folder,
        "--weights": job.weights,
        "--size": job.size,
        "--batch-size": job.batch_size,
        "--precision": precision,
        "--output": job.means,
    } | ({} if job.threads is None else {"--threads": job.threads})
    arguments = [str(part) for option in options.items() for part in option]
    with patch.object(cli, "progress_bar", lambda: nullcontext(clock)), redirect_stdout(io.StringIO()):
        cli.main.main(["compute-means", "--force", *arguments], standalone_mode=False)


def run_keras_singly(job: Job, clock: Clock) -> None:
    """Run a plain Keras model photo by photo, as tf.data gives them."""
    import tensorflow as tf

    def load(path: Any) -> Any:
        pixels = tf.image.resize(tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False), [job.size] * 2)
        return tf.cast(pixels, tf.uint8)

    model = plain_means(job)
    total: Any = 0
    for done, photo in enumerate(tf.data.Dataset.from_tensor_slices(paths(job)).map(load).batch(1), 1):
        total = total + np.concatenate(model.predict(photo, verbose=0), axis=1)[0]
        clock(done)


def run_keras_in_batches(job: Job, clock: Clock, batch_size: int = 64) -> None:
    """Run a plain Keras model on batches that the same thread loads."""
    import keras

    model, names, done, total = plain_means(job), paths(job), 0, 0.0
    while done < len(names):
        batch = [
            np.asarray(keras.utils.load_img(name, target_size=(job.size, job.size)), np.uint8)
            for name in names[done : done + batch_size]
        ]
        total = total + np.concatenate(model.predict(np.stack(batch), verbose=0), axis=1).sum(axis=0)
        done += len(batch)
        clock(done)


def run_torch(job: Job, clock: Clock) -> None:
    """Run a network of PyTorch whose forward hooks take the means, on batches that vggnorm's reader gives."""
    import torch

    network = torch_network(job)
    sums: dict[str, Any] = {}

    def add(name: str, _: Any, __: Any, output: Any) -> None:
        sums[name] = sums.get(name, 0.0) + output.mean(dim=(2, 3)).double().sum(dim=0)

    for name, layer in network.named_children():
        if isinstance(layer, torch.nn.ReLU):
            layer.register_forward_hook(partial(add, name))
    mean_colour = torch.tensor([103.939, 116.779, 123.68]).reshape(1, 3, 1, 1)
    done = 0
    with torch.inference_mode():
        for pixels in batches(job):
            photos = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)))
            network(photos.float() - mean_colour)
            done += len(pixels)
            clock(done)


def run_convolutions(job: Job, clock: Clock, precision: Precision) -> None:
    """Run the network alone, with no means, on a batch that is in memory: as fast as it can be."""
    alone = convolutions_alone(job, precision)
    batch, done = next(batches(job)), 0
    while done < max(len(paths(job)), 3 * len(batch)):
        alone.predict_on_batch(batch)
        done += len(batch)
        clock(done)


def run_decoding(job: Job, clock: Clock) -> None:
    """Only decode the photos."""
    done = 0
    for pixels in batches(job):
        done += len(pixels)
        clock(done)


CONTESTANTS: dict[str, Callable[[Job, Clock], None]] = {
    "vggnorm, float32": partial(run_vggnorm, precision="float32"),
    "vggnorm, bfloat16": partial(run_vggnorm, precision="bfloat16"),
    "vggnorm, auto": partial(run_vggnorm, precision="auto"),
    "Keras, batch 1": run_keras_singly,
    "Keras, batch 64": run_keras_in_batches,
    "PyTorch, hooks": run_torch,
    "convolutions alone, float32": partial(run_convolutions, precision="float32"),
    "convolutions alone, bfloat16": partial(run_convolutions, precision="bfloat16"),
    "decoding alone": run_decoding,
}
EXACT, FAST, BASELINE = "vggnorm, float32", "vggnorm, bfloat16", "Keras, batch 1"
TORCH, DECODING = "PyTorch, hooks", "decoding alone"
CEILINGS = {EXACT: "convolutions alone, float32", FAST: "convolutions alone, bfloat16"}


def paths(job: Job) -> list[str]:
    """List the photos of a job."""
    return sorted(str(path) for path in Path(job.folder).iterdir())


def batches(job: Job) -> Iterator[Any]:
    """Give the photos of a job, `(photos, height, width, 3)` uint8."""
    reader = PhotoReader(find_photos(job.folder), Geometry(job.size), threads=job.threads)
    return (batch.pixels for batch in reader.batches(job.batch_size))


def plain_network(job: Job) -> Any:
    """Load VGG16 as Keras has it."""
    import vggnorm

    return vggnorm.load_network("vgg16", job.weights)


def plain_means(job: Job) -> Any:
    """Make the model that scripts for this job make: the activations of all convolutions, each with a plain mean."""
    import keras
    from keras import ops

    model = plain_network(job)
    activations = [layer.output for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    photos = keras.Input((job.size, job.size, 3), dtype="uint8")
    found = keras.Model(model.inputs[0], activations)(
        keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32"))
    )
    return keras.Model(photos, [ops.mean(activation, axis=(1, 2)) for activation in found])


def convolutions_alone(job: Job, precision: Precision) -> Any:
    """Make the network of nothing but convolutions, rectifiers and poolings: the largest of each filter leaves it."""
    import keras
    from keras import ops

    model = plain_network(job)

    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": precision})

    network = keras.models.clone_model(model, clone_function=clone)
    network.set_weights(model.get_weights())
    photos = keras.Input((job.size, job.size, 3), dtype="uint8")
    features = network(keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32")))
    alone = keras.Model(photos, ops.max(features, axis=(1, 2)))
    alone.compile(jit_compile=False)
    return alone


def torch_network(job: Job) -> Any:
    """Make VGG16 in PyTorch, from the file itself: it takes no TensorFlow, and none of its memory."""
    import torch

    weights = dict(read_weights(Path(job.weights)))
    convolutions = sorted(name for name in weights if re.fullmatch(r"block\d_conv\d", name))
    network = torch.nn.Sequential()
    for block, names in groupby(convolutions, key=lambda name: name.partition("_")[0]):
        for name in names:
            kernel, bias = weights[name]  # (height, width, in, out)
            convolution = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], padding="same")
            weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            convolution.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)})
            network.add_module(name, convolution)
            network.add_module(f"{name}_relu", torch.nn.ReLU())
        network.add_module(f"{block}_pool", torch.nn.MaxPool2d(2))
    return network.eval()


def work(job: Job, started: float) -> Figures:
    """Do a job in this process."""
    before = time.perf_counter()
    if job.contestant == TORCH:
        import_module("torch")
    elif job.contestant != DECODING:
        import_keras()
    importing = time.perf_counter() - before
    offset = time.time() - time.perf_counter()  # from one clock to the other
    clock = Clock()
    CONTESTANTS[job.contestant](job, clock)
    return Figures(clock.rate, clock.told[0][0] + offset - started, importing)


if __name__ == "__main__":
    print(json.dumps(asdict(work(Job(**json.loads(sys.argv[1])), float(sys.argv[2])))))
