"""What a set of means says, for a person and as JSON."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggnorm.means import FilterMeans
from vggnorm.moments import relative_to
from vggnorm.printable import join_lines, printable
from vggnorm.recipe import Recipe

SKIPPED_SHOWN = 5


def summarize(means: FilterMeans) -> dict[str, Any]:
    """Give all of the means, and figures for each layer and for all together, as values that JSON can hold.

    The relative standard error of a layer is the median over its filters that fire; None with a single photo.
    """
    std_error, silent = means.std_error, means.silent
    layers = {
        layer: {
            **_figures(means.mean[layer]),
            "relative_std_error": _median_relative(std_error[layer], means.mean[layer]),
            "silent": silent[layer].tolist(),
            "means": means.mean[layer].tolist(),
            "std_errors": [json_number(value) for value in std_error[layer]],
        }
        for layer in means.mean
    }
    every_mean = np.concatenate(list(means.mean.values()))
    return {
        "recipe": means.recipe.to_dict(),
        "image_count": means.image_count,
        "control_count": means.correction.count if means.correction else 0,
        "skipped": [{"photo": photo.photo, "reason": photo.reason} for photo in means.skipped],
        "all_layers": {
            **_figures(every_mean),
            "mean": float(every_mean.mean()),
            "standard_deviation": float(every_mean.std()),
            "relative_std_error": _median_relative(np.concatenate(list(std_error.values())), every_mean),
        },
        "layers": layers,
    }


def format_summary(means: FilterMeans) -> str:
    """Write the summary as lines for a terminal."""
    summary = summarize(means)
    recipe = means.recipe
    lines = [
        f"network   {recipe.network}{' with its top' if recipe.include_top else ''}, {recipe.pooling} pooling, "
        f"{recipe.preprocessing} preprocessing",
        f"weights   {recipe.weights}, SHA-256 {recipe.weights_sha256[:16]}…",
        f"photos    {means.image_count} used, {len(means.skipped)} skipped, from {_selection(recipe)}",
        f"precision {_precision(means)}",
        f"geometry  {recipe.geometry.height} x {recipe.geometry.width}, {recipe.fit}, {recipe.interpolation}",
        *([f"machine   {recipe.machine}"] if recipe.machine else []),
        *(f"skipped   {photo.photo}: {photo.reason}" for photo in means.skipped[:SKIPPED_SHOWN]),
    ]
    if len(means.skipped) > SKIPPED_SHOWN:
        lines.append(f"skipped   … and {len(means.skipped) - SKIPPED_SHOWN} more, see --json of inspect")
    width = max(len(printable(layer)) for layer in [*means.mean, "all layers"])
    row = f"{{:<{width}}} {{:>7}} {{:>9}} {{:>9}} {{:>9}} {{:>9}} {{:>6}}"
    lines += ["", row.format("layer", "filters", "min", "median", "max", "std error", "silent")]
    silent_count = 0
    for layer, figures in summary["layers"].items():
        silent_count += len(figures["silent"])
        lines.append(row.format(printable(layer), *_cells(figures), len(figures["silent"])))
    figures = summary["all_layers"]
    lines.append(row.format("all layers", *_cells(figures), silent_count))
    lines.append(f"mean over all filters {figures['mean']:.2f}, standard deviation {figures['standard_deviation']:.2f}")
    if silent_count:
        lines.append(f"{silent_count} filters never fired and keep their scale; measure on more photos")
    return join_lines(lines)


def _figures(values: NDArray[np.float64]) -> dict[str, Any]:
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


def _median_relative(std_error: NDArray[np.float64], mean: NDArray[np.float64]) -> float | None:
    fires = mean > 0
    return json_number(np.median(std_error[fires] / mean[fires])) if fires.any() else None


def json_number(value: Any) -> float | None:
    """Give a number as JSON can hold it, which has no nan and no infinity: None for those."""
    return float(value) if np.isfinite(value) else None


def _precision(means: FilterMeans) -> str:
    if means.correction is None:
        return means.recipe.precision
    relative = np.abs(relative_to(means.mean, means.correction.mean))
    unknown = relative_to(means.mean, means.correction_std_error)
    return (
        f"{means.recipe.precision}, corrected by {means.correction.count} photos in float32 (median filter by "
        f"{np.median(relative):.2%}, standard error {np.median(unknown):.3%})"
    )


def _selection(recipe: Recipe) -> str:
    listed = f", listed in {recipe.annotations}" if recipe.annotations else ""
    showing = f", showing {' or '.join(recipe.categories)}" if recipe.categories else ""
    sampled = f", {recipe.limit} at most, seed {recipe.seed}" if recipe.limit is not None else ""
    return f"{recipe.photos}{listed}{showing}{sampled}"
