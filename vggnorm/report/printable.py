"""How text leaves the program.

Anyone may have made the files that names of photos, layers and networks come from. A terminal takes
some characters as commands: to change colours, to go back in the line, to write from right to left.
A newline in a name could forge a line of the program's own. So every line is escaped as it is
written, and only the program ends a line.
"""

import errno
import json
import unicodedata
from collections.abc import Iterable
from typing import Any

import click

from vggnorm.errors import OutputError

# Control characters; format characters, such as bidirectional and zero-width ones; unpaired
# surrogates; separators of lines and of paragraphs.
ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: object) -> str:
    r"""Escape every character that does more than show, such as `\n`, so that text is one line."""
    return "".join(_escape(character) for character in str(text))


def join_lines(lines: Iterable[str]) -> str:
    """Join the lines of a report. Each of them is made printable, and stays one line."""
    return "\n".join(printable(line) for line in lines)


def echo(*lines: str, err: bool = False) -> None:
    """Write lines to stdout, or to stderr.

    Raises:
        OutputError: the operating system refuses to write, for another reason than that nobody
            reads any more.
    """
    _write(join_lines(lines), err=err)


def echo_report(report: object, title: str = "") -> None:
    """Write a report after a title. Its lines must be printable already."""
    _write(f"{printable(title)}{report}", err=False)


def echo_json(value: Any) -> None:
    """Write JSON in plain ASCII. The one control character that `json` leaves is escaped here."""
    _write(json.dumps(value, indent=2).replace("\x7f", r"\u007f"), err=False)


def _write(text: str, *, err: bool) -> None:
    try:
        click.echo(text, err=err)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader is gone: click ends the program quietly
            raise
        stream = "stderr" if err else "stdout"
        raise OutputError(f"{stream}: could not be written: {error.strerror}") from error


def _escape(character: str) -> str:
    if unicodedata.category(character) not in ESCAPED:
        return character
    return character.encode("unicode_escape").decode("ascii")
