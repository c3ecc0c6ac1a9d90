"""Writing a result whole or not at all."""

import errno
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggnorm.errors import OutputError


def check_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse, before any work is done, an output that could not or should not be written.

    Args:
        path: the file that is to be written.
        force: whether an existing file may be replaced.

    Returns:
        `path` as a `Path`.

    Raises:
        OutputError: the file exists and `force` is false, is a folder, or its folder is missing or not writable.
    """
    path = Path(path)
    _require_end_of_links(path)
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file")
        folder = (path.resolve() if path.is_symlink() else path).parent
        if not folder.is_dir():
            raise OutputError(f"{path}: the folder {folder} does not exist; make it first")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is no regular file; give another name")
        if path.exists() and not force:
            raise OutputError(f"{path}: exists already; give another name, or --force to replace it")
        # Permission bits do not tell what a read-only or full file system does.
        handle, trial = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        Path(trial).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot write into {path.parent}: {error.strerror}") from error
    return path


def _require_end_of_links(path: Path) -> None:
    """Refuse a path whose links lead in a circle, which Python reports in several ways."""
    for place in path.parent, path:
        try:
            place.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OutputError(f"{path}: {place} is a link that leads back to itself; give another name") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block succeeds, remove it if not.

    The block writes the temporary file and checks it. An earlier file at `path` stays until the rename; of a link, it
    is the file it leads to that is replaced.

    Raises:
        OutputError: the operating system would not write (disk full, permission, quota).
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # the system that would not write may not remove, either
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files beside `path` that killed runs have left; only while no other one writes to it."""
    target = Path(path).resolve()
    with suppress(OSError):
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name outlast a power cut, where the file system can be asked to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
