"""One run at a time to one output."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggnorm.errors import OutputError


@contextmanager
def locked(output: str | Path) -> Iterator[None]:
    """Keep other runs from writing the same output as long as the block lasts.

    The lock is the system's, on a file beside the output, so it ends with the process, however that ends; a file that
    a killed run has left does not matter. On a network's file system it holds for all machines if that one passes locks
    on, as NFS does by default.

    Raises:
        OutputError: another run has the lock; the text says which. Or there can be none.
    """
    output = Path(output)
    path = output.with_name(f"{output.name}.lock")
    try:
        handle = _acquire(path)
    except BlockingIOError as error:
        raise OutputError(f"{output}: is being made by {_holder(path)}; wait for it, or give another name") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds all the same, and only does not say whose it is
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before the lock ends: one who has opened the file finds out in _acquire
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)  # a link's target is not ours to empty
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed the file after we had opened it


def _is_open_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:200] or "another run"
    except OSError:
        return "another run"
