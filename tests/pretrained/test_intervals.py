"""Confidence intervals hold what they promise: real photos and weights, many random halves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggnorm.means.filter_means import FilterMeans
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
    covered = dict.fromkeys(all_mean, 0.0)
    covered_by_plain = 0.0  # in the layer whose photos are most skewed
    chance = np.random.default_rng(0)
    for _ in range(HALVES):
        chosen = chance.permutation(count)[:half]
        means = FilterMeans(
            Moments.of({layer: values[chosen] for layer, values in per_photo.items()}), recipe
        )
        # The intervals are those of a sample from infinitely many photos. These are a half of N:
        # s sqrt(1/n - 1/N) = s / sqrt(n) * sqrt(1 - n/N).
        share = np.sqrt(1 - half / count)
        for layer, mean in means.mean.items():
            off = mean - all_mean[layer]
            below, above = means.interval.below[layer], means.interval.above[layer]
            is_covered = (off <= share * below) & (off >= -share * above)
            covered[layer] += float(is_covered.mean()) / HALVES
        off = np.abs(means.mean["block5_conv3"] - all_mean["block5_conv3"])
        plain = off <= 1.96 * share * means.std_error["block5_conv3"]
        covered_by_plain += float(plain.mean()) / HALVES
    # Cochran's rule ("Sampling Techniques", 1977, section 2.15) takes an interval as good that is
    # wrong in at most 6 of 100 cases. The slack for chance is 3 standard errors of a share of
    # HALVES, as if all filters of a layer moved together.
    slack = 3 * np.sqrt(0.95 * 0.05 / HALVES)
    for layer, share_covered in covered.items():
        assert 0.94 - slack <= share_covered <= 0.95 + slack, layer
    assert covered["block5_conv3"] > covered_by_plain + slack
