"""A result is written whole or not at all, and a bad output is refused before any work."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vggnorm.disk import check_output, replacing, require_room
from vggnorm.errors import NotGuaranteedWarning, OutputError


def test_a_block_that_succeeds_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("a bug"), ValueError),
        (OSError(28, "No space left on device"), OutputError),
    ],
)
def test_a_block_that_fails_leaves_the_earlier_file(
    error: BaseException, expected: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(expected):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="result: could not be written: No space left on device"):
        write_half(tmp_path / "result", OSError(28, "No space left on device"))


def test_a_file_size_limit_is_an_output_error(tmp_path: Path) -> None:
    # Writing stops in the middle, as on a full disk. The system sets the limit for another process.
    program = (
        "import resource, sys, pathlib; from vggnorm.disk import replacing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with replacing(sys.argv[1]) as temporary: temporary.write_bytes(bytes(5000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "result"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OutputError" in done.stderr
    assert "result: could not be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused_without_force(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(
        OutputError, match="result: exists already; give another name, or --force to replace it"
    ):
        check_output(path)
    assert check_output(path, force=True) == path
    assert path.read_text() == "old"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        check_output(tmp_path, force=True)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder .*absent does not exist; make it first"):
        check_output(tmp_path / "absent" / "result")


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write into"
)
def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="/proc/result: cannot write into /proc: "):
        check_output("/proc/result")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="cannot write into .*: Permission denied"):
        check_output(tmp_path / "result")
    tmp_path.chmod(0o755)


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "result")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [False, True])
def test_checking_leaves_an_existing_file_alone(exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "result"
    if exists:
        path.write_text("old")
        before = path.stat()
    check_output(path, force=True)
    assert list(tmp_path.iterdir()) == ([path] if exists else [])
    if exists:
        assert path.read_text() == "old"
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_name_that_is_too_long_is_refused_and_a_shorter_one_will_do(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long; give a shorter name"):
        check_output(tmp_path / ("n" * 300))
    # The name itself is short enough, but not that of the file that is written before it.
    with pytest.raises(OutputError, match="File name too long; give a shorter name"):
        check_output(tmp_path / ("n" * 250))
    check_output(tmp_path / ("n" * 200))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file and not a folder; give another name"):
        check_output(tmp_path / "file" / "result")


def refuse(number: int) -> Callable[..., Any]:
    """Return a call of the system that fails."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_an_existing_file_that_the_system_protects_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse(errno.EPERM))
        text = "Operation not permitted; give a name in another folder"
        with pytest.raises(OutputError, match=text):
            check_output(tmp_path / "result", force=True)
        check_output(tmp_path / "other", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def run_as_root(*command: str | Path) -> None:
    """Run a command that only root may run, and that not every system has."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which(str(command[0])) is None:
        pytest.skip(f"only root can run {command[0]}, and not everywhere")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{command[0]} does not work here")


def test_a_file_that_is_marked_as_immutable_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    run_as_root("chattr", "+i", path)
    try:
        with pytest.raises(OutputError, match="cannot write into .*: Operation not permitted"):
            check_output(path, force=True)
    finally:
        run_as_root("chattr", "-i", path)
    assert check_output(path, force=True) == path
    assert list(tmp_path.iterdir()) == [path]


# What a file system may lack


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_where_nothing_can_be_synced_the_file_is_written_and_it_is_said_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    path = tmp_path / "result"
    text = rf"cannot sync a file \({os.strerror(number)}\); a power cut may lose"
    with pytest.warns(NotGuaranteedWarning, match=text) as said:
        check_output(path)
    assert len(said) == 1
    with replacing(path) as temporary:  # a second warning would be an error here
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_fails_is_an_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result").write_text("old")
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(OutputError, match="could not be written"):
        write(tmp_path)
    assert (tmp_path / "result").read_text() == "old"


def write(folder: Path) -> None:
    with replacing(folder / "result") as temporary:
        temporary.write_text("new")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EBUSY])
@pytest.mark.parametrize("exists", [False, True])
def test_where_nothing_can_be_renamed_the_file_is_written_in_place(
    exists: bool, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        (tmp_path / "result").write_text("an older and longer one")
    monkeypatch.setattr(Path, "replace", refuse(number))
    text = r"a file cannot be renamed there .*, so results are written in place; a program that"
    with pytest.warns(NotGuaranteedWarning, match=text) as said:
        check_output(tmp_path / "result", force=True)
    assert len(said) == 1
    write(tmp_path)
    assert (tmp_path / "result").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_file_that_is_mounted_by_itself_is_written_in_place(tmp_path: Path) -> None:
    # As `docker run -v $PWD/means.npy:/out/means.npy` does.
    (tmp_path / "host").write_text("an older and longer one")
    (tmp_path / "result").touch()
    run_as_root("mount", "--bind", tmp_path / "host", tmp_path / "result")
    try:
        check_output(tmp_path / "result", force=True)
        with pytest.warns(NotGuaranteedWarning, match="written in place"):
            write(tmp_path)
    finally:
        run_as_root("umount", tmp_path / "result")
    assert (tmp_path / "host").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host", "result"]


def test_two_processes_of_one_number_do_not_write_the_same_temporary_file(tmp_path: Path) -> None:
    # The first process of every container has the number 1.
    with replacing(tmp_path / "result") as one, replacing(tmp_path / "result") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "result").read_text() == "one"


def test_others_may_read_a_result_as_the_umask_says(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "usual").touch()
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "usual").stat().st_mode


# Room


def test_a_lack_of_room_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs the limits of a Unix system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        require_room(tmp_path / "result", 5_000)
        with pytest.raises(OutputError, match="the 5,001 bytes that it needs cannot be written"):
            require_room(tmp_path / "result", 5_001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    require_room(tmp_path / "result", 5_001)  # as it says: with more room
    assert list(tmp_path.iterdir()) == []


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for force in False, True:
        with pytest.raises(
            OutputError, match=r"one is a link that leads back to itself; give another name"
        ):
            check_output(tmp_path / "one", force=force)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one", "two"]


def test_a_link_to_a_file_that_is_still_to_be_made_will_do(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    assert check_output(tmp_path / "link") == tmp_path / "link"
