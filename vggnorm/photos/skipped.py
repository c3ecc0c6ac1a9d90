"""Photos that cannot be used."""

from dataclasses import dataclass

from vggnorm.errors import PhotoError


@dataclass(frozen=True, order=True)
class SkippedPhoto:
    """A photo that was found and could not be used. Photos are sorted by name.

    Attributes:
        photo: its name in the source.
        reason: why it could not be used.
    """

    photo: str
    reason: str


class UnusablePhotoError(PhotoError):
    """A photo cannot be used, although the system works: the file is damaged, say.

    Attributes:
        reason: why, without the photo's name.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Make the text from the photo's name and the reason.

        Args:
            name: what to call the photo.
            reason: why it cannot be used, as in `is empty`.
        """
        super().__init__(f"{name}: {reason}")
        self.reason = reason
