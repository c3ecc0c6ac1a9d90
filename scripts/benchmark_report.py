"""The tables and charts of scripts/benchmark.py."""

import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

import numpy as np
from contestants import BASELINE, CEILINGS, DECODING, Figures

from vggnorm.means.filter_means import FilterMeans

COLOURS = ("#0072B2", "#E69F00", "#999999")  # vggnorm, others, ceilings


def describe_machine() -> str:
    """Return a line that describes the machine and the versions."""
    model, flags = platform.machine(), ""
    if (cpu := Path("/proc/cpuinfo")).exists():
        lines = [line.partition(":") for line in cpu.read_text().splitlines()]
        model = next(
            (value.strip() for name, _, value in lines if name.strip() == "model name"), model
        )
        flags = next((value for name, _, value in lines if name.strip() == "flags"), "")
    units = [
        words
        for flag, words in (("avx512_bf16", "AVX-512 BF16"), ("amx_bf16", "AMX"))
        if flag in flags.split()
    ]
    versions = ", ".join(f"{name} {version(name.lower())}" for name in ("TensorFlow", "Keras"))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, bfloat16 units: {' and '.join(units) or 'none'}; {versions}"


def median_ratio(
    found: dict[str, list[Figures]], one: str, other: str, name: str = "rate"
) -> float:
    """Return the median ratio of two contestants over the rounds; nan if one did not run."""
    pairs = zip(found.get(one, ()), found.get(other, ()), strict=False)
    ratios = [getattr(first, name) / getattr(second, name) for first, second in pairs]
    return statistics.median(ratios) if ratios else float("nan")


def format_table(found: dict[str, list[Figures]]) -> str:
    """Return the medians as a table in Markdown."""
    lines = [
        "| | photos/s | of convolutions alone | times Keras, batch 1 | whole process, s | first "
        "batch after, s | of that importing, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        rate, first, importing, whole, memory = (
            statistics.median(getattr(figures, field) for figures in runs)
            for field in ("rate", "first", "importing", "whole", "memory")
        )
        ratios = (median_ratio(found, name, other) for other in (CEILINGS.get(name, ""), BASELINE))
        ceiling, times = ("" if np.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)
        seconds = (f"{value:.1f}" for value in (whole, first, importing))
        cells = (name, f"{rate:.1f}", ceiling, times, *seconds, f"{memory:.0f}")
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


def draw_bars(found: dict[str, list[Figures]], machine: str, path: Path) -> None:
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


PHOTOS = "photos, of 64 pixels"
Scaling = dict[str, dict[int, Figures]]  # the changed setting -> its value -> figures


def speed_over(name: str, figures: Figures) -> tuple[float, str]:
    """Return the speed to show, and its unit: seconds for numbers of photos, or else a rate."""
    return (figures.whole, "s, whole process") if name == PHOTOS else (figures.rate, "photos/s")


def draw_scaling(found: dict[str, Scaling], machine: str, path: Path) -> None:
    """Draw speed and memory over each setting that was changed.

    Args:
        found: contestant -> its figures.
        machine: its description.
        path: the picture to write.
    """
    from matplotlib.figure import Figure

    names = list(next(iter(found.values())))
    figure = Figure(figsize=(3 * len(names), 5), layout="constrained")
    figure.suptitle(machine, fontsize=9)
    grid = figure.subplots(2, len(names), sharex="col", squeeze=False)
    for (speed, memory), name in zip(grid.T, names, strict=True):
        for contestant, scaling in found.items():
            values = list(scaling[name])
            speeds, units = zip(
                *(speed_over(name, figures) for figures in scaling[name].values()), strict=True
            )
            speed.plot(values, speeds, "o-", label=contestant)
            speed.set_ylabel(units[0])
            memory.plot(values, [figures.memory for figures in scaling[name].values()], "o-")
        for axes in (speed, memory):
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
        if name == PHOTOS:  # proportional growth is a straight line on two logarithmic axes
            speed.set_yscale("log")
        else:
            speed.set_ylim(0, 1.08 * speed.dataLim.ymax)
        memory.set_ylim(0, 1.08 * memory.dataLim.ymax)
        memory.set_ylabel("peak memory, MB")
        memory.set_xlabel(name)
    grid[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
