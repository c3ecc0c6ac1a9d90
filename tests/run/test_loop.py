"""The loop over photos, with stand-ins for the network: the sums are worked by hand."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.network.instruments import Instruments
from vggnorm.photos.reader import Batch, Taken
from vggnorm.run.loop import running_means


class Brightness:
    """Stands for the instruments: the one filter's mean activation is the photo's first number."""

    def __init__(self, surplus: float | None = None) -> None:
        self.fast = None if surplus is None else "fast"
        self.surplus = surplus or 0.0
        self.exact_runs: list[int] = []

    def measure(self, pixels: Any) -> Any:
        return {"conv": pixels[:, 0, 0, :1].astype(np.float64)}

    def measure_exactly(self, pixels: Any) -> Any:
        self.exact_runs.append(len(pixels))
        return {"conv": self.measure(pixels)["conv"] + self.surplus}


def batch(first: int, *values: int) -> Batch:
    """Photos of one pixel with these values; `first` is the position of the first one."""
    pixels = np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)
    positions = np.arange(first, first + len(values))
    digest = f"{first + len(values):064x}"
    taken = Taken(first + len(values), (), digest, digest)
    return Batch(pixels, positions, taken)


def start(recipe: Recipe) -> FilterMeans:
    return FilterMeans(Moments.of_none({"conv": 1}), recipe)


def stand_in(instruments: Brightness) -> Instruments:
    return instruments  # type: ignore[return-value]


def test_each_batch_gives_the_means_over_all_photos_so_far(recipe: Recipe) -> None:
    batches = [batch(0, 2, 4), batch(2, 9)]
    found = list(running_means(start(recipe), batches, stand_in(Brightness())))
    assert [means.image_count for means in found] == [2, 3]
    assert [means.mean["conv"].item() for means in found] == pytest.approx([3, 5], rel=1e-15)
    # (2 - 5)^2 + (4 - 5)^2 + (9 - 5)^2 = 26
    assert found[1].squared_deviation["conv"].item() == pytest.approx(26, rel=1e-15)
    assert found[1].recipe.taken_sha256 == f"{3:064x}"


def test_nothing_is_read_before_it_is_asked_for(recipe: Recipe) -> None:
    given = []

    def batches() -> Iterator[Batch]:
        for number in range(3):
            given.append(number)
            yield batch(number, 7)

    running = running_means(start(recipe), batches(), stand_in(Brightness()))
    assert given == []
    next(running)
    assert given == [0]


def test_a_run_goes_on_where_another_one_ended(recipe: Recipe) -> None:
    whole = list(
        running_means(start(recipe), [batch(0, 2, 4), batch(2, 9)], stand_in(Brightness()))
    )
    (rest,) = running_means(whole[0], [batch(2, 9)], stand_in(Brightness()))
    assert rest.mean["conv"].item() == whole[1].mean["conv"].item()
    assert rest.recipe == whole[1].recipe


def test_the_first_photos_are_run_in_both_precisions(recipe: Recipe) -> None:
    instruments = Brightness(surplus=0.5)
    recipe = replace(recipe, precision="bfloat16", control=3)
    batches = [batch(0, 2, 4), batch(2, 9, 1), batch(4, 5)]
    *_, means = running_means(start(recipe), batches, stand_in(instruments))
    assert instruments.exact_runs == [2, 1]
    assert means.correction is not None
    assert means.correction.count == 3
    # (2 + 4 + 9 + 1 + 5) / 5 = 4.2, and float32 gives 0.5 more.
    assert means.mean["conv"].item() == pytest.approx(4.7, rel=1e-15)


def test_an_empty_batch_only_says_which_photos_were_skipped(recipe: Recipe) -> None:
    empty = Batch(np.empty((0, 1, 1, 3), np.uint8), np.empty(0, np.intp), Taken(2))
    first, second = running_means(start(recipe), [batch(0, 2, 4), empty], stand_in(Brightness()))
    assert second.image_count == 2
    assert second.mean["conv"].item() == first.mean["conv"].item()
