"""Run the command line inside a test."""

from pathlib import Path

from click.testing import CliRunner, Result

from vggnorm.cli import main


def run(*arguments: str | Path) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failed(result: Result) -> str:
    """Return the one line of a run that ended with an error which the user can fix.

    Before that line, a run may say where the photos are.
    """
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    *said, line = result.stderr.splitlines()
    assert all(" photos in " in before for before in said)
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")
