"""The progress of a run: lines in a log file, a bar on a terminal."""

import io
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vggnorm.run import progress
from vggnorm.run.progress import progress_bar, say


def test_a_log_file_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar() as show:
        show(0, 100, None)
        show(32, 100, None)
        show(64, 96, 0.0734)
    out, err = capsys.readouterr()
    assert out == ""
    zeroth, first, second = err.splitlines()
    assert zeroth.startswith("0/100 photos, ")
    assert first.startswith("32/100 photos, ")
    assert first.endswith(" left")
    assert second.startswith("64/96 photos, ")
    assert "photos/s, " in second
    assert second.endswith(" left, 95% of filters known to 7.3%")


def test_lines_come_now_and_then_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as show:
        for done in range(1, 1000):
            show(done, 1000, None)
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_what_an_earlier_run_did_does_not_count_for_the_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar() as show:
        show(1_000_000, 2_000_000, None)
        time.sleep(0.1)
        show(1_000_001, 2_000_000, None)
    rate = re.search(r"1000001/2000000 photos, +([0-9.]+) ?photos/s", capsys.readouterr().err)
    assert rate is not None
    assert float(rate[1]) <= 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_run_goes_on_when_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        with pytest.raises(OSError, match="No space left"):
            print("a line", file=sys.stderr, flush=True)  # noqa: T201
        with progress_bar() as show:
            show(0, 100, None)
            show(32, 100, None)
            say("a line")


def test_a_terminal_gets_a_bar() -> None:
    program = (
        "from vggnorm.run.progress import progress_bar\n"
        "with progress_bar() as show: show(0, 100, None); show(50, 100, 0.1); show(100, 100, 0.1)"
    )
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))  # not on Windows
    terminal, line = pty.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", program], stderr=line, check=True)
    os.close(line)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "\r" in shown
    assert "100%|" in shown
    assert "100/100" in shown
