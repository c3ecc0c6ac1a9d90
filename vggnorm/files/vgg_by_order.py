"""A VGG whose layers have other names than Keras's, recognized by their order and their shapes.

Many programs give a VGG's layers names of their own: `conv1_1`, `features_0`, `conv2d_17`. The
number of filters of each convolution, in network order, is that of one VGG alone.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from vggnorm import vgg
from vggnorm.files.tensor import Layers, Shape, shapes_of

SIDE = 3  # of a kernel

KERNEL_AXES = 4

Shapes = list[Shape]  # of the weights of a layer


def names_by_order(layers: Layers) -> dict[str, str] | None:
    """Match the layers of a VGG under other names with Keras's names for them.

    Args:
        layers: layer name -> weights, in the order of the network.

    Returns:
        The file's name -> Keras's name, of convolutions, the batch normalizations behind them, and
        the three dense layers; None if the layers are not those of a whole VGG, or have its names.
    """
    shapes = shapes_of(layers)
    convolutions = [name for name, found in shapes.items() if len(found[0]) == KERNEL_AXES]
    network = _network_of([shapes[name] for name in convolutions])
    if network is None:
        return None
    places = map(vgg.convolution_name, vgg.places_of(network))
    names = dict(zip(convolutions, places, strict=True))
    if names.keys() & names.values():
        return None
    order = list(shapes)
    behind = order.index(convolutions[-1]) + 1
    for index, name in enumerate(order[:behind]):
        if name not in names:
            convolution = order[index - 1]
            if convolution not in names or not _is_normalization(shapes, name, convolution):
                return None  # a layer of another kind stands between the convolutions
    return _with_normalizations(names, shapes) | _dense_names(shapes, order[behind:])


def line_about_names(names: Mapping[str, str]) -> str:
    """Say what was recognized by its order, for people."""
    first, *_, last = names
    return (
        "the layers have other names than Keras's and are taken by their order and shapes: "
        f"{first} as {names[first]}, …, {last} as {names[last]}"
    )


def _network_of(convolutions: Sequence[Shapes]) -> str | None:
    """Name the VGG whose convolutions have these shapes, kernel and bias; None if there is none."""
    channels = vgg.COLOURS
    filters: list[int] = []
    for shapes in convolutions:
        count = shapes[0][-1]
        if shapes != [(SIDE, SIDE, channels, count), (count,)]:
            return None
        filters.append(count)
        channels = count
    for network in vgg.networks_with(filters):
        if vgg.filters_of(network) == filters:
            return network
    return None


def _is_normalization(shapes: Mapping[str, Shapes], name: str, convolution: str) -> bool:
    """Tell whether a layer has the weights of a batch normalization behind a convolution."""
    bias = shapes[convolution][1]
    return shapes[name] == [bias] * len(vgg.NORMALIZATION_WEIGHTS)


def _with_normalizations(names: Mapping[str, str], shapes: Mapping[str, Shapes]) -> dict[str, str]:
    """Add the batch normalizations that directly follow the convolutions."""
    found = dict(names)
    for convolution, name in pairwise(shapes):
        if convolution in names and _is_normalization(shapes, name, convolution):
            found[name] = f"{names[convolution]}_bn"
    return found


def _dense_names(shapes: Mapping[str, Shapes], behind: Sequence[str]) -> dict[str, str]:
    """Match VGG's three dense layers, if these are what stands behind the convolutions."""
    dense = [name for name in behind if len(shapes[name][0]) == 2]
    sizes = [shapes[name][0] for name in dense]
    first_two = [(vgg.FLAT, vgg.DENSE_UNITS), (vgg.DENSE_UNITS, vgg.DENSE_UNITS)]
    if len(dense) != len(vgg.DENSE) or sizes[:2] != first_two:
        return {}
    return dict(zip(dense, vgg.DENSE, strict=True))
