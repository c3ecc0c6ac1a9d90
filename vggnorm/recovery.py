"""By what each filter of a network was divided, from its weights and the original's alone.

A rescaled network has, with `a` the scales of the channels that come in and `s` those of the filters
(`vggnorm.rescale`),

    W'[k, c, i] = W[k, c, i] * a[c] / s[i]        b'[i] = b[i] / s[i]

at all positions k of the kernel. Given W, b, W' and b', that is to be solved for a and s, and checked.

**Each layer by itself.** For each pair of a channel and a filter, the least-squares ratio over the positions is

    r[c, i] = sum_k W'[k, c, i] W[k, c, i] / sum_k W[k, c, i]^2,        log |r[c, i]| = log a[c] - log s[i]

in a rescaled network. The right side, an additive table of rows and columns, is fitted by median polish (Tukey,
"Exploratory Data Analysis", 1977): a filter whose weights were changed is one column of many, and moves no median. A
pair without weights is a missing cell. What the layers before were divided by is not used, so that a layer with other
weights does not spoil those behind it.

**The common factor.** The kernel alone leaves one factor open: (k a, k s) gives the same W' for every k > 0. It is set
by the layers before, if more than half of the channels agree on it, since then a[c] is the s of the filter that gives
channel c; and by the biases, k = median_i of (b[i] / b'[i]) / s[i], in the first layer, which may take photos of
other units, and where the layers before do not tell. Where the first layer's biases do not tell, as when a mean colour
was put into them, what the next layer takes in does. A grouped convolution has one such factor for each group, and a
depthwise one for each channel.

**What is reported.** With a from the layers before where both agree, from the layer itself where not, and
U[k, c, i] = W[k, c, i] a[c],

    s[i] = sum_kc U^2 / sum_kc W' U        residual[i] = ||W'_i - U_i / s[i]|| / ||W'_i||

the least-squares ratio of each filter and what it does not explain. Biases play no part in s, so that
b'[i] s[i] / b[i] = 1 is a check of its own; only a filter without weights, whose bias alone is left, has s from it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.graph import read_graph
from vggnorm.layers import FILTERS, Kind, Step, Weights
from vggnorm.rescale import Float64, rescale_bias

# A residual up to which weights are those of the original with something done to them besides: rounding each layer to 8
# bits leaves up to 0.28 in 12 layers of a normalized VGG16, 0.72 in the last. Unrelated weights leave about 1.
NEAR = 0.3
POLISHES = 4  # of exact data the first is exact

TRANSPOSED: tuple[Kind, ...] = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE: tuple[Kind, ...] = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE: tuple[Kind, ...] = (layers.SeparableConv1D, layers.SeparableConv2D)


class Rounding(NamedTuple):
    """How far numbers may be off by the format they were kept in."""

    format: str
    relative: float
    step: float  # between the smallest numbers

    def allows(self, off: Float64, size: Float64, count: int = 1) -> NDArray[np.bool_]:
        """Tell of vectors of so many numbers, given their deviations' norms and their own, which may be rounding's."""
        return np.asarray(np.isfinite(off) & (off <= self.relative * size + self.step * np.sqrt(count)))


# Relative: of 16 bits the unit roundoff, 2^-11 and 2^-8, twice, since scales come from rounded numbers, too. That of
# float32, 6e-8, comes in with every step of a calculation; but nothing else leaves as little as 1e-5.
FLOAT32 = Rounding("float32", 1e-5, 2.0**-149)
FLOAT16 = Rounding("float16", 2.0**-10, 2.0**-24)
BFLOAT16 = Rounding("bfloat16", 2.0**-7, 2.0**-133)


@dataclass(frozen=True)
class LayerScales:
    """What one layer's weights say.

    Attributes:
        scale: `(filters,)`, what each filter is divided by; nan where nothing tells: other weights, or none.
        residual: `(filters,)`, the part of each filter's kernel that is not explained, 0 to 1, or above for what has no
            likeness to the original.
        explained: `(filters,)`, whether that part is as small as rounding makes it.
        bias_deviation: `(filters,)`, `|b' s / b - 1|`, inf where only one of them is 0; nan where the scale is.
        bias_fits: `(filters,)`, whether that is as small as rounding makes it.
        incoming: `(channels,)`, what the layer takes the incoming channels to be divided by; nan where nothing tells.
        link: `(channels,)`, that, divided by what the layers before divide them by; nan where either is not known.
        linked: `(channels,)`, whether it is 1, or not known.
        norm: `(filters,)`, of each filter's kernel.
        drift: `(filters,)`, what would come before the rectification if all incoming activations were 1:
            `sum_kc W' + b'`. None where a layer does not take rectified activations directly.
    """

    scale: Float64
    residual: Float64
    explained: NDArray[np.bool_]
    bias_deviation: Float64
    bias_fits: NDArray[np.bool_]
    incoming: Float64
    link: Float64
    linked: NDArray[np.bool_]
    norm: Float64
    drift: Float64 | None = None

    @property
    def alike(self) -> NDArray[np.bool_]:
        """Which filters have the original's weights, apart from a scale and small deviations."""
        return self.residual <= NEAR


@dataclass(frozen=True)
class Recovery:
    """What a network's weights say of its scales.

    Attributes:
        layers: layer name -> what was found, in network order; layers that were not given are left out.
        rounding: of the weights given.
        takes_photos: whether the first of the layers is the network's first.
        colours: for each channel of the photo, which channel of the original it is: `(0, 1, 2)` if nothing changed.
        normalizations: layer name -> of a layer of batch normalization, the largest relative difference of one of its
            weights from what the scales before it make of it.
    """

    layers: dict[str, LayerScales]
    rounding: Rounding
    takes_photos: bool
    colours: tuple[int, ...]
    normalizations: dict[str, float]


def recover_scales(model: keras.Model, found: Mapping[str, Weights]) -> Recovery:
    """Find what each filter of a network is divided by, compared to the original; see the module.

    Args:
        model: the original, a network of convolutions (grouped, transposed and depthwise ones, too), dense layers and
            what passes scales on: see `vggnorm.graph`.
        found: layer name -> weight name -> array, of the other network; of the shapes of the original's. Layers may be
            missing. Those behind are compared all the same.

    Raises:
        NetworkError: the original is of a kind that cannot be rescaled, or has separable convolutions, of which
            a scale between their two kernels cannot be told.
    """
    graph = read_graph(model, dense=True)
    rounding = rounding_of(found)
    recovered: dict[str, LayerScales] = {}
    normalizations: dict[str, float] = {}
    unknown = {name: np.full(count, np.nan) for name, count in graph.filters.items()}
    direct = {id(site.activation) for site in graph.sites.values()}
    colours: tuple[int, ...] = ()
    takes_photos = False
    undecided = ""  # the first layer, while its common factor is not known
    for step in graph.steps:
        name, kind = step.layer.name, type(step.layer)
        is_first = kind in FILTERS and not colours
        if is_first:
            colours = tuple(range(step.inputs[0].shape[step.axis]))
        if name not in found:
            continue
        scales = unknown | {
            layer: scaled.scale for layer, scaled in recovered.items() if layer in graph.sites and layer != undecided
        }
        rescaled = graph.rescale(scales)
        if kind is layers.BatchNormalization:
            changed = rescaled.weights[name]() if name in rescaled.weights else {}
            normalizations[name] = _largest_difference(dict(step.weights) | changed, found[name])
        if kind in SEPARABLE:
            raise NetworkError(
                f"layer {name}: is a separable convolution, whose two kernels may share any scale between them; "
                "leave out the layers from there on"
            )
        if kind not in FILTERS:
            continue
        takes_photos |= is_first
        carried = rescaled.incoming[name]
        recovered[name] = _recover_layer(kind, step.weights, found[name], carried, rounding, is_first=is_first)
        if is_first and np.median(recovered[name].explained) < 1:
            colours, recovered[name] = _try_colours(step, found[name], carried, rounding, recovered[name])
        if is_first and np.median(recovered[name].bias_fits) < 1:
            undecided = name
        elif undecided and len(recovered[name].incoming) == len(recovered[undecided].scale):
            recovered[undecided] = _decided(recovered[undecided], recovered[name].incoming)
            undecided = ""
        if kind not in DEPTHWISE and id(step.inputs[0]) in direct:
            recovered[name] = _with_drift(recovered[name], kind, found[name], len(carried))
    return Recovery(recovered, rounding, takes_photos, colours, normalizations)


def turned_back(model: keras.Model, found: Mapping[str, Weights], recovery: Recovery) -> tuple[Recovery, list[str]]:
    """Look whether kernels that are not the original's are those turned by 180 degrees, as Theano took them.

    Theano flips kernels when it convolves, TensorFlow does not; so files from Theano's time hold them flipped.

    Args:
        model: the original.
        found: as of `recover_scales`.
        recovery: what `recover_scales` made of it.

    Returns:
        The recovery with such kernels turned back, and the names of their layers.
    """
    strange = [name for name, layer in recovery.layers.items() if np.median(layer.alike) < 1]
    turned = {name: _turned(found[name]) for name in strange if found[name]["kernel"].ndim > 2}
    if not turned:
        return recovery, []
    tried = recover_scales(model, {**found, **turned})
    names = [name for name in turned if np.median(tried.layers[name].alike) == 1]
    if not names:
        return recovery, []
    return recover_scales(model, {**found, **{name: turned[name] for name in names}}), names


def _turned(weights: Weights) -> Weights:
    """Turn the positions of a kernel, which are all axes but the last two, by 180 degrees."""
    kernel = weights["kernel"]
    return {**weights, "kernel": np.flip(kernel, axis=tuple(range(kernel.ndim - 2)))}


def rounding_of(found: Mapping[str, Weights]) -> Rounding:
    """Tell the format that weights were kept in: all of them are numbers of that format, whatever the file's type."""
    arrays = [array.astype(np.float32) for weights in found.values() for array in weights.values()]
    if not any(np.isfinite(array).any() for array in arrays):
        return FLOAT32
    with np.errstate(over="ignore"):
        if all(np.array_equal(array, array.astype(np.float16), equal_nan=True) for array in arrays):
            return FLOAT16
    if not any((array.view(np.uint32) & 0xFFFF).any() for array in arrays):
        return BFLOAT16
    return FLOAT32


@np.errstate(divide="ignore", invalid="ignore")  # what is not known is nan, and stays so
def _recover_layer(
    kind: Kind, before: Weights, after: Weights, carried: Float64, rounding: Rounding, *, is_first: bool
) -> LayerScales:
    """Recover the scales of one layer.

    Args:
        kind: of the layer.
        before: its weights in the original.
        after: its weights in the other network.
        carried: `(channels,)`, what the layers before divide the channels by, nan where that is not known.
        rounding: of the other network's weights.
        is_first: whether the channels are those of the photo.
    """
    channels = len(carried)
    old, new = (_by_pair(kind, weights["kernel"], channels) for weights in (before, after))
    size = _norm(new)
    empty = (size == 0) & (_norm(old) == 0)

    own, outgoing = _polish(_log_ratios(old, new))  # (groups, channels of a group), (groups, filters of a group)
    by_layers = carried.reshape(own.shape) / own
    by_bias = np.full_like(outgoing, np.nan)
    if "bias" in before:
        by_bias = (before["bias"].astype(np.float64) / after["bias"]).reshape(outgoing.shape) / outgoing
    own = own * _common_factor([by_bias, by_layers] if is_first else [by_layers, by_bias], rounding)
    own = own.reshape(-1)
    link = own / carried
    linked = ~(np.abs(link - 1) > 4 * rounding.relative)  # so is what is not known
    incoming = np.where(linked & np.isfinite(carried), carried, own)
    incoming = np.where(np.isfinite(incoming), incoming, 1.0)  # of channels without weights, any will do

    taken = _by_pair(kind, FILTERS[kind](before, incoming, np.ones(len(size)))["kernel"], channels)  # U
    scale = _inner(taken, taken) / _inner(new, taken)
    off = _norm(new - taken / scale.reshape(outgoing.shape)[:, np.newaxis, np.newaxis, :])
    off = np.where(empty, 0.0, np.nan_to_num(off, nan=np.inf))
    residual = np.where(empty, 0.0, np.nan_to_num(off / size, nan=np.inf))
    explained = rounding.allows(off, size, count=new[0, ..., 0].size)
    scale = np.where(residual <= NEAR, scale, np.nan)

    bias_deviation, bias_fits = np.zeros_like(scale), np.ones_like(scale, dtype=bool)
    if "bias" in before:
        old_bias, bias = (weights["bias"].astype(np.float64) for weights in (before, after))
        from_bias = old_bias / bias
        scale = np.where(empty & (from_bias > 0) & np.isfinite(from_bias), from_bias, scale)
        wanted = rescale_bias(old_bias, scale)
        bias_deviation = np.where(bias == wanted, 0.0, np.abs(bias / wanted - 1))
        bias_fits = np.isnan(wanted) | rounding.allows(np.abs(bias - wanted), np.abs(bias))
    return LayerScales(scale, residual, explained, bias_deviation, bias_fits, own, link, linked, norm=size)


def _by_pair(kind: Kind, kernel: NDArray[Any], channels: int) -> Float64:
    """Lay a kernel out as `(groups, positions, channels of a group, filters of a group)`, in float64.

    Filters and channels keep their order: those of the first group come first.
    """
    kernel = kernel.astype(np.float64)
    if kind in TRANSPOSED:
        kernel = kernel.swapaxes(-1, -2)
    if kind in DEPTHWISE:
        return kernel.reshape(-1, channels, 1, kernel.shape[-1]).swapaxes(0, 1)
    *_, seen, filters = kernel.shape
    groups = channels // seen
    return kernel.reshape(-1, seen, groups, filters // groups).transpose(2, 0, 1, 3)


def _log_ratios(old: Float64, new: Float64) -> Float64:
    """Give `log |r|` of each channel and filter, `(groups, channels, filters)`; nan where there are no weights."""
    norm = np.einsum("gkcf,gkcf->gcf", old, old)
    inner = np.einsum("gkcf,gkcf->gcf", new, old)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.abs(inner / norm))
    return np.where(np.isfinite(logs), logs, np.nan)


def _polish(logs: Float64) -> tuple[Float64, Float64]:
    """Fit `log a[c] - log s[i]` by medians, and give a, `(groups, channels)`, and s, `(groups, filters)`."""
    channels = np.zeros((*logs.shape[:2], 1))
    filters = np.zeros((logs.shape[0], 1, logs.shape[2]))
    for _ in range(POLISHES):
        filters = _median(logs - np.nan_to_num(channels), axis=1)
        channels = _median(logs - np.nan_to_num(filters), axis=2)
    return np.exp(channels[:, :, 0]), np.exp(-filters[:, 0, :])


def _median(values: Float64, axis: int) -> Float64:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis, keepdims=True))


def _common_factor(sources: list[Float64], rounding: Rounding) -> Float64:
    """Find the factor k of each group, `(groups, 1)`, that the kernel leaves open.

    Args:
        sources: what tells it, the best first: `(groups, any number)` each, nan where one does not.
        rounding: of the weights. A source more than half of which agrees is preferred to one that does not agree.
    """
    factor = np.full((len(sources[0]), 1), np.nan)
    fallback = factor
    for source in sources:
        told = np.where(np.isfinite(source) & (source > 0), source, np.nan)
        middle = _median(told, axis=1)
        agrees = _median(np.abs(told / middle - 1), axis=1) <= 4 * rounding.relative
        factor = np.where(np.isnan(factor) & agrees, middle, factor)
        fallback = np.where(np.isnan(fallback), middle, fallback)
    return np.nan_to_num(np.where(np.isnan(factor), fallback, factor), nan=1.0)


def _inner(one: Float64, other: Float64) -> Float64:
    """Give each filter's inner product of two kernels laid out by `_by_pair`, `(filters,)`."""
    return np.asarray(np.einsum("gkcf,gkcf->gf", one, other)).reshape(-1)


def _norm(kernel: Float64) -> Float64:
    return np.sqrt(_inner(kernel, kernel))


def _try_colours(
    step: Step, after: Weights, carried: Float64, rounding: Rounding, as_it_is: LayerScales
) -> tuple[tuple[int, ...], LayerScales]:
    """Look whether the first layer takes the channels of the photo in another order, and give that one."""
    kind, before = type(step.layer), step.weights
    colours: tuple[int, ...] = tuple(range(len(carried)))
    if kind in (*TRANSPOSED, *DEPTHWISE) or len(colours) != 3 or before["kernel"].shape[-2] != 3:
        return colours, as_it_is
    tried: dict[tuple[int, ...], LayerScales] = {colours: as_it_is}
    for order in list(permutations(colours))[1:]:
        moved = dict(before) | {"kernel": before["kernel"][..., list(order), :]}
        tried[order] = _recover_layer(kind, moved, after, carried, rounding, is_first=True)
    best = min(tried, key=lambda order: float(np.median(tried[order].residual)))
    return (best, tried[best]) if np.median(tried[best].alike) == 1 else (colours, as_it_is)


def _decided(first: LayerScales, incoming: Float64) -> LayerScales:
    """Set the common factor of the first layer, whose biases do not tell, by what the next one takes in."""
    factor = _common_factor([(incoming / first.scale)[np.newaxis]], FLOAT32).item()
    return replace(
        first,
        scale=first.scale * factor,
        incoming=first.incoming * factor,
        link=first.link * factor,
        linked=~(np.abs(first.link * factor - 1) > 4 * FLOAT16.relative),
    )


def _with_drift(scales: LayerScales, kind: Kind, after: Weights, channels: int) -> LayerScales:
    drift = _by_pair(kind, after["kernel"], channels).sum(axis=(1, 2)).reshape(-1)
    return replace(scales, drift=drift + after.get("bias", 0.0))


def _largest_difference(wanted: Weights, found: Weights) -> float:
    differences = []
    for name, array in wanted.items():
        known = np.isfinite(array)  # not so behind filters of an unknown scale
        difference = np.linalg.norm((found[name] - array)[known])
        differences.append(float(difference / (np.linalg.norm(array[known]) or 1.0)))
    return max(differences)
