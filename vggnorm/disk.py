"""Writing a file whole or not at all, and what must hold before a file is read."""

import errno
import glob
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggnorm.errors import OutputError


def check_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse an output that could not or should not be written, before any work is done.

    Args:
        path: the file that is to be written.
        force: whether an existing file may be replaced.

    Returns:
        `path` as a `Path`.

    Raises:
        OutputError: the file exists and `force` is false, it is a folder, or its folder is missing
            or not writable.
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
            raise OutputError(f"{path}: is not a regular file; give another name")
        if path.exists() and not force:
            raise OutputError(
                f"{path}: exists already; give another name, or --force to replace it"
            )
        # Permission bits do not tell whether the file system is read-only or full.
        handle, trial = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        Path(trial).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot write into {path.parent}: {error.strerror}") from error
    return path


def _require_end_of_links(path: Path) -> None:
    """Refuse a path whose links lead in a circle. Python reports this in several ways."""
    for place in path.parent, path:
        try:
            place.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OutputError(
                    f"{path}: {place} is a link that leads back to itself; give another name"
                ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename the file to `path` if the block succeeds.

    The block writes the temporary file and checks it. If the block fails, the temporary file is
    removed. An earlier file at `path` stays until the rename. If `path` is a link, the file that it
    leads to is replaced.

    Raises:
        OutputError: the operating system refused to write (disk full, permission, quota).
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # a system that refuses to write may refuse to remove, too
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make what was written into a file outlast a power cut.

    Raises:
        OSError: the operating system refused, as it may where the disk is full.
    """
    with path.open("r+b") as written:  # Windows syncs only what is open for writing
        os.fsync(written.fileno())


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files that killed runs left beside `path`; no other run may write it."""
    target = Path(path).resolve()
    with suppress(OSError):
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where the file system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_regular_file(path: Path) -> None:
    """Refuse pipes, sockets and devices: reading them may wait for ever or never end.

    Raises:
        OSError: there is no such file, or it is of another kind; `strerror` says which.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is not a regular file")
