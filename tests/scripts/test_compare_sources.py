"""The comparison of sources: its archives, its table worked by hand, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import click
import compare_sources
import numpy as np
import pytest
from click.testing import CliRunner
from compare_sources import Runs

from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.finding import find_photos


def test_the_archives_hold_the_photos_of_the_folder(photo_folder: Path, tmp_path: Path) -> None:
    compare_sources.write_archives(photo_folder, tmp_path)
    digest = find_photos(photo_folder).sha256()
    for name in "stored.zip", "deflated.zip", "photos.tar":
        assert find_photos(tmp_path / name).sha256() == digest


def test_the_table() -> None:
    folder = Runs("folder", "coco", [0.5, 0.25], [2.0, 4.0], [1.0, 2.0], [50.0, 20.0], 100)
    archive = replace(folder, name="zip", measuring=[80.0, 40.0])
    *_, first, second = compare_sources.format_table([folder, archive])
    assert first == "| folder | 0.25 | 50 | 10.0 | 5.0 | 1.00 |"
    assert second == "| zip | 0.25 | 50 | 10.0 | 2.5 | 0.50 |"


def test_means_and_digests_that_differ_are_refused(some_means: FilterMeans) -> None:
    compare_sources.require_equal("zip", some_means, some_means)
    mean = {**some_means.measured.mean, "conv1": np.array([1.0, np.nextafter(2.0, 3)])}
    other = replace(some_means, measured=replace(some_means.measured, mean=mean))
    with pytest.raises(click.ClickException, match="zip: the means of conv1 differ"):
        compare_sources.require_equal("zip", other, some_means)
    other = replace(some_means, recipe=replace(some_means.recipe, photos_sha256="9" * 64))
    with pytest.raises(click.ClickException, match="zip: photos_sha256 differs"):
        compare_sources.require_equal("zip", other, some_means)


def test_many_tiny_photos() -> None:
    result = CliRunner().invoke(compare_sources.main, ["--many", "20"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "20 photos in a zip of 0 MB"
    for line, word in zip(lines[2:], ("found", "shuffled", "digested"), strict=True):
        assert line.startswith(f"{word} in 0.")


def test_nothing_to_measure_is_refused() -> None:
    result = CliRunner().invoke(compare_sources.main, [])
    assert result.exit_code == 2
    assert "give a folder, or --many" in result.stderr
