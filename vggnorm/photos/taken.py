"""What became of the photos that were taken."""

from dataclasses import dataclass

from vggnorm.photos.digests import sum_sha256
from vggnorm.photos.skipped import SkippedPhoto


@dataclass(frozen=True)
class Taken:
    """What became of some photos. `+` adds other photos.

    The sum does not depend on the order: the digests are sums themselves, see
    `vggnorm.photos.digests`, and the skipped photos are sorted.

    Attributes:
        used: how many were given out.
        skipped: those that could not be used, and why, sorted by name.
        names_sha256: the sum of SHA-256 over the name of each photo.
        photos_sha256: the sum of SHA-256 over the name, a zero byte and the pixels of each photo
            that was used.
    """

    used: int = 0
    skipped: tuple[SkippedPhoto, ...] = ()
    names_sha256: str = "0" * 64
    photos_sha256: str = "0" * 64

    @property
    def count(self) -> int:
        """How many photos were taken, used or not."""
        return self.used + len(self.skipped)

    def __add__(self, other: "Taken") -> "Taken":
        """Give what became of these photos and of others."""
        return Taken(
            used=self.used + other.used,
            skipped=tuple(sorted((*self.skipped, *other.skipped))),
            names_sha256=sum_sha256([self.names_sha256, other.names_sha256]),
            photos_sha256=sum_sha256([self.photos_sha256, other.photos_sha256]),
        )


NOTHING_TAKEN = Taken()
