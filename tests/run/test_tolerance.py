"""How well the means are known, worked by hand, and runs that stop when that is well enough."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measuring import measure

from vggnorm.errors import StoppedError
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe

MakeChain = Callable[..., Any]
OPTIONS: dict[str, Any] = {"size": 32, "batch_size": 8}


def make_means(recipe: Recipe, std_errors: list[float]) -> FilterMeans:
    """Return means of 2 over four photos in two layers, with these standard errors."""
    # s / sqrt(4) = e, with s^2 = q / 3: q = 12 e^2
    squared_deviation = 12 * np.array(std_errors) ** 2
    layers = {"conv1": slice(0, 3), "conv2": slice(3, None)}
    return FilterMeans(
        Moments(
            4,
            {layer: np.full(len(squared_deviation[at]), 2.0) for layer, at in layers.items()},
            {layer: squared_deviation[at] for layer, at in layers.items()},
        ),
        recipe,
    )


def silenced(means: FilterMeans, layer: str) -> FilterMeans:
    """Return means of which all those of one layer are 0."""
    zeros = np.zeros_like(means.measured.mean[layer])
    mean = {**means.measured.mean, layer: zeros}
    return replace(means, measured=replace(means.measured, mean=mean))


def test_95_of_100_filters_are_known_to_it(recipe: Recipe) -> None:
    # The relative standard errors are 1 to 100 %, in any order. The 95th is 95 %, and the
    # interval, which four photos leave symmetric, reaches 1.96 times that.
    errors = 2 * np.random.default_rng(0).permutation(np.arange(1, 101)) / 100
    assert make_means(recipe, list(errors)).uncertainty == pytest.approx(1.96 * 0.95, rel=1e-12)


def test_of_twenty_filters_one_may_be_worse(recipe: Recipe) -> None:
    assert make_means(recipe, [0.02] * 19 + [2.0]).uncertainty == pytest.approx(1.96 * 0.01)
    assert make_means(recipe, [0.02] * 18 + [2.0] * 2).uncertainty == pytest.approx(1.96 * 1.0)


def test_filters_that_never_fire_are_left_out(recipe: Recipe) -> None:
    means = make_means(recipe, [0.02] * 10)
    assert silenced(means, "conv2").uncertainty == pytest.approx(1.96 * 0.01)
    assert silenced(silenced(means, "conv2"), "conv1").uncertainty is None


def test_a_single_photo_tells_nothing(recipe: Recipe) -> None:
    means = make_means(recipe, [0.02] * 10)
    assert replace(means, measured=replace(means.measured, count=1)).uncertainty is None


def test_what_is_not_known_of_the_correction_is_part_of_it(recipe: Recipe) -> None:
    means = make_means(recipe, [0.06] * 10)
    # Two of four photos: d sqrt(1/2 - 1/4) = 0.08, with d^2 = q / 1.
    zeros = {layer: np.zeros_like(values) for layer, values in means.mean.items()}
    correction = Moments(2, zeros, {layer: values + 0.08**2 * 4 for layer, values in zeros.items()})
    assert replace(means, correction=correction).uncertainty == pytest.approx(1.96 * 0.1 / 2)


@pytest.fixture(scope="module")
def folder(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two hundred photos, nine of them different."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(200):
        (folder / f"{index}.jpg").symlink_to(photo_folder / f"{index % 9}.jpg")
    return folder


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    return make_chain((8, 8))


@pytest.fixture(scope="module")
def uncertainties(model: Any, folder: Path) -> dict[int, float]:
    """Return how well the means are known: number of photos -> uncertainty."""
    return {
        count: measure(model, folder, **OPTIONS, limit=count).uncertainty or np.inf
        for count in range(8, 201, 8)
    }


def first_known(uncertainties: dict[int, float], tolerance: float) -> int:
    return min(
        count for count, known in uncertainties.items() if count >= 100 and known <= tolerance
    )


@pytest.mark.parametrize("count", [104, 136, 168])
def test_the_run_stops_as_soon_as_it_is_known_well_enough(
    count: int, model: Any, folder: Path, uncertainties: dict[int, float]
) -> None:
    tolerance = uncertainties[count] * (1 + 1e-9)
    means = measure(model, folder, **OPTIONS, tolerance=tolerance)
    assert means.image_count == first_known(uncertainties, tolerance) <= count
    assert means.recipe.tolerance == tolerance


def test_a_hundred_photos_are_measured_at_least(
    model: Any, folder: Path, uncertainties: dict[int, float]
) -> None:
    assert uncertainties[96] < 0.99
    assert measure(model, folder, **OPTIONS, tolerance=0.99).image_count == 104


def test_what_is_not_reached_takes_all_photos(model: Any, folder: Path) -> None:
    assert measure(model, folder, **OPTIONS, tolerance=1e-6).image_count == 200


def test_the_limit_holds_as_well(model: Any, folder: Path) -> None:
    assert measure(model, folder, **OPTIONS, tolerance=0.99, limit=20).image_count == 20
    assert measure(model, folder, **OPTIONS, tolerance=0.99, limit=150).image_count == 104


def test_a_run_that_was_interrupted_stops_at_the_same_photo(
    model: Any, folder: Path, uncertainties: dict[int, float], tmp_path: Path
) -> None:
    options = {**OPTIONS, "tolerance": uncertainties[136] * (1 + 1e-9)}
    whole = measure(model, folder, **options)
    save_means(whole, tmp_path / "whole.npy")
    calls = iter(range(1000))
    with pytest.raises(StoppedError):
        measure(
            model, folder, **options, checkpoint=tmp_path / "kept", stop=lambda: next(calls) == 7
        )
    assert load_means(tmp_path / "kept").image_count == 56
    save_means(
        measure(model, folder, **options, checkpoint=tmp_path / "kept"),
        tmp_path / "again.npy",
    )
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    told: list[int] = []
    measure(
        model,
        folder,
        **options,
        checkpoint=tmp_path / "kept",
        progress=lambda done, *_: told.append(done),
    )
    assert told == [whole.image_count]  # nothing is left to do


def test_a_checkpoint_of_a_former_version_goes_on_with_symmetric_intervals(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    calls = iter(range(1000))
    with pytest.raises(StoppedError):
        measure(
            model, folder, **OPTIONS, checkpoint=tmp_path / "kept", stop=lambda: next(calls) == 7
        )
    kept = load_means(tmp_path / "kept")
    former = replace(kept, measured=replace(kept.measured, cubed_deviation=None))
    save_means(former, tmp_path / "kept", force=True)
    means = measure(model, folder, **OPTIONS, checkpoint=tmp_path / "kept")
    whole = measure(model, folder, **OPTIONS)
    assert means.measured.cubed_deviation is None
    assert whole.measured.cubed_deviation is not None
    for layer, mean in whole.mean.items():
        np.testing.assert_array_equal(means.mean[layer], mean)
        np.testing.assert_array_equal(
            means.squared_deviation[layer], whole.squared_deviation[layer]
        )


def test_it_is_the_longer_side_that_counts(recipe: Recipe) -> None:
    # Of 100 photos, a filter fires in 20. Its interval reaches further up than down.
    values = np.zeros((100, 1))
    values[:20] = 1
    means = FilterMeans(Moments.of({"conv": values}), recipe)
    assert means.uncertainty == pytest.approx(means.interval.above["conv"][0] / 0.2)
    assert means.uncertainty > 1.96 * means.std_error["conv"][0] / 0.2


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1, float("nan")])
def test_tolerances_out_of_range_are_refused(tolerance: float, model: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="it must be between 0 and 1"):
        measure(model, folder, **OPTIONS, tolerance=tolerance)
