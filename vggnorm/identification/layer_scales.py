"""Recover the scales of one layer from its weights and the original's.

A rescaled network has, with `a` the scales of the incoming channels and `s` those of the filters
(see `vggnorm.rule`),

    W'[k, c, i] = W[k, c, i] * a[c] / s[i]        b'[i] = b[i] / s[i]

at all positions k of the kernel. Given W, b, W' and b', this module solves for a and s, and checks
the solution.

**Each layer by itself.** For each pair of a channel and a filter, the least-squares ratio over the
positions is

    r[c, i] = sum_k W'[k, c, i] W[k, c, i] / sum_k W[k, c, i]^2

and in a rescaled network

    log |r[c, i]| = log a[c] - log s[i]

The right side is an additive table of rows and columns. It is fitted by median polish (Tukey,
"Exploratory Data Analysis", 1977): a filter whose weights were changed is one column of many, and
moves no median. A pair without weights is a missing cell. The scales of the layers before are not
used, so that a layer with other weights does not spoil the layers after it.

**The common factor.** The kernel alone leaves one factor open: (k a, k s) gives the same W' for
every k > 0. The layers before set it if more than half of the channels agree on it, because a[c] is
the s of the filter that gives channel c. Otherwise the biases set it: k = median_i of
(b[i] / b'[i]) / s[i]. In the first layer, which may take photos in other units, the biases come
first. A grouped convolution has one such factor for each group, a depthwise convolution one for
each channel.

**The result.** With U[k, c, i] = W[k, c, i] a[c], where a comes from the layers before if both
agree and from the layer itself if not,

    s[i] = sum_kc U^2 / sum_kc W' U        residual[i] = ||W'_i - U_i / s[i]|| / ||W'_i||

are the least-squares ratio of each filter and the part of it that the ratio does not explain.
Biases do not enter s, so that b'[i] s[i] / b[i] = 1 is a check of its own. Only a filter whose
kernel is all zero gets its s from its bias.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.identification.rounding import FLOAT16, FLOAT32
from vggnorm.identification.thresholds import NEAR, POLISHES
from vggnorm.network.kinds import LayerKind
from vggnorm.network.layers import FILTERS
from vggnorm.network.steps import LayerWeights
from vggnorm.rule import Float64
from vggnorm.verdicts.identification import Bools, LayerScales, Rounding


def _rescaled_like(kind: LayerKind) -> frozenset[LayerKind]:
    """Find the kinds of layer whose weights are rescaled in the same way as this kind's."""
    return frozenset(other for other, rule in FILTERS.items() if rule is FILTERS[kind])


TRANSPOSED = _rescaled_like(layers.Conv2DTranspose)
DEPTHWISE = _rescaled_like(layers.DepthwiseConv2D)
SEPARABLE = _rescaled_like(layers.SeparableConv2D)


@np.errstate(divide="ignore", invalid="ignore")  # an unknown value is nan, and stays nan
def recover_layer(
    kind: LayerKind,
    before: LayerWeights,
    after: LayerWeights,
    carried: Float64,
    rounding: Rounding,
    *,
    is_first: bool,
) -> LayerScales:
    """Recover the scales of one layer.

    Args:
        kind: the kind of layer.
        before: its weights in the original.
        after: its weights in the other network.
        carried: `(channels,)`, what the layers before divide the channels by; nan where unknown.
        rounding: the format of the other network's weights.
        is_first: whether the channels are those of the photo.
    """
    channels = len(carried)
    old = _by_pair(kind, before["kernel"], channels)
    new = _by_pair(kind, after["kernel"], channels)
    own, outgoing = _polish(_log_ratios(old, new))
    by_layers = carried.reshape(own.shape) / own
    by_bias = _bias_ratios(before, after, outgoing)
    sources = [by_bias, by_layers] if is_first else [by_layers, by_bias]
    own = (own * _common_factor(sources, rounding)).reshape(-1)
    link = own / carried
    linked = _is_one(link, rounding)

    incoming = np.where(linked & np.isfinite(carried), carried, own)
    incoming = np.where(np.isfinite(incoming), incoming, 1.0)  # for channels without weights
    unchanged = np.ones(outgoing.size)
    taken = _by_pair(kind, FILTERS[kind](before, incoming, unchanged)["kernel"], channels)  # U

    empty = (_norm(new) == 0) & (_norm(old) == 0)
    scale, residual, explained = _fit_kernel(taken, new, empty, rounding)
    scale, bias_deviation, bias_fits = _fit_bias(before, after, scale, empty, rounding)
    return LayerScales(
        scale=scale,
        residual=residual,
        explained=explained,
        alike=residual <= NEAR,
        bias_deviation=bias_deviation,
        bias_fits=bias_fits,
        incoming=own,
        link=link,
        linked=linked,
        norm=_norm(new),
    )


def set_common_factor(first: LayerScales, incoming: Float64) -> LayerScales:
    """Set the common factor of the first layer by what the next layer takes in.

    This is for a first layer whose biases do not show the factor, such as one with a mean colour
    added to them.

    Args:
        first: what was recovered of the first layer.
        incoming: `(filters of the first layer,)`, what the next layer assumes.
    """
    factor = _common_factor([(incoming / first.scale)[np.newaxis]], FLOAT32).item()
    link = first.link * factor
    return replace(
        first,
        scale=first.scale * factor,
        incoming=first.incoming * factor,
        link=link,
        linked=_is_one(link, FLOAT16),
    )


def with_drift(scales: LayerScales, kind: LayerKind, after: LayerWeights) -> LayerScales:
    """Add the drift to a layer's scales, for a layer that takes rectified activations directly."""
    kernel = _by_pair(kind, after["kernel"], len(scales.incoming))
    drift = kernel.sum(axis=(1, 2)).reshape(-1) + after.get("bias", 0.0)
    return replace(scales, drift=drift)


def _is_one(link: Float64, rounding: Rounding) -> Bools:
    """Tell where a link is 1, or unknown."""
    return ~(np.abs(link - 1) > 4 * rounding.relative)


def _by_pair(kind: LayerKind, kernel: NDArray[Any], channels: int) -> Float64:
    """Lay a kernel out by pairs of a channel and a filter.

    Filters and channels keep their order: those of the first group come first.

    Returns:
        `(groups, positions, channels of a group, filters of a group)`, float64.
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
    """Compute `log |r|`: `(groups, channels, filters)`; nan where there are no weights."""
    norm = np.einsum("gkcf,gkcf->gcf", old, old)
    inner = np.einsum("gkcf,gkcf->gcf", new, old)
    logs = np.log(np.abs(inner / norm))
    return np.where(np.isfinite(logs), logs, np.nan)


def _polish(logs: Float64) -> tuple[Float64, Float64]:
    """Fit `log a[c] - log s[i]` by medians.

    Returns:
        a, `(groups, channels of a group)`, and s, `(groups, filters of a group)`.
    """
    channels = np.zeros((*logs.shape[:2], 1))
    filters = np.zeros((logs.shape[0], 1, logs.shape[2]))
    for _ in range(POLISHES):
        filters = _median(logs - np.nan_to_num(channels), axis=1)
        channels = _median(logs - np.nan_to_num(filters), axis=2)
    return np.exp(channels[:, :, 0]), np.exp(-filters[:, 0, :])


def _bias_ratios(before: LayerWeights, after: LayerWeights, outgoing: Float64) -> Float64:
    """Compute what each bias says of the common factor, `(groups, filters of a group)`."""
    if "bias" not in before:
        return np.full_like(outgoing, np.nan)
    ratio = before["bias"].astype(np.float64) / after["bias"]
    return np.asarray(ratio.reshape(outgoing.shape) / outgoing)


def _median(values: Float64, axis: int) -> Float64:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis, keepdims=True))


def _common_factor(sources: list[Float64], rounding: Rounding) -> Float64:
    """Find the factor k of each group, which the kernel leaves open.

    Args:
        sources: what shows the factor, the best source first: `(groups, any number)` each, nan for
            an unknown value. A source more than half of which agrees is preferred to one that does
            not agree.
        rounding: the format of the weights.

    Returns:
        `(groups, 1)`; 1 where no source shows it.
    """
    factor = np.full((len(sources[0]), 1), np.nan)
    fallback = factor
    for source in sources:
        known = np.where(np.isfinite(source) & (source > 0), source, np.nan)
        middle = _median(known, axis=1)
        agrees = _median(np.abs(known / middle - 1), axis=1) <= 4 * rounding.relative
        factor = np.where(np.isnan(factor) & agrees, middle, factor)
        fallback = np.where(np.isnan(fallback), middle, fallback)
    return np.nan_to_num(np.where(np.isnan(factor), fallback, factor), nan=1.0)


def _fit_kernel(
    taken: Float64, new: Float64, empty: Bools, rounding: Rounding
) -> tuple[Float64, Float64, Bools]:
    """Fit each filter's scale to its kernel.

    Args:
        taken: U, the original's kernel with the incoming scales, laid out by `_by_pair`.
        new: the other network's kernel, laid out the same.
        empty: `(filters,)`, whether a filter has no weights in either.
        rounding: the format of the weights.

    Returns:
        The scale, the residual, and whether rounding explains it; `(filters,)` each.
    """
    size = _norm(new)
    scale = _inner(taken, taken) / _inner(new, taken)
    by_group = scale.reshape(len(new), 1, 1, -1)
    off = _norm(new - taken / by_group)
    off = np.where(empty, 0.0, np.nan_to_num(off, nan=np.inf))
    residual = np.where(empty, 0.0, np.nan_to_num(off / size, nan=np.inf))
    explained = rounding.allows(off, size, count=new[0, ..., 0].size)
    return np.where(residual <= NEAR, scale, np.nan), residual, explained


def _fit_bias(
    before: LayerWeights, after: LayerWeights, scale: Float64, empty: Bools, rounding: Rounding
) -> tuple[Float64, Float64, Bools]:
    """Compare the biases with the scales, and take the scale of filters without weights from them.

    Returns:
        The scale, the bias's relative deviation, and whether rounding explains it; `(filters,)`
        each.
    """
    if "bias" not in before:
        return scale, np.zeros_like(scale), np.ones_like(scale, dtype=bool)
    old, new = before["bias"].astype(np.float64), after["bias"].astype(np.float64)
    by_bias = old / new
    scale = np.where(empty & (by_bias > 0) & np.isfinite(by_bias), by_bias, scale)
    wanted = old / scale
    deviation = np.where(new == wanted, 0.0, np.abs(new / wanted - 1))
    fits = np.isnan(wanted) | rounding.allows(np.abs(new - wanted), np.abs(new))
    return scale, deviation, fits


def _inner(one: Float64, other: Float64) -> Float64:
    """Compute each filter's inner product of two kernels laid out by `_by_pair`: `(filters,)`."""
    return np.asarray(np.einsum("gkcf,gkcf->gf", one, other)).reshape(-1)


def _norm(kernel: Float64) -> Float64:
    """Compute the norm of each filter's kernel, laid out by `_by_pair`: `(filters,)`."""
    return np.sqrt(_inner(kernel, kernel))
