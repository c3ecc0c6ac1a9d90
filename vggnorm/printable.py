"""How text leaves the program.

Names of photos, layers and networks come from files that anyone may have made. A terminal takes some characters as
orders: to change colours, to go back in the line, to write from right to left. A newline in a name can forge a line of
the program's own. So every line is escaped as it is written, and only the program ends a line.
"""

import errno
import json
import unicodedata
from collections.abc import Iterable
from typing import Any

import click

from vggnorm.errors import OutputError

# Control characters; those that format, such as bidirectional and zero-width ones; unpaired surrogates; separators of
# lines and of paragraphs.
ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: object) -> str:
    r"""Give text as one line that only shows: each character that does more becomes an escape, such as `\n`."""
    return "".join(_escape(character) for character in str(text))


def join_lines(lines: Iterable[str]) -> str:
    """Give a report as text. Each of its lines becomes printable by itself, and stays one line."""
    return "\n".join(printable(line) for line in lines)


def echo(*lines: str, err: bool = False) -> None:
    """Write lines to stdout, or to stderr.

    Raises:
        OutputError: the operating system would not write, other than to a reader that has gone.
    """
    _write(join_lines(lines), err=err)


def echo_report(report: object, title: str = "") -> None:
    """Write a report, whose lines are printable already, behind a title."""
    _write(f"{printable(title)}{report}", err=False)


def echo_json(value: Any) -> None:
    """Write JSON. It escapes every character beyond ASCII; DEL, which it leaves, is escaped here."""
    _write(json.dumps(value, indent=2).replace("\x7f", r"\u007f"), err=False)


def _write(text: str, *, err: bool) -> None:
    try:
        click.echo(text, err=err)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has what it wanted: click ends the program quietly
            raise
        raise OutputError(f"{'stderr' if err else 'stdout'}: could not be written: {error.strerror}") from error


def _escape(character: str) -> str:
    if unicodedata.category(character) not in ESCAPED:
        return character
    return character.encode("unicode_escape").decode("ascii")
