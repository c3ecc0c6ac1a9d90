"""README says what the code says. `python tests/test_readme.py` writes the commands' help into it."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from vggnorm.cli import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HELP = re.compile(r"(<!-- help of vggnorm ([a-z-]+) -->\n)\n*(?:```text\n.*?```\n\n)?", re.DOTALL)


def with_help(readme: str) -> str:
    """Put each command's help behind its mark."""

    def block(mark: re.Match[str]) -> str:
        result = CliRunner().invoke(main, [mark[2], "--help"], prog_name="vggnorm", terminal_width=100)
        assert result.exit_code == 0
        return f"{mark[1]}\n```text\n$ vggnorm {mark[2]} --help\n{result.stdout}```\n\n"

    return HELP.sub(block, readme)


def test_the_command_reference_is_what_help_prints() -> None:
    readme = README.read_text()
    assert readme == with_help(readme), "bring it up to date with: python tests/test_readme.py"
    assert {mark[2] for mark in HELP.finditer(readme)} == set(main.commands)


def test_the_link_to_the_rule_leads_to_the_rule() -> None:
    first, last = re.search(r"rescale\.py#L(\d+)-L(\d+)", README.read_text()).groups()
    lines = (ROOT / "vggnorm" / "rescale.py").read_text().splitlines()[int(first) - 1 : int(last)]
    code = "\n".join(lines)
    assert lines[0].startswith("    seen = ")
    assert "return kernel * seen / scale_out" in code
    assert lines[-1] == "    return bias / scale_out"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README.read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_table_of_layers_is_that_of_the_code() -> None:
    from vggnorm import layers

    rows = [line for line in README.read_text().splitlines() if line.startswith("| ") and "`" in line]
    table = {row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in rows}
    for words, kinds in (
        ("take scales in and give their own out", layers.FILTERS),
        ("let any positive scale through", layers.RECTIFIERS),
        ("pass scales on", {*layers.SPATIAL, *layers.POOLING_AWAY, *layers.IN_TRAINING}),
        ("move them with their channels", layers.MOVING),
        ("put them side by side", layers.JOINING),
    ):
        assert table[words] == {kind.__name__ for kind in kinds}, words
    assert table["absorb a scale exactly, and pass it on"] == {"BatchNormalization"}
    assert set().union(*table.values()) >= {kind.__name__ for kind in layers.RULES}
    assert {function.__name__ for function in layers.RECTIFYING} == {"relu", "leaky_relu"}


@pytest.mark.parametrize(
    "script",
    [
        *(
            "quickstart",
            "test",
            "download_coco.py",
            "fetch_weights.py",
            "fuzz.py",
            "make_figure.py",
            "sample_photos.py",
        ),
        *("benchmark.py", "style_transfer.py", "torture.py", "try_keras_versions.py"),
    ],
)
def test_scripts_can_be_run(script: str) -> None:
    assert (ROOT / "scripts" / script).stat().st_mode & 0o111


def test_the_library_example_names_what_there_is() -> None:
    import vggnorm

    for name in re.findall(r"vggnorm\.([a-zA-Z_]+)\(", README.read_text()):
        assert callable(getattr(vggnorm, name)), name


if __name__ == "__main__":
    README.write_text(with_help(README.read_text()))
