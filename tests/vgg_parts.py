"""A VGG of three convolutions with random weights, in files as other programs write them.

Nothing here comes from vggnorm: names, axes and colours are written down for each program.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]
Arrays = dict[str, Array]

# Name -> channels and filters. A pooling stands before the last.
CONVOLUTIONS = {"conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128)}

IN_KERAS = {"conv1_1": "block1_conv1", "conv1_2": "block1_conv2", "conv2_1": "block2_conv1"}
IN_TORCHVISION = {"conv1_1": "features.0", "conv1_2": "features.2", "conv2_1": "features.5"}
IN_ADAIN = {"conv1_1": "2", "conv1_2": "5", "conv2_1": "9"}

Part = Mapping[str, tuple[Array, Array]]  # name -> kernel (h, w, in, out) and bias


def random_part(seed: int = 0) -> Part:
    """Make weights of which every filter fires, because the biases decide."""
    random = np.random.default_rng(seed)
    part = {}
    for name, (channels, filters) in CONVOLUTIONS.items():
        size = 0.001 if name == "conv1_1" else 0.3 / np.sqrt(9 * channels)
        kernel = random.normal(0, size, (3, 3, channels, filters))
        bias = random.uniform(1, 2, filters)
        part[name] = kernel.astype(np.float32), bias.astype(np.float32)
    return part


def in_pytorch(part: Part, names: Mapping[str, str] = IN_TORCHVISION) -> Arrays:
    """Give PyTorch's names and axes, (out, in, h, w)."""
    arrays = {}
    for name, (kernel, bias) in part.items():
        arrays[f"{names[name]}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        arrays[f"{names[name]}.bias"] = bias
    return arrays


def in_adain(part: Part) -> Arrays:
    """Put the convolution of the colours in front: RGB 0..1 becomes BGR minus the mean colour."""
    colours = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], dtype=np.float32)
    mean = np.array([103.939, 116.779, 123.68], dtype=np.float32)
    return {
        "0.weight": colours.reshape(3, 3, 1, 1),
        "0.bias": -mean,
        **in_pytorch(part, IN_ADAIN),
    }


def in_torch_convention(part: Part) -> Part:
    """Rewrite the first convolution for RGB 0..1, standardized as torchvision does it."""
    kernel, bias = (array.astype(np.float64) for array in part["conv1_1"])
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    rgb = kernel[:, :, ::-1]
    shift = 255 * mean - np.array([123.68, 116.779, 103.939])
    new_bias = bias + np.einsum("yxci,c->i", rgb, shift)
    new_kernel = rgb * (255 * deviation)[:, np.newaxis]
    first = new_kernel.astype(np.float32), new_bias.astype(np.float32)
    return {**part, "conv1_1": first}


def write_torchvision(path: Path, part: Part) -> Path:
    """Write a safetensors file under torchvision's names that says nothing else."""
    save_file(in_pytorch(part), path)
    return path
