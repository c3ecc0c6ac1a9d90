"""The file of means that a run makes: one run at a time, nothing lost, nothing half written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vggnorm.disk import check_output, remove_leftovers
from vggnorm.errors import OutputError
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.run.checkpoint import Checkpoint, say_what_is_kept
from vggnorm.run.lock import locked


class MeansOutput:
    """The output of one run, which no other run writes meanwhile.

    Attributes:
        path: the file of means.
        checkpoint_path: where the run keeps what it has measured so far, beside the output.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        """Prepare, and touch nothing. Use `means_output`, which takes the lock."""
        self.path = path
        self.checkpoint_path = path.with_name(f"{path.name}.checkpoint")
        self._force = force

    def checkpoint(self, *, every: float = 60.0, fresh: bool = False) -> Checkpoint:
        """Give the checkpoint to measure with: see `Checkpoint`."""
        return Checkpoint(self.checkpoint_path, every, fresh, required=True)

    def save(self, means: FilterMeans) -> None:
        """Save the result, and remove the checkpoint when the result is safe.

        Raises:
            OutputError: the file cannot be written. The text says what the checkpoint keeps.
        """
        try:
            save_means(means, self.path, force=self._force)
        except OutputError as error:
            if not self.checkpoint_path.exists():
                raise
            kept = say_what_is_kept(self.checkpoint_path, means)
            raise OutputError(f"{error}; {kept}") from error
        self.checkpoint_path.unlink(missing_ok=True)


@contextmanager
def means_output(path: str | Path, *, force: bool = False) -> Iterator[MeansOutput]:
    """Reserve the file that a run of `compute_means` is to make, as long as the block lasts.

        with vggnorm.means_output("means.npy") as output:
            means = vggnorm.compute_means(model, photos, checkpoint=output.checkpoint())
            output.save(means)

    Args:
        path: the file of means.
        force: whether an existing file may be replaced.

    Raises:
        OutputError: the file exists and `force` is false, cannot be written, or another run is
            making it; or the checkpoint beside it cannot be written.
    """
    path = check_output(path, force=force)
    output = MeansOutput(path, force=force)
    check_output(output.checkpoint_path, force=True)
    with locked(path) as is_alone:
        if is_alone:
            remove_leftovers(path)
        yield output
