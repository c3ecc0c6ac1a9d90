"""A bound on the scales leaves filters that barely fire smaller than 1, and everything knows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from command_line import run
from PIL import Image

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry
from vggnorm.verdicts.identification import MeansRelation

SIZE = 40  # pixels
BOUND = 5.0


@pytest.fixture(scope="module")
def model(make_chain: Callable[..., Any]) -> Any:
    """A network of which filters of both layers fire so weakly that a bound of 5 concerns them."""
    chain = make_chain((6, 8))
    random = np.random.default_rng(3)
    for layer in chain.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            factors = np.where(np.arange(len(bias)) % 3 == 0, 1e-3, 1.0)
            kernel = np.abs(kernel) * factors if layer.name == "conv2" else kernel * factors
            layer.set_weights([kernel, random.uniform(1, 2, bias.shape) * factors])
    return chain


@pytest.fixture(scope="module")
def means(model: Any, photo_folder: Path) -> FilterMeans:
    return vggnorm.compute_means(model, photo_folder, geometry=Geometry(SIZE))


@pytest.fixture(scope="module")
def bounded(means: FilterMeans) -> FilterMeans:
    bounded = means.with_max_scale(BOUND)
    assert 0 < bounded.left_smaller < bounded.filter_count
    return bounded


def test_no_activation_is_multiplied_by_more_and_the_function_stays(
    model: Any, bounded: FilterMeans, photo_folder: Path
) -> None:
    normalized = vggnorm.normalize(model, bounded)
    again = vggnorm.compute_means(normalized, photo_folder, geometry=Geometry(SIZE))
    smaller = 0
    for layer, mean in bounded.mean.items():
        expected = np.where(mean > 0, np.minimum(1, BOUND * mean), 0)
        np.testing.assert_allclose(again.mean[layer], expected, rtol=1e-4)
        smaller += int(((mean > 0) & (expected < 1)).sum())
    assert bounded.left_smaller == smaller
    pixels = np.random.default_rng(0).uniform(-100, 100, (2, 24, 24, 3)).astype(np.float32)
    before, after = np.asarray(model(pixels)), np.asarray(normalized(pixels))
    scale = np.maximum(bounded.mean["conv2"], 1 / BOUND)
    np.testing.assert_allclose(after * scale, before, atol=1e-5 * before.max())


def test_without_a_bound_nothing_is_left_smaller(means: FilterMeans, bounded: FilterMeans) -> None:
    assert means.left_smaller == 0
    again = bounded.with_max_scale(None)
    assert again.recipe == means.recipe
    for layer, scale in again.scales.items():
        np.testing.assert_array_equal(scale, means.mean[layer])


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_is_a_positive_number(bound: float, means: FilterMeans) -> None:
    with pytest.raises(ValueError, match="it must be a positive number"):
        means.with_max_scale(bound)


@pytest.mark.parametrize("limit", [5, 64])
def test_verify_holds_the_network_to_the_bound(
    limit: int, model: Any, means: FilterMeans, bounded: FilterMeans, photo_folder: Path
) -> None:
    normalized = vggnorm.normalize(model, bounded)
    report = vggnorm.verify(model, normalized, photo_folder, bounded, limit=limit)
    assert report.passed, str(report)
    assert report.means.left_smaller == bounded.left_smaller
    claim = f"or what --max-scale leaves of it ({bounded.left_smaller} of 14 filters)"
    assert claim in str(report)
    # The same network is not what the rule without a bound makes, and the other way round.
    assert not vggnorm.verify(model, normalized, photo_folder, means).passed
    whole = vggnorm.normalize(model, means)
    assert not vggnorm.verify(model, whole, photo_folder, bounded).passed


def test_identify_takes_the_bound_from_the_file(
    model: Any, means: FilterMeans, bounded: FilterMeans, tmp_path: Path
) -> None:
    path = tmp_path / "bounded.h5"
    vggnorm.save_network(vggnorm.normalize(model, bounded), path, bounded)
    stored = vggnorm.load_means(path)
    assert stored.recipe.max_scale == BOUND
    for layer, above in bounded.interval.above.items():  # the file holds the third moments, too
        np.testing.assert_array_equal(stored.interval.above[layer], above)
    for given in (None, means):
        found = vggnorm.identify(path, model, given)
        assert found.comparison is not None
        assert found.comparison.relation is MeansRelation.EQUAL
        assert "normalized with exactly the means" in found.sentence


def test_on_the_command_line(
    model: Any, means: FilterMeans, photo_folder: Path, tmp_path: Path
) -> None:
    network, file = tmp_path / "chain.keras", tmp_path / "norm.h5"
    model.save(network)
    vggnorm.save_means(means, tmp_path / "means.npy")
    common = "--means", tmp_path / "means.npy", "--network", network, "-o", file
    result = run("normalize", *common, "--max-scale", "5")
    assert result.exit_code == 0, result.output
    count = means.with_max_scale(5).left_smaller
    assert f"filters left smaller than 1 by --max-scale 5: {count}\n" in result.stdout
    shown = run("inspect", file).stdout
    assert (
        "max scale 5; filters of the normalized network that it leaves smaller than 1: "
        f"{count}\n" in shown
    )
    verified = run("verify", file, "--network", network, "--data", photo_folder)
    assert verified.exit_code == 0, verified.output
    for value in ("0", "nan", "inf"):
        assert run("normalize", *common, "--max-scale", value).exit_code == 2
    # Means out of the file go on without its bound, unless it is given again.
    again = "--means", file, "--network", network, "-o", tmp_path / "whole.h5"
    assert run("normalize", *again).exit_code == 0
    assert vggnorm.load_means(tmp_path / "whole.h5").recipe.max_scale is None


def test_the_advice_about_badly_known_filters_works(tmp_path: Path) -> None:
    """A filter fires in one photo of twelve. With more photos, it is known well enough."""
    pixels = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(2, 1, activation="relu", name="conv")
    model = keras.Model(pixels, layer(pixels), name="few")
    kernel = np.zeros((1, 1, 3, 2))
    kernel[..., 0] = 1  # fires in white photos alone: grey levels below 200 are below its bias
    layer.set_weights([kernel, np.array([-600.0, 1.0])])
    network, file = tmp_path / "few.keras", tmp_path / "norm.h5"
    model.save(network)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        Image.new("L", (40, 40), 255 if number == 0 else 60 + number).save(photos / f"{number}.png")
    measure = "compute-means", "--data", photos, "--network", network, "--preprocessing", "none"
    options = "--size", "32", "--force", "-o", tmp_path / "means.npy"
    said = "badly known filters: 1;"
    assert said in run(*measure, *options).stdout
    normalize = "normalize", "--means", tmp_path / "means.npy", "--network", network, "--force"
    assert run(*normalize, "-o", file).exit_code == 0
    verify = "verify", file, "--network", network, "--data", photos
    text = run(*verify).stdout
    assert f"{said} by the photos measured, the mean of such a filter may be more than" in text
    assert (
        "measure more photos, or leave such filters smaller than 1 with vggnorm normalize "
        "--max-scale" in text
    )
    assert run(*normalize, "-o", file, "--max-scale", "0.01").exit_code == 0
    text = run(*verify).stdout
    assert "pass  every filter's mean activation is 1, or what --max-scale leaves" in text
    for number in range(12, 60):
        Image.new("L", (40, 40), 190 + number).save(photos / f"{number}.png")
    assert "badly known" not in run(*measure, *options).stdout
