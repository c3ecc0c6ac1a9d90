"""Where a run keeps what it has measured so far, so that it can go on from there.

A checkpoint is a file of means like any other, over the photos so far.
"""

import time
from collections.abc import Callable
from pathlib import Path

from vggnorm.errors import MeansError, VggnormError
from vggnorm.means import FilterMeans, load_means, save_means
from vggnorm.recipe import Recipe


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
        f"{path} keeps {kept.image_count} of {means.image_count} photos; when this is mended, a run with the same "
        "options and this output name, without --fresh, goes on from there"
    )


class Checkpoint:
    """A file of means that is replaced now and then while a run goes on.

    Attributes:
        path: the file; None if nothing is to be kept.
    """

    def __init__(self, path: str | Path | None, *, every: float, say: Callable[[str], object]) -> None:
        """Prepare, and touch nothing.

        Args:
            path: the file; None to keep nothing.
            every: how many seconds to let pass from one to the next.
            say: told, in a line and once, that it cannot be written. The run goes on then.
        """
        self.path = None if path is None else Path(path)
        self._every = every
        self._say = say
        self._saved_at = time.monotonic()
        self._saved: FilterMeans | None = None
        self._said = False

    def load(self) -> FilterMeans | None:
        """Read what an earlier run has kept; None if there is nothing.

        Raises:
            MeansError: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            self._saved = load_means(self.path)
        except MeansError as error:
            raise MeansError(f"{error}, or --fresh to start over") from error
        return self._saved

    def require(self, kept: FilterMeans, recipe: Recipe) -> None:
        """Refuse to go on from another recipe, other weights or other photos.

        Raises:
            MeansError: the first run's was another; the text says what differs.
        """
        differences = kept.recipe.differences(recipe)
        if differences:
            raise MeansError(
                f"{self.path}: does not go with this run: {', '.join(differences)} (there and here); give the same "
                "options and photos, or --fresh to start over"
            )

    @property
    def holds_something(self) -> bool:
        """Whether there is a checkpoint of this run or an earlier one, be it older than the sums."""
        return self._saved is not None

    @property
    def kept_count(self) -> int:
        """How many photos the checkpoint holds."""
        return 0 if self._saved is None else self._saved.image_count

    def save_if_due(self, means: FilterMeans) -> None:
        """Write, if it is time to."""
        if time.monotonic() - self._saved_at >= self._every:
            self.save(means)

    def save(self, means: FilterMeans) -> bool:
        """Write what has been measured, unless that is there already, or nothing; tell whether it is there now."""
        if self.path is None or not means.image_count:
            return False
        if means is not self._saved:
            try:
                save_means(means, self.path, force=True)
            except VggnormError as error:
                if not self._said:
                    self._say(f"{error}; the run goes on; if it is ended, {self.kept_count} photos are kept")
                self._said = True
            else:
                self._saved = means
            self._saved_at = time.monotonic()  # of a disk that is slow or full, too, not more is asked
        return means is self._saved
