"""README is short, its examples run, and its links can be made absolute."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggnorm
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.report.text import format_summary

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
WORDS = 1200
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def example(page: Path, start: str) -> str:
    """Return the page's one example in Python that begins with `start`."""
    blocks = CODE.findall(page.read_text(encoding="utf-8"))
    (found,) = (block for block in blocks if block.startswith(start))
    return str(found)


def output_lines(pattern: str) -> list[str]:
    """Return the lines of output in README that match a pattern."""
    lines = README.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if re.match(rf"    {pattern}", line)]


def test_readme_is_short() -> None:
    count = len(README.read_text(encoding="utf-8").split())
    assert count <= WORDS, f"{count} words; move something to docs/"


def test_the_python_example_runs(
    make_chain: Callable[..., Any],
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(photo_folder, tmp_path / "coco" / "val2017")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vggnorm, "load_network", lambda _name: make_chain())
    exec(compile(example(README, "import vggnorm"), "README.md", "exec"), {})
    assert means_in(tmp_path / "vgg16_norm.h5").image_count == 9
    printed = capsys.readouterr().out.splitlines()
    verdicts = output_lines("pass ")
    assert len(verdicts) == 3
    assert set(verdicts) <= set(printed)


def test_the_examples_for_python_run(
    make_chain: Callable[..., Any],
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(photo_folder, tmp_path / "coco" / "val2017")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vggnorm, "load_network", lambda _name: make_chain())
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = "".join(CODE.findall(page)).replace("block1_conv1", "conv1")
    names: dict[str, Any] = {}
    exec(compile(code, "python.md", "exec"), names)
    assert load_means(tmp_path / "means.npy").image_count == 9
    assert names["means"].image_count == 9


def means_in(path: Path) -> FilterMeans:
    """Return the means that a normalized network's file holds."""
    from vggnorm.files.formats import load_means

    return load_means(path)


def test_the_table_has_the_columns_that_are_printed(some_means: FilterMeans) -> None:
    printed = [line.split() for line in format_summary(some_means).splitlines()]
    (header,) = output_lines("layer .* silent$")
    assert header.split() in printed
    labels = {line[0] for line in printed if line}
    shown = output_lines("(photos|geometry) ")
    assert len(shown) == 2
    assert {line.split()[0] for line in shown} <= labels


def test_the_means_are_read_as_the_page_on_files_reads_them(
    some_means: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_means(some_means, tmp_path / "means.npy")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"np": np, "json": json}
    code = example(ROOT / "docs" / "files.md", "means = ")
    code = code.replace("block1_conv1", next(iter(some_means.mean)))
    exec(compile(code, "files.md", "exec"), names)
    assert list(names["mean"]) == list(some_means.mean)
    for layer, mean in some_means.mean.items():
        np.testing.assert_array_equal(names["mean"][layer], mean)


def built_readme(folder: Path, replacement: str | None = None) -> str:
    """Return README as it goes into a package, with another replacement for relative links."""
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    usual = r"replacement = '\2'"
    assert settings.count(usual) == 1
    if replacement is not None:
        settings = settings.replace(usual, f"replacement = '{replacement}'")
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
    for name in ("README.md", "LICENSE", "vggnorm/version.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    metadata = ProjectMetadata(str(folder), PluginManager())
    assert metadata.core.readme_content_type == "text/markdown"
    return str(metadata.core.readme)


def links(text: str) -> list[str]:
    """Return what a text links to or shows as a picture."""
    return re.findall(r"\]\(([^)]+)\)", text)


LAST_LINE = "\nThe pages and pictures that this text names are in the source distribution.\n"


def test_what_is_built_has_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    original = README.read_text(encoding="utf-8")
    built = built_readme(tmp_path)
    assert links(built) == [link for link in links(original) if link.startswith("https://")]
    assert "| A cat | Gravel | Gravel with a trace of a cat | The cat, partly made of gravel |" in (
        built
    )
    assert "- Commands: every option. Python." in built
    assert built.endswith(LAST_LINE)


def test_with_an_address_all_links_become_absolute(tmp_path: Path) -> None:
    address = "https://example.invalid/vggnorm/"
    # As the comment in pyproject.toml says.
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (advice,) = re.findall(r"with this replacement instead: '(\S+)'", settings)
    original = README.read_text(encoding="utf-8")
    built = built_readme(tmp_path, advice.replace("https://ADDRESS/", address))
    expected = [link if link.startswith("https://") else address + link for link in links(original)]
    assert links(built) == expected
    assert "![A cat](https://example.invalid/vggnorm/docs/pictures/cat.jpg)" in built
    assert built.replace(address, "") == original + LAST_LINE
