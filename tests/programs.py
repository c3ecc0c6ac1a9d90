"""What style-transfer programs do with a file of VGG's weights, in plain PyTorch.

Each of them has its program's names, axes, colours, paddings and poolings, and loads every name
strictly. Nothing here comes from vggnorm, so that the tests compare its files with something that
is not its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
Activations = dict[str, torch.Tensor]  # relu1_1 and so on -> (1, filters, height, width)
Padding = Callable[[int], nn.Module]

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # of each block
FILTERS = (64, 128, 256, 512, 512)

# The mean colour that VGG was trained with, and the mean and the standard deviation of torchvision.
# All are red, green, blue.
MEAN_COLOUR = (123.68, 116.779, 103.939)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# Photos


def prepared(photo: np.ndarray, convention: str) -> torch.Tensor:
    """Prepare a photo `(height, width, 3)`, RGB 0..255, as a program does: `(1, 3, height, width)`.

    The convention `adain` is RGB 0..1.
    """
    pixels = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[np.newaxis]
    if convention == "adain":
        return pixels / 255
    if convention == "torch":
        return (pixels / 255 - _colours(MEAN)) / _colours(DEVIATION)
    centered = pixels - _colours(MEAN_COLOUR)
    return centered.flip(1) if convention == "caffe" else centered


def _colours(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


# Files, each read by the library that its programs use


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors, .pth or .npz file."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    if path.suffix == ".pth":
        return dict(torch.load(path, weights_only=True))
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


# Networks


def _plain(network: str, padding: Padding) -> nn.Sequential:
    """Make a network with Gatys's names: `conv1_1` and so on."""
    return nn.Sequential(OrderedDict(_modules(network, padding)))


def _modules(network: str, padding: Padding) -> Iterator[tuple[str, nn.Module]]:
    channels = 3
    for block, filters in enumerate(FILTERS, 1):
        for number in range(1, CONVOLUTIONS[network][block - 1] + 1):
            yield f"pad{block}_{number}", padding(1)
            yield f"conv{block}_{number}", nn.Conv2d(channels, filters, 3)
            yield f"relu{block}_{number}", nn.ReLU()
            channels = filters
        yield f"pool{block}", nn.MaxPool2d(2, 2)


def _features(network: str) -> nn.Sequential:
    """Make VGG as torchvision does: convolutions that pad by themselves, in the list `features`."""
    layers: list[nn.Module] = []
    channels = 3
    for count, filters in zip(CONVOLUTIONS[network], FILTERS, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers)))


def _flat(network: str, padding: Padding) -> nn.Sequential:
    """Make the encoder of pytorch-AdaIN: one flat list behind a 1x1 convolution of the colours."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    for name, module in _modules(network, padding):
        is_pooling = name.startswith("pool")
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=True) if is_pooling else module)
    return nn.Sequential(*layers)


def _behind_colours(network: str, padding: Padding) -> nn.Sequential:
    """Make the encoder of PytorchWCT: a convolution of the colours, and layers with names."""
    colours = nn.Conv2d(3, 3, 1)
    return nn.Sequential(OrderedDict(preprocess=colours, seq=_plain(network, padding)))


def load(path: Path, layout: str, network: str, padding: Padding = nn.ZeroPad2d) -> nn.Module:
    """Load a file into its program's network.

    Args:
        path: the file.
        layout: whose names and axes it has.
        network: `vgg16` or `vgg19`.
        padding: what the program pads with, if it is one that has layers for that.
    """
    if layout in _BY_ORDER:
        return _with_arrays(_BY_ORDER[layout](path, network), network, padding)
    models: dict[str, Callable[[], nn.Module]] = {
        "gatys": lambda: _plain(network, padding),
        "torchvision": lambda: _features(network),
        "adain": lambda: _flat(network, padding),
        "wct": lambda: _behind_colours(network, padding),
    }
    model = models[layout]()
    tensors = read_tensors(path)
    if layout == "wct":  # the program keeps these two as tensors of their own
        for name in "weight", "bias":
            tensors[f"preprocess.{name}"] = tensors.pop(f"preprocess_{name}")
    model.load_state_dict(tensors, strict=True)
    return model.eval()


# Programs that take arrays by their order


def _in_npz(path: Path, _: str) -> list[np.ndarray]:
    """Read the list of AdaIN in TensorFlow: the number of arrays, then kernels (h, w, in, out)."""
    with np.load(path, allow_pickle=False) as arrays:
        count = int(arrays["arr_0"])
        listed = [arrays[f"arr_{index}"] for index in range(1, count + 1)]
        assert len(arrays.files) == count + 1
    return [_to_torch(array, (3, 2, 0, 1)) for array in listed]


def _in_npz_oihw(path: Path, _: str) -> list[np.ndarray]:
    """Read the parameters of a network of Lasagne: kernels (out, in, h, w)."""
    with np.load(path, allow_pickle=False) as arrays:
        return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]


def _in_keras_names(path: Path, _: str) -> list[np.ndarray]:
    """Read arrays under Keras's names, kernels (h, w, in, out), in the file's order."""
    arrays = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    stems = sorted({name.rpartition("/")[0] for name in arrays})
    named = [arrays[f"{stem}/{what}"] for stem in stems for what in ("kernel", "bias")]
    return [_to_torch(array, (3, 2, 0, 1)) for array in named]


def _in_mat(path: Path, network: str) -> list[np.ndarray]:
    """Read a file of MatConvNet as anishathalye/neural-style does: all by places, none by names.

    The kernels are (w, h, in, out).
    """
    from scipy.io import loadmat

    content = loadmat(path)
    mean_image = content["normalization"][0][0][0]
    assert mean_image.shape == (224, 224, 3)
    np.testing.assert_allclose(mean_image.mean(axis=(0, 1)), MEAN_COLOUR)
    found: list[np.ndarray] = []
    layers = [name for name, _ in _modules(network, nn.ZeroPad2d) if not name.startswith("pad")]
    for place, name in enumerate(layers):
        if name.startswith("conv"):
            kernel, bias = content["layers"][0][place][0][0][0][0]
            found += [_to_torch(kernel, (3, 2, 1, 0)), bias.reshape(-1)]
    return found


_BY_ORDER: dict[str, Callable[[Path, str], list[np.ndarray]]] = {
    "list": _in_npz,
    "list-oihw": _in_npz_oihw,
    "keras": _in_keras_names,
    "matconvnet": _in_mat,
}


def _to_torch(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Put the axes of a kernel into the order (out, in, h, w)."""
    return np.ascontiguousarray(array.transpose(axes)) if array.ndim == 4 else array


def _with_arrays(arrays: list[np.ndarray], network: str, padding: Padding) -> nn.Module:
    """Give a network kernels and biases in network order."""
    model = _plain(network, padding)
    names = list(model.state_dict())
    given = {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
    model.load_state_dict(given, strict=True)
    return model.eval()


# Activations


def activations(model: nn.Module, pixels: torch.Tensor) -> Activations:
    """Run a network, and give what every rectifier gives, in network order by place."""
    found: list[torch.Tensor] = []
    rectifiers = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    hooks = [
        rectifier.register_forward_hook(lambda _, __, output: found.append(output))
        for rectifier in rectifiers
    ]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    network = next(name for name, counts in CONVOLUTIONS.items() if sum(counts) == len(found))
    return dict(zip(_names(network), found, strict=True))


def _names(network: str) -> list[str]:
    counts = enumerate(CONVOLUTIONS[network], 1)
    return [f"relu{block}_{number}" for block, count in counts for number in range(1, count + 1)]


def border_of(layer: str, network: str) -> int:
    """Tell how far what stands around a photo reaches into a layer, in positions of its map.

    Each convolution of 3x3 carries it one position further; each pooling of 2x2 halves that, and
    rounds up. So it is 1, 2, 3, 4 and 4 at relu1_1 to relu5_1 of VGG16, and 5 at the last of
    VGG19.
    """
    width = 0
    for name in _names(network):
        block, number = name.removeprefix("relu").split("_")
        if number == "1" and block != "1":
            width = -(-width // 2)
        width += 1
        if name == layer:
            break
    return width
