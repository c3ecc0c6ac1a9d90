"""Names from files are escaped before they reach the terminal, logs and plots."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import vggnorm
from vggnorm.cli import main
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.report.printable import echo, echo_json, printable

EVIL = "a\x1b[31m\nError: all lost\n\x9b1A\u202e\r\x7f\u2028\u200b$x^2$"
SHOWN = r"a\x1b[31m\nError: all lost\n\x9b1A\u202e\r\x7f\u2028\u200b$x^2$"
PLAIN_ENV = {**os.environ, "PYTHONPATH": str(Path(vggnorm.__file__).parents[1])}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def require_plain(text: str) -> None:
    """Require that the newline is the only character in the text that does more than show."""
    does_more = {
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    assert does_more <= {"\n"}


@pytest.fixture
def evil_means(recipe: Recipe, tmp_path: Path) -> Path:
    """A file of means in which every name holds all the bad characters."""
    names = {
        f"conv{index}{EVIL}": values
        for index, values in enumerate(([1.0, 2.0, 4.0], [0.5, 3.0]), 1)
    }
    means = FilterMeans(
        Moments.of(
            {
                name: np.array([values, [2 * value for value in values]])
                for name, values in names.items()
            }
        ),
        replace(
            recipe,
            network=EVIL,
            weights=EVIL,
            photos=EVIL,
            annotations=EVIL,
            categories=(EVIL,),
            version=EVIL,
        ),
        (vggnorm.SkippedPhoto(EVIL, EVIL),),
    )
    path = tmp_path / "means.npy"
    save_means(means, path)
    return path


def test_every_kind_of_character_that_does_more_than_show_is_escaped() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("\udcff\u0085\u2066\u200e\ufeff\t") == r"\udcff\x85\u2066\u200e\ufeff\t"
    assert printable("Größe 写真 é $5 \\n") == "Größe 写真 é $5 \\n"


def test_json_holds_the_same_text_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_json({EVIL: EVIL})
    out = capsys.readouterr().out
    require_plain(out)
    assert json.loads(out) == {EVIL: EVIL}


def test_each_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    echo("one", EVIL, err=True)
    assert capsys.readouterr().err == f"one\n{SHOWN}\n"


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_inspect_shows_names_without_obeying_them(
    evil_means: Path, option: tuple[str, ...]
) -> None:
    result = run("inspect", evil_means, *option)
    assert result.exit_code == 0, result.output
    require_plain(result.output)
    assert "all lost" in result.stdout
    assert not re.search("^Error:", result.output, re.MULTILINE)


def test_errors_are_one_line_whatever_they_name(evil_means: Path, tmp_path: Path) -> None:
    for result in (
        run("plot", evil_means, "--layer", EVIL, "-o", tmp_path / "x.png"),
        run("inspect", tmp_path / EVIL),
        run("normalize", "--means", evil_means, "-o", tmp_path / "x.h5"),
    ):
        assert result.exit_code == 1
        require_plain(result.output)
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("Error: ")


def test_usage_errors_quote_arguments_in_printable_characters() -> None:
    for arguments in (
        (EVIL,),
        (f"--{EVIL}",),
        ("inspect", "x", f"--{EVIL}"),
        ("inspect", "x", "--limit", EVIL),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        require_plain(result.output)
        assert len(re.findall("^Error:", result.output, re.MULTILINE)) == 1


@pytest.mark.parametrize("option", ["--log", "--every-layer"])
def test_plots_escape_names_and_read_no_formula_in_them(
    evil_means: Path, tmp_path: Path, option: str
) -> None:
    figure = tmp_path / "figure.svg"
    result = run("plot", evil_means, option, "-o", figure)
    assert result.exit_code == 0, result.output
    # matplotlib repeats formulas in comments.
    text = re.sub("<!--.*?-->", "", figure.read_text(), flags=re.DOTALL)
    require_plain(text)
    assert SHOWN in text  # no part of it was read as a formula


CLOSED = (
    "import os, sys; os.close({number}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.mark.parametrize("number", [1, 2])
def test_a_closed_stream_does_no_harm(evil_means: Path, number: int) -> None:
    command = [
        sys.executable,
        "-c",
        CLOSED.format(number=number),
        "-m",
        "vggnorm",
        "inspect",
        str(evil_means),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=PLAIN_ENV, check=False)
    assert done.returncode == 0
    assert ("network " in done.stdout) == (number == 2)
    assert done.stderr == ""


def test_a_reader_that_is_gone_ends_the_program_quietly(evil_means: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vggnorm", "inspect", str(evil_means)]
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, env=PLAIN_ENV, check=False
    )
    os.close(writing)
    assert done.stderr == ""
