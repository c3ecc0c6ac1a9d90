"""`verify` passes a correct network, and each mistake fails the check that is about it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggnorm.errors import NetworkError, PhotoError
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.measure import compute_means
from vggnorm.normalization import normalize
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Until
from vggnorm.verdicts.verification import (
    ActivationsCheck,
    MeansCheck,
    OutputScale,
    PhotosUsed,
    WeightsCheck,
)
from vggnorm.verification import VerifyReport, verify

MakeChain = Callable[..., Any]


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    """A small network without silent filters."""
    chain = make_chain((4, 5, 3))
    for layer in chain.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 2])
    return chain


@pytest.fixture(scope="module")
def means(model: Any, photo_folder: Path) -> FilterMeans:
    found = compute_means(model, photo_folder, geometry=Geometry(40))
    assert not any(len(indices) for indices in found.silent.values())
    return found


@pytest.fixture
def normalized(model: Any, means: FilterMeans) -> Any:
    return normalize(model, means)


def change(network: Any, layer: str, factor: float) -> None:
    """Multiply all weights of a layer, as a wrong mean would do."""
    network.get_layer(layer).set_weights(
        [factor * array for array in network.get_layer(layer).get_weights()]
    )


def passed(report: VerifyReport) -> tuple[bool, bool, bool]:
    return report.means.passed, report.activations.passed, report.weights.passed


def test_the_check_is_exact_on_the_photos_measured(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    report = verify(model, normalized, photo_folder, means)
    assert passed(report) == (True, True, True)
    assert report.passed
    assert report.means.photos == "all"
    assert report.photos == 9
    assert report.means.worst < 1e-5
    assert max(report.activations.relative.values()) < 1e-5


def test_some_of_the_photos_measured_are_a_part(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    report = verify(model, normalized, photo_folder, means, limit=5)
    assert report.means.photos == "part"
    assert report.means.worst > 1e-4  # not exact, but within chance
    assert report.passed
    assert "on a part of the photos measured" in str(report)


def test_photos_are_taken_in_the_order_in_which_they_were_measured(
    model: Any, photo_folder: Path
) -> None:
    means = compute_means(
        model, find_photos(photo_folder).shuffled(5), geometry=Geometry(40), until=Until(limit=4)
    )
    report = verify(model, normalize(model, means), photo_folder, means, limit=4)
    assert report.means.photos == "all"
    assert report.passed
    report = verify(model, normalize(model, means), photo_folder, means, limit=5)
    assert report.means.photos == "other"  # one of them was not measured


@pytest.mark.parametrize("kind", ["part", "other"])
def test_intervals_of_few_photos_worked_by_hand(kind: str, model: Any, photo_folder: Path) -> None:
    # Five of the nine photos measured; or two photos after three others were measured.
    measured, here = (None, 5) if kind == "part" else (3, 5)
    means = compute_means(model, photo_folder, geometry=Geometry(40), until=Until(limit=measured))
    normalized = normalize(model, means)
    count = means.image_count
    report = verify(model, normalized, photo_folder, means, limit=here)
    assert report.means.photos == kind
    found = compute_means(normalized, photo_folder, geometry=Geometry(40), until=Until(limit=here))
    medians, worst, agreeing = {}, 0.0, 0
    for layer, mean in means.mean.items():
        off = np.abs(found.mean[layer] - 1)
        spread = np.sqrt(means.squared_deviation[layer] / (count - 1)) / mean
        share = 1 / here - 1 / count if kind == "part" else 1 / here + 1 / count
        # Fewer than ten photos have symmetric intervals, which add up as standard errors do.
        reach = off / (1.96 * spread * np.sqrt(share))
        agreeing += int((reach <= 1).sum())
        medians[layer] = pytest.approx(np.median(reach), rel=1e-3)
        worst = max(worst, reach.max())
    assert report.means.layer_reach == medians
    assert report.means.worst_reach == pytest.approx(worst, rel=1e-3)
    assert (report.means.agreeing, report.means.firing) == (agreeing, 12)
    every = np.concatenate([np.abs(values - 1) for values in found.mean.values()])
    assert report.means.worst == pytest.approx(every.max(), rel=1e-4)
    assert report.means.median == pytest.approx(np.median(every), rel=1e-3)


@pytest.mark.parametrize("limit", [4, 64])
def test_one_layer_measured_wrongly_fails_on_any_photos(
    limit: int, model: Any, photo_folder: Path
) -> None:
    # The network is normalized correctly, but the means of one layer are a hundred times too large.
    means = compute_means(model, photo_folder, geometry=Geometry(40))
    wrong = Moments(
        means.image_count,
        {**means.mean, "conv1": 100 * means.mean["conv1"]},
        {**means.squared_deviation, "conv1": 100**2 * means.squared_deviation["conv1"]},
    )
    means = replace(means, measured=wrong)
    report = verify(model, normalize(model, means), photo_folder, means, limit=limit)
    assert passed(report) == (False, True, True)
    other = replace(
        means, recipe=replace(means.recipe, photos_sha256="0" * 64, taken_sha256="0" * 64)
    )
    report = verify(model, normalize(model, means), photo_folder, other, limit=limit)
    assert report.means.photos == "other"
    assert passed(report) == (False, True, True)


def test_a_single_filter_far_off_fails_on_a_part_of_the_photos_measured() -> None:
    check = MeansCheck(
        PhotosUsed.PART,
        0.9,
        "conv1[0]",
        0.01,
        1,
        worst_reach=5.2,
        layer_reach={"conv1": 0.9},
    )
    assert not check.passed
    assert replace(check, worst_reach=4.8).passed
    assert replace(check, photos=PhotosUsed.OTHER).passed
    assert not replace(check, layer_reach={"conv1": 0.9, "conv2": 2.1}, worst_reach=4.8).passed


def test_photos_that_are_all_alike_have_no_spread_to_divide_by(
    model: Any, photo_folder: Path, tmp_path: Path
) -> None:
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes((photo_folder / "0.jpg").read_bytes())
    means = compute_means(model, tmp_path, geometry=Geometry(40))
    report = verify(model, normalize(model, means), tmp_path, means, limit=2)
    assert report.means.photos == "part"
    assert report.passed


def test_a_filter_that_hardly_fires_may_be_off_by_rounding(
    make_chain: MakeChain, photo_folder: Path
) -> None:
    # Its mean is a millionth of the layer's largest activation, so float32 computes it to a few
    # percent only.
    model = make_chain((2, 2))
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 2])
    kernel, bias = model.get_layer("conv2").get_weights()
    kernel[..., 1] = kernel[..., 0]
    bias[:] = 1000, 1000
    model.get_layer("conv2").set_weights([kernel, bias])
    largest = compute_means(model, photo_folder, geometry=Geometry(32), until=Until(limit=1)).mean[
        "conv2"
    ][0]
    for offset in np.linspace(1.0, 3.0, 60):  # until only the largest activations are above 0
        bias[1] = 1000 - largest * offset
        model.get_layer("conv2").set_weights([kernel, bias])
        means = compute_means(model, photo_folder, geometry=Geometry(32), until=Until(limit=1))
        if 0 < means.mean["conv2"][1] < 1e-3 * largest:
            break
    else:
        pytest.fail("no such filter was found")
    report = verify(model, normalize(model, means), photo_folder, means, limit=1)
    assert report.means.photos == "all"
    assert report.means.beyond == 0
    assert report.means.passed


def test_a_wrong_last_layer_fails_both_its_mean_and_its_activations(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    change(normalized, "conv3", 1.001)
    report = verify(model, normalized, photo_folder, means)
    assert passed(report) == (False, False, True)
    assert report.means.worst == pytest.approx(1e-3, rel=1e-2)
    assert report.means.worst_filter.startswith("conv3[")
    assert report.activations.relative["conv3"] == pytest.approx(1e-3, rel=1e-2)
    assert report.activations.relative["conv2"] < 1e-5


def test_a_network_that_was_not_normalized_fails(
    model: Any, means: FilterMeans, photo_folder: Path
) -> None:
    for limit in (5, 64):
        assert passed(verify(model, model, photo_folder, means, limit=limit)) == (
            False,
            False,
            True,
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_weight_that_is_not_finite_fails_all(
    value: float, model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    kernel, bias = normalized.get_layer("conv2").get_weights()
    bias[3] = value
    normalized.get_layer("conv2").set_weights([kernel, bias])
    report = verify(model, normalized, photo_folder, means)
    assert passed(report) == (False, False, False)
    assert report.weights.not_finite == ["conv2"]
    assert "weights not finite: conv2" in str(report)


def test_activations_that_overflow_fail_without_a_warning(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    kernel, bias = normalized.get_layer("conv2").get_weights()
    bias[3] = 1e38  # the sum over positions exceeds float32
    normalized.get_layer("conv2").set_weights([kernel, bias])
    report = verify(model, normalized, photo_folder, means)
    assert passed(report) == (False, False, True)


def test_a_silent_filter_fails_and_the_function_is_kept(
    make_chain: MakeChain, photo_folder: Path
) -> None:
    model = make_chain((4, 3))
    kernel, bias = model.get_layer("conv2").get_weights()
    kernel[..., 1], bias[1] = 0, -1
    model.get_layer("conv2").set_weights([kernel, bias])
    means = compute_means(model, photo_folder, geometry=Geometry(32))
    report = verify(model, normalize(model, means), photo_folder, means)
    assert passed(report) == (True, True, False)
    assert report.weights.silent["conv2"] == [1]
    assert "silent filters, left at scale 1: 1 in conv2; measure on more photos" in str(report)
    report = verify(model, normalize(model, means), photo_folder)
    assert report.weights.silent["conv2"] == [1]


def test_without_means_the_scales_are_recovered(model: Any, photo_folder: Path) -> None:
    square = compute_means(model, photo_folder)
    report = verify(model, normalize(model, square), photo_folder)
    assert report.passed
    assert report.means.photos == "other"
    assert report.means.worst < 1e-4
    broken = normalize(model, square)
    kernel, bias = broken.get_layer("conv3").get_weights()
    kernel[0, 0, 0, 0] *= 2  # this is not a rescaling of the original
    broken.get_layer("conv3").set_weights([kernel, bias])
    assert not verify(model, broken, photo_folder).activations.passed


def test_means_of_one_photo_have_no_interval(model: Any, photo_folder: Path) -> None:
    means = compute_means(model, photo_folder, geometry=Geometry(40), until=Until(limit=1))
    normalized = normalize(model, means)
    assert verify(model, normalized, photo_folder, means, limit=1).passed
    report = verify(model, normalized, photo_folder, means, limit=9)
    assert (report.means.worst_reach, report.means.layer_reach) == (None, {})
    assert passed(report) == (False, True, True)
    assert "the means of a single photo have no interval to compare with" in str(report)


def test_the_report_as_json_has_the_same_figures(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    report = verify(model, normalized, photo_folder, means, limit=5)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (read["passed"], read["photos"]) == (True, 5)
    assert read["means"]["worst"] == report.means.worst
    assert read["means"]["passed"] is True
    assert read["activations"]["relative"] == report.activations.relative


def test_figures_that_are_nan_fail_and_are_null_in_json() -> None:
    nan = float("nan")
    report = VerifyReport(
        photos=1,
        skipped=0,
        means=MeansCheck(PhotosUsed.ALL, worst=nan, worst_filter="conv1[0]", median=nan, beyond=1),
        activations=ActivationsCheck({"conv1": 0.0, "conv2": nan}, {"conv1": 1.0, "conv2": 1.0}),
        weights=WeightsCheck([], {}),
        output=OutputScale((), kept=False),
    )
    assert passed(report) == (False, False, True)
    assert "of the layer's largest activation (conv2)" in str(report)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["means"]["worst"] is None
    assert read["activations"]["relative"] == {"conv1": 0.0, "conv2": None}


def test_the_report_for_a_person(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path
) -> None:
    text = str(verify(model, normalized, photo_folder, means))
    assert text.startswith("9 photos, 0 skipped\npass  every filter's mean activation is 1\n")
    assert "on the photos measured" in text
    change(normalized, "conv3", 2)
    text = str(verify(model, normalized, photo_folder, means, limit=5))
    assert "FAIL  activations times means are the original's" in text
    assert "means are 1 within the 95% intervals" in text


def test_networks_with_other_layers_are_refused(
    model: Any, make_chain: MakeChain, photo_folder: Path
) -> None:
    with pytest.raises(NetworkError, match="the two networks do not have the same layers"):
        verify(model, make_chain((5, 4)), photo_folder)


def test_a_folder_of_unusable_photos_is_an_error(
    model: Any, normalized: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(PhotoError, match="none of its 1 photos can be used"):
        verify(model, normalized, tmp_path)


def test_the_same_names_with_other_pixels_are_other_photos(
    model: Any, normalized: Any, means: FilterMeans, photo_folder: Path, tmp_path: Path
) -> None:
    for path in photo_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert verify(model, normalized, tmp_path, means).means.photos == "all"
    (tmp_path / "3.jpg").write_bytes((photo_folder / "4.jpg").read_bytes())
    report = verify(model, normalized, tmp_path, means)
    assert report.means.photos == "other"
    assert report.means.passed
