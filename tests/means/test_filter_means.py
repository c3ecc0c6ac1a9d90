"""Means with their standard errors and corrections, by hand; and the layers they fit."""

import numpy as np
import pytest

from vggnorm.errors import MeansError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe


def test_std_error_worked_by_hand(some_means: FilterMeans) -> None:
    # Three photos: variance 6/2 = 3, standard error sqrt(3/3) = 1; 0.5/2 = 1/4, sqrt(1/12).
    np.testing.assert_allclose(some_means.std_error["conv1"], [1.0, 12**-0.5], rtol=1e-15)


def test_silent_filters_and_count(some_means: FilterMeans) -> None:
    assert {layer: indices.tolist() for layer, indices in some_means.silent.items()} == {
        "conv1": [],
        "conv2": [1],
    }
    assert some_means.filter_count == 5


def test_a_correction_worked_by_hand(corrected: FilterMeans) -> None:
    assert corrected.mean["conv"] == pytest.approx(3 + 0.3)
    assert corrected.image_count == 4
    # The differences deviate by 0.2 from their mean, so their variance is 2 * 0.04 / 1 = 0.08. They
    # are two of four photos: 0.08 * (1/2 - 1/4) = 0.02.
    assert corrected.correction_std_error["conv"] == pytest.approx(0.02**0.5)
    # The photos deviate by 2, 1, 0, 3: the variance is 14/3, and that of their mean 14/12.
    assert corrected.std_error["conv"] == pytest.approx((14 / 12 + 0.02) ** 0.5)


def test_a_correction_over_all_photos_leaves_nothing_unknown(recipe: Recipe) -> None:
    values, surplus = np.array([[1.0], [2.0], [6.0]]), np.array([[0.5], [0.1], [0.3]])
    means = FilterMeans(
        Moments.of({"conv": values}), recipe, correction=Moments.of({"conv": surplus})
    )
    assert means.mean["conv"] == pytest.approx((values + surplus).mean())
    assert means.correction_std_error["conv"] == 0


def test_of_no_correction_nothing_is_unknown(some_means: FilterMeans) -> None:
    assert {
        layer: values.tolist() for layer, values in some_means.correction_std_error.items()
    } == {
        "conv1": [0, 0],
        "conv2": [0, 0, 0],
    }


def test_the_correction_is_off_as_much_as_it_says(recipe: Recipe) -> None:
    # Over many random subsets, the corrected mean scatters around the mean of the exact values, by
    # the standard error.
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


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"conv1": 2}, "layer conv2 has 3 filters in the means and no filters in the network"),
        (
            {"conv1": 2, "conv2": 3, "conv3": 1},
            "layer conv3 has no filters in the means and 1 filters in the network",
        ),
        (
            {"conv1": 2, "conv2": 4},
            "layer conv2 has 3 filters in the means and 4 filters in the network",
        ),
    ],
)
def test_other_layers_are_named(
    filters: dict[str, int], text: str, some_means: FilterMeans
) -> None:
    with pytest.raises(
        MeansError, match=f"the means do not fit vgg16: {text}; measure this network"
    ):
        some_means.require_layers(filters, "vgg16")


def test_the_right_layers_are_accepted(some_means: FilterMeans) -> None:
    some_means.require_layers({"conv1": 2, "conv2": 3})
