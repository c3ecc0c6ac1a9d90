"""What other systems do not have is not needed to start: Windows has no SIGHUP and no fcntl."""

import subprocess
import sys

WITHOUT = """
import signal, sys
del signal.SIGHUP
sys.modules["fcntl"] = None
from vggnorm.cli import main
main(sys.argv[1:], prog_name="vggnorm")
"""


def test_the_program_starts_without_what_windows_lacks() -> None:
    for arguments in (["--help"], ["compute-means", "--help"]):
        done = subprocess.run(
            [sys.executable, "-W", "ignore::UserWarning", "-c", WITHOUT, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: vggnorm")


def test_signals_that_exist_are_still_taken() -> None:
    code = (
        "import signal; del signal.SIGHUP; from vggnorm.run.signals import ENDING; print(*ENDING)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(int(number)) for number in (2, 15)]
