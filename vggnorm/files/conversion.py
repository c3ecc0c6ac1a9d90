"""Changes to the weights of a VGG before they are written: layers, convention and type.

Each function gives new weights and leaves those it was given as they are.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np

from vggnorm import vgg
from vggnorm.errors import NetworkError, OutputError
from vggnorm.files.conventions import (
    ADAIN,
    CONVENTIONS,
    WRITTEN,
    colour_convolution,
    converted,
    has_other_border,
)
from vggnorm.files.layouts import Layout
from vggnorm.files.tensor import Array, Tensor, of_array
from vggnorm.files.vgg_weights import VggWeights, recognized_colours

Say = Callable[[str], None]

# The types that users may ask for.
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)


def cut_behind(weights: VggWeights, up_to: str | None, path: Path) -> VggWeights:
    """Leave out what comes behind a convolution."""
    if up_to is None:
        return weights
    names = {f"conv{block}_{number}": (block, number) for block, number in weights.places}
    if up_to not in names:
        raise NetworkError(
            f"{path}: there is no {up_to} among the convolutions, {', '.join(names)}; give one of "
            "these as --up-to"
        )
    kept: list[str] = []
    for place in weights.places:
        kept += [vgg.convolution_name(place), vgg.normalization_name(place)]
        if place == names[up_to]:
            break
    layers = {name: tensors for name, tensors in weights.layers.items() if name in kept}
    return replace(weights, layers=layers)


def with_classifier_as_wanted(
    weights: VggWeights, layout: Layout, path: Path, *, wanted: bool, say: Say
) -> VggWeights:
    """Keep, leave out or make up the dense layers."""
    if not wanted:
        if weights.classes is not None:
            say("the dense layers are left out; --with-classifier writes them")
        layers = {name: found for name, found in weights.layers.items() if name not in vgg.DENSE}
        return replace(weights, layers=layers)
    if not layout.dense:
        raise OutputError(
            f"{path}: files of the layout {layout.name} have no dense layers; leave out "
            "--with-classifier"
        )
    if weights.classes is not None:
        return weights
    if not weights.is_whole:
        raise OutputError(
            f"{path}: the dense layers follow the last convolution, which this file shall not "
            "have; leave out --with-classifier"
        )
    say("the dense layers are zeros, because the network has none; its class scores mean nothing")
    return replace(weights, layers={**weights.layers, **_dense_zeros()})


def _dense_zeros() -> dict[str, list[Tensor]]:
    units = (vgg.DENSE_UNITS, vgg.DENSE_UNITS, vgg.CLASSES)
    layers = {}
    channels = vgg.FLAT
    for name, count in zip(vgg.DENSE, units, strict=True):
        kernel = np.zeros((channels, count), dtype=np.float32)
        layers[name] = [of_array(kernel), of_array(np.zeros(count, dtype=np.float32))]
        channels = count
    return layers


def in_convention(
    weights: VggWeights, layout: Layout, wanted: str | None, path: Path, say: Say, *, exact: bool
) -> tuple[VggWeights, str]:
    """Convert the first convolution, and set the 1x1 convolution in front.

    Args:
        weights: the weights.
        layout: the layout of the file to write.
        wanted: how the network shall take photos; None for what is usual in the layout.
        path: the file to write, for messages.
        say: is told what a user should know.
        exact: whether the converted convolution stays in float64, to be rounded later.

    Returns:
        The weights, and what the file takes photos as.
    """
    wanted = wanted or layout.convention
    own = weights.taken_as.convention
    if own is None or own not in CONVENTIONS:
        raise NetworkError(
            f"{path}: it is not known how the network takes photos; say so with --preprocessing, "
            f"one of {', '.join(CONVENTIONS)}"
        )
    if wanted == ADAIN and layout.colours is None:
        raise OutputError(
            f"{path}: the layout {layout.name} has no 1x1 convolution that takes RGB from 0 to 1; "
            f"give --convention as one of {', '.join(WRITTEN)}, or another --layout"
        )
    new = own if wanted in (None, ADAIN) else str(wanted)
    if new != own:
        if has_other_border(own, new):
            say(
                f"the first convolution is converted from {own} to {new}; zero padding at the "
                "border of a photo then stands for another colour"
            )
        weights = _convert(weights, own, new, exact=exact)
    has_own = weights.colours is not None and recognized_colours(weights.colours) == own
    if layout.colours is None:
        return replace(weights, colours=None), new
    if not has_own or new != own:
        kernel, bias = colour_convolution(new)
        kernel = kernel.transpose(3, 2, 0, 1)
        colours = of_array(kernel.astype(np.float32)), of_array(bias.astype(np.float32))
        weights = replace(weights, colours=colours)
    return weights, ADAIN


def _convert(weights: VggWeights, old: str, new: str, *, exact: bool) -> VggWeights:
    first = vgg.convolution_name((1, 1))
    kernel, bias = weights.layers[first]
    arrays = converted(kernel.read(), bias.read(), old, new)
    tensors = [of_array(array) for array in arrays]
    if not exact:
        tensors = [_rounded(tensors[0], kernel.dtype), _rounded(tensors[1], bias.dtype)]
    taken_as = replace(weights.taken_as, convention=new)
    return replace(weights, layers={**weights.layers, first: tensors}, taken_as=taken_as)


def in_type(weights: VggWeights, dtype: str | None, say: Say) -> VggWeights:
    """Round to a type, and warn of what that loses.

    The 1x1 convolution in front stays as it is: rounded, it would move the colours.
    """
    if dtype is None:
        return weights
    lost: dict[str, list[str]] = {}
    layers = {}
    for layer, tensors in weights.layers.items():
        layers[layer] = [_rounded(tensor, dtype) for tensor in tensors]
        for tensor, rounded in zip(tensors, layers[layer], strict=True):
            if dtype == "float16" and tensor.dtype != dtype:
                _note_losses(layer, tensor.read(), rounded.read(), lost)
    for what, where in lost.items():
        say(f"warning: {what}, in {', '.join(where)}")
    return replace(weights, layers=layers)


def _rounded(tensor: Tensor, dtype: str) -> Tensor:
    if tensor.dtype == dtype:
        return tensor

    def read() -> Array:
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return tensor.read().astype(np.dtype(dtype))

    return Tensor(tensor.shape, dtype, read)


def _note_losses(layer: str, before: Array, after: Array, lost: dict[str, list[str]]) -> None:
    """Note what float16 cannot hold."""
    size = np.abs(before.astype(np.float64))
    if not np.isfinite(after).all():
        _note(lost, "float16 ends at 65504, and a weight is beyond that", layer)
    elif ((size > 0) & (size < SMALLEST_NORMAL)).any():
        _note(lost, "float16 loses precision below 6e-5, and some weights are smaller", layer)


def _note(lost: dict[str, list[str]], what: str, layer: str) -> None:
    where = lost.setdefault(what, [])
    if layer not in where:
        where.append(layer)
