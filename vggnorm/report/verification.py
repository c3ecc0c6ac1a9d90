"""What `verify` found, for people and as JSON."""

from collections.abc import Mapping
from typing import Any

from vggnorm.report.intervals import SHOWN, format_with_interval
from vggnorm.report.printable import join_lines, printable
from vggnorm.report.text import json_number
from vggnorm.verdicts.verification import (
    FILTER_LIMIT,
    LAYER_LIMIT,
    ActivationsCheck,
    BadlyKnown,
    MeansCheck,
    OutputScale,
    PhotosUsed,
    Verification,
    WeightsCheck,
)

PHOTOS = {
    PhotosUsed.ALL: "the photos measured",
    PhotosUsed.PART: "a part of the photos measured",
    PhotosUsed.OTHER: "other photos than those measured",
}


def format_verification(found: Verification) -> str:
    """Write the three checks as lines for a terminal."""
    means, activations, weights = found.means, found.activations, found.weights
    lines = [] if not found.output.layers else [_describe_output(found.output)]
    return join_lines(
        [
            f"{found.photos} photos, {found.skipped} skipped",
            f"{_outcome(means.passed)}  {_claim(means)}",
            *(f"      {line}" for line in _describe_means(means)),
            f"{_outcome(activations.passed)}  activations times means are the original's",
            f"      {_describe_activations(activations)}",
            f"{_outcome(weights.passed)}  weights are finite and every filter fires",
            f"      {_describe_weights(weights)}",
            *lines,
        ]
    )


def verification_to_dict(found: Verification) -> dict[str, Any]:
    """Give all that was found as values that JSON can hold; a number that is not finite is None."""
    means, activations, weights = found.means, found.activations, found.weights
    return {
        "passed": found.passed,
        "photos": found.photos,
        "skipped": found.skipped,
        "means": {
            "photos": means.photos.value,
            "worst": json_number(means.worst),
            "worst_filter": means.worst_filter,
            "median": json_number(means.median),
            "beyond": means.beyond,
            "firing": means.firing,
            "left_smaller": means.left_smaller,
            "agreeing": means.agreeing,
            "worst_reach": None if means.worst_reach is None else json_number(means.worst_reach),
            "layer_reach": _json_numbers(means.layer_reach),
            "symmetric": means.symmetric,
            "badly_known": [_badly_known_to_dict(one) for one in means.badly_known],
            "passed": means.passed,
        },
        "activations": {
            "deviation": _json_numbers(activations.deviation),
            "largest": _json_numbers(activations.largest),
            "relative": _json_numbers(activations.relative),
            "passed": activations.passed,
        },
        "weights": {
            "not_finite": weights.not_finite,
            "silent": weights.silent,
            "passed": weights.passed,
        },
        "output": {"layers": list(found.output.layers), "kept": found.output.kept},
    }


def _json_numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: json_number(value) for key, value in values.items()}


def _badly_known_to_dict(one: BadlyKnown) -> dict[str, Any]:
    return {
        "filter": one.name,
        "mean": one.mean,
        "interval": [json_number(value) for value in one.interval],
        "here": json_number(one.here),
        "interval_here": [json_number(value) for value in one.interval_here],
    }


def _outcome(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def _claim(check: MeansCheck) -> str:
    """Say what passes or fails."""
    if check.photos is PhotosUsed.OTHER:
        claim = (
            "in every layer, most means differ from 1 by no more than a change of photos explains"
        )
    else:
        claim = "every filter's mean activation is 1"
    if check.left_smaller:
        count = f"{check.left_smaller} of {check.firing} filters"
        claim += f", or what --max-scale leaves of it ({count})"
    return claim


def _describe_means(check: MeansCheck) -> list[str]:
    text = (
        f"worst |mean - 1| {check.worst:.1e} ({check.worst_filter}), median {check.median:.1e}, "
        f"on {PHOTOS[check.photos]}"
    )
    if check.photos is PhotosUsed.ALL:
        text += f"; {check.beyond} filters further off than rounding explains"
    elif check.worst_reach is None:
        text += "; the means of a single photo have no interval to compare with"
    return [text, *_describe_agreement(check), *_describe_badly_known(check)]


def _describe_agreement(check: MeansCheck) -> list[str]:
    """Say how well means over other photos agree with 1."""
    if check.worst_reach is None:
        return []
    both = " of both sets of photos" if check.photos is PhotosUsed.OTHER else ""
    if check.symmetric:
        both += (
            "; those of the photos measured are symmetric, because their third moments are not "
            "known"
        )
    single = "" if check.photos is PhotosUsed.OTHER else f"; {FILTER_LIMIT:g} passes"
    layer = check.worst_layer
    return [
        f"{check.agreeing} of {check.firing} means are 1 within the 95% intervals{both}",
        f"relative to these intervals, the median filter of {layer} is off by "
        f"{check.layer_reach[layer]:.1f}, and no layer's by more; {LAYER_LIMIT:g} passes",
        f"relative to its interval, the worst filter is off by {check.worst_reach:.1f}{single}",
    ]


def _describe_badly_known(check: MeansCheck) -> list[str]:
    """Name the filters whose means are badly known, and say what the photos here show of them."""
    count = len(check.badly_known)
    if not count:
        return []
    lines = [
        f"badly known filters: {count}; by the photos measured, the mean of such a filter may be "
        "more than twice as large"
    ]
    for one in check.badly_known[:SHOWN]:
        text = f"{format_with_interval(one.mean, *one.interval)} on the photos measured"
        if check.photos is not PhotosUsed.ALL:
            text += f", {format_with_interval(one.here, *one.interval_here)} on these"
        lines.append(f"  {one.name}: {text}")
    if count > SHOWN:
        lines.append(f"  … and {count - SHOWN} more, see verify --json")
    if any(max(one.interval[1], one.here) > 1 for one in check.badly_known):
        lines.append(
            "measure more photos, or leave such filters smaller than 1 with vggnorm normalize "
            "--max-scale"
        )
    return lines


def _describe_activations(check: ActivationsCheck) -> str:
    layer = check.worst_layer
    relative = check.relative[layer]
    return f"largest deviation {relative:.1e} of the layer's largest activation ({layer})"


def _describe_output(output: OutputScale) -> str:
    layers = ", ".join(map(printable, output.layers))
    if output.kept:
        return f"the network's output, of {layers}, is as it was; the means there are not 1"
    return (
        f"the network's output, of {layers}, is divided by the means; normalize --keep-output "
        "leaves it as it was"
    )


def _describe_weights(check: WeightsCheck) -> str:
    not_finite = f"weights not finite: {', '.join(check.not_finite) or 'none'}"
    silent = {layer: len(indices) for layer, indices in check.silent.items() if indices}
    if not silent:
        return f"{not_finite}; silent filters: none"
    counts = ", ".join(f"{count} in {layer}" for layer, count in silent.items())
    return f"{not_finite}; silent filters, left at scale 1: {counts}; measure on more photos"
