"""What a run keeps on disk of what it has measured so far, so that it can go on from there.

A checkpoint is a file of means like any other, over the photos so far.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from vggnorm.disk import require_room
from vggnorm.errors import MeansError, VggnormError
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.recipe import Recipe
from vggnorm.run.options import Say

# Bytes. How many photos will be skipped turns out only in the run. The list of a thousand, with the
# reasons, take about this much.
ROOM_FOR_SKIPPED = 1_000_000


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps what it has measured, and how often.

    Attributes:
        path: the file. The run goes on from it if it is there. It stays at the end, for the caller
            to remove when the result is safe.
        every: seconds from one checkpoint to the next. There is one more at the end of the run,
            however the run ends.
        fresh: whether to start over, whatever the file holds.
        required: whether a run is refused at its beginning if there is no room for the file.
            Otherwise it says that the file cannot be written, and goes on.
    """

    path: str | Path
    every: float = 60.0
    fresh: bool = False
    required: bool = False


class Keeper:
    """Writes a run's checkpoint and reads the one of an earlier run."""

    def __init__(self, checkpoint: Checkpoint | None, say: Say) -> None:
        """Prepare, and touch nothing.

        Args:
            checkpoint: where to keep what is measured; None to keep nothing.
            say: is told once that the file cannot be written. The run goes on in that case.
        """
        self._checkpoint = checkpoint
        self._say = say
        self._saved_at = time.monotonic()
        self._saved: FilterMeans | None = None
        self._has_complained = False

    @property
    def path(self) -> Path | None:
        """The checkpoint's file; None if nothing is kept."""
        return None if self._checkpoint is None else Path(self._checkpoint.path)

    @property
    def kept_count(self) -> int:
        """How many photos the checkpoint holds, be it an earlier one; 0 if there is none."""
        return 0 if self._saved is None else self._saved.image_count

    def load(self) -> FilterMeans | None:
        """Read what an earlier run has kept; None if there is nothing or the run is to start over.

        Raises:
            MeansError: the file is damaged.
        """
        if self._checkpoint is None or self._checkpoint.fresh:
            return None
        path = Path(self._checkpoint.path)
        if not path.exists():
            return None
        try:
            self._saved = load_means(path)
        except MeansError as error:
            raise MeansError(f"{error}, or --fresh to start over") from error
        return self._saved

    def require_room(self, size: int) -> None:
        """Refuse to start if a file of so many bytes cannot be written, if the file is required.

        Args:
            size: of the file, without the list of photos that are skipped.

        Raises:
            OutputError: there is not enough room. At the end of a run there are two such files: the
                checkpoint, and either the next one or the result.
        """
        if self._checkpoint is not None and self._checkpoint.required:
            require_room(self._checkpoint.path, 2 * (size + ROOM_FOR_SKIPPED))

    def require_same_run(self, kept: FilterMeans, recipe: Recipe) -> None:
        """Refuse to go on from another recipe, other weights or other photos.

        Raises:
            MeansError: the earlier run was another one; the text says what differs.
        """
        differences = kept.recipe.differences(recipe)
        if differences:
            raise MeansError(
                f"{self.path}: does not go with this run: {', '.join(differences)} (there and "
                "here); give the same options and photos, or --fresh to start over"
            )

    def save_if_due(self, means: FilterMeans) -> None:
        """Write what has been measured, if it is time to."""
        if self._checkpoint is None:
            return
        if time.monotonic() - self._saved_at >= self._checkpoint.every:
            self.save(means)

    def save(self, means: FilterMeans) -> bool:
        """Write what has been measured, and tell whether the file holds it now.

        Nothing is written where the file holds it already, or where nothing has been measured.
        """
        if self.path is None or not means.image_count:
            return False
        if means is not self._saved:
            self._write(means, self.path)
            self._saved_at = time.monotonic()  # after a failure, too: the disk may be slow or full
        return means is self._saved

    def _write(self, means: FilterMeans, path: Path) -> None:
        try:
            save_means(means, path, force=True)
        except VggnormError as error:
            if not self._has_complained:
                self._say(
                    f"{error}; the run goes on; if it is ended, {self.kept_count} photos are kept"
                )
            self._has_complained = True
        else:
            self._saved = means


def say_what_is_kept(path: Path, means: FilterMeans) -> str:
    """Say what of a run is safe when its result could not be saved.

    Args:
        path: the run's checkpoint.
        means: the result.
    """
    try:
        kept = load_means(path)
    except MeansError:
        return f"{path} cannot be read, so nothing of the run is kept"
    if kept.recipe.differences(means.recipe):
        return f"{path} is of another run, so nothing of this one is kept"
    return (
        f"{path} keeps {kept.image_count} of {means.image_count} photos; when this is mended, a "
        "run with the same options and this output name, without --fresh, goes on from there"
    )
