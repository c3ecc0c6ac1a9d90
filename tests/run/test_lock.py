"""One run at a time writes an output, and no lock outlives its process."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vggnorm.errors import NotGuaranteedWarning, OutputError
from vggnorm.run.lock import locked

fcntl = pytest.importorskip("fcntl", reason="needs the locks of a Unix system")

HOLD = """import sys, time
from vggnorm.run.lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def hold(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_second_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    output = tmp_path / "means.npy"
    first = hold(output)
    try:
        with pytest.raises(OutputError) as error, locked(output):
            pytest.fail("locked twice")
        process = re.escape(
            f"means.npy: is being made by process {first.pid} on {os.uname().nodename} since "
        )
        assert re.search(process + r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it", str(error.value))
        with locked(tmp_path / "other.npy"):
            pass
    finally:
        first.kill()
        first.communicate()


def test_what_a_killed_run_left_does_not_block(tmp_path: Path) -> None:
    output = tmp_path / "means.npy"
    first = hold(output)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (tmp_path / "means.npy.lock").exists()
    with locked(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_at_the_end_whatever_the_end(tmp_path: Path) -> None:
    output = tmp_path / "means.npy"
    with contextlib.suppress(ZeroDivisionError), locked(output):
        assert (tmp_path / "means.npy.lock").exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_two_are_never_in_it_however_fast_they_come_and_go(tmp_path: Path) -> None:
    inside, most, entered = 0, 0, 0

    def come_and_go() -> None:
        nonlocal inside, most, entered
        for _ in range(40):
            try:
                with locked(tmp_path / "means.npy"):
                    inside += 1
                    most, entered = max(most, inside), entered + 1
                    inside -= 1
            except OutputError:
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert entered >= 40
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_removes_meanwhile_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The holder ends after this process has opened the file and before it locks it.
    output, file = tmp_path / "means.npy", tmp_path / "means.npy.lock"
    flock = fcntl.flock
    removals = iter([True])

    def end_before(handle: int, operation: int) -> None:
        if next(removals, False):
            file.unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", end_before)
    with locked(output):
        assert file.exists()
        with pytest.raises(OutputError, match="is being made by"), locked(output):
            pytest.fail("locked twice")


def answer(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system answer every call for a lock with an error."""

    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


NO_LOCKS = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL]


@pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
def test_where_there_are_no_locks_it_goes_on_and_says_so_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(number, monkeypatch)
    output = tmp_path / "means.npy"
    text = re.escape(f"{output}: its file system has no locks ({os.strerror(number)}); make sure")
    with pytest.warns(NotGuaranteedWarning, match=text) as said, locked(output) as is_held:
        assert not is_held
    assert len(said) == 1
    with locked(output) as is_held:  # a warning would be an error here
        assert not is_held
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_the_file_of_another_run_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another machine may have the same folder with locks.
    answer(errno.ENOSYS, monkeypatch)
    (tmp_path / "means.npy.lock").touch()
    with pytest.warns(NotGuaranteedWarning), locked(tmp_path / "means.npy"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["means.npy.lock"]


def test_a_lock_that_fails_for_another_reason_is_an_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        answer(errno.EIO, patched)
        text = (
            r"means\.npy\.lock: cannot be locked: Input/output error; give the output another name"
        )
        with pytest.raises(OutputError, match=text), locked(tmp_path / "means.npy"):
            pytest.fail("locked")
    (tmp_path / "means.npy.lock").unlink()
    (tmp_path / "means.npy.lock").mkdir()
    with pytest.raises(OutputError, match="another name"), locked(tmp_path / "means.npy"):
        pytest.fail("locked")
    with locked(tmp_path / "other.npy") as is_held:  # as it says
        assert is_held


def test_a_folder_that_takes_no_lock_is_an_output_error() -> None:
    text = r"absent/means\.npy\.lock: cannot be locked: the folder does not exist"
    with pytest.raises(OutputError, match=text), locked("absent/means.npy"):
        pass
