"""The errors that a user can fix.

Each text is shown to the user as it stands, as one line. It names the file or layer, says what was
wanted and what was found, and says what to do. Any other exception is a bug and keeps its
traceback.
"""


class VggnormError(Exception):
    """An error that the user can fix. The command line shows its text and exits with status 1."""


def in_one_line(error: BaseException) -> str:
    """Give the first line of what another library says, or what it calls the error."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


class PhotoError(VggnormError):
    """A photo, a folder of photos or an annotation file cannot be used."""


class MeansError(VggnormError):
    """A file of means is damaged, or was measured on something else."""


class NetworkError(VggnormError):
    """A network or a file of weights cannot be used."""


class OutputError(VggnormError):
    """A result cannot be written where it was asked for."""


class EngineError(VggnormError):
    """What was to measure blocks of photos elsewhere is missing, fails or does not fit."""


class StoppedError(VggnormError):
    """A run ended because it was told to, and not all photos are measured."""


class NotGuaranteedWarning(UserWarning):
    """The system lacks something, such as locks; the work goes on with one guarantee less."""
