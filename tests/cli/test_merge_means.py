"""merge-means: parts of the photos, measured by commands of their own, and added up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from command_line import failed, run

from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means

Compute = Callable[..., Result]


@pytest.fixture
def parts(compute: Compute, mixed_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Measure two parts of the photos."""
    for number in 1, 2:
        output = tmp_path / f"part{number}.npy"
        result = compute("--shard", f"{number}/2", "-o", output, data=mixed_folder)
        assert result.exit_code == 0, result.output
    return tmp_path / "part1.npy", tmp_path / "part2.npy"


def test_parts_add_up_to_the_whole(
    parts: tuple[Path, Path], compute: Compute, mixed_folder: Path, tmp_path: Path
) -> None:
    result = run("merge-means", *parts)
    assert result.exit_code == 0, result.output
    assert "9 used, 2 skipped" in result.stdout
    assert result.stdout.endswith("2 parts added up, saved as means.npy\n")
    assert compute("-o", tmp_path / "whole.npy", data=mixed_folder).exit_code == 0
    merged, whole = load_means("means.npy"), load_means(tmp_path / "whole.npy")
    # All photos are in one block, and so in the first part: there is nothing to add.
    np.testing.assert_array_equal(merged.mean["conv3"], whole.mean["conv3"])
    save_means(whole, parts[1], force=True)
    assert "part2.npy is not a part" in failed(run("merge-means", *parts, "--force"))


def test_one_part_does_not_normalize(parts: tuple[Path, Path], chain_file: Path) -> None:
    text = failed(run("normalize", "--means", parts[0], "--network", chain_file))
    assert "merge-means first" in text


def test_parts_that_do_not_fit_are_refused(parts: tuple[Path, Path]) -> None:
    Path("means.npy").write_text("precious")
    one, two = parts
    assert "exists already" in failed(run("merge-means", one, two))
    assert "part1.npy is given twice" in failed(run("merge-means", one, one, "--force"))
    assert "these are missing: 1" in failed(run("merge-means", two, "--force"))
    assert Path("means.npy").read_text() == "precious"


def test_a_part_without_blocks_is_measured_shown_and_added_up(
    parts: tuple[Path, Path], compute: Compute, mixed_folder: Path, chain_file: Path
) -> None:
    """The 11 photos are one block."""
    one, two = parts
    result = compute("--shard", "2/2", data=mixed_folder)
    assert result.exit_code == 0, result.output
    assert "part 2 of 2 has no photos: there are 1 blocks of up to 256 photos" in result.stderr
    assert "0 used, 0 skipped" in result.stdout
    assert "part 2 of 2\n" in result.stdout
    assert "this part counts no photos" in run("inspect", two).stdout
    assert '"image_count": 0' in run("inspect", two, "--json").stdout
    assert "merge-means first" in failed(run("normalize", "--means", two, "--network", chain_file))
    assert "merge-means first" in failed(run("plot", two))
    assert run("merge-means", one, two, "--force").exit_code == 0
    assert load_means("means.npy").image_count == 9
