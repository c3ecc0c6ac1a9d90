"""What `verify` found, for people and as JSON."""

from collections.abc import Mapping
from typing import Any

from vggnorm.report.printable import join_lines
from vggnorm.report.text import json_number
from vggnorm.verdicts.verification import (
    ActivationsCheck,
    MeansCheck,
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
    return join_lines(
        [
            f"{found.photos} photos, {found.skipped} skipped",
            f"{_outcome(means.passed)}  every filter's mean activation is 1",
            f"      {_describe_means(means)}",
            f"{_outcome(activations.passed)}  activations times means are the original's",
            f"      {_describe_activations(activations)}",
            f"{_outcome(weights.passed)}  weights are finite and every filter fires",
            f"      {_describe_weights(weights)}",
        ]
    )


def verification_to_dict(found: Verification) -> dict[str, Any]:
    """Give all that was found as values that JSON can hold; a number that is not finite is None."""
    means, activations, weights = found.means, found.activations, found.weights
    worst_std_errors = means.worst_std_errors
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
            "worst_std_errors": None if worst_std_errors is None else json_number(worst_std_errors),
            "layer_std_errors": _json_numbers(means.layer_std_errors),
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
    }


def _json_numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: json_number(value) for key, value in values.items()}


def _outcome(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def _describe_means(check: MeansCheck) -> str:
    text = (
        f"worst |mean - 1| {check.worst:.1e} ({check.worst_filter}), median {check.median:.1e}, "
        f"on {PHOTOS[check.photos]}"
    )
    if check.photos is PhotosUsed.ALL:
        return f"{text}; {check.beyond} filters further off than rounding explains"
    if check.worst_std_errors is None:
        return f"{text}; the means of a single photo have no standard error to compare with"
    layer = check.worst_layer
    return (
        f"{text}; in standard errors: worst {check.worst_std_errors:.1f}, "
        f"worst layer's median {check.layer_std_errors[layer]:.1f} ({layer})"
    )


def _describe_activations(check: ActivationsCheck) -> str:
    layer = check.worst_layer
    relative = check.relative[layer]
    return f"largest deviation {relative:.1e} of the layer's largest activation ({layer})"


def _describe_weights(check: WeightsCheck) -> str:
    not_finite = f"weights not finite: {', '.join(check.not_finite) or 'none'}"
    silent = {layer: len(indices) for layer, indices in check.silent.items() if indices}
    if not silent:
        return f"{not_finite}; silent filters: none"
    counts = ", ".join(f"{count} in {layer}" for layer, count in silent.items())
    return f"{not_finite}; silent filters, left at scale 1: {counts}; measure on more photos"
