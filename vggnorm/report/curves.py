"""Densities of mean activations, and how they are drawn into a panel.

Every curve is a Gaussian kernel density with the bandwidth of Scott's rule, and has the area 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import gaussian_kde

from vggnorm.means.filter_means import KNOWN_SHARE
from vggnorm.means.moments import Float64, PerLayer
from vggnorm.report.printable import printable

POINTS = 2001  # of a curve
REACH = 3.0  # bandwidths by which a curve extends beyond the outermost filters
EQUAL = 1e-9  # relative; means that differ by no more are drawn as one line

# Curves differ both in colour and in dashes, so that they can be told apart in grey print and by
# people who are colour-blind. The colours are those of Okabe and Ito, "Color Universal Design",
# 2008, without those that are faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1, 0.8)), (0, (6, 1.5, 1, 1.5)), (0, (10, 2)))
BLACK, GREY, FILL = "#000000", "#555555", "#DDDDDD"

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.6,
    "savefig.dpi": 225,
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # names may hold dollar signs
    "text.usetex": False,
    "svg.hashsalt": "vggnorm",  # the same figure gives the same file
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Shown:
    """Means to be drawn, a line that says which means they are, and how well they are known.

    Attributes:
        mean: layer name -> `(filters,)`.
        caption: the line.
        uncertainty: see `FilterMeans.uncertainty`.
    """

    mean: PerLayer
    caption: str
    uncertainty: float | None = None

    @property
    def together(self) -> Float64:
        """The means of all filters of all layers."""
        return np.concatenate(list(self.mean.values()))


def kernel_density(values: Float64, *, log: bool = False) -> tuple[Float64, Float64]:
    """Estimate how values are distributed.

    Args:
        values: `(filters,)`, not all equal; with `log`, above 0.
        log: whether to give the density of the decimal logarithm.

    Returns:
        Values in ascending order, from 3 bandwidths below the lowest to 3 above the highest, and
        the density at each. Without `log`, and if no value is below 0, they do not extend below 0:
        see `vggnorm.plot_means`.
    """
    data = np.log10(values) if log else values
    kernels = gaussian_kde(data)
    reach = REACH * np.sqrt(kernels.covariance.item())
    first, last = data.min() - reach, data.max() + reach
    if log or data.min() < 0:
        positions = np.linspace(first, last, POINTS)
        density = kernels(positions)
    else:
        positions = np.linspace(max(first, 0), last, POINTS)
        density = kernels(positions) + kernels(-positions)
    return 10**positions if log else positions, density


def draw_distribution(axes: Axes, shown: Shown, layers: Sequence[str], *, log: bool) -> None:
    """Draw a curve for all layers together and one for each of some layers.

    The figures of all filters are written beside the curves.

    Args:
        axes: where to draw.
        shown: the means.
        layers: the layers that get curves of their own.
        log: whether the axis is logarithmic.
    """
    every_mean = shown.together
    label = f"all {len(shown.mean)} layers ({len(every_mean):,})"
    draw_curve(axes, every_mean, log=log, color=BLACK, fill=FILL, label=label)
    for layer, line in zip(layers, _lines(), strict=False):
        values = shown.mean[layer]
        draw_curve(axes, values, log=log, label=f"{printable(layer)} ({len(values):,})", **line)
    axes.set_title(shown.caption, loc="left", color=GREY)
    axes.set_ylim(bottom=0)
    if log:
        set_logarithmic(axes)
        axes.set_ylabel("density, per decade")
    else:
        axes.margins(x=0)
        axes.set_ylabel("density, per unit of mean activation")
    _write_statistics(axes, shown, log=log)


def draw_curve(
    axes: Axes,
    values: Float64,
    *,
    log: bool,
    scaled: bool = False,
    fill: str | None = None,
    **line: Any,
) -> None:
    """Draw how values are distributed.

    Values that are all equal have no density; they are drawn as a vertical line.

    Args:
        axes: where to draw.
        values: `(filters,)`; with `log`, those not above 0 are left out.
        log: whether the axis is logarithmic.
        scaled: whether the curve is scaled to the height 1.
        fill: the colour below the curve.
        **line: how the line is drawn, as matplotlib takes it.
    """
    drawn = values[values > 0] if log else values
    if not drawn.size:
        axes.plot([], [], **line)  # for the legend
        return
    if np.ptp(drawn) <= EQUAL * np.abs(drawn).max():
        axes.axvline(drawn[0], **line)
        return
    positions, density = kernel_density(drawn, log=log)
    if scaled:
        density /= density.max()
    axes.plot(positions, density, **line)
    if fill is not None:
        axes.fill_between(positions, density, color=fill, linewidth=0)


def write_legend(axes: Axes) -> None:
    """Write a panel's legend beside it."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1))


def set_logarithmic(axes: Axes) -> None:
    """Make a panel's horizontal axis logarithmic, with plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _lines() -> Iterator[dict[str, Any]]:
    """Give one line after another. They repeat after every colour has met every kind of dashes."""
    for color, dashes in zip(cycle(COLOURS), cycle(DASHES), strict=False):
        yield {"color": color, "linestyle": dashes}


def _write_statistics(axes: Axes, shown: Shown, *, log: bool) -> None:
    every_mean = shown.together
    lines = [
        f"all {len(every_mean):,} filters",
        f"min {every_mean.min():.4g}",
        f"max {every_mean.max():.4g}",
        f"mean {every_mean.mean():.4g}",
        f"standard deviation {every_mean.std():.4g}",
    ]
    silent = np.count_nonzero(every_mean <= 0)
    if silent:
        lines.append(f"{silent:,} not above 0{', not drawn' if log else ''}")
    if shown.uncertainty is not None:
        lines.append(f"{KNOWN_SHARE:.0%} known to {shown.uncertainty:.1%}")
    axes.annotate(
        "\n".join(lines),
        xy=(1.03, 0),
        xycoords="axes fraction",
        xytext=(4, 4),  # the frame's width
        textcoords="offset points",
        verticalalignment="bottom",
        linespacing=1.4,
        bbox={
            "boxstyle": "square,pad=0.5",
            "facecolor": "white",
            "edgecolor": GREY,
            "linewidth": 0.6,
        },
    )
