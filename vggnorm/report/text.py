"""What a set of means contains, for people and as JSON."""

from typing import Any

import numpy as np

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Float64, relative_to
from vggnorm.means.recipe import Recipe
from vggnorm.report.intervals import badly_known_lines, how_well_known
from vggnorm.report.printable import join_lines, printable

SKIPPED_SHOWN = 5

# The table's columns: layer, filters, three figures of the means, standard error, silent filters.
ROW = "{:<{width}} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6}"


def summarize(means: FilterMeans) -> dict[str, Any]:
    """Give the means, and figures for each layer and for all together, as values for JSON.

    A layer's relative standard error is the median over its filters that fire, and so is its
    relative interval, the longer side of the 95 % confidence interval. They are None if a single
    photo was measured. `symmetric` tells whether the intervals are symmetric because the third
    moments are not known.
    """
    every_mean = np.concatenate(list(means.mean.values()))
    every_std_error = np.concatenate(list(means.std_error.values()))
    every_side = np.concatenate(list(means.interval.longer.values()))
    return {
        "recipe": means.recipe.to_dict(),
        "image_count": means.image_count,
        "control_count": means.correction.count if means.correction else 0,
        "skipped": [{"photo": photo.photo, "reason": photo.reason} for photo in means.skipped],
        "all_layers": {
            **_figures(every_mean),
            "mean": float(every_mean.mean()),
            "standard_deviation": float(every_mean.std()),
            "relative_std_error": _median_relative(every_std_error, every_mean),
            "relative_interval": _median_relative(every_side, every_mean),
            "uncertainty": means.uncertainty,
            "symmetric": means.measured.cubed_deviation is None,
        },
        "layers": _summarize_layers(means),
    }


def format_summary(means: FilterMeans) -> str:
    """Write the summary as lines for a terminal."""
    if not means.image_count:
        return join_lines([*_header_lines(means), "", "this part counts no photos"])
    lines = [*_header_lines(means), "", *_table_lines(summarize(means))]
    return join_lines([*lines, *how_well_known(means), *badly_known_lines(means)])


def json_number(value: Any) -> float | None:
    """Give a number as JSON can hold it: None for nan and infinity, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def _summarize_layers(means: FilterMeans) -> dict[str, dict[str, Any]]:
    std_error, silent, badly_known = means.std_error, means.silent, means.badly_known
    interval = means.interval
    return {
        layer: {
            **_figures(mean),
            "relative_std_error": _median_relative(std_error[layer], mean),
            "relative_interval": _median_relative(interval.longer[layer], mean),
            "silent": silent[layer].tolist(),
            "badly_known": badly_known[layer].tolist(),
            "means": mean.tolist(),
            "std_errors": [json_number(value) for value in std_error[layer]],
            "lower": [json_number(value) for value in mean - interval.below[layer]],
            "upper": [json_number(value) for value in mean + interval.above[layer]],
        }
        for layer, mean in means.mean.items()
    }


def _header_lines(means: FilterMeans) -> list[str]:
    """Say what was measured, and how."""
    recipe, skipped = means.recipe, means.skipped
    top = " with its top" if recipe.include_top else ""
    reflection = ", reflection padding" if recipe.padding == "reflect" else ""
    geometry = recipe.geometry
    lines = [
        f"network   {recipe.network}{top}, {recipe.pooling} pooling{reflection}, "
        f"{recipe.preprocessing} preprocessing",
        f"weights   {recipe.weights}, SHA-256 {recipe.weights_sha256[:16]}…",
        f"photos    {means.image_count} used, {len(skipped)} skipped, from {_selection(recipe)}",
        f"precision {_precision(means)}",
        f"geometry  {geometry.height} x {geometry.width}, {recipe.fit}, {recipe.interpolation}",
    ]
    if recipe.output_layers:
        lines.append(f"output    {_output(recipe)}")
    if recipe.machine:
        lines.append(f"machine   {recipe.machine}")
    if recipe.max_scale is not None:
        lines.append(
            f"max scale {recipe.max_scale:g}; filters of the normalized network that it leaves "
            f"smaller than 1: {means.left_smaller}"
        )
    lines += [f"skipped   {photo.photo}: {photo.reason}" for photo in skipped[:SKIPPED_SHOWN]]
    more = len(skipped) - SKIPPED_SHOWN
    if more > 0:
        lines.append(f"skipped   … and {more} more, see inspect --json")
    return lines


def _table_lines(summary: dict[str, Any]) -> list[str]:
    """Write a row for each layer and one for all together, and what is to be said of all."""
    layers, every = summary["layers"], summary["all_layers"]
    width = max(len(printable(layer)) for layer in [*layers, "all layers"])
    header = ("layer", "filters", "min", "median", "max", "std error", "silent")
    lines = [ROW.format(*header, width=width)]
    for layer, figures in layers.items():
        cells = (printable(layer), *_cells(figures), len(figures["silent"]))
        lines.append(ROW.format(*cells, width=width))
    silent_count = sum(len(figures["silent"]) for figures in layers.values())
    lines += [
        ROW.format("all layers", *_cells(every), silent_count, width=width),
        f"mean over all filters {every['mean']:.2f}, standard deviation "
        f"{every['standard_deviation']:.2f}",
    ]
    if silent_count:
        lines.append(
            f"{silent_count} filters never fired and keep their scale; measure on more photos"
        )
    return lines


def _figures(values: Float64) -> dict[str, Any]:
    return {
        "filters": len(values),
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


def _cells(figures: dict[str, Any]) -> list[str]:
    error = figures["relative_std_error"]
    numbers = [f"{figures[name]:.3f}" for name in ("min", "median", "max")]
    return [str(figures["filters"]), *numbers, "-" if error is None else f"{error:.1%}"]


def _median_relative(std_error: Float64, mean: Float64) -> float | None:
    fires = mean > 0
    return json_number(np.median(std_error[fires] / mean[fires])) if fires.any() else None


def _output(recipe: Recipe) -> str:
    layers = ", ".join(map(printable, recipe.output_layers))
    if recipe.keep_output:
        return f"of {layers}, kept as it was"
    return f"of {layers}, divided by the means unless normalize has --keep-output"


def _precision(means: FilterMeans) -> str:
    if means.correction is None:
        return means.recipe.precision
    relative = np.abs(relative_to(means.mean, means.correction.mean))
    unknown = relative_to(means.mean, means.correction_std_error)
    return (
        f"{means.recipe.precision}, corrected by {means.correction.count} photos in float32 "
        f"(median filter by {np.median(relative):.2%}, standard error {np.median(unknown):.3%})"
    )


def _selection(recipe: Recipe) -> str:
    listed = f", listed in {recipe.annotations}" if recipe.annotations else ""
    showing = f", showing {' or '.join(recipe.categories)}" if recipe.categories else ""
    sampled = f", {recipe.limit} at most, seed {recipe.seed}" if recipe.limit is not None else ""
    part = "" if recipe.shard is None else ", part {} of {}".format(*recipe.shard)
    return f"{recipe.photos}{listed}{showing}{sampled}{part}"
