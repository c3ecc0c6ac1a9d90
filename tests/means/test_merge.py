"""Parts measured apart add up to one run over all photos; parts that do not fit are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measuring import measure

from vggnorm.errors import MeansError, PhotoError, StoppedError
from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.merge import merge_means
from vggnorm.means.recipe import NUMERICS
from vggnorm.normalization import normalize

MakeChain = Callable[..., Any]
Parts = dict[str, FilterMeans]
OPTIONS: dict[str, Any] = {"size": 40, "batch_size": 4}


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    return make_chain((8, 5, 3))


def measure_parts(model: Any, mixed_folder: Path, count: int, **options: Any) -> Parts:
    options = {**OPTIONS, **options}
    return {
        f"part{number}.npy": measure(model, mixed_folder, **options, shard=(number, count))
        for number in range(1, count + 1)
    }


@pytest.fixture(scope="module")
def parts(model: Any, mixed_folder: Path) -> Parts:
    return measure_parts(model, mixed_folder, 3)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bfloat16", "control": 7}, {"batch_size": 1}], ids=str
)
def test_parts_add_up_to_one_run(
    count: int, options: dict[str, Any], model: Any, mixed_folder: Path
) -> None:
    whole = measure(model, mixed_folder, **{**OPTIONS, **options})
    parts = measure_parts(model, mixed_folder, count, **options)
    assert sum(means.image_count for means in parts.values()) == whole.image_count == 9
    merged = merge_means(dict(reversed(parts.items())))  # in any order
    # The means of each photo are the same to the last bit. Only the order of the float64 sums
    # differs.
    for layer, mean in whole.mean.items():
        np.testing.assert_allclose(merged.mean[layer], mean, rtol=1e-12, atol=0)
        np.testing.assert_allclose(
            merged.measured.mean[layer], whole.measured.mean[layer], rtol=1e-12, atol=0
        )
        # Deviations are differences of means, so they are known to 1e-16 of the means.
        np.testing.assert_allclose(
            merged.squared_deviation[layer],
            whole.squared_deviation[layer],
            rtol=1e-12,
            atol=1e-24 * max(mean) ** 2,
        )
    if whole.correction is not None:
        assert merged.correction is not None
        assert merged.correction.count == whole.correction.count
        for layer, surplus in whole.correction.mean.items():
            np.testing.assert_allclose(
                merged.correction.mean[layer],
                surplus,
                rtol=1e-12,
                atol=1e-15 * max(whole.mean[layer]),
            )
    assert merged.recipe == whole.recipe
    assert merged.image_count == whole.image_count
    assert set(merged.skipped) == set(whole.skipped)


def test_parts_are_disjoint_and_of_one_size(parts: Parts) -> None:
    assert sorted(means.image_count + len(means.skipped) for means in parts.values()) == [3, 4, 4]
    assert len({means.recipe.photos_sha256 for means in parts.values()}) == 3


def refused(parts: Parts) -> str:
    with pytest.raises(MeansError) as error:
        merge_means(parts)
    return str(error.value)


def with_recipe(means: FilterMeans, **changes: Any) -> FilterMeans:
    return replace(means, recipe=replace(means.recipe, **changes))


def test_a_missing_part_is_named(parts: Parts) -> None:
    assert refused({"part3.npy": parts["part3.npy"]}).startswith(
        "of 3 parts, these are missing: 1, 2; measure them"
    )
    assert refused({}) == "there are no parts to add up"


def test_a_part_that_is_there_twice_is_named(parts: Parts) -> None:
    text = refused({**parts, "copy.npy": parts["part2.npy"]})
    assert text == "copy.npy and part2.npy are both part 2 of 3; give each part once"


def test_parts_of_other_divisions_overlap(parts: Parts, model: Any, mixed_folder: Path) -> None:
    other = measure(model, mixed_folder, **OPTIONS, shard=(1, 2))
    text = refused({**parts, "half.npy": other})
    assert text == "half.npy is one of 2 parts, part1.npy one of 3; they overlap"


def test_what_is_no_part_is_named(parts: Parts, model: Any, mixed_folder: Path) -> None:
    whole = measure(model, mixed_folder, **OPTIONS)
    assert refused({**parts, "all.npy": whole}).startswith(
        "all.npy is not a part: it was measured without --shard"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": 48}, "size 48 and 40"),
        ({"seed": 1}, "seed 1 and 0"),
        ({"weights_sha256": "a" * 64}, "weights_sha256 aaaaaaaaaaaa…"),
        ({"listed_sha256": "b" * 64}, "listed_sha256 bbbbbbbbbbbb…"),
        ({"batch_size": 8}, "batch_size 8 and 4"),
        ({"numerics": 9}, f"numerics 9 and {NUMERICS}"),
    ],
)
def test_parts_that_were_not_measured_alike_are_named(
    changes: dict[str, Any], text: str, parts: Parts
) -> None:
    changed = {**parts, "part2.npy": with_recipe(parts["part2.npy"], **changes)}
    assert refused(changed).startswith(f"part2.npy does not go with part1.npy: {text}")


def test_where_and_by_which_version_they_were_measured_does_not_matter(parts: Parts) -> None:
    moved = with_recipe(
        parts["part2.npy"],
        photos="elsewhere/photos",
        weights="copy.h5",
        annotations="other.json",
        version="9.9",
    )
    assert merge_means({**parts, "part2.npy": moved}).image_count == 9


def test_a_part_that_is_not_finished_is_named(
    parts: Parts, model: Any, mixed_folder: Path, tmp_path: Path
) -> None:
    calls = iter(range(100))
    with pytest.raises(StoppedError):  # after two photos and one that cannot be used
        measure(
            model,
            mixed_folder,
            size=40,
            batch_size=1,
            shard=(2, 3),
            checkpoint=tmp_path / "kept",
            stop=lambda: next(calls) > 1,
        )
    kept = with_recipe(load_means(tmp_path / "kept"), batch_size=4)
    assert "part2.npy is not finished: it has 3 of the 4 photos of part 2 of 3; run" in refused(
        {**parts, "part2.npy": kept}
    )


def test_one_part_does_not_normalize(parts: Parts, model: Any) -> None:
    with pytest.raises(
        MeansError,
        match="the means are those of part 1 of 3; add up all parts with merge-means first",
    ):
        normalize(model, parts["part1.npy"])
    normalize(model, merge_means(parts))


def test_control_photos_are_needed_in_all_parts_together_only(
    model: Any, mixed_folder: Path
) -> None:
    options = {"precision": "bfloat16", "control": 4}
    parts = measure_parts(model, mixed_folder, 5, **options)
    assert parts["part5.npy"].correction is None
    assert merge_means(parts).correction is not None
    without = {name: replace(means, correction=None) for name, means in parts.items()}
    assert refused(without).startswith(
        "of the 4 photos that were to be run in float32 as well, 0 could be used"
    )


@pytest.mark.parametrize(
    "options", [{"limit": 3}, {"tolerance": 0.1}, {"precision": "auto"}], ids=str
)
def test_what_depends_on_the_other_parts_is_refused(
    options: dict[str, Any], model: Any, mixed_folder: Path
) -> None:
    with pytest.raises(ValueError, match="leave out the limit, the tolerance and auto"):
        measure(model, mixed_folder, shard=(1, 2), **options)


def test_more_parts_than_photos_are_refused(model: Any, mixed_folder: Path) -> None:
    with pytest.raises(PhotoError, match="holds 11 photos; make no more parts of them than that"):
        measure(model, mixed_folder, size=40, shard=(1, 12))
