"""The weights of a VGG, out of the layout of any program and into it.

Inside, weights have Keras's names, order and axes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.conventions import recognize_colour_convolution
from vggnorm.files.layouts import IN_KERAS, LAYOUTS, Layout, Names, kernels_in, names_in
from vggnorm.files.tensor import Layers, Shape, Tensor, Tensors, require_float
from vggnorm.means.filter_means import FilterMeans

# Where the axes of a layout stand in Keras's order.
AXES = {
    layout.axes: tuple(layout.axes.index(axis) for axis in IN_KERAS) for layout in LAYOUTS.values()
}

SIDE = 3  # of a kernel

LONGEST_NAME = 200  # letters

VARIANCES = ("running_var", "moving_variance")  # which every batch normalization has

COUNTERS = "num_batches_tracked"  # what PyTorch counts in training, which nothing depends on


@dataclass(frozen=True)
class TakenAs:
    """How a network takes photos.

    Attributes:
        convention: a name of `vggnorm.files.conventions.CONVENTIONS`; None if it is not known.
        source: what says so, for people.
    """

    convention: str | None = None
    source: str = ""


NOT_KNOWN = TakenAs()


@dataclass(frozen=True, eq=False)
class VggWeights:
    """The weights of a VGG, whole or its first layers.

    Attributes:
        network: a name of `vggnorm.vgg.BLOCKS`; the first of those that it may be, where the first
            layers alone do not tell.
        layers: layer name -> the weights in Keras's names, order and axes.
        layout: the layout of the file.
        colours: the kernel and the bias of a 1x1 convolution in front, as in the file: see
            `vggnorm.files.conventions`.
        surplus: arrays of the file that are not read.
        pooling: `max` or `avg`, what the network has between its blocks.
        taken_as: how it takes photos.
        means: the means that it was normalized with, if it was, and they are known.
    """

    network: str
    layers: Layers
    layout: str
    colours: tuple[Tensor, Tensor] | None = None
    surplus: Sequence[str] = field(default_factory=list)
    pooling: str = "max"
    taken_as: TakenAs = NOT_KNOWN
    means: FilterMeans | None = None

    @property
    def places(self) -> list[vgg.Place]:
        """The convolutions that it has, in network order."""
        places = vgg.places_of(self.network)
        return [place for place in places if vgg.convolution_name(place) in self.layers]

    @property
    def has_batch_norm(self) -> bool:
        """Whether a batch normalization follows each convolution."""
        return vgg.normalization_name((1, 1)) in self.layers

    @property
    def classes(self) -> int | None:
        """The units of the last dense layer; None if there are no dense layers."""
        return self.layers[vgg.TOP][0].shape[-1] if vgg.TOP in self.layers else None

    @property
    def is_whole(self) -> bool:
        """Whether it has all the convolutions of the network."""
        return len(self.places) == len(vgg.places_of(self.network))

    @property
    def dtypes(self) -> list[str]:
        """The types of the numbers, each once."""
        found = {tensor.dtype for tensors in self.layers.values() for tensor in tensors}
        return sorted(found)


def find_layout(tensors: Tensors, path: Path) -> VggWeights:
    """Find out which layout a file has, and read its weights.

    Args:
        tensors: the arrays of the file.
        path: the file, for messages.

    Raises:
        NetworkError: it has none of the layouts, or is not a VGG.
    """
    for name in tensors:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise NetworkError(
                f"{path}: has an array called {name[:40]!r}, which is no name of a layer; leave it "
                "out, or rename it"
            )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    trouble: NetworkError | None = None
    for layout in LAYOUTS.values():
        if not kernels_in(layout, shapes):
            continue
        try:
            return read_layout(tensors, layout, path)
        except NetworkError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    names = ", ".join(sorted(tensors)[:3]) or "none"
    known = ", ".join(LAYOUTS)
    raise NetworkError(
        f"{path}: the names of its {len(tensors)} arrays ({names} …) are of none of the known "
        f"layouts, {known}; rename them to one of these"
    )


def networks_in(tensors: Tensors, layout: Layout) -> list[str]:
    """Name the networks whose first convolutions have as many filters as those of a file."""
    _, filters = _kernels_and_filters(tensors, layout)
    return vgg.networks_with(filters)


def _kernels_and_filters(tensors: Tensors, layout: Layout) -> tuple[list[str], list[int]]:
    """Give the names of the kernels of a file of a known layout, and the number of filters."""
    kernels = kernels_in(layout, {name: tensor.shape for name, tensor in tensors.items()})
    out = layout.axes.index("O")
    return kernels, [tensors[name].shape[out] for name in kernels]


def read_layout(tensors: Tensors, layout: Layout, path: Path) -> VggWeights:
    """Read the weights of a file of a known layout.

    Raises:
        NetworkError: it is not a VGG, lacks a layer, or has one of another shape or type.
    """
    kernels, filters = _kernels_and_filters(tensors, layout)
    fits = vgg.networks_with(filters)
    if not filters:
        raise NetworkError(
            f"{path}: has no convolutions of a VGG (layout {layout.name}); give the file of a VGG"
        )
    if not fits:
        raise NetworkError(
            f"{path}: its {len(kernels)} convolutions, with {_some(filters)} filters, are not "
            f"those of a VGG (layout {layout.name}); a layer may be missing, or another network's"
        )
    reader = _Reader(tensors, layout, path)
    batch_norm = layout.normalization is not None and any(
        name.endswith(VARIANCES) for name in tensors
    )
    names = names_in(layout, fits[0], len(kernels), batch_norm=batch_norm)
    layers: dict[str, list[Tensor]] = {}
    for convolution, found in zip(names, kernels, strict=True):
        if convolution.kernel != found:
            raise NetworkError(
                f"{path}: has a convolution {found} where {fits[0]} has {convolution.kernel} "
                f"(layout {layout.name}); a layer may be missing, or another network's"
            )
        layers |= reader.convolution(convolution)
    if len(kernels) == len(vgg.places_of(fits[0])):
        layers |= reader.dense()
    return VggWeights(
        network=fits[0],
        layers=layers,
        layout=layout.name,
        colours=reader.colours(),
        surplus=reader.surplus(),
    )


class _Reader:
    """Reads the layers of a file one after the other, and notes which arrays were read."""

    def __init__(self, tensors: Tensors, layout: Layout, path: Path) -> None:
        self._tensors = tensors
        self._layout = layout
        self._path = path
        self._read: set[str] = set()

    def convolution(self, names: Names) -> Iterator[tuple[str, list[Tensor]]]:
        """Give a convolution, and the batch normalization behind it: layer name, its weights."""
        filters = vgg.BLOCK_FILTERS[names.place[0] - 1]
        channels = _channels_into(names.place)
        kernel = self._get(names.kernel)
        self._require(names.kernel, kernel.shape, self._shape(SIDE, channels, filters))
        bias = self._vector(names.bias, filters)
        in_keras = kernel.turned(AXES[self._layout.axes])
        yield vgg.convolution_name(names.place), [in_keras, bias]
        if names.normalization:
            weights = [self._vector(name, filters) for name in names.normalization]
            yield vgg.normalization_name(names.place), weights

    def dense(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Give the three dense layers, if the file has all three, of VGG's sizes."""
        found = [self._dense_name(names) for names in self._layout.dense]
        if not found or None in found:
            return
        channels_into = [vgg.FLAT, vgg.DENSE_UNITS, vgg.DENSE_UNITS]
        kernels = [dense_names(self._layout, str(stem))[0] for stem in found]
        sizes = [math.prod(self._tensors[kernel].shape) for kernel in kernels]
        if any(size % count for size, count in zip(sizes, channels_into, strict=True)):
            return  # those of another classifier
        for name, stem, channels in zip(vgg.DENSE, found, channels_into, strict=True):
            kernel_name, bias_name = dense_names(self._layout, str(stem))
            kernel = self._dense_kernel(kernel_name, channels)
            yield name, [kernel, self._vector(bias_name, kernel.shape[-1])]

    def colours(self) -> tuple[Tensor, Tensor] | None:
        """Give the 1x1 convolution in front, if the file has one."""
        names = self._layout.colours
        if names is None or names[0] not in self._tensors:
            return None
        kernel = self._get(names[0])
        self._require(names[0], kernel.shape, (3, 3, 1, 1))
        return kernel, self._vector(names[1], 3)

    def surplus(self) -> list[str]:
        """Name the arrays that were not read.

        Raises:
            NetworkError: one belongs to a convolution or a batch normalization.
        """
        left = [name for name in self._tensors if name not in self._read]
        dense = tuple(f"{stem}." for stems in self._layout.dense for stem in stems)
        for name in left:
            is_convolution = len(self._tensors[name].shape) == 4 and not name.startswith(dense)
            if is_convolution or name.endswith(VARIANCES):
                raise NetworkError(
                    f"{self._path}: has a layer {name} that is not one of a VGG in the layout "
                    f"{self._layout.name}; leave it out, or give another file"
                )
        return [name for name in left if not name.endswith(COUNTERS) and name != self._layout.count]

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise NetworkError(
                f"{self._path}: lacks {name}, which belongs to the layout {self._layout.name}; get "
                "the file again, or save it again with all of its layers"
            )
        self._read.add(name)
        require_float(self._tensors[name].dtype, name, self._path)
        return self._tensors[name]

    def _vector(self, name: str, length: int) -> Tensor:
        tensor = self._get(name)
        if tensor.shape in {(1, length), (length, 1)}:  # as MATLAB has them
            return tensor.reshaped((length,))
        self._require(name, tensor.shape, (length,))
        return tensor

    def _dense_name(self, names: Sequence[str]) -> str | None:
        for name in names:
            if dense_names(self._layout, name)[0] in self._tensors:
                return name
        return None

    def _dense_kernel(self, name: str, channels: int) -> Tensor:
        """Give the kernel `(channels, units)` of a dense layer, which is that of a convolution."""
        tensor = self._get(name)
        side = _side_of(channels)
        units = tensor.shape[0 if self._layout.axes[0] == "O" else -1]
        wanted = self._shape(side, channels // side**2, units)
        if np.prod(tensor.shape) != np.prod(wanted):
            self._require(name, tensor.shape, wanted)
        turned = tensor.reshaped(wanted).turned(AXES[self._layout.axes])
        return turned.reshaped((channels, units))

    def _shape(self, side: int, channels: int, filters: int) -> Shape:
        """Give the shape of a convolution's kernel in the layout."""
        sizes = {"H": side, "W": side, "I": channels, "O": filters}
        return tuple(sizes[axis] for axis in self._layout.axes)

    def _require(self, name: str, found: Shape, wanted: Shape) -> None:
        if found != wanted:
            raise NetworkError(
                f"{self._path}: {name} has the shape {_sizes(found)}, and a VGG has "
                f"{_sizes(wanted)} there; get the file again, or give another"
            )


def recognized_colours(colours: tuple[Tensor, Tensor]) -> str | None:
    """Tell which convention the network behind a 1x1 convolution has; None if it is not known."""
    kernel, bias = (tensor.read() for tensor in colours)
    return recognize_colour_convolution(kernel.transpose(2, 3, 1, 0), bias)


def dense_names(layout: Layout, stem: str) -> tuple[str, str]:
    """Name the kernel and the bias of a dense layer, with the ends that a layout's names have."""
    return stem + _ending(layout.kernel), stem + _ending(layout.bias)


def in_layout(weights: VggWeights, layout: Layout) -> dict[str, Tensor]:
    """Give the weights under the names and with the axes of a layout: name -> array.

    The 1x1 convolution in front is the caller's to add.
    """
    axes = tuple(IN_KERAS.index(axis) for axis in layout.axes)
    count = len(weights.places)
    given: dict[str, Tensor] = {}
    for names in names_in(layout, weights.network, count, batch_norm=weights.has_batch_norm):
        kernel, bias = weights.layers[vgg.convolution_name(names.place)]
        given[names.kernel] = kernel.turned(axes)
        given[names.bias] = bias
        if names.normalization:
            behind = weights.layers[vgg.normalization_name(names.place)]
            given |= zip(names.normalization, behind, strict=True)
    if weights.classes is not None:
        for name, stems in zip(vgg.DENSE, layout.dense, strict=True):
            kernel, bias = weights.layers[name]
            kernel_name, bias_name = dense_names(layout, stems[0])
            given[kernel_name] = _laid_out_dense(kernel, layout, axes)
            given[bias_name] = bias
    return given


def _laid_out_dense(kernel: Tensor, layout: Layout, axes: tuple[int, ...]) -> Tensor:
    channels, units = kernel.shape
    side = _side_of(channels)
    turned = kernel.reshaped((side, side, channels // side**2, units)).turned(axes)
    if layout.dense_is_flat:
        rows = units if layout.axes[0] == "O" else channels
        return turned.reshaped((rows, channels * units // rows))
    return turned


def _side_of(channels: int) -> int:
    """Give the side of the convolution's kernel that a dense layer's is, by its inputs."""
    return vgg.LAST_SIDE if channels == vgg.FLAT else 1


def _channels_into(place: vgg.Place) -> int:
    block, number = place
    if number > 1:
        return vgg.BLOCK_FILTERS[block - 1]
    return vgg.COLOURS if block == 1 else vgg.BLOCK_FILTERS[block - 2]


def _ending(pattern: str) -> str:
    """Give what follows the last field of a pattern: `.weight`."""
    return pattern.rpartition("}")[2]


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "of one number"


def _some(filters: Sequence[int]) -> str:
    shown = ", ".join(map(str, filters[:20]))
    return f"{shown} …" if len(filters) > 20 else shown
