"""Pictures of the filters' mean activations, before and after normalizing. They need no Keras."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from vggnorm.disk import check_output, replacing
from vggnorm.errors import MeansError, OutputError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Float64
from vggnorm.report.curves import (
    BLACK,
    COLOURS,
    DASHES,
    FILL,
    GREY,
    STYLE,
    Shown,
    draw_curve,
    draw_distribution,
    set_logarithmic,
    write_legend,
)
from vggnorm.report.printable import printable
from vggnorm.version import __version__

LAYERS = ("block1_conv1", "block3_conv2", "block4_conv2")  # of VGG; their means differ much
ENDINGS = (".png", ".svg", ".pdf")
MEAN = "mean activation of a filter"

# Inches
WIDTH, PANEL, SMALL_PANEL, MARGIN = 6.4, 2.3, 1.0, 0.5
COLUMNS = 4  # of small panels

# In a small panel: the lines before and after.
LINES = (
    {"color": BLACK, "linewidth": 1, "fill": FILL},
    {"color": COLOURS[1], "linestyle": DASHES[0]},
)


def plot_means(means: FilterMeans, *, layers: Sequence[str] = (), log: bool = False) -> Figure:
    """Draw the distribution of the mean activations of some layers, and of all together.

    On a linear axis, curves are densities per unit of mean activation. No mean is below 0, so the
    part of the kernels below 0 is reflected to above 0 (Silverman, "Density Estimation for
    Statistics and Data Analysis", 1986, section 2.10). If any mean is negative, as behind a leaky
    rectifier, nothing is reflected.

    On a logarithmic axis, curves are densities of the decimal logarithm, that is, per decade. They
    show the means above 0. The number of others is written beside the curves.

    Args:
        means: what was measured.
        layers: which layers have curves of their own; by default those of `LAYERS`. If the network
            has none of them, its first, middle and last.
        log: whether the axis is logarithmic.

    Returns:
        The figure, for `save_figure`. You can change it as any figure of matplotlib.

    Raises:
        MeansError: there is no layer of that name; or, with `log`, no mean is above 0.
    """
    chosen = _choose_layers(means, layers)
    shown = _show(means)
    if log:
        _require_firing(shown)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, PANEL + MARGIN), layout="constrained")
        axes = figure.subplots()
        draw_distribution(axes, shown, chosen, log=log)
        write_legend(axes)
        axes.set_xlabel(MEAN)
    return figure


def plot_before_after(
    before: FilterMeans, after: FilterMeans | None = None, *, layers: Sequence[str] = ()
) -> Figure:
    """Draw the distributions before and after normalizing on one logarithmic axis.

    Args:
        before: the means of the original network.
        after: the measured means of the normalized network, drawn below the others. By default, a
            line is drawn at 1, which the rule makes of every mean above 0 on the photos measured.
            Its label names what is left out by a bound on the scales or to keep the output.
        layers: see `plot_means`.

    Returns:
        The figure, see `plot_means`.

    Raises:
        MeansError: there is no layer of that name, the two do not have the same layers, or one has
            no mean above 0.
    """
    chosen = _choose_layers(before, layers)
    shown = _before_and_after(before, after)
    _require_firing(*shown)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, PANEL * len(shown) + MARGIN), layout="constrained")
        panels = figure.subplots(len(shown), sharex=True, squeeze=False).ravel()
        for axes, one in zip(panels, shown, strict=True):
            draw_distribution(axes, one, chosen, log=True)
        if after is None:
            label = _after_by_the_rule(before)
            panels[0].axvline(1, color=COLOURS[3], linewidth=3, zorder=0, label=label)
        else:
            panels[1].axvline(1, color=GREY, linewidth=0.6, zorder=0)
        write_legend(panels[0])
        panels[-1].set_xlabel(MEAN)
    return figure


def plot_every_layer(means: FilterMeans, after: FilterMeans | None = None) -> Figure:
    """Draw each layer's distribution in a panel of its own.

    All panels share one logarithmic axis, and their curves are scaled to one height.

    Args:
        means: what was measured.
        after: the means of the normalized network, to draw them as well.

    Returns:
        The figure, see `plot_means`.

    Raises:
        MeansError: the two do not have the same layers, or one has no mean above 0.
    """
    shown = [_show(means)] if after is None else _before_and_after(means, after)
    _require_firing(*shown)
    panels = {layer: [one.mean[layer] for one in shown] for layer in means.mean}
    panels["all layers"] = [one.together for one in shown]
    captions = [one.caption for one in shown]
    rows = -(-len(panels) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, SMALL_PANEL * rows + MARGIN), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, (name, curves) in zip(grid.flat, panels.items(), strict=False):
            _draw_small_panel(axes, name, curves, captions)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes in grid.flat[: len(panels)][-COLUMNS:]:  # the lowest of each column
            axes.tick_params(labelbottom=True)
        set_logarithmic(grid[0, 0])
        grid[0, 0].xaxis.set_minor_locator(NullLocator())
        grid[0, 0].set(ylim=(0, 1.05), yticks=[])
        figure.supxlabel(MEAN, fontsize="medium")
        figure.supylabel("density, per decade, scaled to one height", fontsize="medium")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left")
    return figure


def save_figure(figure: Figure, path: str | Path, *, force: bool = False) -> None:
    """Write a figure as PNG, SVG or PDF, by the ending of the file's name.

    The same figure gives the same file.

    Raises:
        OutputError: the name has another ending, the file exists and `force` is false, or it cannot
            be written.
    """
    path = check_figure_output(path, force=force)
    made_by = f"vggnorm {__version__}"
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
        OutputError: the name has none of the `ENDINGS`, or `vggnorm.disk.check_output` refuses the
            file.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise OutputError(
            f"{path}: give a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    return check_output(path, force=force)


def _draw_small_panel(
    axes: Axes, name: str, curves: Sequence[Float64], captions: Sequence[str]
) -> None:
    """Draw the curves before and after, and write above them what they show."""
    for values, line, caption in zip(curves, LINES, captions, strict=False):
        draw_curve(axes, values, log=True, scaled=True, label=caption, **line)
    silent = [np.count_nonzero(values <= 0) for values in curves]
    not_drawn = " and ".join(f"{count:,}" for count in silent)
    counts = f"{len(curves[0]):,}, {not_drawn} not drawn" if any(silent) else f"{len(curves[0]):,}"
    axes.set_title(f"{printable(name)} ({counts})")


def _choose_layers(means: FilterMeans, layers: Sequence[str]) -> list[str]:
    known = list(means.mean)
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise MeansError(f"the means have no layer {layer!r}; {hint}")
    first_middle_last = [known[0], known[len(known) // 2], known[-1]]
    chosen = layers or [layer for layer in LAYERS if layer in known] or first_middle_last
    return list(dict.fromkeys(chosen))


def _before_and_after(before: FilterMeans, after: FilterMeans | None) -> list[Shown]:
    shown = [_show(before, "before: ")]
    if after is None:
        return shown
    for layer in {**before.mean, **after.mean}:
        counts = [len(means.mean.get(layer, ())) for means in (before, after)]
        if counts[0] != counts[1]:
            raise MeansError(
                f"the means are those of different networks: layer {layer} has {counts[0]} filters "
                f"before and {counts[1]} after; give the means of a network and of the network "
                "normalized from it"
            )
    return [*shown, _show(after, "after: ")]


def _show(means: FilterMeans, when: str = "") -> Shown:
    means.require_photos()
    return Shown(means.mean, f"{when}{_caption(means)}", means.uncertainty)


def _after_by_the_rule(means: FilterMeans) -> str:
    """Say what becomes of means, and of which filters something else becomes."""
    lines = ["after, by the rule: 1"]
    if means.left_smaller:
        lines.append(f"(smaller: {means.left_smaller:,})")
    kept = means.recipe.kept_layers
    if kept:
        lines.append(f"(not {', '.join(map(printable, kept))})")
    return "\n".join(lines)


def _require_firing(*shown: Shown) -> None:
    for one in shown:
        if (one.together <= 0).all():
            raise MeansError(
                f"{one.caption}: no filter fires, so a logarithmic axis has nothing to show; "
                "measure more photos"
            )


def _caption(means: FilterMeans) -> str:
    recipe, geometry = means.recipe, means.recipe.geometry
    photos = "1 photo" if means.image_count == 1 else f"{means.image_count:,} photos"
    size = f"{geometry.height} \N{MULTIPLICATION SIGN} {geometry.width}"
    return (
        f"{printable(recipe.network)}, {photos}, {size}, {geometry.fit}, {geometry.interpolation}"
    )
