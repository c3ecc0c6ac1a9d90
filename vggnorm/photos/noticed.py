"""What was noticed about photos that were used."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noticed:
    """What was noticed about some photos that were used. `+` adds others.

    Attributes:
        with_profile: how many carry a colour profile other than sRGB.
        without_end: how many are JPEGs that lack the mark of their end, but no pixels.
    """

    with_profile: int = 0
    without_end: int = 0

    def __add__(self, other: "Noticed") -> "Noticed":
        """Give what was noticed about these photos and others."""
        return Noticed(self.with_profile + other.with_profile, self.without_end + other.without_end)


NOTHING_NOTICED = Noticed()
