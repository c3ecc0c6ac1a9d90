"""Pictures of how the filters' mean activations are distributed, before and after normalizing. Needs no Keras.

Every curve is a Gaussian kernel density with the bandwidth of Scott's rule, and has the area 1.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from scipy.stats import gaussian_kde

import vggnorm
from vggnorm.errors import MeansError, OutputError
from vggnorm.means import FilterMeans
from vggnorm.moments import Float64, PerLayer
from vggnorm.output import check_output, replacing
from vggnorm.printable import printable

LAYERS = ("block1_conv1", "block3_conv2", "block4_conv2")  # of VGG; they differ much
ENDINGS = (".png", ".svg", ".pdf")

POINTS = 2001  # of a curve
REACH = 3.0  # a curve goes on for so many bandwidths beyond the outermost filters
EQUAL = 1e-9  # means that differ by no more than this, relatively, are drawn as one

# Inches
WIDTH, PANEL, SMALL_PANEL, MARGIN = 6.4, 2.3, 1.0, 0.5
COLUMNS = 4  # of small panels

# Colour and line both tell curves apart, so that neither print in grey nor colour blindness makes two look alike. The
# colours are those of Okabe and Ito, "Color Universal Design", 2008, less those that are faint on white.
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
MEAN = "mean activation of a filter"


@dataclass(frozen=True)
class _Shown:
    """Means to be drawn, and a line that says which."""

    mean: PerLayer
    caption: str

    @property
    def together(self) -> Float64:
        return np.concatenate(list(self.mean.values()))


def plot_means(means: FilterMeans, *, layers: Sequence[str] = (), log: bool = False) -> Figure:
    """Draw the distribution of the mean activations of some layers, and of all together.

    On a linear axis, curves are densities per unit of mean activation. No mean is below 0, so what the kernels have
    there is reflected to above 0 (Silverman, "Density Estimation for Statistics and Data Analysis", 1986, section
    2.10). Where a mean is negative, as it may be behind a leaky rectifier, nothing is reflected.

    On a logarithmic axis, curves are densities of the decimal logarithm, so per decade, of the means above 0. How many
    others there are is written beside.

    Args:
        means: what was measured.
        layers: which layers have curves of their own; by default those of `LAYERS`, or, where the network has none of
            them, its first, middle and last.
        log: whether the axis is logarithmic.

    Returns:
        The figure, for `save_figure`; it can be changed as any of matplotlib's.

    Raises:
        MeansError: there is no layer of that name; or, with `log`, no mean is above 0.
    """
    chosen = _choose_layers(means, layers)
    shown = _Shown(means.mean, _caption(means))
    if log:
        _require_firing(shown)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, PANEL + MARGIN), layout="constrained")
        axes = figure.subplots()
        _draw_distribution(axes, shown, chosen, log=log)
        _write_legend(axes)
        axes.set_xlabel(MEAN)
    return figure


def plot_before_after(before: FilterMeans, after: FilterMeans | None = None, *, layers: Sequence[str] = ()) -> Figure:
    """Draw the distributions before and after normalizing on one logarithmic axis.

    Args:
        before: the means of the original network.
        after: those of the normalized one, measured; they are drawn below the others. By default, a line is drawn at
            what the rule makes of every mean above 0 on the photos measured: 1.
        layers: see `plot_means`.

    Returns:
        The figure, see `plot_means`.

    Raises:
        MeansError: there is no layer of that name, the two do not have the same layers, or one has no mean above 0.
    """
    chosen = _choose_layers(before, layers)
    shown = _before_and_after(before, after)
    _require_firing(*shown)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, PANEL * len(shown) + MARGIN), layout="constrained")
        panels = figure.subplots(len(shown), sharex=True, squeeze=False).ravel()
        for axes, one in zip(panels, shown, strict=True):
            _draw_distribution(axes, one, chosen, log=True)
        if after is None:
            panels[0].axvline(1, color=COLOURS[3], linewidth=3, zorder=0, label="after, by the rule: 1")
        else:
            panels[1].axvline(1, color=GREY, linewidth=0.6, zorder=0)
        _write_legend(panels[0])
        panels[-1].set_xlabel(MEAN)
    return figure


def plot_every_layer(means: FilterMeans, after: FilterMeans | None = None) -> Figure:
    """Draw the distribution of each layer in a panel of its own, on one logarithmic axis, scaled to one height.

    Args:
        means: what was measured.
        after: the means of the normalized network, if they are to be drawn as well.

    Returns:
        The figure, see `plot_means`.

    Raises:
        MeansError: the two do not have the same layers, or one has no mean above 0.
    """
    shown = [_Shown(means.mean, _caption(means))] if after is None else _before_and_after(means, after)
    _require_firing(*shown)
    lines = ({"color": BLACK, "linewidth": 1, "fill": FILL}, {"color": COLOURS[1], "linestyle": DASHES[0]})
    panels = {layer: [one.mean[layer] for one in shown] for layer in means.mean}
    panels["all layers"] = [one.together for one in shown]
    rows = -(-len(panels) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, SMALL_PANEL * rows + MARGIN), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, (name, curves) in zip(grid.flat, panels.items(), strict=False):
            for values, line, one in zip(curves, lines, shown, strict=False):
                _draw_curve(axes, values, log=True, scaled=True, label=one.caption, **line)
            silent = [np.count_nonzero(values <= 0) for values in curves]
            not_drawn = f", {' and '.join(f'{count:,}' for count in silent)} not drawn" if any(silent) else ""
            axes.set_title(f"{printable(name)} ({len(curves[0]):,}{not_drawn})")
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes in grid.flat[: len(panels)][-COLUMNS:]:  # the lowest of each column
            axes.tick_params(labelbottom=True)
        _set_logarithmic(grid[0, 0])
        grid[0, 0].xaxis.set_minor_locator(NullLocator())
        grid[0, 0].set(ylim=(0, 1.05), yticks=[])
        figure.supxlabel(MEAN, fontsize="medium")
        figure.supylabel("density, per decade, scaled to one height", fontsize="medium")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left")
    return figure


def save_figure(figure: Figure, path: str | Path, *, force: bool = False) -> None:
    """Write a figure as PNG, SVG or PDF, as the name's ending says. The same figure gives the same file.

    Raises:
        OutputError: the name has another ending, the file exists and `force` is false, or it cannot be written.
    """
    path = check_figure_output(path, force=force)
    made_by = f"vggnorm {vggnorm.__version__}"
    metadata: dict[str, dict[str, str | None]] = {
        ".png": {"Software": made_by},
        ".svg": {"Creator": made_by, "Date": None},
        ".pdf": {"Creator": made_by, "CreationDate": None},
    }
    ending = path.suffix.lower()
    with mpl.rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format=ending[1:], metadata=metadata[ending])


def check_figure_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse, before any work is done, a figure that could not or should not be written.

    Raises:
        OutputError: the name's ending is none of `ENDINGS`; or as of `vggnorm.output.check_output`.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise OutputError(f"{path}: give a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return check_output(path, force=force)


def kernel_density(values: Float64, *, log: bool = False) -> tuple[Float64, Float64]:
    """Estimate how values are distributed.

    Args:
        values: `(filters,)`, not all equal; with `log`, above 0.
        log: whether to give the density of the decimal logarithm.

    Returns:
        Values in ascending order, from 3 bandwidths below the lowest to 3 above the highest, and the density at each.
        Without `log`, and where no value is below 0, they begin at 0 at the lowest: see `plot_means`.
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


def _choose_layers(means: FilterMeans, layers: Sequence[str]) -> list[str]:
    known = list(means.mean)
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise MeansError(f"the means have no layer {layer!r}; {hint}")
    chosen = layers or [layer for layer in LAYERS if layer in known] or [known[0], known[len(known) // 2], known[-1]]
    return list(dict.fromkeys(chosen))


def _before_and_after(before: FilterMeans, after: FilterMeans | None) -> list[_Shown]:
    shown = [_Shown(before.mean, f"before: {_caption(before)}")]
    if after is None:
        return shown
    for layer in {**before.mean, **after.mean}:
        counts = [len(means.mean.get(layer, ())) for means in (before, after)]
        if counts[0] != counts[1]:
            raise MeansError(
                f"the means are those of different networks: layer {layer} has {counts[0]} filters before and "
                f"{counts[1]} after; give the means of a network and of what was normalized from it"
            )
    return [*shown, _Shown(after.mean, f"after: {_caption(after)}")]


def _require_firing(*shown: _Shown) -> None:
    for one in shown:
        if (one.together <= 0).all():
            raise MeansError(
                f"{one.caption}: no filter fires, so that a logarithmic axis has nothing to show; measure more photos"
            )


def _caption(means: FilterMeans) -> str:
    recipe, geometry = means.recipe, means.recipe.geometry
    photos = "1 photo" if means.image_count == 1 else f"{means.image_count:,} photos"
    size = f"{geometry.height} \N{MULTIPLICATION SIGN} {geometry.width}"
    return f"{printable(recipe.network)}, {photos}, {size}, {geometry.fit}, {geometry.interpolation}"


def _draw_distribution(axes: Axes, shown: _Shown, layers: Sequence[str], *, log: bool) -> None:
    """Draw a curve for all layers together and one for each of some, and write figures of all filters beside them."""
    every_mean = shown.together
    _draw_curve(
        axes, every_mean, log=log, color=BLACK, fill=FILL, label=f"all {len(shown.mean)} layers ({len(every_mean):,})"
    )
    for layer, line in zip(layers, _lines(), strict=False):
        values = shown.mean[layer]
        _draw_curve(axes, values, log=log, label=f"{printable(layer)} ({len(values):,})", **line)
    axes.set_title(shown.caption, loc="left", color=GREY)
    axes.set_ylim(bottom=0)
    if log:
        _set_logarithmic(axes)
        axes.set_ylabel("density, per decade")
    else:
        axes.margins(x=0)
        axes.set_ylabel("density, per unit of mean activation")
    _write_statistics(axes, every_mean, log=log)


def _lines() -> Iterator[dict[str, Any]]:
    """Give one line after the other; they begin anew after every colour has met every dash."""
    for color, dashes in zip(cycle(COLOURS), cycle(DASHES), strict=False):
        yield {"color": color, "linestyle": dashes}


def _draw_curve(
    axes: Axes, values: Float64, *, log: bool, scaled: bool = False, fill: str | None = None, **line: Any
) -> None:
    """Draw how values are distributed; a line, where they are all equal, so that there is no density."""
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


def _write_legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1))


def _write_statistics(axes: Axes, every_mean: Float64, *, log: bool) -> None:
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
    axes.annotate(
        "\n".join(lines),
        xy=(1.03, 0),
        xycoords="axes fraction",
        xytext=(4, 4),  # the frame's width
        textcoords="offset points",
        verticalalignment="bottom",
        linespacing=1.4,
        bbox={"boxstyle": "square,pad=0.5", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.6},
    )


def _set_logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
