"""One run at a time to one output."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from vggnorm.disk import NOT_SUPPORTED, warn_once
from vggnorm.errors import OutputError

# Seconds. A run that ends at this moment removes its lock file, and the next try succeeds.
PATIENCE = 0.2

# What the system answers where there are no locks: on Lustre without its option `flock`, on NFS
# without a lock server, on SMB, on FUSE.
NO_LOCKS = NOT_SUPPORTED | {errno.ENOLCK, errno.EINVAL}


@contextmanager
def locked(output: str | Path) -> Iterator[bool]:
    """Keep other runs from writing the same output as long as the block lasts.

    The operating system holds the lock, on a file beside the output. So the lock ends with the
    process, however the process ends, and a lock file that a killed run left does no harm. On a
    network file system the lock holds for all machines if the file system passes locks on, as NFS
    does by default. Where the file system has no locks, the block runs without one, and a
    `NotGuaranteedWarning` says so.

    Args:
        output: the file that is to be written.

    Yields:
        Whether the lock is held.

    Raises:
        OutputError: another run holds the lock, and the text says which; or the lock file cannot be
            written.
    """
    output = Path(output)
    lock_file = output.with_name(f"{output.name}.lock")
    holder_file = output.with_name(f"{output.name}.holder")
    lock = FileLock(lock_file, timeout=PATIENCE, fallback_to_soft=False)
    if not output.parent.is_dir():  # FileLock would make the folder
        raise OutputError(f"{lock_file}: cannot be locked: the folder does not exist")
    was_there = lock_file.exists()
    try:
        is_held = _acquire(lock)
    except Timeout as error:
        raise OutputError(
            f"{output}: is being made by {_read_holder(holder_file)}; wait for it, or give another "
            "name"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{lock_file}: cannot be locked: {error.strerror}; give the output another name"
        ) from error
    if not is_held:
        if not was_there:
            lock_file.unlink(missing_ok=True)
        yield False
        return
    try:
        _write_holder(holder_file)
        yield True
    finally:
        # The lock file is removed while the lock is held: whoever has opened it finds out and tries
        # again. Windows does not remove an open file; there it remains.
        for file in (holder_file, lock_file):
            with suppress(OSError):
                file.unlink()
        lock.release()


def _acquire(lock: BaseFileLock) -> bool:
    """Take a lock; tell whether it is held, or the file system has no locks.

    Raises:
        Timeout: another process holds it.
        OSError: the lock file cannot be written.
    """
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        output = Path(lock.lock_file).with_suffix("")
        warn_once(
            f"{output}: its file system has no locks ({error.strerror}); make sure yourself that "
            "no other run writes this file meanwhile"
        )
        return False
    return True


def _write_holder(path: Path) -> None:
    """Write who holds the lock. On a full disk the lock holds all the same."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):
        path.unlink(missing_ok=True)  # it may be a link, and its target is not ours to write to
        with path.open("x", encoding="utf-8", errors="replace") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200] or "another run"
    except OSError:
        return "another run"
