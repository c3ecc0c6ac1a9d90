"""Judge what a file of weights is, from its scales and, if there are any, from means.

Whether scales are mean activations can be told by other means of the same network, measured or
stored in the file. Without any, the weights still show three things:

- If all scales of a layer are one number, if they are powers of two, or if they give all of the
  layer's kernels the same norm, then they were chosen in another way.
- Take a layer whose incoming activations all have the mean 1. Over photos and positions, the value
  before the rectifier, z = sum_kc W' a_kc + b', then has the mean sum_kc W' + b'. Because
  max(0, z) >= z, the filter's mean activation is at least as large (a case of Jensen's
  inequality). So if the mean activation is 1,

      sum_kc W'[k, c, i] + b'[i] <= 1

  for every filter of a layer that takes rectified activations directly, without pooling in between,
  because pooling changes means. Padding with zeros takes a little from the left side or adds to it,
  by the share of positions at the border.
- This condition is necessary and not sufficient: scales that are all twice the means satisfy it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vggnorm.identification.thresholds import CONSTANT, DRIFT_LIMIT, DRIFT_SHARE
from vggnorm.rule import Float64
from vggnorm.verdicts.identification import (
    Bools,
    Fault,
    FileKind,
    LayerScales,
    LayerState,
    LayerVerdict,
    MeansComparison,
    MeansRelation,
    Objection,
    Reason,
    Recovery,
    Trouble,
    Verdict,
)


def judge(recovery: Recovery, turned: Sequence[str], comparison: MeansComparison | None) -> Verdict:
    """Judge what a file is.

    Args:
        recovery: its scales, with turned kernels turned back.
        turned: the layers whose kernels were turned.
        comparison: how the scales compare with means, if there are any.
    """
    first = next(iter(recovery.layers), None) if recovery.takes_photos else None
    tolerance = recovery.rounding.relative
    layers = {
        name: _judge_layer(layer, tolerance, takes_photos=name == first, is_turned=name in turned)
        for name, layer in recovery.layers.items()
    }
    alike = {
        name: recovery.layers[name]
        for name, one in layers.items()
        if one.state is not LayerState.OTHER_WEIGHTS
    }
    normalizations = {
        name: difference
        for name, difference in recovery.normalizations.items()
        if difference > tolerance
    }
    if 2 * len(alike) <= len(layers):
        kind, objection = FileKind.SOMETHING_ELSE, None
    else:
        kind, objection = _judge_scales(alike, tolerance, comparison)
    is_explained = all(bool(layer.explained.all()) for layer in recovery.layers.values())
    has_troubles = bool(normalizations) or any(one.troubles for one in layers.values())
    return Verdict(
        kind_of_scales=kind,
        mostly_turned=2 * len(turned) > len(layers),
        objection=objection,
        layers=layers,
        normalizations=normalizations,
        pixel_factors=() if first is None else _pixel_factors(recovery.layers[first]),
        intact=is_explained and not has_troubles,
    )


def _judge_scales(
    alike: Mapping[str, LayerScales], tolerance: float, comparison: MeansComparison | None
) -> tuple[FileKind, Objection | None]:
    """Tell what the scales show, of the layers that have the original's weights."""
    if all(_all_one(layer.scale, tolerance) for layer in alike.values()):
        return FileKind.ORIGINAL, None
    if comparison is not None and comparison.relation is not MeansRelation.UNRELATED:
        return FileKind.NORMALIZED, None
    objection = _find_objection(alike)
    if objection is None and comparison is None:
        return FileKind.POSSIBLY_NORMALIZED, None
    return FileKind.RESCALED, objection


def _judge_layer(
    layer: LayerScales, tolerance: float, *, takes_photos: bool, is_turned: bool
) -> LayerVerdict:
    if np.median(layer.alike) < 1:
        return LayerVerdict(LayerState.OTHER_WEIGHTS)
    is_nearly = bool(np.median(layer.explained) < 1)
    if _all_one(layer.scale, tolerance):
        state = LayerState.NEARLY_ORIGINAL if is_nearly else LayerState.ORIGINAL
    else:
        state = LayerState.NEARLY_RESCALED if is_nearly else LayerState.RESCALED
    troubles = _find_troubles(layer, is_nearly=is_nearly, takes_photos=takes_photos)
    if is_turned:
        troubles.append(Trouble(Fault.TURNED_KERNELS))
    return LayerVerdict(state, tuple(troubles))


def _find_troubles(layer: LayerScales, *, is_nearly: bool, takes_photos: bool) -> list[Trouble]:
    """Find the filters and channels that are wrong in a layer that is mostly a rescaling."""
    off = ~layer.alike if is_nearly else ~layer.explained
    faults = {
        Fault.OTHER_WEIGHTS: off,
        Fault.NEGATIVE_SCALE: layer.alike & (layer.scale < 0),
        Fault.UNKNOWN_SCALE: layer.alike & np.isnan(layer.scale),
    }
    if not is_nearly:
        faults[Fault.BIAS_SCALE] = ~layer.bias_fits & ~off
    if not is_nearly and not takes_photos:
        faults[Fault.CHANNEL_SCALE] = ~layer.linked
    return [Trouble(fault, _indices(at)) for fault, at in faults.items() if at.any()]


def _indices(at: Bools) -> tuple[int, ...]:
    return tuple(np.flatnonzero(at).tolist())


def _all_one(scale: Float64, tolerance: float) -> bool:
    return bool((np.abs(scale[np.isfinite(scale)] - 1) <= tolerance).all())


def _pixel_factors(first: LayerScales) -> tuple[float, ...]:
    """Tell what the pixels of the photos are divided by; see `Verdict.pixel_factors`."""
    factors = first.link
    if first.linked.all():
        return ()
    if np.isfinite(factors).all() and np.ptp(factors) <= CONSTANT * abs(factors[0]):
        return (float(np.median(factors)),)
    return tuple(factors.tolist())


def _find_objection(layers: Mapping[str, LayerScales]) -> Objection | None:
    """Find a reason why scales are not mean activations; None if the weights show none."""
    known = {name: layer.scale[np.isfinite(layer.scale)] for name, layer in layers.items()}
    scales = [scale for scale in known.values() if len(scale) > 1]
    every = np.concatenate(scales) if scales else np.empty(0)
    if (every < 0).any():
        return Objection(Reason.NEGATIVE, count=int((every < 0).sum()))
    if scales and all(_is_constant(scale) for scale in scales):
        return Objection(Reason.CONSTANT)
    logs = np.log2(every)
    if len(every) and np.abs(logs - np.round(logs)).max() <= CONSTANT:
        return Objection(Reason.POWERS_OF_TWO)
    norms = [layer.norm[layer.norm > 0] for layer in layers.values() if len(layer.norm) > 1]
    if all(_is_constant(norm) for norm in norms if len(norm)):
        return Objection(Reason.EQUAL_NORMS)
    return _find_large_drift(layers)


def _is_constant(values: Float64) -> bool:
    """Tell whether positive values are all the same number."""
    return bool(np.ptp(values) <= CONSTANT * values[0])


def _find_large_drift(layers: Mapping[str, LayerScales]) -> Objection | None:
    """Find the layer where most filters would have a mean above the limit; see the module."""
    above = {
        name: float((layer.drift > DRIFT_LIMIT).mean())
        for name, layer in layers.items()
        if layer.drift is not None
    }
    worst = max(above, key=lambda name: above[name], default=None)
    if worst is None or above[worst] <= DRIFT_SHARE:
        return None
    return Objection(Reason.LARGE_DRIFT, layer=worst, share=above[worst], limit=DRIFT_LIMIT)
