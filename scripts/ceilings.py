"""The convolutions of VGG16 alone in three frameworks: the best speed that a machine can reach.

They take no mean and decode no photo: they run one batch in memory, again and again. What leaves
the network is the maximum of each filter of the last layer, which takes no time.
"""

import re
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timed_jobs import Clock, Job, batches, paths

from vggnorm import vgg
from vggnorm.files.formats import open_weights
from vggnorm.means.recipe import Precision
from vggnorm.photos.cores import core_count

Array = NDArray[np.float32]

MEAN_COLOUR = np.array([103.939, 116.779, 123.68], np.float32)  # of ImageNet, BGR


def run_tensorflow(job: Job, clock: Clock, precision: Precision) -> None:
    """Run the convolutions in Keras on TensorFlow."""
    alone = convolutions_alone(job, precision)
    _repeat(job, clock, alone.predict_on_batch)


def run_onnx(job: Job, clock: Clock) -> None:
    """Run the convolutions in ONNX Runtime."""
    session = onnx_session(job)
    _repeat(job, clock, lambda pixels: session.run(None, {"photos": channels_first(pixels)}))


def run_torch(job: Job, clock: Clock) -> None:
    """Run the convolutions in PyTorch, with the channels last, which is its fastest layout here."""
    import torch

    network = torch_network(job).to(memory_format=torch.channels_last)

    def measure(pixels: Any) -> None:
        photos = torch.from_numpy(channels_first(pixels))
        network(photos.contiguous(memory_format=torch.channels_last)).amax(dim=(2, 3))

    with torch.inference_mode():
        _repeat(job, clock, measure)


def _repeat(job: Job, clock: Clock, measure: Callable[[Any], object]) -> None:
    """Run one batch for as many photos as the job has, and for three batches at least."""
    batch, done = next(batches(job)), 0
    while done < max(len(paths(job)), 3 * len(batch)):
        measure(batch)
        done += len(batch)
        clock(done)


def channels_first(pixels: Any) -> Array:
    """Prepare photos as VGG takes them: `(photos, 3, height, width)`, BGR minus the mean colour."""
    prepared = pixels[..., ::-1].astype(np.float32) - MEAN_COLOUR
    return np.ascontiguousarray(prepared.transpose(0, 3, 1, 2))


def plain_network(job: Job) -> Any:
    """Load VGG16 from `keras.applications`."""
    import vggnorm

    return vggnorm.load_network("vgg16", job.weights)


def convolutions_alone(job: Job, precision: Precision) -> Any:
    """Make a Keras network without means, of which only the maximum of each filter leaves."""
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


def blocks_of_convolutions(job: Job) -> list[list[tuple[str, Array, Array]]]:
    """Read VGG16's convolutions, block by block: name, kernel `(out, in, height, width)`, bias."""
    with open_weights(job.weights) as file:
        weights = dict(file.arrays())
    names = sorted(name for name in weights if re.fullmatch(r"block\d_conv\d", name))
    blocks = []
    for _, members in groupby(names, key=lambda name: name.partition("_")[0]):
        block = []
        for name in members:
            kernel, bias = weights[name]  # (height, width, in, out)
            block.append((name, np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias))
        blocks.append(block)
    return blocks


def torch_network(job: Job) -> Any:
    """Make VGG16 in PyTorch from the file of weights, without TensorFlow and its memory."""
    import torch

    network = torch.nn.Sequential()
    for number, block in enumerate(blocks_of_convolutions(job), 1):
        for name, kernel, bias in block:
            filters, channels, *size = kernel.shape
            convolution = torch.nn.Conv2d(channels, filters, tuple(size), padding="same")
            convolution.load_state_dict(
                {"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)}
            )
            network.add_module(name, convolution)
            network.add_module(f"{name}_relu", torch.nn.ReLU())
        network.add_module(f"block{number}_pool", torch.nn.MaxPool2d(2))
    return network.eval()


def onnx_session(job: Job) -> Any:
    """Make VGG16 in ONNX Runtime from the file of weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = core_count()
    return onnxruntime.InferenceSession(
        onnx_model(job).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def onnx_model(job: Job) -> Any:
    """Write VGG16 as an ONNX model, from photos to the maximum of each filter of the last layer."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    tensor = "photos"

    def add(kind: str, name: str, *parameters: str, **attributes: Any) -> None:
        nonlocal tensor
        nodes.append(helper.make_node(kind, [tensor, *parameters], [name], name, **attributes))
        tensor = name

    for number, block in enumerate(blocks_of_convolutions(job), 1):
        for name, kernel, bias in block:
            weights.append(numpy_helper.from_array(kernel, f"{name}_kernel"))
            weights.append(numpy_helper.from_array(bias, f"{name}_bias"))
            add("Conv", name, f"{name}_kernel", f"{name}_bias", auto_pad="SAME_UPPER")
            add("Relu", f"{name}_relu")
        add("MaxPool", f"block{number}_pool", kernel_shape=[2, 2], strides=[2, 2])
    add("ReduceMax", "maxima", axes=[2, 3], keepdims=0)
    side = job.size
    photos = helper.make_tensor_value_info(
        "photos", TensorProto.FLOAT, ["photos", vgg.COLOURS, side, side]
    )
    maxima = helper.make_tensor_value_info("maxima", TensorProto.FLOAT, ["photos", "filters"])
    graph = helper.make_graph(nodes, "vgg16", [photos], [maxima], weights)
    # In this version of the operations, `axes` is an attribute of ReduceMax.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


TENSORFLOW = "convolutions alone, TensorFlow"
TENSORFLOW_FAST = "convolutions alone, TensorFlow, bfloat16"
TORCH = "convolutions alone, PyTorch"
ONNX = "convolutions alone, ONNX Runtime"

CEILINGS: dict[str, Callable[[Job, Clock], None]] = {
    TENSORFLOW: partial(run_tensorflow, precision="float32"),
    TORCH: run_torch,
    ONNX: run_onnx,
    TENSORFLOW_FAST: partial(run_tensorflow, precision="bfloat16"),
}
