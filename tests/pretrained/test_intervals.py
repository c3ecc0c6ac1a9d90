"""Confidence intervals hold what they promise: real photos and weights, many random halves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggnorm.means.filter_means import CONFIDENCE_95, FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import measuring_model
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader

HALVES = 1000


@pytest.fixture(scope="module")
def per_photo(vgg16: Any, coco_photos: Path) -> dict[str, np.ndarray]:
    """Each photo's position means: layer name -> (photos, filters)."""
    measuring = measuring_model(read_graph(vgg16), size=(224, 224))
    found = [
        measuring.predict_on_batch(batch.pixels)
        for batch in PhotoReader(find_photos(coco_photos), Geometry(224)).batches(20)
    ]
    return {
        layer: np.concatenate([means[layer] for means in found]).astype(float) for layer in found[0]
    }


def test_95_percent_intervals_cover_the_mean_as_often_as_they_should(
    per_photo: dict[str, np.ndarray], recipe: Recipe
) -> None:
    count = len(per_photo["block1_conv1"])
    half = count // 2
    all_mean = {layer: values.mean(axis=0) for layer, values in per_photo.items()}
    covered = {layer: np.zeros(len(mean)) for layer, mean in all_mean.items()}
    chance = np.random.default_rng(0)
    for _ in range(HALVES):
        chosen = chance.permutation(count)[:half]
        means = FilterMeans(
            Moments.of({layer: values[chosen] for layer, values in per_photo.items()}), recipe
        )
        # The standard error is that of a sample from infinitely many photos. These are a half of N:
        # s sqrt(1/n - 1/N) = s / sqrt(n) * sqrt(1 - n/N).
        share = np.sqrt(1 - half / count)
        for layer, std_error in means.std_error.items():
            off = np.abs(means.mean[layer] - all_mean[layer])
            covered[layer] += (off <= CONFIDENCE_95 * share * std_error) / HALVES
    # Cochran's rule ("Sampling Techniques", 1977, section 2.15): with more than 25 g^2 photos,
    # where g is the skewness, such an interval is wrong in at most 6 of 100 cases. The slack for
    # chance is 3 standard errors of a share of HALVES, as if all filters of a layer moved together.
    slack = 3 * np.sqrt(0.95 * 0.05 / HALVES)
    for layer, values in per_photo.items():
        deviation = values - all_mean[layer]
        with np.errstate(invalid="ignore"):  # a filter may not fire in these photos
            skewness = (deviation**3).mean(axis=0) / (deviation**2).mean(axis=0) ** 1.5
        mild = half > 25 * skewness**2
        if mild.sum() < 10:
            assert (
                layer == "block5_conv3"
            )  # as skewed as a filter that fires in few photos: most of it above 3
            continue
        assert 0.94 - slack <= covered[layer][mild].mean() <= 0.95 + slack, layer
    # Where the rule asks for more photos than these, the interval covers the mean less often: the
    # mean is known less well than the photos suggest.
    assert covered["block5_conv3"].mean() < min(
        values.mean() for name, values in covered.items() if name[5] < "5"
    )
