"""Streaming sums against the same sums in one go; the file of means, whole, damaged and hostile."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggnorm.errors import MeansError, OutputError
from vggnorm.means import FilterMeans, load_means, save_means
from vggnorm.moments import Moments, std_deviation
from vggnorm.recipe import Recipe


def streamed(values: np.ndarray, chunk: int) -> Moments:
    batches = [Moments.of({"conv": values[start : start + chunk]}) for start in range(0, len(values), chunk)]
    return sum(batches[1:], batches[0])


@pytest.mark.parametrize("chunk", [1, 11, 26, 51, 101])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_any_chunks_give_the_moments_of_all(chunk: int, offset: float) -> None:
    # With the offset, the textbook formula (sum of squares less square of sum) would lose all digits: 1e12 against 1.
    values = np.random.default_rng(0).gamma(2, size=(101, 6)) + offset
    moments = streamed(values, chunk)
    assert moments.count == 101
    np.testing.assert_allclose(moments.mean["conv"], values.mean(axis=0), rtol=1e-14)
    deviation = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(moments.squared_deviation["conv"], deviation, rtol=1e-13 if offset == 0 else 1e-8)


def test_moments_worked_by_hand() -> None:
    one, other = Moments.of({"conv": np.array([[1.0], [3.0]])}), Moments.of({"conv": np.array([[8.0]])})
    both = one + other  # 1, 3, 8: mean 4, deviations 9 + 1 + 16
    assert (both.count, both.mean["conv"].tolist(), both.squared_deviation["conv"].tolist()) == (3, [4.0], [26.0])


def test_sums_are_float64() -> None:
    # In float32, 2**24 + 1 is 2**24.
    values = np.array([[2.0**24], [1.0], [1.0]], dtype=np.float32)
    assert streamed(values, 1).mean["conv"][0] * 3 == 2.0**24 + 2


def test_std_error_worked_by_hand(some_means: FilterMeans) -> None:
    # Three photos: variance 6/2 = 3, standard error sqrt(3/3) = 1; 0.5/2 = 1/4, sqrt(1/12).
    np.testing.assert_allclose(some_means.std_error["conv1"], [1.0, 12**-0.5], rtol=1e-15)


def test_std_deviation_of_a_single_photo_is_unknown() -> None:
    assert np.isnan(std_deviation({"conv": np.array([0.0])}, 1)["conv"]).all()


def test_silent_filters_and_count(some_means: FilterMeans) -> None:
    assert {layer: indices.tolist() for layer, indices in some_means.silent.items()} == {"conv1": [], "conv2": [1]}
    assert some_means.filter_count == 5


@pytest.fixture
def corrected(recipe: Recipe) -> FilterMeans:
    """Four photos of 1, 2, 3 and 6; the first two give 1.5 and 2.1 in float32, so 0.5 and 0.1 more."""
    measured = Moments.of({"conv": np.array([[1.0], [2.0], [3.0], [6.0]])})
    correction = Moments.of({"conv": np.array([[0.5], [0.1]])})
    return FilterMeans(measured, replace(recipe, precision="bfloat16", control=2), correction=correction)


def test_a_correction_worked_by_hand(corrected: FilterMeans) -> None:
    assert corrected.mean["conv"] == pytest.approx(3 + 0.3)
    assert corrected.image_count == 4
    # The differences deviate by 0.2 from their mean: variance 2 * 0.04 / 1; as two of four, 0.08 * (1/2 - 1/4) = 0.02.
    assert corrected.correction_std_error["conv"] == pytest.approx(0.02**0.5)
    # The photos deviate by 2, 1, 0, 3: variance 14/3, of the mean of four 14/12.
    assert corrected.std_error["conv"] == pytest.approx((14 / 12 + 0.02) ** 0.5)


def test_a_correction_over_all_photos_leaves_nothing_unknown(recipe: Recipe) -> None:
    values, surplus = np.array([[1.0], [2.0], [6.0]]), np.array([[0.5], [0.1], [0.3]])
    means = FilterMeans(Moments.of({"conv": values}), recipe, correction=Moments.of({"conv": surplus}))
    assert means.mean["conv"] == pytest.approx((values + surplus).mean())
    assert means.correction_std_error["conv"] == 0


def test_of_no_correction_nothing_is_unknown(some_means: FilterMeans) -> None:
    assert {layer: values.tolist() for layer, values in some_means.correction_std_error.items()} == {
        "conv1": [0, 0],
        "conv2": [0, 0, 0],
    }


def test_the_correction_is_off_as_much_as_it_says(recipe: Recipe) -> None:
    # Over many random subsets, the corrected mean scatters about that of the exact values by the standard error.
    random = np.random.default_rng(0)
    exact = random.gamma(2, size=(50, 1))
    coarse = exact * 0.99 + random.normal(0, 0.03, size=exact.shape)
    errors, claims = [], []
    for _ in range(4000):
        chosen = random.permutation(50)[:20]
        surplus = Moments.of({"conv": (exact - coarse)[chosen]})
        means = FilterMeans(Moments.of({"conv": coarse}), recipe, correction=surplus)
        errors.append(means.mean["conv"][0] - exact.mean())
        claims.append(means.correction_std_error["conv"][0] ** 2)
    assert np.mean(errors) == pytest.approx(0, abs=3 * np.std(errors) / 4000**0.5)
    assert np.var(errors) == pytest.approx(np.mean(claims), rel=0.1)


def test_a_correction_does_not_silence_a_filter(recipe: Recipe) -> None:
    measured = Moments.of({"conv": np.array([[0.1, 0.0, 0.0, -1.0]] * 3)})
    correction = Moments.of({"conv": np.array([[-0.2, 0.3, 0.0, 0.1]] * 2)})
    means = FilterMeans(measured, recipe, correction=correction)
    np.testing.assert_allclose(means.mean["conv"], [0.1, 0.3, 0.0, -0.9])


def test_a_saved_correction_comes_back_to_the_last_bit(corrected: FilterMeans, tmp_path: Path) -> None:
    save_means(corrected, tmp_path / "means.npy")
    loaded = load_means(tmp_path / "means.npy")
    assert loaded.correction is not None
    assert loaded.correction.count == 2
    np.testing.assert_array_equal(loaded.mean["conv"], corrected.mean["conv"])
    for layer, values in corrected.correction_std_error.items():
        np.testing.assert_array_equal(loaded.correction_std_error[layer], values)


@pytest.mark.parametrize("count", [-1, 5])
def test_more_control_photos_than_photos_are_refused(count: int, corrected: FilterMeans, tmp_path: Path) -> None:
    save_means(corrected, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    record["control_count"] = count
    np.save(tmp_path / "means.npy", record)
    with pytest.raises(MeansError, match=f"control_count is {count}"):
        load_means(tmp_path / "means.npy")


def test_saved_means_come_back_to_the_last_bit(some_means: FilterMeans, tmp_path: Path) -> None:
    some_means.mean["conv1"][:] = [1 / 3, np.nextafter(2.0, 3)]
    save_means(some_means, tmp_path / "means.npy")
    loaded = load_means(tmp_path / "means.npy")
    for layer in "conv1", "conv2":
        np.testing.assert_array_equal(loaded.mean[layer], some_means.mean[layer])
        np.testing.assert_array_equal(loaded.squared_deviation[layer], some_means.squared_deviation[layer])
    assert list(loaded.mean) == ["conv1", "conv2"]
    assert (loaded.image_count, loaded.recipe, loaded.skipped) == (3, some_means.recipe, some_means.skipped)


def test_the_file_reads_as_documented(some_means: FilterMeans, tmp_path: Path) -> None:
    save_means(some_means, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy", allow_pickle=False)
    vectors = np.split(record["mean"], record["filters"].cumsum()[:-1])
    mean = dict(zip(json.loads(str(record["layers"])), vectors, strict=True))
    assert mean["conv2"].dtype == np.float64
    assert {layer: values.tolist() for layer, values in mean.items()} == {"conv1": [1.0, 2.0], "conv2": [0.5, 0.0, 4.0]}
    assert record["image_count"] == 3
    assert json.loads(str(record["recipe"]))["interpolation"] == "bilinear"


def test_an_existing_file_is_kept_without_force(some_means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"means\.npy: exists already; give another name, or --force"):
        save_means(some_means, path)
    assert path.read_bytes() == b"precious"
    save_means(some_means, path, force=True)
    assert load_means(path).image_count == 3


def test_means_that_cannot_be_read_back_are_not_left_behind(some_means: FilterMeans, tmp_path: Path) -> None:
    some_means.mean["conv1"][0] = np.nan
    with pytest.raises(MeansError, match="the mean of conv1 is not finite at filter 0"):
        save_means(some_means, tmp_path / "means.npy")
    assert list(tmp_path.iterdir()) == []


class Hostile:
    """Unpickled, it would leave a file behind."""

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
    with pytest.raises(MeansError, match=r"means\.npy: (is damaged, or holds pickled objects|is no \.npy file)"):
        load_means(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists(), "the trap would not have worked"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"is no \.npy file; give a file that compute-means wrote"),
        (b"not an array", r"is no \.npy file"),
        (b"PK\x03\x04 an archive", r"is no \.npy file"),
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
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + b"\x00" * 64)
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
    ids=["objects", "objects inside", "shape", "unclosed", "parentheses", "lists", "signs", "sum", "code", "large"],
)
def test_an_absurd_header_is_refused(descr: bytes, tmp_path: Path) -> None:
    path = with_header(tmp_path / "means.npy", b"{'descr': " + descr + b", 'fortran_order': False, 'shape': ()}")
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
    with pytest.raises(MeansError, match=r"means\.npy: holds no means; give a file that compute-means wrote"):
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
        ("correction_squared_deviation", -1.0, "the correction squared deviation of conv2 is negative at filter 1"),
    ],
)
def test_impossible_numbers_are_refused(
    field: str, value: float, text: str, some_means: FilterMeans, tmp_path: Path
) -> None:
    save_means(some_means, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    record[field][3] = value  # conv1 has two filters
    np.save(tmp_path / "means.npy", record)
    with pytest.raises(MeansError, match=rf"means\.npy: not usable as means: {text}.*; measure again"):
        load_means(tmp_path / "means.npy")


def record_of(mean: Any, deviation: Any, count: Any, recipe: str, skipped: str = "[]") -> np.ndarray:
    nothing = np.zeros_like(mean)
    fields = {"mean": mean, "squared_deviation": deviation, "image_count": count, "recipe": recipe, "skipped": skipped}
    fields |= {"measured": mean, "correction": nothing, "correction_squared_deviation": nothing, "control_count": 0}
    parts = {name: np.asarray(value) for name, value in fields.items()}
    record = np.zeros((), dtype=[(name, part.dtype, part.shape) for name, part in parts.items()])
    for name, part in parts.items():
        record[name] = part
    return record


def layers(**arrays: np.ndarray) -> np.ndarray:
    record = np.zeros((), dtype=[(name, array.dtype, array.shape) for name, array in arrays.items()])
    for name, array in arrays.items():
        record[name] = array
    return record


@pytest.mark.parametrize(
    ("mean", "deviation", "count", "text"),
    [
        (layers(a=np.ones(2)), layers(b=np.ones(2)), 3, "do not have the same layers"),
        (layers(a=np.ones(2)), layers(a=np.ones(3)), 3, "mean and squared deviation of a differ in shape"),
        (layers(a=np.ones((2, 2))), layers(a=np.ones((2, 2))), 3, "the mean of a is no vector of float64"),
        (layers(a=np.ones(2, np.float32)), layers(a=np.ones(2)), 3, "the mean of a is no vector of float64"),
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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": "224"}, "the recipe's size is '224'"),
        ({"seed": True}, "the recipe's seed is True"),
        ({"network": 16}, "the recipe's network is 16"),
        ({"fit": "squeeze"}, "fit is 'squeeze'"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'"),
        ({"size": 0}, "size is 0"),
        ({"size": [224, "224"]}, r"the recipe's size is \[224, '224'\]"),
        ({"preprocessing": "vgg"}, "the recipe's preprocessing is 'vgg'"),
        ({"categories": "dog"}, "the recipe's categories is 'dog'"),
        ({"limit": "all"}, "the recipe's limit is 'all'"),
        ({"dense": 0}, "the recipe's dense is 0"),
        ({"precision": "tf32"}, "the recipe's precision is 'tf32'"),
        ({"control": 1.5}, "the recipe's control is 1.5"),
        ({"accuracy": True}, "the recipe's accuracy is True"),
        ({"tolerance": float("nan")}, "the recipe's tolerance is nan"),
        ({"tolerance": -0.1}, "the recipe's tolerance is -0.1"),
        ({"shard": [3]}, r"the recipe's shard is \[3\]"),
        ({"shard": [4, 3]}, r"the recipe's shard is \[4, 3\]"),
        ({"shard": [0, 3]}, r"the recipe's shard is \[0, 3\]"),
        ({"batch_size": None}, "the recipe's batch_size is None"),
        ({"photos_sha256": "1" * 63}, "the recipe's photos_sha256 is '1"),
        ({"taken_sha256": "g" * 64}, "the recipe's taken_sha256 is 'g"),
        ({"added": 1}, "the recipe must have the keys network, include_top,"),
    ],
)
def test_damaged_recipes_are_refused(change: dict[str, Any], text: str, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=text):
        Recipe.from_json(json.dumps(recipe.to_dict() | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"network": "vgg16"'])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        Recipe.from_json(text)


@pytest.mark.parametrize("skipped", ["[1]", '[{"photo": "a"}]', "7", '{"photo": 1}'])
def test_a_damaged_list_of_skipped_photos_is_refused(skipped: str, recipe: Recipe, tmp_path: Path) -> None:
    one = layers(a=np.ones(2))
    np.save(tmp_path / "means.npy", record_of(one, one, 3, json.dumps(recipe.to_dict()), skipped))
    with pytest.raises(MeansError, match="the list of skipped photos is damaged"):
        load_means(tmp_path / "means.npy")


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"conv1": 2}, "layer conv2 has 3 filters in the means and no filters in the network"),
        ({"conv1": 2, "conv2": 3, "conv3": 1}, "layer conv3 has no filters in the means and 1 filters in the network"),
        ({"conv1": 2, "conv2": 4}, "layer conv2 has 3 filters in the means and 4 filters in the network"),
    ],
)
def test_other_layers_are_named(filters: dict[str, int], text: str, some_means: FilterMeans) -> None:
    with pytest.raises(MeansError, match=f"the means do not fit vgg16: {text}; measure this network"):
        some_means.require_layers(filters, "vgg16")


def test_the_right_layers_are_accepted(some_means: FilterMeans) -> None:
    some_means.require_layers({"conv1": 2, "conv2": 3})
