"""Compare the scales of a file with the means of the original."""

import numpy as np

from vggnorm.identification.thresholds import ALMOST, CLOSE, CONSTANT, CORRELATION, EXACT, RATIO
from vggnorm.means.filter_means import FilterMeans
from vggnorm.rule import Float64, scale_from_mean
from vggnorm.verdicts.identification import MeansComparison, MeansRelation, Recovery


def compare_with_means(
    recovery: Recovery, means: FilterMeans, source: str
) -> MeansComparison | None:
    """Compare recovered scales with those that means give, filter by filter.

    Args:
        recovery: the scales.
        means: the means.
        source: what to call the means.

    Returns:
        The comparison; None if no layer of the means has a known scale.
    """
    ratio: dict[str, Float64] = {}
    correlation: dict[str, float] = {}
    for name, mean in means.mean.items():
        layer = recovery.layers.get(name)
        if layer is None or len(layer.scale) != len(mean):
            continue
        found, wanted = layer.scale, scale_from_mean(mean)
        is_known = np.isfinite(found) & (found > 0)
        ratio[name] = np.where(is_known, found / wanted, np.nan)
        correlation[name] = _log_correlation(found[is_known], wanted[is_known])
    if not any(np.isfinite(values).any() for values in ratio.values()):
        return None
    relation = _relation(ratio, correlation, recovery.rounding.relative)
    named = f"{source} ({means.image_count} photos)"
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
