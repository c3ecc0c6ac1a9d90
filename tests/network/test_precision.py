"""Corrected bfloat16 means against the naive loop, the choice of `auto`, and TF32, which is off."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import measure
from photo_files import decode_file
from reference import filter_means, reference_layers

from vggnorm import measure as measure_module
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.bfloat16 import bfloat16_copy
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import measuring_model
from vggnorm.network.precision import exact_float32, photos_per_second
from vggnorm.normalization import normalize
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.run import choosing
from vggnorm.verification import verify

MakeChain = Callable[..., Any]
FindRates = Callable[[float, float], None]
SIZE = 40


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    chain = make_chain((8, 6, 7, 5))
    for layer in chain.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 2])
    return chain


@pytest.fixture(scope="module")
def truth(model: Any, photo_folder: Path) -> dict[str, np.ndarray]:
    """Each photo's means by the naive loop, in the order of a run: layer -> (photos, filters)."""
    names = find_photos(photo_folder).shuffled(0).names
    photos = [decode_file(photo_folder / name, Geometry(SIZE)) for name in names]
    singles = [filter_means([photo], reference_layers(model)) for photo in photos]
    return {layer: np.array([single[layer] for single in singles]) for layer in singles[0]}


@pytest.fixture(scope="module")
def coarse(model: Any, photo_folder: Path) -> Callable[[int], np.ndarray]:
    """Each photo's means in bfloat16, in the same order: batch size -> (photos, filters).

    The rounding may depend on the size of the batch.
    """
    names = find_photos(photo_folder).shuffled(0).names
    measuring = measuring_model(read_graph(bfloat16_copy(read_graph(model))), "caffe", (SIZE, SIZE))
    photos = np.stack([decode_file(photo_folder / name, Geometry(SIZE)) for name in names])

    def run(batch_size: int) -> np.ndarray:
        starts = range(0, len(photos), batch_size)
        batches = [photos[start : start + batch_size] for start in starts]
        means = [every(measuring.predict_on_batch(batch)) for batch in batches]
        return np.concatenate(means).astype(np.float64)

    return run


def every(per_layer: Any) -> np.ndarray:
    return np.concatenate(list(per_layer.values()), axis=-1)


def uncorrected(means: FilterMeans) -> np.ndarray:
    return every(means.measured.mean)


@pytest.mark.parametrize("batch_size", [2, 5, 32])
def test_with_all_photos_in_both_bfloat16_gives_what_float32_gives(
    batch_size: int, model: Any, truth: dict[str, np.ndarray], photo_folder: Path
) -> None:
    means = measure(model, photo_folder, size=SIZE, precision="bfloat16", batch_size=batch_size)
    exact = every(truth).mean(axis=0)
    np.testing.assert_allclose(every(means.mean), exact, rtol=1e-5)
    coarse = np.abs(uncorrected(means) / exact - 1)
    assert 1e-4 < np.median(coarse) < 1e-2  # bfloat16 keeps 8 bits
    assert means.correction is not None
    assert means.correction.count == 9
    assert not every(means.correction_std_error).any()


def test_the_first_photos_correct_all(
    model: Any,
    truth: dict[str, np.ndarray],
    coarse: Callable[[int], np.ndarray],
    photo_folder: Path,
) -> None:
    means = measure(model, photo_folder, size=SIZE, precision="bfloat16", control=5, batch_size=3)
    assert means.correction is not None
    assert (means.correction.count, means.image_count) == (5, 9)
    assert (means.recipe.precision, means.recipe.control) == ("bfloat16", 5)
    rough = coarse(3)
    surplus = every(truth)[:5] - rough[:5]
    rounding = 1e-5 * every(truth).mean()  # of float32, whichever way it adds up
    np.testing.assert_allclose(every(means.correction.mean), surplus.mean(axis=0), atol=rounding)
    np.testing.assert_allclose(
        every(means.mean), rough.mean(axis=0) + surplus.mean(axis=0), atol=rounding
    )
    std_error = surplus.std(axis=0, ddof=1) * np.sqrt(1 / 5 - 1 / 9)  # 5 of a population of 9
    np.testing.assert_allclose(every(means.correction_std_error), std_error, atol=rounding)
    assert means.mean.keys() == truth.keys()


def test_float32_needs_no_correction(model: Any, photo_folder: Path) -> None:
    means = measure(model, photo_folder, size=SIZE)
    assert means.correction is None
    assert (means.recipe.precision, means.recipe.control) == ("float32", 0)


def test_the_network_is_not_changed(model: Any, photo_folder: Path) -> None:
    before = [array.copy() for array in model.get_weights()]
    measure(model, photo_folder, size=SIZE, precision="bfloat16")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    for array, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"control": 1}, "control is 1"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, Any], text: str, model: Any, photo_folder: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        measure(model, photo_folder, size=SIZE, **options)


# auto


@pytest.fixture
def find_rates(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Set the speeds that are found for the two precisions, in photos a second."""

    def find(bfloat16: float, float32: float) -> None:
        told = iter((bfloat16, float32))
        monkeypatch.setattr(choosing, "photos_per_second", lambda *_: next(told))

    return find


def run_auto(model: Any, folder: Path, **options: Any) -> tuple[FilterMeans, str]:
    said: list[str] = []
    means = measure(model, folder, size=SIZE, precision="auto", say=said.append, **options)
    (line,) = said
    return means, line


def test_auto_takes_bfloat16_where_it_is_faster(
    model: Any, find_rates: FindRates, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_rates(80, 10)
    monkeypatch.setattr(measure_module, "ACCURACY", 1.0)
    means, said = run_auto(model, photo_folder, control=3)  # 9/80 + 3/10 against 9/10 seconds
    assert means.recipe.precision == "bfloat16"
    assert means.correction is not None
    assert means.correction.count == 3
    assert re.match(
        r"precision bfloat16: .* 80\.0 photos/s in bfloat16 here and 10\.0 in float32, .* 33%",
        said,
    )


@pytest.mark.parametrize(
    ("control", "rates"), [(9, (80, 10)), (64, (80, 10)), (3, (9, 10)), (8, (80, 10))]
)
def test_auto_takes_float32_where_it_is_not(
    control: int, rates: tuple[float, float], model: Any, find_rates: FindRates, photo_folder: Path
) -> None:
    find_rates(*rates)
    means, said = run_auto(model, photo_folder, control=control)
    assert means.recipe.precision == "float32"
    assert means.correction is None
    assert said.startswith("precision float32: ")


def test_auto_goes_on_in_both_until_the_correction_is_known_well(
    model: Any,
    truth: dict[str, np.ndarray],
    coarse: Callable[[int], np.ndarray],
    find_rates: FindRates,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rough = coarse(2)

    def std_error(in_both: list[int], measured: int) -> float:
        """The standard error of the correction from some photos, relative, in the median filter.

        It is relative to the mean in bfloat16 over the first photos.
        """
        spread = (every(truth) - rough)[in_both].std(axis=0, ddof=1) / np.sqrt(len(in_both))
        mean = rough[:measured].mean(axis=0)
        return float(np.median(spread[mean > 0] / mean[mean > 0]))

    def trace(accuracy: float) -> tuple[list[int], list[float]]:
        """The photos run in both, in batches of two, and the standard error before each batch."""
        in_both, reached = [0, 1], []
        for measured in 2, 4, 6, 8:
            reached.append(std_error(in_both, measured))
            if reached[-1] > accuracy:
                in_both = [*in_both, *range(measured, min(measured + 2, 9))]
        return in_both, reached

    def found(accuracy: float) -> int:
        find_rates(80, 10)
        monkeypatch.setattr(measure_module, "ACCURACY", accuracy)
        means, _ = run_auto(model, photo_folder, control=2, batch_size=2)
        assert means.correction is not None
        return means.correction.count

    assert found(1.0) == 2  # bfloat16 is never wrong by as much as the mean
    assert found(1e-12) == 9  # nor as exact as this
    # Try accuracies between those that are reached. They depend on the photos and on the rounding
    # of this machine, so skip those that are close to one, for float32.
    tried = 0
    for low, high in pairwise(sorted(trace(0)[1])):
        accuracy = float(np.sqrt(low * high))
        in_both, reached = trace(accuracy)
        if min(abs(value / accuracy - 1) for value in reached) > 0.01:
            assert found(accuracy) == len(in_both)
            tried += 1
    assert tried


def test_bfloat16_alone_does_not_go_on(
    model: Any, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_module, "ACCURACY", 0.0)
    means = measure(model, photo_folder, size=SIZE, precision="bfloat16", control=2, batch_size=2)
    assert means.correction is not None
    assert means.correction.count == 2


def test_the_rate_is_photos_per_second() -> None:
    import time

    class Slow:
        calls = 0

        def predict_on_batch(self, batch: np.ndarray) -> None:
            assert batch.shape[1:] == (5, 7, 3)
            assert batch.dtype == np.uint8
            self.calls += 1
            is_first = self.calls == 1  # the one that builds the model
            time.sleep(0.5 if is_first else 0.05 * len(batch))

    assert photos_per_second(Slow(), 5, 7) == pytest.approx(20, rel=0.2)


# TF32


def test_float32_is_float32_while_measuring(model: Any, photo_folder: Path) -> None:
    config = tf.config.experimental
    seen = []
    assert config.tensor_float_32_execution_enabled()
    measure(
        model,
        photo_folder,
        size=SIZE,
        progress=lambda *_: seen.append(config.tensor_float_32_execution_enabled()),
    )
    assert set(seen) == {False}
    assert config.tensor_float_32_execution_enabled()


def test_the_setting_comes_back_after_an_error() -> None:
    config = tf.config.experimental
    with pytest.raises(ZeroDivisionError), exact_float32():
        raise ZeroDivisionError
    assert config.tensor_float_32_execution_enabled()


# verify


def test_a_network_normalized_with_corrected_means_passes(model: Any, photo_folder: Path) -> None:
    means = measure(model, photo_folder, size=SIZE, precision="bfloat16", control=6)
    assert not any(len(indices) for indices in means.silent.values())
    normalized = normalize(model, means)
    report = verify(model, normalized, photo_folder, means)
    assert report.means.photos == "all"
    assert report.passed
    assert report.means.worst > 1e-4  # more than float32 allows
    assert verify(model, normalized, photo_folder, means, limit=5).passed
    kernel, bias = normalized.get_layer("conv4").get_weights()
    normalized.get_layer("conv4").set_weights([kernel * 1.05, bias * 1.05])
    assert not verify(model, normalized, photo_folder, means).means.passed
