"""The pages say what the code says: links, options, names, the help of commands, the tables.

`python tests/test_docs.py` writes docs/commands.md from the help of every command.
"""

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from vggnorm.cli import main

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs" / "commands.md"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
HAND_WRITTEN = tuple(page for page in PAGES if page != COMMANDS)

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
hand_written_by_page = pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: page.name)


# docs/commands.md


def command_reference() -> str:
    """Return what docs/commands.md must hold: the help of every command."""
    parts = [
        "# Commands\n",
        "What `--help` prints for each command. `python tests/test_docs.py` writes this page.\n",
    ]
    for name in main.commands:
        arguments = [name, "--help"]
        result = CliRunner().invoke(main, arguments, prog_name="vggnorm", terminal_width=100)
        assert result.exit_code == 0, result.output
        parts += [f"## {name}\n", f"```text\n$ vggnorm {name} --help\n{result.stdout}```\n"]
    return "\n".join(parts)


def test_the_command_reference_is_what_help_prints() -> None:
    current = COMMANDS.read_text(encoding="utf-8")
    assert current == command_reference(), "bring it up to date: python tests/test_docs.py"


# Links


def slug(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of all headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {slug(heading) for heading in headings}


def relative_links(page: Path) -> list[str]:
    """Return what a page links to, or shows as a picture, without an address of its own."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in links if not link.startswith(("http://", "https://"))]


@page_by_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in relative_links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert ROOT in target.resolve().parents, f"{link}: leads out of the project"
        if anchor:
            assert anchor in anchors(target), link


def test_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in relative_links(PAGES[0])}
    assert set(PAGES[1:]) <= linked


# Options and names


def code(page: Path) -> Iterator[str]:
    """Yield the code of a page: every line of a block, and every span between backticks.

    A line that ends in a backslash is joined with the next one.
    """
    text = page.read_text(encoding="utf-8")
    fenced = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    blocks = fenced.findall(text)
    prose = fenced.sub("", text)
    blocks += re.findall(r"(?:^ {4,}.*\n)+", prose, re.MULTILINE)
    for block in blocks:
        joined = block.replace("\\\n", " ")
        yield from (line.strip().removeprefix("$ ") for line in joined.splitlines())
    yield from re.findall(r"`([^`\n]+)`", prose)


def options_of(commands: Iterable[click.Command]) -> set[str]:
    """Return every option that one of the commands takes."""
    names = {"--help"}
    for command in commands:
        for parameter in command.params:
            names.update(parameter.opts, parameter.secondary_opts)
    return names


def known_options(line: str) -> set[str] | None:
    """Return the options that a line of code may use; None if it is not a command of ours."""
    words = line.split()
    if not words:
        return None
    if words[0] == "vggnorm" and words[1:]:
        command = main if words[1].startswith("-") else main.commands[words[1]]
        return options_of([command])
    if words[0].startswith("--"):
        return options_of(main.commands.values())
    script = re.search(r"scripts/(\w+)\.py(?: (\w+))?", line)
    if script:
        module: Any = importlib.import_module(script[1])
        is_group = isinstance(module.main, click.Group) and script[2]
        return options_of([module.main.commands[script[2]] if is_group else module.main])
    if words[0].startswith("scripts/"):
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        return {*re.findall(r"--[a-z-]+", source), "-k"}  # -k is pytest's
    return None


@hand_written_by_page
def test_every_option_exists(page: Path) -> None:
    for line in code(page):
        known = known_options(line)
        if known is None:
            continue
        used = re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", line)
        assert set(used) <= known, line


def exists(name: str) -> bool:
    """Tell whether a dotted name is a module of the project, or something in one."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[:index]))
            except ImportError:
                return False
    return True


@hand_written_by_page
def test_every_name_of_the_package_exists(page: Path) -> None:
    for line in code(page):
        for name in re.findall(r"\bvggnorm(?:\.[A-Za-z_]\w*)+", line):
            assert exists(name), name


@hand_written_by_page
def test_every_file_of_the_project_that_is_named_exists(page: Path) -> None:
    parts = [path.name for path in (ROOT / "vggnorm").iterdir() if path.is_dir()]
    folders = "|".join(["vggnorm", "tests", "scripts", "docs", "tex", *parts])
    for line in code(page):
        for name in re.findall(rf"(?<![\w./])(?:{folders})/[\w./-]*", line):
            places = (ROOT / name, ROOT / "vggnorm" / name)
            assert any(place.exists() for place in places), name


def test_every_file_that_the_derivation_names_exists() -> None:
    text = (ROOT / "tex" / "normalization.tex").read_text(encoding="utf-8")
    named = re.findall(r"\\file\{([^}]*/[^}]*)\}", text)
    pictures = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", text)
    assert named
    assert pictures
    for path in [*(ROOT / name for name in named), *(ROOT / "tex" / name for name in pictures)]:
        assert path.exists(), path


# Tables, and where things are


def test_the_table_of_layers_is_that_of_the_code() -> None:
    import keras

    from vggnorm.network import kinds, layers, rectifiers

    augmenting = {*kinds.AUGMENTING}
    lines = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| ") and "`" in line]
    table = {words.strip(): set(re.findall(r"`(\w+)`", names)) for _, words, names, *_ in rows}
    for words, expected in (
        ("take a scale in and give out their own", layers.FILTERS),
        ("let any positive scale through", kinds.RECTIFIERS),
        ("pass a scale on", {*kinds.SPATIAL, *kinds.POOLING_AWAY, *kinds.IN_TRAINING} - augmenting),
        ("rescale, and pass a scale on", {keras.layers.Rescaling}),
        ("give their input back when a network is used", augmenting),
        ("move scales with their channels", kinds.MOVING),
        ("put scales side by side", kinds.JOINING),
    ):
        assert table[words] == {kind.__name__ for kind in expected}, words
    assert table["absorb a scale exactly and pass it on"] == {"BatchNormalization"}
    assert set().union(*table.values()) >= {kind.__name__ for kind in layers.RULES}
    assert {function.__name__ for function in rectifiers.RECTIFYING} == {"relu", "leaky_relu"}


def modules(folder: Path) -> set[str]:
    """Return the names of a folder's Python files, without __init__ and __main__."""
    return {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in (ROOT / "vggnorm").glob("*/__init__.py"))
)
def test_a_folder_names_its_modules(folder: str) -> None:
    module = importlib.import_module(f"vggnorm.{folder}")
    named = set(re.findall(r"^- `(\w+\.py)`: ", module.__doc__ or "", re.MULTILINE))
    missing = modules(ROOT / "vggnorm" / folder) - named
    assert not missing, f"add a line for each to the docstring of vggnorm/{folder}/__init__.py"


def test_contributing_names_every_part_of_the_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "vggnorm"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    for name in sorted(folders | modules(package)):
        part = name.removesuffix(".py").removesuffix("/")
        assert re.search(rf"^ {{4}}{part}(\.py|/) ", text, re.MULTILINE), name


@pytest.mark.parametrize(
    "script", [path.name for path in sorted((ROOT / "scripts").iterdir()) if path.is_file()]
)
def test_scripts_that_pages_tell_to_run_can_be_run(script: str) -> None:
    path = ROOT / "scripts" / script
    starts_with_interpreter = path.read_bytes().startswith(b"#!")
    assert bool(path.stat().st_mode & 0o111) == starts_with_interpreter


if __name__ == "__main__":
    COMMANDS.write_text(command_reference(), encoding="utf-8")
