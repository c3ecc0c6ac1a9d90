"""The advice about files that are written, and about runs, followed."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from advice_texts import refused, said
from measuring import measure

from vggnorm.disk import check_output, require_room
from vggnorm.errors import NotGuaranteedWarning
from vggnorm.run.options import Compute, Until
from vggnorm.run.output import means_output


def test_a_name_of_a_file_that_can_be_written(tmp_path: Path) -> None:
    with refused("name a file"):
        check_output(tmp_path)
    with refused("make it first"):
        check_output(tmp_path / "new" / "means.npy")
    (tmp_path / "new").mkdir()
    check_output(tmp_path / "new" / "means.npy")


def test_another_name_or_force(tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    path.touch()
    with refused("give another name, or --force to replace it"):
        check_output(path)
    check_output(path, force=True)
    check_output(tmp_path / "other.npy")


def test_another_name_than_that_of_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with refused("give another name"):
            check_output(path, force=True)
    check_output(tmp_path / "other.npy")


def test_another_name_than_that_of_a_circle_of_links(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(path)
    with refused("give another name"):
        check_output(path)
    check_output(tmp_path / "other.npy")


def test_a_run_waits_for_another_or_takes_another_name(tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    with (
        means_output(path),
        refused("wait for it, or give another name"),
        means_output(path),
    ):
        pass
    with means_output(path), means_output(tmp_path / "other.npy"):
        pass


def test_a_run_goes_on_with_the_same_options_or_starts_over(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    model = make_chain((3,))
    path = tmp_path / "checkpoint"
    options: dict[str, Any] = {"preprocessing": "caffe", "size": 16, "checkpoint": path}
    measure(model, photo_folder, **options, seed=1)
    with refused("give the same options and photos, or --fresh to start over"):
        measure(model, photo_folder, **options, seed=2)
    assert measure(model, photo_folder, **options, seed=1).image_count == 9
    assert measure(model, photo_folder, **options, seed=2, fresh=True).image_count == 9


def test_options_in_their_range() -> None:
    with refused("it must be one of {}"):
        Compute(precision="float64")  # type: ignore[arg-type]
    Compute(precision="bfloat16")
    with refused("it must be at least 2, for a standard error"):
        Compute(control=1)
    Compute(control=2)
    with refused("it must be between 0 and 1"):
        Until(tolerance=1)
    Until(tolerance=0.01)


def test_a_name_that_the_file_system_takes(tmp_path: Path) -> None:
    with refused("give a shorter name"):
        check_output(tmp_path / ("x" * 300))
    check_output(tmp_path / ("x" * 200))


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let nothing be written into the folder `full`."""
    write = Path.write_bytes

    def write_elsewhere(path: Path, content: bytes) -> int:
        if path.parent.name == "full":
            raise OSError(number, os.strerror(number))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_elsewhere)


def test_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "full", "other":
        (tmp_path / name).mkdir()
    path = tmp_path / "full" / "means.npy"
    with monkeypatch.context() as patched:
        failing(patched, errno.EROFS)
        with refused("give a name in another folder"):
            check_output(path)
        check_output(tmp_path / "other" / "means.npy")
    with monkeypatch.context() as patched:
        failing(patched, errno.ENOSPC)
        for check in check_output, lambda path: require_room(path, 10):
            with refused("make room there, or give a name in another folder"):
                check(path)
            check(tmp_path / "other" / "means.npy")
    check_output(path)
    require_room(path, 10)


def test_the_lock_of_an_output(tmp_path: Path) -> None:
    (tmp_path / "means.npy.lock").mkdir()
    with refused("give the output another name"), means_output(tmp_path / "means.npy"):
        pass
    with means_output(tmp_path / "other.npy"):
        pass


def test_where_there_are_no_locks_one_run_writes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", fail)
    with pytest.warns(NotGuaranteedWarning) as warned, means_output(tmp_path / "means.npy"):
        pass
    lines = [str(warning.message) for warning in warned]
    assert said(lines, "make sure yourself that no other run writes this file meanwhile")
    with means_output(tmp_path / "means.npy"):  # the only one
        pass
