"""The program that makes the figures, on a small network and on photos made for the test."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import make_figure
import numpy as np
import pytest
import sample_photos
from click.testing import CliRunner

import vggnorm
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def kept(some_means: FilterMeans, tmp_path: Path) -> Path:
    """Return a folder of means, as a run leaves them."""
    folder = tmp_path / "kept"
    after = {layer: np.where(mean > 0, 1.0, 0.0) for layer, mean in some_means.mean.items()}
    normalized = replace(some_means, measured=replace(some_means.measured, mean=after))
    make_figure.save_measured(
        {"all": some_means, "before": some_means, "after": normalized}, folder
    )
    return folder


def test_the_halves_are_measured_apart(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    model, photos = make_chain(), find_photos(photo_folder)
    measured = make_figure.measure(model, photos, Geometry(32))
    assert [means.image_count for means in measured.values()] == [9, 5, 5]
    # Of 9 photos, 5 are held out. The sum over the other four is the sum over all minus that over
    # the five, and the rule divides by their mean.
    for layer, mean in measured["all"].mean.items():
        used = (9 * mean - 5 * measured["before"].mean[layer]) / 4
        np.testing.assert_allclose(
            measured["after"].mean[layer] * used, measured["before"].mean[layer], rtol=1e-4
        )
    assert measured["after"].recipe.network == "chain normalized with 4 other photos"
    make_figure.draw(measured, tmp_path)
    for name in ("figure.png", "normalized.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_one_photo_has_no_halves(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(photo_folder / "0.jpg", tmp_path)
    with pytest.raises(vggnorm.PhotoError, match="holds one photo"):
        make_figure.measure(make_chain(), find_photos(tmp_path), Geometry(32))


def test_from_photos_to_figures(
    random_vgg16: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_figure, "GEOMETRY", Geometry(32, "stretch", "nearest"))
    (tmp_path / "figure.png").write_text("an older one")
    arguments = [str(photo_folder), "--weights", str(random_vgg16), "-o", str(tmp_path)]
    result = CliRunner().invoke(make_figure.main, [*arguments, "--means", str(tmp_path / "kept")])
    assert result.exit_code == 0, result.output
    for name in ("figure.png", "normalized.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    means = load_means(tmp_path / "kept" / "all.npy")
    assert (means.recipe.size, means.recipe.fit, means.recipe.interpolation) == (
        32,
        "stretch",
        "nearest",
    )
    every = np.concatenate(list(means.mean.values()))
    row = next(line for line in result.stdout.splitlines() if line.startswith("all "))
    figures = [every.min(), np.median(every), every.max(), every.mean(), every.std()]
    assert row.split() == ["all", "9", *(f"{figure:.3f}" for figure in figures)]


def test_means_that_were_kept_are_used_again(kept: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        make_figure.main, ["absent", "--means", str(kept), "-o", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "normalized.png").exists()
    (kept / "after.npy").unlink()
    result = CliRunner().invoke(
        make_figure.main, ["absent", "--means", str(kept), "-o", str(tmp_path)]
    )
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: absent: is not a folder, a .zip or a .tar; give a folder or an archive of photos\n",
    )


def test_without_a_folder_photos_and_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def stand_in(name: str) -> click.Command:
        return click.Command(name, callback=lambda **options: asked.append(options))

    monkeypatch.setattr(make_figure, "PHOTOS", tmp_path / "photos")
    monkeypatch.setattr(sample_photos, "main", stand_in("photos"))
    result = CliRunner().invoke(make_figure.main, ["-o", str(tmp_path)])
    assert asked == [{"folder": tmp_path / "photos"}]
    missing = f"Error: {tmp_path / 'photos'}: is not a folder, a .zip or a .tar; "
    assert result.stderr == f"{missing}give a folder or an archive of photos\n"


def test_the_output_folder_is_missing(kept: Path, tmp_path: Path) -> None:
    save_means(load_means(kept / "all.npy"), kept / "before.npy", force=True)
    result = CliRunner().invoke(
        make_figure.main, ["--means", str(kept), "-o", str(tmp_path / "absent")]
    )
    assert result.exit_code == 1
    assert "absent does not exist; make it first" in result.stderr
