"""How far a run is: lines for a log file, a bar for a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from vggnorm import progress
from vggnorm.progress import progress_bar


def test_a_log_file_gets_whole_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar() as show:
        show(32, 100)
        show(64, 96)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("32/100 photos, ")
    assert second.startswith("64/96 photos, ")
    assert "photos/s, " in second
    assert second.endswith(" left")


def test_lines_come_now_and_then_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as show:
        for done in range(1, 1000):
            show(done, 1000)
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_a_terminal_gets_a_bar() -> None:
    program = "from vggnorm.progress import progress_bar\nwith progress_bar() as show: show(50, 100); show(100, 100)"
    terminal, line = pty.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", program], stderr=line, check=True)
    os.close(line)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "\r" in shown
    assert "100%|" in shown
    assert "100/100" in shown
