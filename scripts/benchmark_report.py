"""The tables and the chart of scripts/benchmark.py."""

import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from ceilings import ONNX, TENSORFLOW, TENSORFLOW_FAST, TORCH
from contestants import BASELINE, DECODING, EXACT, FAST
from timed_jobs import Figures

from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.cores import core_count
from vggnorm.processor import BFLOAT16_UNITS, processor_features, processor_name

COLOURS = ("#0072B2", "#E69F00", "#999999")  # vggnorm, others, ceilings

# The convolutions alone in the backends of Keras, the fastest of which is the goal.
BACKENDS: dict[str, tuple[str, ...]] = {EXACT: (TENSORFLOW, TORCH), FAST: (TENSORFLOW_FAST,)}

# What a column compares with: its heading -> those of whom the fastest counts, for a contestant.
COMPARED: dict[str, dict[str, tuple[str, ...]]] = {
    "of the best backend's convolutions": BACKENDS,
    "of ONNX Runtime's": {EXACT: (ONNX,)},
}
VERSIONS = ("TensorFlow", "Keras", "torch", "onnxruntime")

Runs = dict[str, list[Figures]]  # contestant -> its figures, round by round


def describe_machine() -> str:
    """Return a line that describes the machine and the versions."""
    features = processor_features() or frozenset()
    units = [name for name in ("avx2", "avx512f", *sorted(BFLOAT16_UNITS)) if name in features]
    versions = []
    for name in VERSIONS:
        try:
            versions.append(f"{name} {version(name.lower())}")
        except PackageNotFoundError:
            continue
    return (
        f"{core_count()} cores of {processor_name()} ({', '.join(units) or 'units unknown'}); "
        f"{', '.join(versions)}"
    )


def ratios(found: Runs, contestant: str, others: Sequence[str]) -> list[float]:
    """Return, for each round, the rate of a contestant to that of the fastest of the others."""
    runs = [found[other] for other in others if other in found]
    if not runs:
        return []
    fastest = [max(figures.rate for figures in turn) for turn in zip(*runs, strict=True)]
    return [figures.rate / best for figures, best in zip(found[contestant], fastest, strict=True)]


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return `median (least to largest)`, or the median alone of a single value."""
    if not values:
        return ""
    median, least, largest = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return median if least == largest else f"{median} ({least} to {largest})"


def format_table(found: Runs) -> str:
    """Return medians and ranges over the rounds as a table in Markdown."""
    headings = (
        "",
        "photos/s",
        *COMPARED,
        "times Keras, batch 1",
        "photos per s of processor time",
        "first batch after, s",
        "whole process, s",
        "peak memory, MB",
    )
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, runs in found.items():
        compared = [
            median_and_range(ratios(found, name, others.get(name, ())), 2)
            for others in COMPARED.values()
        ]
        to_baseline = ratios(found, name, (BASELINE,))
        cells = (
            name,
            median_and_range([figures.rate for figures in runs], 1),
            *compared,
            f"{statistics.median(to_baseline):.2f}" if to_baseline else "",
            f"{statistics.median(figures.rate_of_cpu for figures in runs):.2f}",
            f"{statistics.median(figures.first for figures in runs):.1f}",
            f"{statistics.median(figures.whole for figures in runs):.1f}",
            f"{statistics.median(figures.memory for figures in runs):.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_errors(exact: FilterMeans, fast: FilterMeans) -> str:
    """Return a sentence on how far the means of two precisions differ."""
    one, other = (np.concatenate(list(means.mean.values())) for means in (exact, fast))
    fires = one > 0
    errors = np.abs(other[fires] / one[fires] - 1)
    controls = fast.correction.count if fast.correction else 0
    return (
        f"bfloat16's answer against float32's over {exact.image_count} photos, "
        f"{controls} of them in both: relative error in the median filter "
        f"{np.median(errors):.1e}, in the 99th percentile {np.quantile(errors, 0.99):.1e}, at "
        f"worst {errors.max():.1e}."
    )


def draw_bars(found: Runs, machine: str, path: Path) -> None:
    """Draw the rates as bars."""
    from matplotlib.figure import Figure

    names = [name for name in found if name != DECODING][::-1]  # decoding is faster by far
    rates = [statistics.median(figures.rate for figures in found[name]) for name in names]
    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    ours, others, ceiling = COLOURS
    colours = []
    for name in names:
        if "vggnorm" in name:
            colours.append(ours)
        else:
            colours.append(ceiling if "alone" in name else others)
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel(f"photos per second, in steady state\n{machine}", fontsize=8)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
