"""The errors a user can mend.

Each text is shown to the user as it stands, as one line: it names the file or layer, says what was wanted and
what was found, and what to do about it. Any other exception is a bug, and keeps its traceback.
"""


class VggnormError(Exception):
    """What a user can mend; the command line shows its text alone and exits with status 1."""


class PhotoError(VggnormError):
    """A photo, a folder of photos or an annotation file cannot be used."""


class MeansError(VggnormError):
    """A file of means is damaged, or was measured on something else."""


class NetworkError(VggnormError):
    """A network or a file of weights cannot be used."""


class OutputError(VggnormError):
    """A result cannot be written where it was asked for."""


class StoppedError(VggnormError):
    """A run ended because it was told to, and not all photos are measured."""
