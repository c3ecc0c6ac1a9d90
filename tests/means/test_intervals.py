"""Intervals against Hall's cubic, solved by bisection, and against how often they cover a mean."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.intervals import (
    CORRECTED_FROM,
    LARGEST_SKEWNESS,
    Intervals,
    confidence_intervals,
    difference_intervals,
)
from vggnorm.means.moments import Moments, std_deviation
from vggnorm.means.recipe import Recipe


def intervals_of(values: np.ndarray) -> Intervals:
    """Return the intervals of means over photos, `(photos, filters)`."""
    moments = Moments.of({"conv": values})
    spread = std_deviation(moments.squared_deviation, moments.count)
    return confidence_intervals(
        moments, {layer: std / math.sqrt(moments.count) for layer, std in spread.items()}
    )


def hall(studentized: float, skewness: float) -> float:
    """Return Hall's cubic of a studentized mean, as the paper has it, for the mean's skewness."""
    return (
        studentized
        + skewness * studentized**2 / 3
        + skewness**2 * studentized**3 / 27
        + skewness / 6
    )


def solve(deviate: float, skewness: float) -> float:
    """Return the studentized mean at which the cubic, which never falls, is a normal deviate."""
    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if hall(middle, skewness) < deviate else (low, middle)
    return low


def naive_interval(values: list[float]) -> tuple[float, float]:
    """Return how far the interval of a mean reaches below and above it, number by number."""
    count = len(values)
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    third = sum((value - mean) ** 3 for value in values)
    third *= count / ((count - 1) * (count - 2))
    std_error = math.sqrt(variance / count)
    skewness = third / count**2 / std_error**3
    skewness = max(-0.552, min(0.552, skewness))
    return std_error * solve(1.96, skewness), -std_error * solve(-1.96, skewness)


@pytest.mark.parametrize("count", [10, 25, 400])
def test_they_are_what_halls_cubic_gives(count: int) -> None:
    random = np.random.default_rng(count)
    skewed = random.lognormal(size=count)
    columns = [skewed, -skewed, random.normal(size=count), np.eye(count)[0], 1e-40 * skewed]
    found = intervals_of(np.stack(columns, axis=1))
    for index, values in enumerate(columns):
        below, above = naive_interval(values.tolist())
        assert found.below["conv"][index] == pytest.approx(below, rel=1e-9)
        assert found.above["conv"][index] == pytest.approx(above, rel=1e-9)
    assert (found.longer["conv"] >= found.below["conv"]).all()
    assert found.longer["conv"][0] == found.above["conv"][0]  # skewed to the right
    assert found.longer["conv"][1] == found.below["conv"][1]


def test_an_interval_worked_by_hand() -> None:
    # Nine photos of 0 and one of 10: mean 1, squares 9 * 1 + 81 = 90, cubes -9 + 729 = 720. The
    # standard error is sqrt(90 / 9 / 10) = 1. The third cumulant of the mean is 720 / (10 * 9 * 8)
    # = 1, which is the skewness and more than the largest one that is used.
    found = intervals_of(np.array([[10.0]] + [[0.0]] * 9))
    assert found.above["conv"][0] == pytest.approx(8.207, abs=1e-3)
    assert found.above["conv"][0] == pytest.approx(-solve(-1.96, 0.552))


def test_the_largest_skewness_is_where_the_interval_is_longest() -> None:
    skewness = np.linspace(0.3, 0.9, 601)
    longest = skewness[np.argmax([-solve(-1.96, value) for value in skewness])]
    assert abs(longest - LARGEST_SKEWNESS) <= 0.001


def test_few_photos_have_symmetric_intervals() -> None:
    values = np.random.default_rng(0).lognormal(size=(CORRECTED_FROM - 1, 3))
    found = intervals_of(values)
    expected = 1.96 * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    np.testing.assert_allclose(found.below["conv"], expected, rtol=1e-12)
    np.testing.assert_allclose(found.above["conv"], expected, rtol=1e-12)


def test_without_cubes_they_are_symmetric() -> None:
    moments = replace(
        Moments.of({"conv": np.random.default_rng(0).lognormal(size=(50, 3))}), cubed_deviation=None
    )
    found = confidence_intervals(moments, {"conv": np.array([1.0, 2.0, 3.0])})
    np.testing.assert_allclose(found.below["conv"], [1.96, 3.92, 5.88])
    np.testing.assert_allclose(found.above["conv"], [1.96, 3.92, 5.88])


def test_photos_that_are_all_alike_leave_nothing_open() -> None:
    found = intervals_of(np.full((20, 2), 0.1))
    assert found.longer["conv"] == pytest.approx([0, 0], abs=1e-15)


def test_a_single_photo_has_no_interval() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(intervals_of(np.array([[1.0]])).longer["conv"]).all()


# Coverage

SAMPLES = 20_000


@pytest.mark.parametrize(
    ("kind", "count", "least"),
    [
        ("lognormal", 50, 0.92),
        ("lognormal", 200, 0.935),
        ("barely firing", 100, 0.95),
        ("exponential", 50, 0.94),
        ("normal", 50, 0.94),
    ],
)
def test_they_cover_the_mean(kind: str, count: int, least: float) -> None:
    # How much of the skewness stays is known by simulation alone: the least shares are half a point
    # to a point below what docs/intervals.md has. A share of so many samples is off by more than 3
    # standard errors of the binomial distribution in 3 of 1,000 cases. The plain intervals, whose
    # share has the same error, must be worse by more than both.
    random = np.random.default_rng(1)
    size = count, SAMPLES
    values, mean = {
        "lognormal": lambda: (random.lognormal(size=size), math.exp(0.5)),
        "barely firing": lambda: (random.exponential(size=size) * (random.random(size) < 0.1), 0.1),
        "exponential": lambda: (random.exponential(size=size), 1.0),
        "normal": lambda: (random.normal(size=size), 0.0),
    }[kind]()
    found, off = intervals_of(values), values.mean(axis=0) - mean
    covered = ((off <= found.below["conv"]) & (off >= -found.above["conv"])).mean()
    slack = 3 * math.sqrt(0.95 * 0.05 / SAMPLES)
    assert least - slack <= covered <= 0.97 + slack
    plain = np.abs(off) <= 1.96 * values.std(axis=0, ddof=1) / math.sqrt(count)
    if kind != "normal":
        assert covered >= plain.mean() + 2 * slack


def test_the_interval_of_a_difference_worked_by_hand() -> None:
    one = Intervals({"conv": np.array([3.0])}, {"conv": np.array([5.0])})
    other = Intervals({"conv": np.array([12.0])}, {"conv": np.array([4.0])})
    both = difference_intervals(one, other)
    # Below, the first mean may be 3 smaller and the other 4 larger; above, 5 larger and 12 smaller.
    assert (both.below["conv"].item(), both.above["conv"].item()) == (5.0, 13.0)


# What FilterMeans makes of them


def test_what_is_not_known_of_the_correction_is_normal(recipe: Recipe) -> None:
    # Beside an unknown correction that is much larger, the skewness of the photos does not show.
    random = np.random.default_rng(0)
    measured = Moments.of({"conv": random.lognormal(size=(100, 1))})
    correction = Moments.of({"conv": np.array([[-1000.0], [1000.0]])})
    means = FilterMeans(measured, recipe, correction=correction)
    error = means.std_error["conv"]
    np.testing.assert_allclose(means.interval.above["conv"], 1.96 * error, rtol=1e-4)
    alone = replace(means, correction=None)
    assert alone.interval.above["conv"] > 1.1 * 1.96 * alone.std_error["conv"]


def test_filters_that_may_have_twice_the_mean_are_badly_known(recipe: Recipe) -> None:
    # Of fifty photos, the first filter fires in one, the second in all, the third in none.
    values = np.zeros((50, 3))
    values[7, 0] = 1
    values[:, 1] = np.linspace(1, 2, 50)
    means = FilterMeans(Moments.of({"conv": values}), recipe)
    assert {layer: found.tolist() for layer, found in means.badly_known.items()} == {"conv": [0]}
    single = FilterMeans(Moments.of({"conv": values[:1] + 1}), recipe)
    assert single.badly_known["conv"].size == 0
