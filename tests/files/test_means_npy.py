"""Files of means: whole ones come back, and damaged or hostile ones are refused."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggnorm.errors import MeansError, OutputError
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe


def test_a_saved_correction_comes_back_to_the_last_bit(
    corrected: FilterMeans, tmp_path: Path
) -> None:
    save_means(corrected, tmp_path / "means.npy")
    loaded = load_means(tmp_path / "means.npy")
    assert loaded.correction is not None
    assert loaded.correction.count == 2
    np.testing.assert_array_equal(loaded.mean["conv"], corrected.mean["conv"])
    for layer, values in corrected.correction_std_error.items():
        np.testing.assert_array_equal(loaded.correction_std_error[layer], values)


@pytest.mark.parametrize("count", [-1, 5])
def test_more_control_photos_than_photos_are_refused(
    count: int, corrected: FilterMeans, tmp_path: Path
) -> None:
    save_means(corrected, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    record["control_count"] = count
    np.save(tmp_path / "means.npy", record)
    with pytest.raises(MeansError, match=f"control_count is {count}"):
        load_means(tmp_path / "means.npy")


def with_mean(means: FilterMeans, layer: str, values: list[float]) -> FilterMeans:
    """Return means with other values for one layer."""
    mean = {**means.measured.mean, layer: np.array(values)}
    return replace(means, measured=replace(means.measured, mean=mean))


def test_saved_means_come_back_to_the_last_bit(some_means: FilterMeans, tmp_path: Path) -> None:
    some_means = with_mean(some_means, "conv1", [1 / 3, np.nextafter(2.0, 3)])
    save_means(some_means, tmp_path / "means.npy")
    loaded = load_means(tmp_path / "means.npy")
    for layer in "conv1", "conv2":
        np.testing.assert_array_equal(loaded.mean[layer], some_means.mean[layer])
        np.testing.assert_array_equal(
            loaded.squared_deviation[layer], some_means.squared_deviation[layer]
        )
    assert list(loaded.mean) == ["conv1", "conv2"]
    assert (loaded.image_count, loaded.recipe, loaded.skipped) == (
        3,
        some_means.recipe,
        some_means.skipped,
    )


def test_the_third_moments_come_back_to_the_last_bit(recipe: Recipe, tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(size=(20, 5))
    means = FilterMeans(Moments.of({"conv": values}), recipe)
    save_means(means, tmp_path / "means.npy")
    loaded = load_means(tmp_path / "means.npy")
    assert loaded.measured.cubed_deviation is not None
    assert means.measured.cubed_deviation is not None
    np.testing.assert_array_equal(
        loaded.measured.cubed_deviation["conv"], means.measured.cubed_deviation["conv"]
    )
    np.testing.assert_array_equal(loaded.interval.above["conv"], means.interval.above["conv"])


def test_a_file_without_third_moments_gives_symmetric_intervals(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Files of version 0.2.0 have all other fields."""
    values = np.random.default_rng(0).lognormal(size=(20, 5))
    save_means(FilterMeans(Moments.of({"conv": values}), recipe), tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    kept = [name for name in record.dtype.names if name != "cubed_deviation"]
    former = np.zeros((), dtype=[(name, record.dtype[name]) for name in kept])
    for name in kept:
        former[name] = record[name]
    np.save(tmp_path / "former.npy", former)
    loaded = load_means(tmp_path / "former.npy")
    assert loaded.measured.cubed_deviation is None
    np.testing.assert_array_equal(loaded.mean["conv"], record["mean"])
    expected = 1.96 * values.std(axis=0, ddof=1) / 20**0.5
    np.testing.assert_allclose(loaded.interval.above["conv"], expected)
    np.testing.assert_allclose(loaded.interval.below["conv"], expected)
    save_means(loaded, tmp_path / "again.npy")
    assert load_means(tmp_path / "again.npy").measured.cubed_deviation is None


def test_the_file_reads_as_documented(some_means: FilterMeans, tmp_path: Path) -> None:
    save_means(some_means, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy", allow_pickle=False)
    vectors = np.split(record["mean"], record["filters"].cumsum()[:-1])
    mean = dict(zip(json.loads(str(record["layers"])), vectors, strict=True))
    assert mean["conv2"].dtype == np.float64
    assert {layer: values.tolist() for layer, values in mean.items()} == {
        "conv1": [1.0, 2.0],
        "conv2": [0.5, 0.0, 4.0],
    }
    assert record["image_count"] == 3
    assert json.loads(str(record["recipe"]))["interpolation"] == "bilinear"


def test_an_existing_file_is_kept_without_force(some_means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    path.write_bytes(b"precious")
    with pytest.raises(
        OutputError, match=r"means\.npy: exists already; give another name, or --force"
    ):
        save_means(some_means, path)
    assert path.read_bytes() == b"precious"
    save_means(some_means, path, force=True)
    assert load_means(path).image_count == 3


def test_means_that_cannot_be_read_back_are_not_left_behind(
    some_means: FilterMeans, tmp_path: Path
) -> None:
    some_means = with_mean(some_means, "conv1", [np.nan, 2.0])
    with pytest.raises(MeansError, match="the mean of conv1 is not finite at filter 0"):
        save_means(some_means, tmp_path / "means.npy")
    assert list(tmp_path.iterdir()) == []


class Hostile:
    """When it is unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    "write",
    [
        lambda file, trap: np.save(file, np.array([trap], dtype=object), allow_pickle=True),
        lambda file, trap: file.write(pickle.dumps(trap)),
    ],
    ids=["npy of objects", "bare pickle"],
)
def test_pickles_are_not_loaded(write: Callable[[Any, Any], object], tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "means.npy"
    with path.open("wb") as file:
        write(file, Hostile(marker))
    with pytest.raises(
        MeansError, match=r"means\.npy: (is damaged, or holds pickled objects|is a pickle)"
    ):
        load_means(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists(), "the trap would not have worked"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be read: it is not a file of Keras, safetensors, PyTorch, numpy"),
        (b"not an array", "cannot be read: it is not a file of Keras"),
        (b"PK\x03\x04 an archive", "is a zip archive that is cut off or damaged"),
        (b"\x93NUMPY\x01\x00", "is damaged"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': oops  \n", "is damaged"),
        (b"\x93NUMPY\x09\x00" + b"\x00" * 64, "is damaged"),
    ],
)
def test_what_is_no_npy_file_is_refused(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    path.write_bytes(content)
    with pytest.raises(MeansError, match=rf"means\.npy: {text}"):
        load_means(path)


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header = header.ljust(117) + b"\n"
    (tmp_path / "means.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x00" * 8
    )
    with pytest.raises(MeansError, match=r"means\.npy: is damaged"):
        load_means(tmp_path / "means.npy")


def with_header(path: Path, header: bytes) -> Path:
    path.write_bytes(
        b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + b"\x00" * 64
    )
    return path


@pytest.mark.parametrize(
    "descr",
    [
        b"'|O'",
        b"[('mean', '|O')]",
        b"[('mean', '<f8', (1000000000, 1000000000, 1000000000))]",
        b"'<f8', (" * 1000,
        b"(" * 200_000,
        b"[" * 99_000 + b"]" * 99_000,
        b"-" * 200_000 + b"1",
        b"1" + b"+1" * 100_000,
        b"__import__('os').system('true')",
        b"'<f8'" + b" " * 5_000_000,
    ],
    ids=[
        "objects",
        "objects inside",
        "shape",
        "unclosed",
        "parentheses",
        "lists",
        "signs",
        "sum",
        "code",
        "large",
    ],
)
def test_an_absurd_header_is_refused(descr: bytes, tmp_path: Path) -> None:
    path = with_header(
        tmp_path / "means.npy", b"{'descr': " + descr + b", 'fortran_order': False, 'shape': ()}"
    )
    with pytest.raises(MeansError, match=r"means\.npy: is damaged, or holds pickled objects"):
        load_means(path)


def test_means_of_many_layers_come_back(recipe: Recipe, tmp_path: Path) -> None:
    values = {f"block{number}_convolution": np.ones(4) for number in range(300)}
    save_means(FilterMeans(Moments(3, values, values), recipe), tmp_path / "means.npy")
    assert list(load_means(tmp_path / "means.npy").mean) == list(values)


def test_a_truncated_file_is_refused(some_means: FilterMeans, tmp_path: Path) -> None:
    save_means(some_means, tmp_path / "whole.npy")
    content = (tmp_path / "whole.npy").read_bytes()
    for length in (len(content) - 1, len(content) // 2, 20):
        (tmp_path / "means.npy").write_bytes(content[:length])
        with pytest.raises(MeansError, match=r"means\.npy: is damaged"):
            load_means(tmp_path / "means.npy")


def test_another_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "means.npy", np.ones((3, 64)))
    with pytest.raises(
        MeansError, match=r"means\.npy: holds no means; give a file that compute-means wrote"
    ):
        load_means(tmp_path / "means.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeansError, match=r"means\.npy: cannot be read: No such file"):
        load_means(tmp_path / "means.npy")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("mean", np.nan, "the mean of conv2 is not finite at filter 1 \\(nan\\)"),
        ("mean", np.inf, "the mean of conv2 is not finite at filter 1 \\(inf\\)"),
        ("mean", np.nextafter(0, 1), "the mean of conv2 is not what the sums give"),
        ("measured", np.nan, "the measured of conv2 is not finite at filter 1 \\(nan\\)"),
        ("measured", 1.0, "the mean of conv2 is not what the sums give"),
        ("squared_deviation", np.inf, "the squared deviation of conv2 is not finite at filter 1"),
        ("squared_deviation", np.nan, "the squared deviation of conv2 is not finite at filter 1"),
        ("squared_deviation", -1.0, "the squared deviation of conv2 is negative at filter 1"),
        ("correction", np.nan, "the correction of conv2 is not finite at filter 1"),
        ("cubed_deviation", np.nan, "the cubed deviation of conv2 is not finite at filter 1"),
        ("cubed_deviation", 1.0, "the cubed deviation of conv2 is too large at filter 1 \\(1.0\\)"),
        ("cubed_deviation", -1.0, "the cubed deviation of conv2 is too large at filter 1"),
        (
            "correction_squared_deviation",
            -1.0,
            "the correction squared deviation of conv2 is negative at filter 1",
        ),
    ],
)
def test_impossible_numbers_are_refused(
    field: str, value: float, text: str, some_means: FilterMeans, tmp_path: Path
) -> None:
    zeros = {layer: np.zeros_like(mean) for layer, mean in some_means.mean.items()}
    with_cubes = replace(some_means.measured, cubed_deviation=zeros)
    save_means(replace(some_means, measured=with_cubes), tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    record[field][3] = value  # conv1 has two filters
    np.save(tmp_path / "means.npy", record)
    with pytest.raises(
        MeansError, match=rf"means\.npy: not usable as means: {text}.*; measure again"
    ):
        load_means(tmp_path / "means.npy")


def record_of(
    mean: Any, deviation: Any, count: Any, recipe: str, skipped: str = "[]"
) -> np.ndarray:
    nothing = np.zeros_like(mean)
    fields = {
        "mean": mean,
        "squared_deviation": deviation,
        "image_count": count,
        "recipe": recipe,
        "skipped": skipped,
    }
    fields |= {
        "measured": mean,
        "correction": nothing,
        "correction_squared_deviation": nothing,
        "control_count": 0,
    }
    parts = {name: np.asarray(value) for name, value in fields.items()}
    record = np.zeros((), dtype=[(name, part.dtype, part.shape) for name, part in parts.items()])
    for name, part in parts.items():
        record[name] = part
    return record


def layers(**arrays: np.ndarray) -> np.ndarray:
    record = np.zeros(
        (), dtype=[(name, array.dtype, array.shape) for name, array in arrays.items()]
    )
    for name, array in arrays.items():
        record[name] = array
    return record


@pytest.mark.parametrize(
    ("mean", "deviation", "count", "text"),
    [
        (layers(a=np.ones(2)), layers(b=np.ones(2)), 3, "do not have the same layers"),
        (
            layers(a=np.ones(2)),
            layers(a=np.ones(3)),
            3,
            "mean and squared deviation of a differ in shape",
        ),
        (
            layers(a=np.ones((2, 2))),
            layers(a=np.ones((2, 2))),
            3,
            "the mean of a is not a vector of float64",
        ),
        (
            layers(a=np.ones(2, np.float32)),
            layers(a=np.ones(2)),
            3,
            "the mean of a is not a vector of float64",
        ),
        (np.ones(2), np.ones(2), 3, "do not have the same layers"),
        (layers(a=np.ones(2)), layers(a=np.ones(2)), 0, "image_count is 0"),
        (layers(a=np.ones(2)), layers(a=np.ones(2)), -4, "image_count is -4"),
        (layers(a=np.ones(2)), layers(a=np.ones(2)), 2.5, "image_count is 2.5"),
        (layers(a=np.ones(2)), layers(a=np.ones(2)), [3, 4], "."),
    ],
)
def test_records_of_other_shapes_are_refused(
    mean: Any, deviation: Any, count: Any, text: str, recipe: Recipe, tmp_path: Path
) -> None:
    np.save(tmp_path / "means.npy", record_of(mean, deviation, count, json.dumps(recipe.to_dict())))
    with pytest.raises(MeansError, match=f"not usable as means: .*{text}"):
        load_means(tmp_path / "means.npy")


def test_a_part_may_count_no_photos(some_means: FilterMeans, tmp_path: Path) -> None:
    filters = {layer: len(mean) for layer, mean in some_means.mean.items()}
    nothing = Moments.of_none(filters)
    part = replace(some_means.recipe, shard=(3, 3), batches_per_block=8)
    save_means(FilterMeans(nothing, part, some_means.skipped), tmp_path / "part.npy")
    loaded = load_means(tmp_path / "part.npy")
    assert (loaded.image_count, loaded.recipe, loaded.skipped) == (0, part, some_means.skipped)
    with pytest.raises(MeansError, match="not usable as means: image_count is 0"):
        save_means(FilterMeans(nothing, some_means.recipe), tmp_path / "whole.npy")
    not_0 = replace(some_means.measured, count=0)
    with pytest.raises(MeansError, match="image_count is 0, and the means of conv1 are not"):
        save_means(FilterMeans(not_0, part), tmp_path / "damaged.npy")


@pytest.mark.parametrize("skipped", ["[1]", '[{"photo": "a"}]', "7", '{"photo": 1}'])
def test_a_damaged_list_of_skipped_photos_is_refused(
    skipped: str, recipe: Recipe, tmp_path: Path
) -> None:
    one = layers(a=np.ones(2))
    np.save(tmp_path / "means.npy", record_of(one, one, 3, json.dumps(recipe.to_dict()), skipped))
    with pytest.raises(MeansError, match="the list of skipped photos is damaged"):
        load_means(tmp_path / "means.npy")
