"""Means over other photos are judged by the intervals of both sets, worked out filter by filter."""

from dataclasses import replace

import numpy as np
import pytest

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.promise import check_means, promise_of
from vggnorm.report.verification import format_verification
from vggnorm.verdicts.verification import (
    ActivationsCheck,
    MeansCheck,
    OutputScale,
    PhotosUsed,
    Verification,
    WeightsCheck,
)

NOTHING = ActivationsCheck({"conv": 0.0}, {"conv": 0.0})


def judge(measured: np.ndarray, here: np.ndarray, recipe: Recipe) -> tuple[FilterMeans, MeansCheck]:
    """Normalize by means over some photos, `(photos, filters)`, and check on others."""
    means = FilterMeans(Moments.of({"conv": measured}), recipe)
    moments = Moments.of({"conv": here / measured.mean(axis=0)})
    return means, check_means(moments, promise_of(means), PhotosUsed.OTHER, NOTHING)


def test_each_mean_is_judged_by_the_intervals_of_both(recipe: Recipe) -> None:
    random = np.random.default_rng(0)
    measured, here = random.lognormal(size=(40, 9)), random.lognormal(size=(25, 9))
    here[:, 4] *= 10
    means, check = judge(measured, here, recipe)
    others = FilterMeans(Moments.of({"conv": here}), recipe)
    reach = []
    for index in range(9):
        one, other = measured[:, index].mean(), here[:, index].mean()
        if other > one:
            sides = others.interval.below["conv"], means.interval.above["conv"]
        else:
            sides = others.interval.above["conv"], means.interval.below["conv"]
        reach.append(abs(other - one) / np.hypot(sides[0][index], sides[1][index]))
    assert check.worst_reach == pytest.approx(max(reach), rel=1e-9)
    assert check.layer_reach == {"conv": pytest.approx(np.median(reach), rel=1e-9)}
    assert (check.agreeing, check.firing) == (sum(value <= 1 for value in reach), 9)
    assert reach[4] > 1
    assert check.passed


def test_a_layer_of_which_most_filters_are_far_off_fails(recipe: Recipe) -> None:
    random = np.random.default_rng(0)
    measured, here = random.uniform(1, 2, (40, 9)), random.uniform(1, 2, (25, 9))
    assert judge(measured, here, recipe)[1].passed
    here[:, :5] *= 2
    assert not judge(measured, here, recipe)[1].passed
    here[:, :2] /= 2
    assert judge(measured, here, recipe)[1].passed


def test_a_filter_that_barely_fires_is_named_with_both_intervals(recipe: Recipe) -> None:
    random = np.random.default_rng(0)
    measured, here = random.uniform(1, 2, (40, 3)), random.uniform(1, 2, (30, 3))
    measured[1:, 1] = 0  # it fires in one of forty photos, and in all others
    means, check = judge(measured, here, recipe)
    (found,) = check.badly_known
    assert (found.name, found.mean) == ("conv[1]", 1.0)
    unit = measured[:, 1].mean()
    upper = 1 + means.interval.above["conv"][1] / unit
    assert found.interval[1] == pytest.approx(upper, rel=1e-9)
    assert found.interval[1] > 2
    assert found.here == pytest.approx(here[:, 1].mean() / unit, rel=1e-9)
    others = FilterMeans(Moments.of({"conv": here}), recipe)
    lower = (here[:, 1].mean() - others.interval.below["conv"][1]) / unit
    assert found.interval_here[0] == pytest.approx(lower, rel=1e-9)


def test_what_a_bound_leaves_is_shown_as_it_is(recipe: Recipe) -> None:
    values = np.zeros((20, 2))
    values[:, 0] = np.linspace(1, 2, 20)
    values[0, 1] = 2.0  # a mean of 0.1, which a bound of 5 makes 0.5
    means = FilterMeans(Moments.of({"conv": values}), replace(recipe, max_scale=5.0))
    promise = promise_of(means)
    np.testing.assert_allclose(promise.targets["conv"], [1.0, 0.5])
    normalized = Moments.of({"conv": values / means.scales["conv"]}).relative_to(promise.targets)
    check = check_means(normalized, promise, PhotosUsed.ALL, NOTHING)
    assert (check.passed, check.left_smaller) == (True, 1)
    (found,) = check.badly_known
    assert found.mean == found.here == pytest.approx(0.5)
    above = means.interval.above["conv"][1] * 5
    assert found.interval[1] == pytest.approx(0.5 + above)
    assert found.interval_here[1] == pytest.approx(0.5 + above)


def test_it_says_where_the_means_lack_third_moments(recipe: Recipe) -> None:
    random = np.random.default_rng(0)
    measured = Moments.of({"conv": random.uniform(1, 2, (40, 3))})
    here = Moments.of({"conv": random.uniform(1, 2, (30, 3)) / measured.mean["conv"]})
    said = "of both sets of photos; those of the photos measured are symmetric"
    for moments in (measured, replace(measured, cubed_deviation=None)):
        promise = promise_of(FilterMeans(moments, recipe))
        check = check_means(here, promise, PhotosUsed.OTHER, NOTHING)
        assert check.symmetric == (moments is not measured)
        report = Verification(
            30, 0, check, NOTHING, WeightsCheck([], {}), OutputScale((), kept=False)
        )
        assert (said in format_verification(report)) == check.symmetric
        part = check_means(here, promise, PhotosUsed.PART, NOTHING)
        assert not part.symmetric  # these intervals are symmetric in any case
