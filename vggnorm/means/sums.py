"""What was measured over some photos, as sums that can be added up."""

from dataclasses import dataclass

from vggnorm.means.moments import Moments
from vggnorm.photos.taken import Taken


@dataclass(frozen=True, eq=False)
class Sums:
    """What was measured over some photos, such as a batch.

    Attributes:
        taken: which photos these are, and which of them were skipped.
        measured: the moments of the photos that were used; None if there were none.
        correction: the moments of the difference between float32 and the other precision, over the
            photos that were run in both; None if there were none.
    """

    taken: Taken
    measured: Moments | None = None
    correction: Moments | None = None


def add_moments(one: Moments | None, other: Moments | None) -> Moments | None:
    """Add moments, either of which may be missing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other
