"""How programs name and order the weights of a VGG in their files: one table, a row for each.

A layout is the names of the arrays and the order of their axes. Some programs name a layer by its
block and its number in the block, others by its slot in a list of layers, where rectifiers,
paddings and poolings take slots, too; and some give no names but the order.

To add a layout, add a row.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vggnorm import vgg
from vggnorm.files.conventions import ADAIN
from vggnorm.vgg import Place

# The axes of a kernel: out is the filters, in is the channels.
IN_KERAS = "HWIO"


@dataclass(frozen=True)
class Layout:
    """How a program names and orders the weights.

    In a pattern, `{block}` and `{number}` are the place of a convolution from 1, `{slot}` is its
    slot, and `{index}` the number of the array.

    Attributes:
        name: what users call it.
        kernel: the pattern of a convolution's kernel.
        bias: the pattern of its bias.
        axes: the order of the kernel's axes in the file, of `H`, `W`, `I` and `O`.
        convention: how a network takes photos that is written in this layout, where the user does
            not say; None keeps the network's own.
        first: the slot of the first convolution, or the number of the first array.
        step: slots from one convolution to the next in a block.
        pooling: slots of a pooling.
        count: the name of an array that holds the number of the others, if there is one.
        colours: the kernel and the bias of the 1x1 convolution in front, if there is one.
        normalization: the pattern of a batch normalization's weights, with `{weight}` for the name,
            if the program knows networks with them.
        weights: the names of a batch normalization's weights, in Keras's order.
        dense: the names of the three dense layers, each with what other programs call it, if the
            program knows them.
        dense_is_flat: whether a dense layer's kernel is a matrix, and not that of a convolution.
        loads: the program that takes such files, for people.
        takes: the network that this program takes; empty for any.
        takes_parts: whether it takes the first layers alone.
    """

    name: str
    kernel: str
    bias: str
    axes: str
    convention: str | None
    first: int = 0
    step: int = 0
    pooling: int = 0
    count: str | None = None
    colours: tuple[str, str] | None = None
    normalization: str | None = None
    weights: tuple[str, ...] = ()
    dense: tuple[tuple[str, ...], ...] = ()
    dense_is_flat: bool = True
    loads: str = ""
    takes: str = ""
    takes_parts: bool = True


IN_PYTORCH = ("weight", "bias", "running_mean", "running_var")

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "keras",
            "block{block}_conv{number}/kernel",
            "block{block}_conv{number}/bias",
            axes=IN_KERAS,
            convention="caffe",
            normalization="block{block}_conv{number}_bn/{weight}",
            weights=vgg.NORMALIZATION_WEIGHTS,
            dense=tuple((name,) for name in vgg.DENSE),
            loads="Keras",
        ),
        Layout(
            "gatys",
            "conv{block}_{number}.weight",
            "conv{block}_{number}.bias",
            axes="OIHW",
            convention="caffe",
            loads="PytorchNeuralStyleTransfer",
            takes="vgg19",
            takes_parts=False,
        ),
        Layout(
            "torchvision",
            "features.{slot}.weight",
            "features.{slot}.bias",
            axes="OIHW",
            convention=None,
            step=2,
            pooling=1,
            normalization="features.{slot}.{weight}",
            weights=IN_PYTORCH,
            dense=(
                ("classifier.0", "classifier.1"),
                ("classifier.3", "classifier.4"),
                ("classifier.6",),
            ),
            loads="torchvision",
            takes_parts=False,
        ),
        Layout(
            "adain",
            "{slot}.weight",
            "{slot}.bias",
            axes="OIHW",
            convention=ADAIN,
            first=2,
            step=3,
            pooling=1,
            colours=("0.weight", "0.bias"),
            loads="pytorch-AdaIN",
            takes="vgg19",
            takes_parts=False,
        ),
        Layout(
            "wct",
            "seq.conv{block}_{number}.weight",
            "seq.conv{block}_{number}.bias",
            axes="OIHW",
            convention=ADAIN,
            colours=("preprocess_weight", "preprocess_bias"),
            loads="PytorchWCT",
            takes="vgg19",
        ),
        Layout(
            "list",
            "arr_{index}",
            "arr_{index}",
            axes=IN_KERAS,
            convention="caffe",
            first=1,
            count="arr_0",
            loads="arbitrary_style_transfer",
            takes="vgg19",
        ),
        Layout(
            "list-oihw",
            "arr_{index}",
            "arr_{index}",
            axes="OIHW",
            convention="caffe",
            loads="other ports of AdaIN to TensorFlow",
            takes="vgg19",
        ),
        Layout(
            "matconvnet",
            "conv{block}_{number}.weights.0",
            "conv{block}_{number}.weights.1",
            axes="WHIO",
            convention="rgb255",
            dense=(("fc6",), ("fc7",), ("fc8",)),
            dense_is_flat=False,
            loads="anishathalye/neural-style",
            takes="vgg19",
        ),
        Layout(
            "features",
            "{slot}.weight",
            "{slot}.bias",
            axes="OIHW",
            convention=None,
            step=2,
            pooling=1,
            normalization="{slot}.{weight}",
            weights=IN_PYTORCH,
            loads="torchvision's vgg.features",
            takes_parts=False,
        ),
    )
}


@dataclass(frozen=True)
class Names:
    """What the arrays of one convolution are called in a file.

    Attributes:
        place: the convolution.
        kernel: its kernel.
        bias: its bias.
        normalization: the weights of the batch normalization behind it, in Keras's order; empty if
            there is none.
    """

    place: Place
    kernel: str
    bias: str
    normalization: tuple[str, ...] = ()


def names_in(
    layout: Layout, network: str, count: int, *, batch_norm: bool = False
) -> Iterator[Names]:
    """Name the arrays of a network's convolutions, in network order.

    Args:
        layout: the layout.
        network: a name of `vggnorm.vgg.BLOCKS`.
        count: how many of the convolutions there are.
        batch_norm: whether a batch normalization follows each convolution.
    """
    slot = layout.first
    index = layout.first
    for place in vgg.places_of(network)[:count]:
        block, number = place
        at = {"block": block, "number": number}
        names: tuple[str, ...] = ()
        if batch_norm and layout.normalization is not None:
            behind = {**at, "slot": slot + 1}
            names = tuple(
                layout.normalization.format(weight=weight, **behind) for weight in layout.weights
            )
        yield Names(
            place,
            layout.kernel.format(slot=slot, index=index, **at),
            layout.bias.format(slot=slot, index=index + 1, **at),
            names,
        )
        index += 2
        slot += layout.step + int(batch_norm)
        if vgg.ends_block(place, network):
            slot += layout.pooling


def kernels_in(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Find the kernels of the convolutions among arrays, in network order.

    Args:
        layout: the layout.
        shapes: the arrays of a file, name -> shape.

    Returns:
        Their names; none if the file has another layout.
    """
    pattern = re.escape(layout.kernel)
    for field in ("block", "number", "slot", "index"):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), "([0-9]+)")
    found = []
    for name, shape in shapes.items():
        match = re.fullmatch(pattern, name)
        if match is None or len(shape) != 4:
            continue
        if layout.colours is not None and name == layout.colours[0]:
            continue
        found.append((tuple(map(int, match.groups())), name))
    return [name for _, name in sorted(found)]
