"""A result is written whole or not at all, and a bad output is refused before any work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vggnorm.disk import check_output, replacing
from vggnorm.errors import OutputError


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
