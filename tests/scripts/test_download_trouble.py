"""scripts/download_coco.py: servers out of reach, full disks and interruptions."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import fetching
import pytest
from coco_server import (
    NAMES,
    ROOT,
    SCRIPT,
    ZIP,
    Handler,
    Served,
    assert_one_fails,
    error_of,
    make_listing,
    make_zip,
    names_in,
    run,
)


@pytest.fixture
def unreachable(served: Served) -> Served:
    """Return an address where no server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
    return Served(url=f"http://127.0.0.1:{port}", files=served.files)


def test_unreachable_server_for_the_annotations(
    coco: ModuleType, unreachable: Served, tmp_path: Path
) -> None:
    error = error_of(run(coco, tmp_path, unreachable))
    assert error.startswith(f"Error: {unreachable.url}/annotations/{ZIP}: ")
    assert "refused" in error
    assert names_in(tmp_path / "annotations") == []


def test_unreachable_server_for_the_photos(
    coco: ModuleType, unreachable: Served, listing: Path, tmp_path: Path
) -> None:
    error = error_of(run(coco, tmp_path / "coco", unreachable, "--annotations", listing))
    assert error.startswith("Error: 8 photos in a row failed, the last with ")
    assert "refused" in error
    assert names_in(tmp_path / "coco" / "val2017") == []


def test_a_silent_server_is_given_up(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.25)
    served.stalled.add(f"/val2017/{NAMES[0]}")
    assert_one_fails(coco, served, tmp_path / "coco", listing, "timed out")


def test_a_full_disk_leaves_no_half_photo(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, content: bytes) -> None:
        with path.open("wb") as out:
            out.write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    error = error_of(run(coco, tmp_path / "coco", served, "--annotations", listing))
    assert "No space left on device" in error
    assert names_in(tmp_path / "coco" / "val2017") == []


@pytest.mark.parametrize("name", ["annotations", "val2017"])
def test_a_folder_that_cannot_be_made(
    coco: ModuleType, served: Served, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"a file in the way")
    error = error_of(run(coco, tmp_path, served))
    assert error == f"Error: {tmp_path / name}: cannot be made: File exists\n"


def test_other_errors_keep_their_traceback(
    coco: ModuleType, served: Served, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(coco, "check_photo", stumble)
    with pytest.raises(ZeroDivisionError):
        run(coco, tmp_path / "coco", served, "--annotations", listing)


def interrupt(arguments: list[str], when: Callable[[], bool]) -> tuple[int, str, str, float]:
    """Run the script, and interrupt it once `when` holds.

    Returns:
        The exit status, stdout, stderr, and the seconds from the signal to the end.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    # A process in the background ignores SIGINT, and its children would too.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, earlier)
    with process:
        try:
            deadline = time.monotonic() + 20
            while not when():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            return process.returncode, out, err, time.monotonic() - sent
        finally:
            process.kill()


INTERRUPTED = (130, "", "Interrupted; run the same command again to go on\n")


def test_interrupt_exits_soon_and_leaves_no_temporary_file(
    served: Served, listing: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "coco" / "val2017"
    served.stalled.update(f"/val2017/{name}" for name in NAMES[:4])
    options = ["--annotations", str(listing), "--workers", "5", "--base-url", served.url]
    *ended, seconds = interrupt(
        [str(tmp_path / "coco"), *options],
        lambda: photos.is_dir() and set(NAMES[4:]) <= set(names_in(photos)),
    )
    assert tuple(ended) == INTERRUPTED
    assert seconds < 2  # the server stalls for 20
    assert names_in(photos) == NAMES[4:]


def test_an_interrupted_zip_is_gone_on_with(
    coco: ModuleType, served: Served, tmp_path: Path
) -> None:
    served.files[f"/annotations/{ZIP}"] = make_zip(
        make_listing() | {"info": "x" * (1 << 20)}
    )  # several pieces
    served.stalled.add(f"/annotations/{ZIP}")
    part = tmp_path / "annotations" / f"{ZIP}.part"
    *ended, seconds = interrupt(
        [str(tmp_path), "--base-url", served.url],
        lambda: part.is_file() and part.stat().st_size > 0,
    )
    assert tuple(ended) == INTERRUPTED
    assert seconds < 2
    assert names_in(part.parent) == [part.name]
    size = part.stat().st_size
    served.stalled.clear()
    assert run(coco, tmp_path, served, "--limit", 1).exit_code == 0
    assert served.starts[1] == size
