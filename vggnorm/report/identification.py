"""What a file of weights is: in sentences, as a table, and as JSON."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vggnorm.report.printable import join_lines, printable
from vggnorm.report.text import json_number
from vggnorm.rule import Float64
from vggnorm.verdicts.identification import (
    Fault,
    FileKind,
    Findings,
    LayerScales,
    LayerState,
    LayerVerdict,
    MeansComparison,
    MeansRelation,
    Objection,
    Reason,
    Trouble,
    Verdict,
)

MOST_SHOWN = 6  # filters, or layers, listed one by one

FAULTS = {
    Fault.OTHER_WEIGHTS: "{filters} with other weights",
    Fault.NEGATIVE_SCALE: "{filters} with the sign changed",
    Fault.UNKNOWN_SCALE: "{filters} without weights, of unknown scale",
    Fault.BIAS_SCALE: "{filters} with a bias of another scale than the kernel",
    Fault.CHANNEL_SCALE: "{channels} taken at another scale than the layers before give",
    Fault.TURNED_KERNELS: "kernels turned by 180 degrees",
}

REASONS = {
    Reason.NEGATIVE: "{count} of the scales {are} negative",
    Reason.CONSTANT: "all filters of a layer have the same scale",
    Reason.POWERS_OF_TWO: "the scales are powers of two",
    Reason.EQUAL_NORMS: "the scales give all kernels of a layer the same norm",
    Reason.LARGE_DRIFT: "if all means were 1, the weights alone would give {share:.0%} of the "
    "filters of {layer} a mean above {limit}",
}

# The table's columns: layer, filters, three figures of the scales, residual, ratio, verdict.
ROW = "{:<{width}} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8}  {}"


def format_identification(found: Findings) -> str:
    """Write what a file is as lines for a terminal: the sentences, and a row for each layer."""
    layers = found.recovery.layers
    width = max(len(printable(name)) for name in [*layers, *found.missing])
    header = ("layer", "filters", "scale min", "median", "max", "residual", "x means", "verdict")
    lines = [describe(found), "", ROW.format(*header, width=width)]
    for name, layer in layers.items():
        cells = (
            printable(name),
            len(layer.scale),
            *_scale_cells(layer),
            f"{np.median(layer.residual):.1e}",
            _ratio_cell(found.comparison, name),
            describe_layer(found.verdict.layers[name]),
        )
        lines.append(ROW.format(*cells, width=width))
    lines += [
        f"{printable(name):<{width}} batch normalization differs by {difference:.1e}"
        for name, difference in found.verdict.normalizations.items()
    ]
    lines += [f"{printable(name):<{width}} not in the file" for name in found.missing]
    return join_lines(lines)


def describe(found: Findings) -> str:
    """Say what a file is, in sentences."""
    verdict = found.verdict
    sentences = [_describe_kind(verdict, found.comparison)]
    if verdict.mostly_turned:
        sentences.insert(
            0,
            f"It is something else: the kernels of {len(found.turned)} of its "
            f"{len(verdict.layers)} layers are turned by 180 degrees, as Theano stores them, and "
            "Keras on TensorFlow does not turn them back. Turned back:",
        )
    if verdict.kind is not FileKind.SOMETHING_ELSE:
        for qualify in QUALIFICATIONS:
            sentences += qualify(found)
    return " ".join(sentences)


def describe_layer(verdict: LayerVerdict) -> str:
    """Say what one layer is."""
    return "; ".join([verdict.state, *(_describe_trouble(one) for one in verdict.troubles)])


def identification_to_dict(found: Findings) -> dict[str, Any]:
    """Give all that was found as values that JSON can hold; an unknown number is None."""
    recovery = found.recovery
    return {
        "kind": found.kind.value,
        "intact": found.intact,
        "sentence": describe(found),
        "original": found.original,
        "matched_by": found.matched,
        "missing": found.missing,
        "extra": found.extra,
        "prepended": found.prepended,
        "converted": found.converted,
        "format": recovery.rounding.format,
        "colours": list(recovery.colours),
        "turned": found.turned,
        "means": None if found.comparison is None else _comparison_to_dict(found.comparison),
        "layers": {
            name: {
                "in_file": found.names[name],
                "state": describe_layer(found.verdict.layers[name]),
                **_scales_to_dict(layer),
            }
            for name, layer in recovery.layers.items()
        },
        "batch_normalization": recovery.normalizations,
    }


def _comparison_to_dict(comparison: MeansComparison) -> dict[str, Any]:
    ratio, correlation = comparison.ratio, comparison.correlation
    return {
        "source": comparison.source,
        "median_ratio": comparison.median,
        "share_within_5_percent": comparison.share_close,
        "median_ratios": {layer: _median(values) for layer, values in ratio.items()},
        "correlations": {layer: json_number(value) for layer, value in correlation.items()},
    }


def _scales_to_dict(layer: LayerScales) -> dict[str, Any]:
    vectors = {
        "scale": layer.scale,
        "residual": layer.residual,
        "bias_deviation": layer.bias_deviation,
        "incoming": layer.incoming,
        "incoming_ratio": layer.link,
        "drift": layer.drift,
    }
    return {
        key: None if vector is None else [json_number(value) for value in vector]
        for key, vector in vectors.items()
    }


def _describe_kind(verdict: Verdict, comparison: MeansComparison | None) -> str:
    """Say what the scales show."""
    kind = verdict.kind_of_scales
    if kind is FileKind.SOMETHING_ELSE:
        states = [layer.state for layer in verdict.layers.values()]
        return (
            f"It is something else: {states.count(LayerState.OTHER_WEIGHTS)} of its {len(states)} "
            "layers have weights that are not a rescaling of the original's."
        )
    if kind is FileKind.ORIGINAL:
        return "It is the original, not rescaled."
    if kind is FileKind.NORMALIZED and comparison is not None:
        return _describe_comparison(comparison)
    if kind is FileKind.RESCALED:
        reasons = _describe_objections(verdict.objection, comparison)
        return f"It is rescaled, but not by mean activations: {reasons}."
    return (
        "It is rescaled filter by filter, and the scales may be mean activations: nothing in the "
        "weights rules that out. Photos or means can tell: give --data FOLDER or --means."
    )


def _describe_comparison(comparison: MeansComparison) -> str:
    """Say how the scales compare with means to which they are related."""
    if comparison.relation is MeansRelation.EQUAL:
        return f"It is normalized with exactly {comparison.source}."
    if comparison.relation is MeansRelation.NEARLY_EQUAL:
        return f"It is normalized with {comparison.source}, or with nearly the same."
    return (
        "It is normalized with means of other photos, or of photos cropped in another way, than "
        f"{comparison.source}: the median scale is {comparison.median:.2f} times theirs, and "
        f"{comparison.share_close:.0%} of the filters are within {comparison.close:.0%}."
    )


def _describe_objections(objection: Objection | None, comparison: MeansComparison | None) -> str:
    """Say why the scales are not mean activations."""
    reasons = []
    if objection is not None:
        reasons.append(_describe_objection(objection))
    if comparison is not None:
        reasons.append(f"the scales are not like {comparison.source}")
    return ", and ".join(reasons)


def _describe_objection(objection: Objection) -> str:
    return REASONS[objection.reason].format(
        count=objection.count,
        are="is" if objection.count == 1 else "are",
        share=objection.share,
        layer=objection.layer,
        limit=objection.limit,
    )


def _describe_trouble(trouble: Trouble) -> str:
    return FAULTS[trouble.fault].format(
        filters=_which("filter", trouble.indices), channels=_which("channel", trouble.indices)
    )


# What else there is to say of a file that is the original, rescaled or not.


def _qualify_format(found: Findings) -> list[str]:
    stored = found.recovery.rounding.format
    return [] if stored == "float32" else [f"Its weights are {stored} numbers."]


def _qualify_deviations(found: Findings) -> list[str]:
    nearly = [name for name, one in found.verdict.layers.items() if one.state.is_nearly]
    if not nearly:
        return []
    worst = max(float(np.median(found.recovery.layers[name].residual)) for name in nearly)
    deviate = "deviates" if len(nearly) == 1 else "deviate"
    return [
        f"{_some(nearly)} also {deviate} from this by up to {worst:.1e} of the weights (in the "
        "median filter of a layer), as after coarse rounding, pruning or further training."
    ]


def _qualify_faults(found: Findings) -> list[str]:
    wrong = [name for name, one in found.verdict.layers.items() if one.is_wrong]
    wrong += found.verdict.normalizations
    return [f"This does not hold everywhere: see {_some(wrong)}."] if wrong else []


def _qualify_photos(found: Findings) -> list[str]:
    said = []
    if found.converted is not None:
        said.append(
            f"It takes photos as {found.converted}; the original was converted to that before the "
            "two were compared."
        )
    if found.prepended is not None:
        said.append(
            f"Its first layer follows {found.prepended}, a 1x1 convolution that prepares the "
            "photo; that layer was not compared."
        )
    colours = found.recovery.colours
    if colours == (2, 1, 0):
        said.append(
            "It takes the colours of a photo in reverse order: RGB where the original takes BGR."
        )
    elif colours != tuple(range(len(colours))):
        order = ", ".join(map(str, colours))
        said.append(f"It takes the channels of a photo in another order: {order}.")
    factors = found.verdict.pixel_factors
    if len(factors) == 1:
        said.append(f"It takes photos divided by {factors[0]:.6g}.")
    elif factors:
        each = ", ".join(f"{factor:.6g}" for factor in factors)
        said.append(f"It takes photos whose channels are divided by {each}.")
    return said


def _qualify_layers(found: Findings) -> list[str]:
    said = []
    if found.matched == "order":
        said.append("Its layers have other names; they were matched by order and shape.")
    if found.missing:
        said.append(f"It lacks {_some(found.missing)}.")
    unknown = [name for name in found.extra if name != found.prepended]
    if unknown:
        said.append(f"Not compared, because the original has no such layers: {_some(unknown)}.")
    return said


QUALIFICATIONS: tuple[Callable[[Findings], list[str]], ...] = (
    _qualify_format,
    _qualify_deviations,
    _qualify_faults,
    _qualify_photos,
    _qualify_layers,
)


def _scale_cells(layer: LayerScales) -> list[str]:
    known = layer.scale[np.isfinite(layer.scale)]
    if not len(known):
        return ["-"] * 3
    return [f"{figure:.3f}" for figure in (known.min(), np.median(known), known.max())]


def _ratio_cell(comparison: MeansComparison | None, name: str) -> str:
    """Write a layer's median ratio of scales to means."""
    if comparison is None or name not in comparison.ratio:
        return "-"
    median = _median(comparison.ratio[name])
    return "-" if median is None else f"{median:.2f}"


def _median(values: Float64) -> float | None:
    """Take the median of the values that are known; None if none is."""
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None


def _which(what: str, indices: Sequence[int]) -> str:
    """Name filters or channels by their indices, or count them if there are many."""
    if len(indices) > MOST_SHOWN:
        return f"{len(indices)} {what}s"
    plural = "" if len(indices) == 1 else "s"
    return f"{what}{plural} {', '.join(map(str, indices))}"


def _some(names: Sequence[str]) -> str:
    """List names, the first few if there are many."""
    shown = ", ".join(names[:MOST_SHOWN])
    more = len(names) - MOST_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
