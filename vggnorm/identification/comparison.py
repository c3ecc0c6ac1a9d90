"""Compare the scales of a file with the means of the original."""

from dataclasses import replace

import numpy as np

from vggnorm.identification.thresholds import ALMOST, CLOSE, CONSTANT, CORRELATION, EXACT, RATIO
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import join_layers
from vggnorm.rule import Float64
from vggnorm.verdicts.identification import MeansComparison, MeansRelation, Recovery


def compare_with_means(
    recovery: Recovery, means: FilterMeans, source: str
) -> MeansComparison | None:
    """Compare recovered scales with those that means give, filter by filter.

    If the scales are not these means, it is tried whether they are with `--keep-output` and
    `--max-scale` of `normalize`, which are known only of files that have a recipe.

    Args:
        recovery: the scales.
        means: the means.
        source: what to call the means.

    Returns:
        The comparison; None if no layer of the means has a known scale.
    """
    named = f"{source} ({means.image_count} photos)"
    plain = _compare(recovery, means, named)
    if plain is None or plain.relation is MeansRelation.EQUAL:
        return plain
    changed, options = _with_options(recovery, means)
    if not options:
        return plain
    other = _compare(recovery, changed, f"{named}, and with {' and '.join(options)}")
    is_equal = other is not None and other.relation is MeansRelation.EQUAL
    return other if is_equal else plain


def _with_options(recovery: Recovery, means: FilterMeans) -> tuple[FilterMeans, list[str]]:
    """Change means as options of `normalize` do that a file may have been made with.

    Returns:
        The means, and the options: `--keep-output` if the scales of some layer are all 1, and
        `--max-scale` if a mean is smaller than every scale.
    """
    options = []
    scales = {
        name: layer.scale
        for name, layer in recovery.layers.items()
        if name in means.mean and len(layer.scale) == len(means.mean[name])
    }
    kept = [name for name, scale in scales.items() if (np.abs(scale - 1) <= EXACT).all()]
    if kept:
        recipe = replace(means.recipe, output_layers=tuple(kept), keep_output=True)
        means = replace(means, recipe=recipe)
        options.append("--keep-output")
    rescaled = [name for name in scales if name not in kept]
    if rescaled:
        every_scale, every_mean = join_layers(scales, rescaled), join_layers(means.mean, rescaled)
        fires = every_mean > 0  # a silent filter keeps the scale 1
        smallest = float(every_scale[fires].min(initial=np.inf))
        if 0 < smallest < np.inf and (every_mean[fires] < smallest * (1 - EXACT)).any():
            means = means.with_max_scale(1 / smallest)
            options.append(f"--max-scale {1 / smallest:.4g}")
    return means, options


def _compare(recovery: Recovery, means: FilterMeans, named: str) -> MeansComparison | None:
    """Compare recovered scales with those that means give, under this name."""
    ratio: dict[str, Float64] = {}
    correlation: dict[str, float] = {}
    for name, wanted in means.scales.items():
        layer = recovery.layers.get(name)
        if layer is None or len(layer.scale) != len(wanted):
            continue
        found = layer.scale
        is_known = np.isfinite(found) & (found > 0)
        ratio[name] = np.where(is_known, found / wanted, np.nan)
        correlation[name] = _log_correlation(found[is_known], wanted[is_known])
    if not any(np.isfinite(values).any() for values in ratio.values()):
        return None
    relation = _relation(ratio, correlation, recovery.rounding.relative)
    return MeansComparison(named, ratio, correlation, CLOSE, relation)


def _log_correlation(one: Float64, other: Float64) -> float:
    """Correlate the logarithms of two vectors; nan if either is empty or does not vary."""
    if not one.size:
        return np.nan
    logs = np.log(one), np.log(other)
    if min(np.ptp(values) for values in logs) <= CONSTANT:
        return np.nan
    return float(np.corrcoef(*logs)[0, 1])


def _relation(
    ratio: dict[str, Float64], correlation: dict[str, float], rounding: float
) -> MeansRelation:
    """Tell how scales relate to means.

    Args:
        ratio: layer name -> `(filters,)`, each scale divided by the one that the means give.
        correlation: layer name -> the correlation of their logarithms.
        rounding: the relative change that the format of the weights allows.
    """
    every = np.concatenate(list(ratio.values()))
    every = every[np.isfinite(every)]
    known = [value for value in correlation.values() if np.isfinite(value)]
    is_correlated = bool(known) and float(np.median(known)) >= CORRELATION
    if not is_correlated or not 1 / RATIO <= float(np.median(every)) <= RATIO:
        return MeansRelation.UNRELATED
    distance = np.abs(every - 1)
    if (distance <= max(EXACT, 2 * rounding)).all():
        return MeansRelation.EQUAL
    if float((distance <= CLOSE).mean()) > ALMOST:
        return MeansRelation.NEARLY_EQUAL
    return MeansRelation.SIMILAR
