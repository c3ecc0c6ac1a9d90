"""One run at a time to one output."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vggnorm.errors import OutputError

# Seconds. A run that ends at this moment removes its lock file, and the next try succeeds.
PATIENCE = 0.2


@contextmanager
def locked(output: str | Path) -> Iterator[None]:
    """Keep other runs from writing the same output as long as the block lasts.

    The operating system holds the lock, on a file beside the output. So the lock ends with the
    process, however the process ends, and a lock file that a killed run left does no harm. On a
    network file system the lock holds for all machines if the file system passes locks on, as NFS
    does by default.

    Args:
        output: the file that is to be written.

    Raises:
        OutputError: another run holds the lock, and the text says which; or the file system cannot
            lock a file.
    """
    output = Path(output)
    lock_file = output.with_name(f"{output.name}.lock")
    holder_file = output.with_name(f"{output.name}.holder")
    lock = FileLock(lock_file, timeout=PATIENCE, fallback_to_soft=False)
    if not output.parent.is_dir():  # FileLock would make the folder
        raise OutputError(f"{lock_file}: cannot be locked: the folder does not exist")
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{output}: is being made by {_read_holder(holder_file)}; wait for it, or give another "
            "name"
        ) from error
    except OSError as error:
        raise OutputError(f"{lock_file}: cannot be locked: {error.strerror}") from error
    try:
        _write_holder(holder_file)
        yield
    finally:
        # The lock file is removed while the lock is held: whoever has opened it finds out and tries
        # again. Windows does not remove an open file; there it remains.
        for file in (holder_file, lock_file):
            with suppress(OSError):
                file.unlink()
        lock.release()


def _write_holder(path: Path) -> None:
    """Write who holds the lock. On a full disk the lock holds all the same."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):
        path.unlink(missing_ok=True)  # it may be a link, and its target is not ours to write to
        with path.open("x") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:200] or "another run"
    except OSError:
        return "another run"
