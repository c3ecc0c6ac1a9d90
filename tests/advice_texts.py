"""The advice in the program's messages, as it stands in the code.

A message says what is wrong, then a semicolon, then what to do: `X: is a folder; name a file`. A
few say it behind a colon: `X: give a name that ends in .h5`. Here each such piece of advice is one
text, in which `{}` stands for a value.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import click
import pytest

from vggnorm.errors import VggnormError

PACKAGE = Path(__file__).parents[1] / "vggnorm"

VALUE = "{}"  # stands for a value in a text

# What is in front of advice.
MARK = re.compile(r"; |: (?=give |leave out |pip install )")

# Advice that is put behind the semicolon of a message as a value, or is a message of its own. Each
# is the beginning of a text in the code.
ELSEWHERE = {
    # Messages of their own: `vggnorm.cli.identify`, `vggnorm.cli.packaged`,
    # `vggnorm.report.verification`.
    "give --data or --means, and not both",
    "for better ones, measure a few thousand photos with 'vggnorm compute-means --data PHOTOS', "
    "and give --means means.npy",
    "measure more photos, or leave such filters smaller than 1 with vggnorm normalize --max-scale",
    # A network that cannot be run: `vggnorm.network.trial`.
    "name each layer with letters of ASCII, digits, '_', '.' and '-' only: "
    "{}.get_layer({}).name = {}",
    "use {}",
    "mend that layer, or leave out the layers from there on",
    # Names that were given: `vggnorm.report.plot`, `vggnorm.photos.coco`.
    "did you mean {}?",
    "there are {}",
    # Where a file cannot be written: `vggnorm.disk`.
    "give a name in another folder",
    "give a shorter name",
    "make room there, or give a name in another folder",
    # Folders of masks: `vggnorm.photos.source`, `vggnorm.photos.places`.
    "give it as the data to take them",
    "make an archive of it alone to take them",
    # Memory: `vggnorm.network.memory`.
    "use {}, with --fresh if compute-means has begun, or run the same command again when more "
    "memory is free",
    # A run that has ended: `vggnorm.photos.reader`, `vggnorm.run.loop`, `vggnorm.run.checkpoint`.
    "run the same command again",
    "{} keeps them: {}",
    "{} keeps {} of them: {} from there",
}

# Where a value stands alone behind a semicolon: module -> how often. Those of these values that
# advise something stand in ELSEWHERE.
VALUES = {
    "vggnorm/disk.py": 1,
    "vggnorm/network/memory.py": 2,
    "vggnorm/network/trial.py": 2,
    "vggnorm/photos/coco.py": 1,
    "vggnorm/photos/photo_list.py": 1,
    "vggnorm/report/plot.py": 1,
    "vggnorm/run/loop.py": 1,
    "vggnorm/run/output.py": 1,
    "vggnorm/run/ray.py": 1,
}

FOLLOWING = Path(__file__).parent / "advice"

# The functions that tests in `tests/advice` call, and which argument is the advice.
PLACES = {"refused": 0, "said": 1}

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Refusal:
    """What `refused` found.

    Attributes:
        text: the message, when the block has ended.
    """

    text: str = ""


@contextmanager
def refused(advice: str) -> Iterator[Refusal]:
    """Expect an error of one line that gives this advice.

    `test_advice.py` finds the calls of this function, so the text must be written in the call.

    Args:
        advice: the advice as it stands in the code, with `{}` for a value.
    """
    refusal = Refusal()
    with pytest.raises((VggnormError, ValueError, click.ClickException)) as caught:
        yield refusal
    error = caught.value
    refusal.text = text = (
        error.format_message() if isinstance(error, click.ClickException) else str(error)
    )
    assert "\n" not in text
    assert gives(text, advice), text


def said(lines: Iterable[str], advice: str) -> bool:
    """Tell whether a line that the program says gives this advice, as `refused` does of errors."""
    return any(gives(line.strip(), advice) for line in lines)


def gives(message: str, advice: str) -> bool:
    """Tell whether a message gives a piece of advice."""
    pattern = re.escape(advice).replace(re.escape(VALUE), ".+")
    return re.search(f"(^|[;:] | and ){pattern}", message) is not None


def advice_in_the_code() -> dict[str, str]:
    """Find what stands behind the semicolons of all texts in the package: the text, and where."""
    found: dict[str, str] = {}
    for where, text in _all_texts():
        first, *others = MARK.split(text)
        found |= dict.fromkeys(others, where)
        if first in ELSEWHERE:
            found[first] = where
    found.pop(VALUE, None)
    return found


def values_in_the_code() -> dict[str, int]:
    """Count where a value stands alone behind a semicolon: module -> how often."""
    places = [
        where.partition(":")[0]
        for where, text in _all_texts()
        for advice in MARK.split(text)[1:]
        if advice == VALUE
    ]
    return dict(Counter(places))


@cache
def _all_texts() -> list[tuple[str, str]]:
    """List where each text in the package stands, `vggnorm/disk.py:85`, and the text."""
    texts = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE.parent).as_posix()
        texts += [(f"{module}:{line}", text) for text, line in texts_in(path)]
    return texts


@cache
def advice_followed() -> frozenset[str]:
    """Find the pieces of advice that the tests in `tests/advice` follow."""
    found = set()
    for path in sorted(FOLLOWING.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in PLACES:
                found.add(ast.literal_eval(node.args[PLACES[node.func.id]]))
    return frozenset(found)


def texts_in(path: Path) -> Iterator[tuple[str, int]]:
    """Give all texts of a module but its docstrings, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(node) for node in _docstrings(tree)} | {id(node) for node in _parts(tree)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(_part_text(part) for part in node.values), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            yield first.value


def _parts(tree: ast.Module) -> Iterator[ast.AST]:
    """Give the texts that are parts of another text with values in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from node.values


def _part_text(part: ast.expr) -> str:
    """Give a part of a text: `{}` for a value."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return VALUE
