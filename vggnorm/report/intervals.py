"""How well means are known, as lines for people."""

import math

from vggnorm.means.filter_means import KNOWN_SHARE, FilterMeans

SHOWN = 5  # filters that are named


def how_well_known(means: FilterMeans) -> list[str]:
    """Say how well most means are known; nothing where this cannot be told."""
    if means.uncertainty is None:
        return []
    line = f"{KNOWN_SHARE:.0%} of the filters that fire are known to {means.uncertainty:.1%}"
    if means.measured.cubed_deviation is None:
        line += "; their intervals are symmetric, because the third moments were not measured"
    return [line]


def badly_known_lines(means: FilterMeans) -> list[str]:
    """Name the filters that may have twice the mean, those that may be furthest off first."""
    found = []
    for layer, indices in means.badly_known.items():
        mean, interval = means.mean[layer], means.interval
        for index in indices:
            lower = mean[index] - interval.below[layer][index]
            upper = mean[index] + interval.above[layer][index]
            text = f"{layer}[{index}] {format_with_interval(mean[index], lower, upper)}"
            found.append((upper / mean[index], text))
    if not found:
        return []
    found.sort(key=lambda one: -one[0])
    lines = [
        f"badly known filters: {len(found)}; on other photos, such a filter may fire more than "
        "twice as much; measure more photos"
    ]
    lines += [f"  {text}" for _factor, text in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"  … and {len(found) - SHOWN} more, see inspect --json")
    return lines


def format_with_interval(mean: float, lower: float, upper: float) -> str:
    """Write a mean with its 95 % confidence interval, if it has one."""
    if math.isnan(lower):
        return f"{mean:.3g}"
    return f"{mean:.3g} ({lower:.3g} to {upper:.3g})"
