"""What must hold on the real network and real photos."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from photo_files import decode_file
from reference import filter_means

from vggnorm.identification.verdict import identify
from vggnorm.means.filter_means import FilterMeans
from vggnorm.measure import compute_means
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import comparing_model
from vggnorm.network.storage import load_network, save_network
from vggnorm.network.weights import weights_sha256
from vggnorm.normalization import normalize
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.rule import scale_from_mean
from vggnorm.run.options import Compute, Until
from vggnorm.verification import verify

RECIPES = {"crop": Geometry(), "stretch": Geometry(256, "stretch", "nearest")}
EIGHT = 8


def measure(
    model: Any, folder: Path | PhotoList, geometry: Geometry, **options: Any
) -> FilterMeans:
    return compute_means(
        model,
        folder,
        geometry=geometry,
        **options,
    )


def relative_errors(found: FilterMeans, expected: Any) -> np.ndarray:
    """Compare all filters that fire in either; where only one fires, the error is infinite."""
    one, other = (
        np.concatenate([means[layer] for layer in found.mean]) for means in (found.mean, expected)
    )
    fires = (one > 0) | (other > 0)
    with np.errstate(divide="ignore"):
        errors: np.ndarray = np.abs(one[fires] / other[fires] - 1)
    return errors


def tripled(means: FilterMeans, layer: str) -> FilterMeans:
    """Return means of which those of one layer are three times as large."""
    moments = means.measured
    wrong = replace(
        moments,
        mean={**moments.mean, layer: 3 * moments.mean[layer]},
        squared_deviation={
            **moments.squared_deviation,
            layer: 9 * moments.squared_deviation[layer],
        },
    )
    return replace(means, measured=wrong)


@pytest.fixture(scope="module")
def eight_photos(sample_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight")
    for path in sorted(sample_photos.iterdir())[:EIGHT]:
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("layer", "weight", "index", "printed"),
    [  # the values that other programs printed
        ("block1_conv1", 0, (0, 0, 0, 0), 0.42947057),
        ("block1_conv1", 1, (25,), 0.7446502),
        ("block1_conv2", 0, (2, 2, 63, 63), 0.016082443),
        ("block2_conv1", 1, (1,), 0.06440781),
        ("block5_conv1", 0, (1, 0, 63, 269), -0.011236359),
        ("block5_conv2", 1, (510,), 0.23517226),
        ("block5_conv3", 0, (0, 2, 0, 400), -0.008714244),
    ],
)
def test_the_weights_are_the_published_ones(
    layer: str, weight: int, index: tuple[int, ...], printed: float, vgg16: Any
) -> None:
    assert vgg16.get_layer(layer).get_weights()[weight][index] == np.float32(printed)


@pytest.mark.parametrize("recipe", RECIPES)
def test_means_agree_with_the_naive_loop(recipe: str, vgg16: Any, eight_photos: Path) -> None:
    layers = [
        (layer.name, *layer.get_weights()) if layer.weights else None
        for layer in vgg16.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ][:-1]  # nothing comes after the last pooling
    found = measure(vgg16, eight_photos, RECIPES[recipe])
    photos = [decode_file(path, RECIPES[recipe]) for path in eight_photos.iterdir()]
    errors = relative_errors(found, filter_means(photos, layers))
    assert found.image_count == EIGHT
    assert np.median(errors) <= 1e-6
    assert errors.max() <= 1e-4


def test_batch_sizes_agree(vgg16: Any, sample_photos: Path, tmp_path: Path) -> None:
    for index in range(33):  # the same sixteen photos under other names
        source = sorted(sample_photos.iterdir())[index % 16]
        (tmp_path / f"{index:02}{source.suffix}").symlink_to(source)
    geometry = Geometry(96)
    of_32 = measure(vgg16, tmp_path, geometry, compute=Compute(batch_size=32))
    assert of_32.image_count == 33
    for batch_size in (1, 7):
        errors = relative_errors(
            measure(vgg16, tmp_path, geometry, compute=Compute(batch_size=batch_size)), of_32.mean
        )
        assert np.median(errors) <= 1e-6
        assert errors.max() <= 1e-4


@pytest.mark.parametrize("recipe", RECIPES)
def test_normalized_every_mean_is_1_and_the_function_is_kept(
    recipe: str, vgg16: Any, sample_photos: Path
) -> None:
    means = measure(vgg16, sample_photos, RECIPES[recipe])
    assert means.filter_count == 4224
    report = verify(vgg16, normalize(vgg16, means), sample_photos, means)
    assert report.means.photos == "all"
    assert report.means.worst <= 1e-4
    assert max(report.activations.relative.values()) <= 1e-5
    assert report.passed


def test_one_photo_leaves_silent_filters_and_a_working_network(
    vgg16: Any, sample_photos: Path
) -> None:
    means = measure(vgg16, sample_photos, Geometry(), until=Until(limit=1))
    silent = sum(len(indices) for indices in means.silent.values())
    assert silent >= 24
    normalized = normalize(vgg16, means)
    assert all(np.isfinite(array).all() for array in normalized.get_weights())
    # Compare on all photos, where those filters fire.
    scales = {layer: scale_from_mean(mean) for layer, mean in means.mean.items()}
    (batch,) = PhotoReader(find_photos(sample_photos), Geometry()).batches(16)
    found = comparing_model(read_graph(vgg16), read_graph(normalized), scales).predict_on_batch(
        batch.pixels
    )
    fires = measure(vgg16, sample_photos, Geometry())
    assert any((fires.mean[layer][indices] > 0).any() for layer, indices in means.silent.items())
    for layer in scales:
        assert found["deviation"][layer].max() <= 1e-5 * found["largest"][layer].max()


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (1, 3), (4, 1), (8, 1)])
def test_filters_that_hardly_fire_are_not_taken_for_wrong(
    count: int, seed: int, vgg16: Any, sample_photos: Path
) -> None:
    """With few photos, some means are so small that float32 does not know them to 1e-4."""
    means = measure(
        vgg16,
        find_photos(sample_photos).shuffled(seed),
        Geometry(),
        until=Until(limit=count),
    )
    report = verify(vgg16, normalize(vgg16, means), sample_photos, means, limit=count)
    assert report.means.photos == "all"
    assert report.means.passed, report
    assert report.activations.passed, report


def test_a_part_of_the_photos_and_others_pass_and_wrong_means_do_not(
    vgg16: Any, sample_photos: Path
) -> None:
    means = measure(vgg16, sample_photos, Geometry(), until=Until(limit=10))
    for limit, photos in ((5, "part"), (16, "other")):
        report = verify(vgg16, normalize(vgg16, means), sample_photos, means, limit=limit)
        assert report.means.photos == photos
        assert report.passed == (not any(len(indices) for indices in means.silent.values())), report
        assert report.means.passed, report
    wrong = tripled(means, "block2_conv2")
    report = verify(vgg16, normalize(vgg16, wrong), sample_photos, wrong, limit=5)
    assert (report.means.passed, report.activations.passed) == (False, True)


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(
    vgg16: Any, sample_photos: Path, tmp_path: Path
) -> None:
    means = measure(vgg16, sample_photos, Geometry(96))
    normalized = normalize(vgg16, means)
    save_network(normalized, tmp_path / "vgg16_norm.h5", means)
    assert weights_sha256(load_network("vgg16", tmp_path / "vgg16_norm.h5")) == weights_sha256(
        normalized
    )


def test_the_statistics_are_near_the_published_ones(vgg16: Any, coco_photos: Path) -> None:
    """The figure of corleypc/vgg-normalize: over 80,000 COCO photos, mean 99.44, std 111.34."""
    means = measure(vgg16, coco_photos, RECIPES["stretch"])
    values = np.concatenate(list(means.mean.values()))
    # A hundred photos: the mean over all filters is known to some 5 %, the largest filter to 10 %.
    assert values.mean() == pytest.approx(99.44, rel=0.1)
    assert values.std() == pytest.approx(111.34, rel=0.1)
    assert values.max() == pytest.approx(869.01, rel=0.2)


def test_the_means_come_back_out_of_the_weights(
    vgg16: Any, sample_photos: Path, tmp_path: Path
) -> None:
    means = compute_means(vgg16, sample_photos, until=Until(limit=EIGHT))
    normalized = normalize(vgg16, means)
    save_network(normalized, tmp_path / "norm.h5")
    found = identify(tmp_path / "norm.h5", vgg16)  # without the means
    assert (
        found.kind == "possibly normalized"
    )  # true means keep to the bound on the sums of weights
    assert found.intact
    for layer, mean in means.mean.items():
        np.testing.assert_allclose(
            found.recovery.layers[layer].scale, scale_from_mean(mean), rtol=1e-6
        )
    normalized.set_weights(
        [array.astype(np.float16).astype(np.float32) for array in normalized.get_weights()]
    )
    save_network(normalized, tmp_path / "half.h5")
    found = identify(tmp_path / "half.h5", vgg16, means)
    assert (found.kind, found.intact, found.recovery.rounding.format) == (
        "normalized",
        True,
        "float16",
    )
    exchanged = {
        layer: np.random.default_rng(0).permutation(scale_from_mean(mean))
        for layer, mean in means.mean.items()
    }
    save_network(
        normalize(vgg16, replace(means, measured=replace(means.measured, mean=exchanged))),
        tmp_path / "exchanged.h5",
    )
    assert (
        identify(tmp_path / "exchanged.h5", vgg16).kind == "rescaled"
    )  # photos are not needed to tell
