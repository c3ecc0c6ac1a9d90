"""The simulation of coverage: shares counted by hand, and a whole run on small samples."""

import re
from itertools import islice
from pathlib import Path

import interval_coverage
import numpy as np
import pytest
from click.testing import CliRunner
from interval_coverage import (
    Population,
    coverage,
    covered,
    growing,
    measured,
    resampled,
    stop_alone,
)

from vggnorm.means.moments import Moments


def test_what_is_covered_worked_by_hand() -> None:
    # Four photos with the mean 2 and the standard error sqrt(8 / 3 / 4), so that the interval
    # reaches 1.96 * 0.8165 = 1.6003 to both sides.
    moments = Moments.of({"conv": np.repeat([[0.0], [2.0], [2.0], [4.0]], 4, axis=1)})
    true = np.array([2 - 1.61, 2 - 1.59, 2 + 1.59, 2 + 1.61])
    found = covered(Population(lambda _count: {}, {"conv": true}), moments)
    assert found["conv"].tolist() == [False, True, True, False]


def test_a_population_of_photos_has_their_means() -> None:
    photos = np.array([[1.0, 0.0, 5.0], [3.0, 0.0, 0.0]])
    population = resampled({"conv": photos}, np.random.default_rng(0))
    assert population.mean["conv"].tolist() == [2.0, 2.5]  # one filter never fires
    sample = population.draw(50)["conv"]
    assert sample.shape == (50, 2)
    assert {tuple(row) for row in sample.tolist()} == {(1.0, 5.0), (3.0, 0.0)}
    assert measured(population, 250).count == 250


def test_both_kinds_of_intervals_are_counted() -> None:
    random = np.random.default_rng(0)
    population = Population(
        lambda count: {"conv": random.exponential(size=(count, 20_000))}, {"conv": np.ones(20_000)}
    )
    plain, corrected = coverage(population, 50, 1)["conv"]
    # Three standard errors of a share of 20,000 samples are half a point. Cochran's rule (see
    # docs/intervals.md) leaves the plain ones at 94 % with 25 * 2^2 = 100 photos at best.
    assert plain < 0.94 + 0.005
    assert 0.94 - 0.005 <= corrected <= 0.95 + 0.005


def test_a_filter_stops_when_its_interval_is_short_enough() -> None:
    random = np.random.default_rng(0)
    population = Population(
        lambda count: {"conv": random.normal(1, 1, (count, 2000))}, {"conv": np.ones(2000)}
    )
    stopped = stop_alone(population, 0.1)
    # 1.96 / sqrt(n) = 0.1 for n = 384, and the means that are large stop before.
    assert stopped.photos == pytest.approx(384, rel=0.03)
    assert stopped.covered == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 2000) + 0.005)


def test_looks_are_taken_from_100_photos_on() -> None:
    population = Population(lambda count: {"conv": np.ones((count, 1))}, {"conv": np.ones(1)})

    def first_looks(batch_size: int, factor: float) -> list[int]:
        return [moments.count for moments in islice(growing(population, batch_size, factor), 4)]

    assert first_looks(8, 1) == [104, 112, 120, 128]
    assert first_looks(1, 1.5) == [100, 150, 225, 338]
    assert first_looks(32, 2) == [128, 256, 512, 1024]


def test_it_prints_all_tables(
    photo_folder: Path, random_vgg16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "FILTERS": 30,
        "COUNTS": (12,),
        "TOLERANCES": (0.9,),
        "LOOKS": {"twice": (8, 2.0)},
        "SPLITS": ((5, 4),),
    }.items():
        monkeypatch.setattr(interval_coverage, name, value)
    options = "--data", str(photo_folder), "--weights", str(random_vgg16), "--samples", "4"
    result = CliRunner().invoke(interval_coverage.main, options)
    assert result.exit_code == 0, result.output
    assert re.search(r"^\| lognormal \| \d+\.\d → \d+\.\d \|$", result.stdout, re.MULTILINE)
    assert re.search(r"^\| block5_conv3 \| \d+\.\d → \d+\.\d \|$", result.stdout, re.MULTILINE)
    assert re.search(r"^\| VGG16 \| 0\.9 \| \d+ \|", result.stdout, re.MULTILINE)
    assert re.search(r"^\| twice \| \d+ \| \d+\.\d \|", result.stdout, re.MULTILINE)
    assert re.search(r"^\| 5 \| 4 \| \d+\.\d\d \|", result.stdout, re.MULTILINE)
