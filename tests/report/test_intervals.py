"""What is said of how well means are known, and of filters that barely fire."""

from dataclasses import replace

import numpy as np
import pytest

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.report.intervals import badly_known_lines, how_well_known
from vggnorm.report.text import summarize


@pytest.fixture
def means(recipe: Recipe) -> FilterMeans:
    """Return means over 40 photos: ten filters fire in all of them, eight in one each."""
    values = np.zeros((40, 18))
    values[:, :10] = np.linspace(1, 3, 40)[:, np.newaxis]
    values[5, 10:] = 1
    return FilterMeans(Moments.of({"conv": values}), recipe)


def test_it_says_how_well_most_are_known(means: FilterMeans) -> None:
    assert how_well_known(means) == [
        f"95% of the filters that fire are known to {means.uncertainty:.1%}"
    ]
    former = replace(means, measured=replace(means.measured, cubed_deviation=None))
    (line,) = how_well_known(former)
    assert line.endswith("symmetric, because the third moments were not measured")
    assert summarize(former)["all_layers"]["symmetric"]
    assert not summarize(means)["all_layers"]["symmetric"]
    single = replace(means, measured=replace(means.measured, count=1))
    assert how_well_known(single) == []


def test_filters_that_may_have_twice_the_mean_are_named(means: FilterMeans) -> None:
    first, *named, last = badly_known_lines(means)
    assert first == (
        "badly known filters: 8; on other photos, such a filter may fire more than twice as much; "
        "measure more photos"
    )
    assert last == "  … and 3 more, see inspect --json"
    assert len(named) == 5
    # A filter that fires in one of 40 photos has its mean as its standard error, and a skewness of
    # 1, more than the largest that is used.
    lower, upper = 0.025 * (1 - 1.448), 0.025 * (1 + 8.207)
    assert named == [
        f"  conv[{index}] 0.025 ({lower:.3g} to {upper:.3g})" for index in range(10, 15)
    ]


def test_where_all_are_known_nobody_is_named(recipe: Recipe) -> None:
    values = np.linspace(1, 3, 40)[:, np.newaxis]
    assert badly_known_lines(FilterMeans(Moments.of({"conv": values}), recipe)) == []
