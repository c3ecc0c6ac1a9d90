"""What scripts/benchmark.py times: vggnorm, other programs, and the machine's best speed.

The other programs are written the way scripts for this job usually are. Two use Keras: one takes
photos one by one through tf.data, the other loads batches in the thread that also runs the
network. The third uses PyTorch with forward hooks.

When you run this file, it does one job, which you give as JSON, and prints what the job took as
JSON.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vggnorm.files.formats import open_weights
from vggnorm.means.recipe import Precision
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader
from vggnorm.run.startup import import_keras

# The rate counts only after this many photos. The largest batch has as many, and a run in bfloat16
# takes as many in float32 too.
WARM_UP = 64


@dataclass(frozen=True)
class Job:
    """What a contestant has to do."""

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
        rate: photos per second after the first `WARM_UP` photos.
        first: seconds from the start of the process to the end of the first batch.
        importing: seconds of `first` spent on importing TensorFlow or PyTorch.
        whole: seconds that the whole process took.
        memory: the peak memory of the process, in MB.
    """

    rate: float
    first: float
    importing: float
    whole: float = 0.0
    memory: float = 0.0


class Clock:
    """Records how many photos are done after each batch, and computes the rate from that."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def __call__(self, done: int, *_: object) -> None:
        """Record the time, unless no photo is done yet."""
        if done:
            self.told.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        """Photos per second after the first `WARM_UP` photos; nan if no more came."""
        warm = [(now, done) for now, done in self.told if done >= WARM_UP]
        if len(warm) < 2:
            return float("nan")
        (start, before), (end, done) = warm[0], warm[-1]
        return (done - before) / (end - start)


# The contestants. Each takes the photos of a job and calls the clock after each batch.


def run_vggnorm(job: Job, clock: Clock, precision: Precision | Literal["auto"]) -> None:
    """Measure the means and save them, as `vggnorm compute-means` does."""
    import vggnorm

    means = vggnorm.compute_means(
        plain_network(job),
        job.folder,
        geometry=Geometry(job.size),
        compute=vggnorm.Compute(precision, batch_size=job.batch_size, threads=job.threads),
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


def run_torch(job: Job, clock: Clock) -> None:
    """Run a PyTorch network with forward hooks on batches from vggnorm's own reader."""
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
    """Run only the network, without means, on a batch in memory: the fastest way there is."""
    alone = convolutions_alone(job, precision)
    batch, done = next(batches(job)), 0
    while done < max(len(paths(job)), 3 * len(batch)):
        alone.predict_on_batch(batch)
        done += len(batch)
        clock(done)


def run_decoding(job: Job, clock: Clock) -> None:
    """Decode the photos, and do nothing else."""
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
    """Return the paths of the photos of a job."""
    return sorted(str(path) for path in Path(job.folder).iterdir())


def batches(job: Job) -> Iterator[Any]:
    """Yield batches of the photos of a job, `(photos, height, width, 3)` uint8."""
    reader = PhotoReader(find_photos(job.folder), Geometry(job.size), threads=job.threads)
    return (batch.pixels for batch in reader.batches(job.batch_size))


def plain_network(job: Job) -> Any:
    """Load VGG16 from `keras.applications`."""
    import vggnorm

    return vggnorm.load_network("vgg16", job.weights)


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


def convolutions_alone(job: Job, precision: Precision) -> Any:
    """Make a network without means, of which only the maximum of each filter leaves."""
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
    """Make VGG16 in PyTorch from the file of weights, without TensorFlow and its memory."""
    import torch

    with open_weights(job.weights) as file:
        weights = dict(file.arrays())
    convolutions = sorted(name for name in weights if re.fullmatch(r"block\d_conv\d", name))
    network = torch.nn.Sequential()
    for block, names in groupby(convolutions, key=lambda name: name.partition("_")[0]):
        for name in names:
            kernel, bias = weights[name]  # (height, width, in, out)
            convolution = torch.nn.Conv2d(
                kernel.shape[2], kernel.shape[3], kernel.shape[:2], padding="same"
            )
            weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            convolution.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)})
            network.add_module(name, convolution)
            network.add_module(f"{name}_relu", torch.nn.ReLU())
        network.add_module(f"{block}_pool", torch.nn.MaxPool2d(2))
    return network.eval()


def work(job: Job, started: float) -> Figures:
    """Do a job in this process, which started at `started` (seconds since the epoch)."""
    before = time.perf_counter()
    if job.contestant == TORCH:
        import_module("torch")
    elif job.contestant != DECODING:
        import_keras()
    importing = time.perf_counter() - before
    offset = time.time() - time.perf_counter()  # converts one clock to the other
    clock = Clock()
    CONTESTANTS[job.contestant](job, clock)
    return Figures(clock.rate, clock.told[0][0] + offset - started, importing)


if __name__ == "__main__":
    print(json.dumps(asdict(work(Job(**json.loads(sys.argv[1])), float(sys.argv[2])))))
