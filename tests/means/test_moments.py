"""Running sums over photos, against sums at once and by hand."""

from dataclasses import replace

import numpy as np
import pytest

from vggnorm.means.moments import Moments, std_deviation


def streamed(values: np.ndarray, chunk: int) -> Moments:
    batches = [
        Moments.of({"conv": values[start : start + chunk]})
        for start in range(0, len(values), chunk)
    ]
    return sum(batches[1:], batches[0])


@pytest.mark.parametrize("chunk", [1, 11, 26, 51, 101])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_any_chunks_give_the_moments_of_all(chunk: int, offset: float) -> None:
    # With the offset, the textbook formula (sum of squares minus square of sum) would lose all
    # digits: it subtracts 1e12 from 1e12 to find 1.
    values = np.random.default_rng(0).gamma(2, size=(101, 6)) + offset
    moments = streamed(values, chunk)
    assert moments.count == 101
    np.testing.assert_allclose(moments.mean["conv"], values.mean(axis=0), rtol=1e-14)
    deviation = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(
        moments.squared_deviation["conv"], deviation, rtol=1e-13 if offset == 0 else 1e-8
    )


def test_moments_worked_by_hand() -> None:
    one, other = (
        Moments.of({"conv": np.array([[1.0], [3.0]])}),
        Moments.of({"conv": np.array([[8.0]])}),
    )
    both = one + other  # 1, 3, 8: mean 4, deviations 9 + 1 + 16
    assert (both.count, both.mean["conv"].tolist(), both.squared_deviation["conv"].tolist()) == (
        3,
        [4.0],
        [26.0],
    )


def test_no_photos_change_nothing() -> None:
    some, none = Moments.of({"conv": np.array([[1.0], [3.0]])}), Moments.of_none({"conv": 1})
    for total, count in ((none + none, 0), (some + none, 2), (none + some, 2)):
        assert total.count == count
        assert total.mean["conv"].tolist() == [2.0 if count else 0.0]
        assert total.squared_deviation["conv"].tolist() == [2.0 if count else 0.0]


def test_sums_are_float64() -> None:
    # In float32, 2**24 + 1 is 2**24.
    values = np.array([[2.0**24], [1.0], [1.0]], dtype=np.float32)
    assert streamed(values, 1).mean["conv"][0] * 3 == 2.0**24 + 2


def test_std_deviation_of_a_single_photo_is_unknown() -> None:
    assert np.isnan(std_deviation({"conv": np.array([0.0])}, 1)["conv"]).all()


@pytest.mark.parametrize("chunk", [1, 11, 26, 51, 101])
def test_any_chunks_give_the_cubes_of_all(chunk: int) -> None:
    values = np.random.default_rng(0).lognormal(size=(101, 6))
    expected = [
        sum((value - column.mean()) ** 3 for value in column.tolist()) for column in values.T
    ]
    cubes = streamed(values, chunk).cubed_deviation
    assert cubes is not None
    np.testing.assert_allclose(cubes["conv"], expected, rtol=1e-12)


def test_cubes_worked_by_hand() -> None:
    one = Moments.of({"conv": np.array([[1.0], [3.0]])})
    both = one + Moments.of({"conv": np.array([[8.0]])})
    assert both.cubed_deviation is not None
    # 1, 3, 8: mean 4, cubes -27 - 1 + 64
    assert both.cubed_deviation["conv"].tolist() == pytest.approx([36.0], rel=1e-14)


def test_what_lacks_the_cubes_makes_the_sum_lack_them() -> None:
    some = Moments.of({"conv": np.array([[1.0], [3.0]])})
    former = replace(some, cubed_deviation=None)
    for total in (some + former, former + some, former + former):
        assert total.cubed_deviation is None
        assert total.mean["conv"].tolist() == [2.0]
        assert total.squared_deviation["conv"].tolist() == [4.0]
    # What has no photos changes nothing.
    assert (some + Moments.of_none({"conv": 1})).cubed_deviation is not None


def test_a_scale_divides_each_moment_by_its_power() -> None:
    values = np.array([[1.0], [3.0], [8.0]])
    found = Moments.of({"conv": values}).relative_to({"conv": np.array([4.0])})
    expected = Moments.of({"conv": values / 4})
    assert found.count == 3
    assert found.mean["conv"] == pytest.approx(expected.mean["conv"])
    assert found.squared_deviation["conv"] == pytest.approx(expected.squared_deviation["conv"])
    assert found.cubed_deviation is not None
    assert expected.cubed_deviation is not None
    assert found.cubed_deviation["conv"] == pytest.approx(expected.cubed_deviation["conv"])
