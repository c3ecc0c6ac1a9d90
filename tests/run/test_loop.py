"""The loop over photos, with stand-ins for the network: the sums are worked by hand."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import make_photos

from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.network.instruments import Instruments
from vggnorm.photos.blocks import block_size, cut_into_blocks
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import Batch, PhotoReader
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.photos.taken import Taken
from vggnorm.run.loop import running_means
from vggnorm.run.measuring import measure_batch

PLAIN = Geometry(2, "stretch", "nearest")


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
    digest = f"{len(values):064x}"
    taken = Taken(len(values), (), digest, digest)
    return Batch(pixels, positions, taken)


def start(recipe: Recipe) -> FilterMeans:
    nothing = "0" * 64
    recipe = replace(recipe, taken_sha256=nothing, photos_sha256=nothing)
    return FilterMeans(Moments.of_none({"conv": 1}), recipe)


def saved(means: FilterMeans, folder: Path) -> bytes:
    save_means(means, folder / "saved.npy", force=True)
    return (folder / "saved.npy").read_bytes()


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
    skipped = SkippedPhoto("a.png", "is empty")
    taken = Taken(skipped=(skipped,), names_sha256=f"{5:064x}")
    empty = Batch(np.empty((0, 1, 1, 3), np.uint8), np.empty(0, np.intp), taken)
    first, second = running_means(start(recipe), [batch(0, 2, 4), empty], stand_in(Brightness()))
    assert (second.image_count, second.skipped) == (2, (skipped,))
    assert second.recipe.taken_sha256 == f"{2 + 5:064x}"
    assert second.mean["conv"].item() == first.mean["conv"].item()


@pytest.mark.parametrize("control", [0, 5, 20, 100])
def test_blocks_measured_apart_add_up_to_one_run_to_the_last_bit(
    control: int, recipe: Recipe, tmp_path: Path
) -> None:
    """As on several machines: each block is read and measured alone, and added in its turn."""
    photos = make_photos(tmp_path, 40, damaged=(2, 3, 15, 16, 39))
    recipe = replace(recipe, precision="bfloat16", control=control, batch_size=2)
    instruments = stand_in(Brightness(surplus=0.3))
    *_, whole = running_means(start(recipe), PhotoReader(photos, PLAIN).batches(2), instruments)
    means = start(recipe)
    for block in cut_into_blocks(40, block_size(2)):
        alone = PhotoList(photos.source, photos.names[block.start : block.stop])
        for found in PhotoReader(alone, PLAIN).batches(2):
            in_both = found.positions < control - block.start
            means = means.plus(measure_batch(found, instruments, in_both))
    assert saved(means, tmp_path) == saved(whole, tmp_path)
    assert (means.correction.count if means.correction else 0) == {0: 0, 5: 3, 20: 16}.get(
        control, 35
    )


def test_a_run_that_goes_on_after_any_batch_gives_the_same_bits(
    recipe: Recipe, tmp_path: Path
) -> None:
    photos = make_photos(tmp_path, 40, damaged=(2, 3, 15, 16, 39))
    recipe = replace(recipe, precision="bfloat16", control=9, batch_size=2)
    instruments, reader = stand_in(Brightness(surplus=0.3)), PhotoReader(photos, PLAIN)
    steps = list(running_means(start(recipe), reader.batches(2), instruments))
    for step in steps[:-1]:
        *_, end = running_means(step, reader.batches(2, step.taken), instruments)
        assert saved(end, tmp_path) == saved(steps[-1], tmp_path)


@pytest.mark.parametrize(("number", "count"), [(1, 2), (2, 2), (2, 3), (3, 3)])
def test_the_control_photos_of_a_part_are_those_of_the_whole_order(
    number: int, count: int, recipe: Recipe, tmp_path: Path
) -> None:
    """With 1 photo in a batch, a block is 8 photos, and 20 control photos end inside the third."""
    photos = make_photos(tmp_path, 30)
    recipe = replace(recipe, precision="bfloat16", control=20, batch_size=1)
    recipe = replace(recipe, shard=(number, count), batches_per_block=8)
    part = photos.shard(number, count, batch_size=1)
    instruments = Brightness(surplus=0.3)
    list(running_means(start(recipe), PhotoReader(part, PLAIN).batches(1), stand_in(instruments)))
    in_part = {(1, 2): 8 + 4, (2, 2): 8, (2, 3): 8, (3, 3): 4}
    assert len(instruments.exact_runs) == in_part[number, count]
