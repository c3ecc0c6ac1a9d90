"""The values that tell a run what to do: what is out of range is refused at once."""

from typing import Any

import pytest

from vggnorm.run.options import Compute, Until


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"precision": "float16"},
            "precision is 'float16'; it must be one of float32, bfloat16, auto",
        ),
        ({"control": 1}, "control is 1; it must be at least 2, for a standard error"),
    ],
)
def test_what_cannot_be_computed_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Compute(**options)


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, float("nan")])
def test_a_tolerance_is_a_share(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance is .*; it must be between 0 and 1"):
        Until(tolerance=tolerance)
