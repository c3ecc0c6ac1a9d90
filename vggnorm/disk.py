"""Writing a file whole or not at all, and what must hold before a file is read."""

import errno
import glob
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from vggnorm.errors import NotGuaranteedWarning, OutputError

# What network file systems and FUSE answer to a call that they do not have.
NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

# What `fsync` answers where nothing can be synced.
NO_SYNC = NOT_SUPPORTED | {errno.EINVAL}

# What `rename` answers where only writing in place is left. A file that is mounted by itself, as
# into a container, is busy; in layered file systems, a file may seem to be on another one.
NO_RENAME = NOT_SUPPORTED | {errno.EBUSY, errno.EXDEV}

ADVICE = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOSPC: "make room there, or give a name in another folder",
    errno.EDQUOT: "make room there, or give a name in another folder",
}


def check_output(path: str | Path, *, force: bool = False) -> Path:
    """Refuse an output that could not or should not be written, before any work is done.

    What `replacing` does with the file is tried with a small file beside it.

    Args:
        path: the file that is to be written.
        force: whether an existing file may be replaced.

    Returns:
        `path` as a `Path`.

    Raises:
        OutputError: as of `check_name`, or the file cannot be written into its folder.
    """
    path = check_name(path, force=force)
    try:
        target = path.resolve()
        _try_to_replace(target)
        if target.exists() and os.name == "posix":
            _require_replaceable(target)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def check_name(path: str | Path, *, force: bool = False) -> Path:
    """Refuse the name of an output that is taken or that no file can have.

    Args:
        path: the file that is to be written.
        force: whether an existing file may be replaced.

    Returns:
        `path` as a `Path`.

    Raises:
        OutputError: the file exists and `force` is false, it is a folder or a device, or its folder
            is missing.
    """
    path = Path(path)
    _require_end_of_links(path)
    try:
        _require_name_of_file(path, force=force)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def _cannot_write(path: Path, error: OSError) -> OutputError:
    advice = ADVICE.get(error.errno or 0, "give a name in another folder")
    return OutputError(f"{path}: cannot write into {path.parent}: {error.strerror}; {advice}")


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


def _require_name_of_file(path: Path, *, force: bool) -> None:
    """Refuse a path at which there is something else than a file that may be replaced."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    folder = (path.resolve() if path.is_symlink() else path).parent
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{path}: {folder} is a file and not a folder; give another name")
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; make it first")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is not a regular file; give another name")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; give another name, or --force to replace it")


def _try_to_replace(target: Path) -> None:
    """Write a file beside `target` and replace it with another, as `replacing` will.

    Permission bits do not tell whether the file system is read-only or full.
    """
    with _temporary_beside(target) as earlier, _temporary_beside(target) as later:
        earlier.touch()
        later.write_bytes(b"\0")
        sync(later)
        _rename(later, earlier)


def _require_replaceable(target: Path) -> None:
    """Find out whether another file may take the name of an existing one, and touch neither.

    A system of the POSIX family never renames a folder to the name of a file. Before it refuses
    that, it looks whether the file may be removed: not if it is marked as immutable, or belongs to
    somebody else in a folder where all may write.
    """
    with _temporary_beside(target) as folder:
        folder.mkdir()
        try:
            folder.rename(target)
        except OSError as error:
            folder.rmdir()
            if error.errno in (errno.EACCES, errno.EPERM):
                raise
        else:
            target.rmdir()  # somebody has removed the file meanwhile


def require_room(path: str | Path, size: int) -> None:
    """Try whether there is room for a file beside `path`.

    Args:
        path: names the folder, and the result in messages.
        size: in bytes.

    Raises:
        OutputError: there is not.
    """
    try:
        with _temporary_beside(Path(path).resolve()) as trial:
            trial.write_bytes(secrets.token_bytes(size))  # zeros might take no room
            sync(trial)
    except OSError as error:
        raise OutputError(
            f"{path}: the {size:,} bytes that it needs cannot be written: {error.strerror}; make "
            "room there, or give a name in another folder"
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename the file to `path` if the block succeeds.

    The block writes the temporary file and checks it. If the block fails, the temporary file is
    removed. An earlier file at `path` stays until the rename. If `path` is a link, the file that it
    leads to is replaced. Where the file system cannot sync or rename a file, the work goes on
    without, and a `NotGuaranteedWarning` says once what is not guaranteed.

    Raises:
        OutputError: the operating system refused to write (disk full, permission, quota).
    """
    target = Path(path).resolve()
    try:
        with _temporary_beside(target) as temporary:
            yield temporary
            sync(temporary)
            _rename(temporary, target)
            _sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """Give a name beside `target` that is free, and remove in the end what then has that name.

    The name is random: processes on two machines, or in two containers, may have one number.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        with suppress(OSError):  # a system that refuses to write may refuse to remove, too
            temporary.unlink(missing_ok=True)


def _rename(temporary: Path, target: Path) -> None:
    """Give a written file its name. Where nothing can be renamed, write the other file in place."""
    try:
        temporary.replace(target)
    except OSError as error:
        if error.errno not in NO_RENAME:
            raise
        warn_once(
            f"{target.parent}: a file cannot be renamed there ({error.strerror}), so results are "
            "written in place; a program that is killed while it writes leaves half a file"
        )
        shutil.copyfile(temporary, target)
        sync(target)


def sync(path: Path) -> None:
    """Make what was written into a file outlast a power cut, where the file system can do that.

    Raises:
        OSError: the operating system refused, as it may where the disk is full.
    """
    # Windows syncs only what is open for writing; some network file systems write a file only once.
    with path.open("r+b" if os.name == "nt" else "rb") as written:
        try:
            os.fsync(written.fileno())
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise
            warn_once(
                f"{path.parent}: its file system cannot sync a file ({error.strerror}); a power "
                "cut may lose what was written just before"
            )


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


@cache
def warn_once(text: str) -> None:
    """Say what is not guaranteed on this system, the first time that it turns out."""
    warnings.warn(text, NotGuaranteedWarning, stacklevel=3)


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
