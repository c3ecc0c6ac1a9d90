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
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.merge import merge_means
from vggnorm.means.recipe import NUMERICS
from vggnorm.normalization import normalize
from vggnorm.photos.finding import find_photos

MakeChain = Callable[..., Any]
Parts = dict[str, FilterMeans]
OPTIONS: dict[str, Any] = {"size": 40, "batch_size": 2}  # a block is 16 photos

# How far float64 sums in another order may be apart. The 50 photos are at most 28 batches, and each
# merge of two means rounds four times, by 2^-53 of no more than the largest photo's value. That is
# at most 45 times the mean over the 45 usable photos, as no value is negative: 2 x 28 x 4 x 45 x
# 2^-53 = 1.2e-12. On some processors, a photo that stands in another place of its batch is off by
# about 1e-8.
ORDER_OF_SUMS = 1.2e-12


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    return make_chain((8, 5, 3))


@pytest.fixture(scope="module")
def folder(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 45 photos and five empty files: blocks of 16, 16, 16 and 2."""
    folder = tmp_path_factory.mktemp("photos")
    for path in photo_folder.iterdir():
        for copy in range(5):
            (folder / f"{copy}-{path.name}").write_bytes(path.read_bytes())
    for name in "abcde":
        (folder / f"{name}.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 20 empty files."""
    folder = tmp_path_factory.mktemp("broken")
    for number in range(20):
        (folder / f"{number:02}.jpg").touch()
    return folder


def measure_parts(model: Any, folder: Path, count: int, **options: Any) -> Parts:
    options = {**OPTIONS, **options}
    return {
        f"part{number}.npy": measure(model, folder, **options, shard=(number, count))
        for number in range(1, count + 1)
    }


@pytest.fixture(scope="module")
def parts(model: Any, folder: Path) -> Parts:
    return measure_parts(model, folder, 3)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bfloat16", "control": 20}, {"batch_size": 3}], ids=str
)
def test_parts_add_up_to_one_run(
    count: int, options: dict[str, Any], model: Any, folder: Path
) -> None:
    whole = measure(model, folder, **{**OPTIONS, **options})
    parts = measure_parts(model, folder, count, **options)
    assert sum(means.image_count for means in parts.values()) == whole.image_count == 45
    merged = merge_means(dict(reversed(parts.items())))  # in any order
    # The means of each photo are the same to the last bit. Only the order of the float64 sums
    # differs.
    for layer, mean in whole.mean.items():
        np.testing.assert_allclose(merged.mean[layer], mean, rtol=ORDER_OF_SUMS, atol=0)
        np.testing.assert_allclose(
            merged.measured.mean[layer], whole.measured.mean[layer], rtol=ORDER_OF_SUMS, atol=0
        )
        # Deviations are differences of means, so they are known to 1e-16 of the means.
        np.testing.assert_allclose(
            merged.squared_deviation[layer],
            whole.squared_deviation[layer],
            rtol=ORDER_OF_SUMS,
            atol=1e-24 * max(mean) ** 2,
        )
    if whole.correction is not None:
        assert merged.correction is not None
        assert merged.correction.count == whole.correction.count
        for layer, surplus in whole.correction.mean.items():
            np.testing.assert_allclose(
                merged.correction.mean[layer],
                surplus,
                rtol=ORDER_OF_SUMS,
                atol=1e-15 * max(whole.mean[layer]),
            )
    assert merged.recipe == whole.recipe
    assert merged.image_count == whole.image_count
    assert merged.skipped == whole.skipped
    assert [photo.photo for photo in merged.skipped] == [f"{name}.jpg" for name in "abcde"]


def test_parts_are_disjoint_and_of_whole_blocks(parts: Parts) -> None:
    assert [means.taken.count for means in parts.values()] == [16 + 2, 16, 16]
    assert len({means.recipe.photos_sha256 for means in parts.values()}) == 3
    for number, means in enumerate(parts.values(), 1):
        recipe = means.recipe
        assert (recipe.shard, recipe.batch_size, recipe.batches_per_block) == ((number, 3), 2, 8)


def test_a_part_without_blocks_counts_no_photos(model: Any, folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    empty = measure(model, folder, **OPTIONS, shard=(5, 5), say=said.append)
    assert empty.image_count == 0
    assert said == [
        "part 5 of 5 has no photos: there are 4 blocks of up to 16 photos; it counts none, and "
        "merge-means wants it all the same"
    ]
    save_means(empty, tmp_path / "part5.npy")
    parts = measure_parts(model, folder, 5)
    expected = merge_means(parts)
    merged = merge_means({**parts, "part5.npy": load_means(tmp_path / "part5.npy")})
    for layer, mean in expected.mean.items():
        np.testing.assert_array_equal(merged.mean[layer], mean)
    with pytest.raises(MeansError, match="the means are those of part 5 of 5; add up all parts"):
        normalize(model, empty)


def test_a_part_whose_photos_are_all_broken_counts_none(
    model: Any, photo_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photo_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    options = {**OPTIONS, "batch_size": 1}
    for name in find_photos(folder).shuffled(0).names[:8]:
        (folder / name).write_bytes(b"")
    whole = measure(model, folder, **options)
    said: list[str] = []
    parts = {
        "part1.npy": measure(model, folder, **options, shard=(1, 2), say=said.append),
        "part2.npy": measure(model, folder, **options, shard=(2, 2)),
    }
    assert said == [
        "none of the 8 photos of part 1 of 2 can be used; it counts none, and merge-means wants it "
        "all the same"
    ]
    assert [means.image_count for means in parts.values()] == [0, 1]
    save_means(parts["part1.npy"], tmp_path / "part1.npy")
    merged = merge_means({**parts, "part1.npy": load_means(tmp_path / "part1.npy")})
    assert (merged.image_count, merged.skipped) == (1, whole.skipped)
    for layer, mean in whole.mean.items():  # of one photo: nothing is rounded
        np.testing.assert_array_equal(merged.mean[layer], mean)


def test_if_no_part_has_a_usable_photo_one_run_and_the_parts_say_so(
    model: Any, broken_folder: Path
) -> None:
    text = "none of the 20 photos can be used; the first, 00.jpg, is empty"
    assert refused(measure_parts(model, broken_folder, 2)) == text
    with pytest.raises(PhotoError, match=text.replace("the 20", "its 20")):
        measure(model, broken_folder, **OPTIONS)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_parts_of_earlier_versions_were_cut_by_photos_and_are_named(
    version: str, parts: Parts
) -> None:
    of_old = {
        name: with_recipe(means, version=version, numerics=2, batches_per_block=None)
        for name, means in parts.items()
    }
    assert refused(of_old) == (
        f"part1.npy was measured by vggnorm {version}, whose parts are not made of blocks of "
        "photos, so they do not add up to one run; measure all parts again"
    )
    assert refused({**parts, "part2.npy": of_old["part2.npy"]}).startswith("part2.npy was measured")


def test_a_part_cut_for_another_batch_size_is_not_measured(model: Any, folder: Path) -> None:
    part = find_photos(folder).shuffled(0).shard(1, 2)
    with pytest.raises(ValueError, match=r"cut it with shard\(..., batch_size=2\)"):
        measure(model, part, **OPTIONS)


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


def test_parts_of_other_divisions_overlap(parts: Parts, model: Any, folder: Path) -> None:
    other = measure(model, folder, **OPTIONS, shard=(1, 2))
    text = refused({**parts, "half.npy": other})
    assert text == "half.npy is one of 2 parts, part1.npy one of 3; they overlap"


def test_what_is_no_part_is_named(parts: Parts, model: Any, folder: Path) -> None:
    whole = measure(model, folder, **OPTIONS)
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
        ({"batch_size": 1}, "batch_size 1 and 2"),
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
    assert merge_means({**parts, "part2.npy": moved}).image_count == 45


def test_a_part_that_is_not_finished_is_named(
    parts: Parts, model: Any, folder: Path, tmp_path: Path
) -> None:
    calls = iter(range(100))
    with pytest.raises(StoppedError):
        measure(
            model,
            folder,
            **OPTIONS,
            shard=(2, 3),
            checkpoint=tmp_path / "kept",
            stop=lambda: next(calls) > 1,
        )
    kept = load_means(tmp_path / "kept")
    done = kept.image_count + len(kept.skipped)
    assert 0 < done < 16
    expected = f"part2.npy is not finished: it has {done} of the 16 photos of part 2 of 3; run"
    assert expected in refused({**parts, "part2.npy": kept})


def test_one_part_does_not_normalize(parts: Parts, model: Any) -> None:
    with pytest.raises(
        MeansError,
        match="the means are those of part 1 of 3; add up all parts with merge-means first",
    ):
        normalize(model, parts["part1.npy"])
    normalize(model, merge_means(parts))


def test_control_photos_are_needed_in_all_parts_together_only(model: Any, folder: Path) -> None:
    options = {"precision": "bfloat16", "control": 4}
    parts = measure_parts(model, folder, 2, **options)
    assert parts["part1.npy"].correction is not None
    assert parts["part2.npy"].correction is None
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


def test_parts_add_up_to_the_cubes_of_one_run(parts: Parts, model: Any, folder: Path) -> None:
    whole, merged = measure(model, folder, **OPTIONS).measured, merge_means(parts).measured
    assert whole.cubed_deviation is not None
    assert merged.cubed_deviation is not None
    for layer, cubes in whole.cubed_deviation.items():
        # A sum of cubes may be near 0 beside its terms, of which the squares give the size.
        size = whole.squared_deviation[layer] ** 1.5
        error = np.abs(merged.cubed_deviation[layer] - cubes)
        # 1e-8 for photos that stand in another place of their batch, see ORDER_OF_SUMS.
        assert (error <= 1e-6 * size).all()


def test_a_part_without_cubes_makes_the_whole_lack_them(parts: Parts) -> None:
    """Such a part was measured by a former version."""
    part = parts["part2.npy"]
    former = replace(part, measured=replace(part.measured, cubed_deviation=None))
    merged, whole = merge_means({**parts, "part2.npy": former}), merge_means(parts)
    assert merged.measured.cubed_deviation is None
    for layer, mean in whole.mean.items():
        np.testing.assert_array_equal(merged.mean[layer], mean)
        np.testing.assert_allclose(
            merged.interval.longer[layer], 1.96 * whole.std_error[layer], rtol=1e-12
        )
