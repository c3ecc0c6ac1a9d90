"""The models that measure photos: how batches are run, with stand-ins, and what the models take."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from photo_files import decode_file
from zoo import HEIGHT, WIDTH, chain, conv, settle

from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means
from vggnorm.network.graph import read_graph
from vggnorm.network.instruments import Instruments, measuring_model, padded_size
from vggnorm.photos.decode import Pixels
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Until


@dataclass
class MeanColor:
    """Stands for a measuring model: gives each photo's mean colour, times a factor."""

    factor: float = 1.0
    batches: list[Pixels] = field(default_factory=list)

    def predict_on_batch(self, pixels: Pixels) -> dict[str, NDArray[np.float32]]:
        self.batches.append(pixels)
        return {"color": (self.factor * pixels.mean(axis=(1, 2))).astype(np.float32)}


def photos(count: int) -> Pixels:
    """Photos of one grey each: 10, 20, 30 and so on."""
    greys = np.arange(10, 10 * count + 1, 10, dtype=np.uint8)
    return np.broadcast_to(greys.reshape(-1, 1, 1, 1), (count, 2, 3, 3))


def instruments(exact: Any, fast: Any = None, batch_size: int = 6) -> Instruments:
    return Instruments(exact, fast, batch_size)


@pytest.mark.parametrize(
    ("count", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 10), (10, 10)]
)
def test_a_batch_grows_to_a_power_of_two_but_not_above_the_batch_size(
    count: int, padded: int
) -> None:
    assert padded_size(count, 10) == padded


def test_a_batch_is_filled_with_copies_of_the_last_photo_which_do_not_count() -> None:
    model = MeanColor()
    means = instruments(model).measure(photos(3))
    assert [batch[:, 0, 0, 0].tolist() for batch in model.batches] == [[10, 20, 30, 30]]
    np.testing.assert_array_equal(means["color"], [[10, 10, 10], [20, 20, 20], [30, 30, 30]])


def test_a_full_batch_is_not_copied() -> None:
    model, batch = MeanColor(), photos(6)
    instruments(model).measure(batch)
    assert model.batches[0] is batch


def test_the_fast_model_measures_and_the_exact_one_when_asked() -> None:
    both = instruments(MeanColor(), fast=MeanColor(factor=2))
    assert both.measure(photos(1))["color"].tolist() == [[20, 20, 20]]
    assert both.measure_exactly(photos(1))["color"].tolist() == [[10, 10, 10]]


def test_without_a_fast_model_both_ways_are_exact() -> None:
    one = instruments(MeanColor())
    assert one.measure(photos(1))["color"].tolist() == [[10, 10, 10]]
    assert one.measure_exactly(photos(1))["color"].tolist() == [[10, 10, 10]]


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_an_error(factor: float) -> None:
    with pytest.raises(NetworkError, match="layer color has activations that are not finite"):
        instruments(MeanColor(factor)).measure(photos(2))


# The models themselves


def test_half_of_a_size_is_refused(photo_folder: Path) -> None:
    pixels = keras.Input((64, None, 3))
    with pytest.raises(
        NetworkError,
        match="fixes one side of the photos, .*; build it with both sides fixed, or with none",
    ):
        compute_means(keras.Model(pixels, conv(3)(pixels)), photo_folder)


def test_a_size_the_network_does_not_take_is_refused(photo_folder: Path) -> None:
    with pytest.raises(
        NetworkError,
        match=rf"takes photos of {HEIGHT} x {WIDTH} pixels \(height x width\), not of 64",
    ):
        compute_means(settle(chain(conv(4))), photo_folder, geometry=Geometry(64))


@pytest.mark.parametrize("preprocessing", ["caffe", "rgb255", "torch", "tf", "none"])
def test_photos_are_prepared_as_keras_does_it(preprocessing: Any, photo_folder: Path) -> None:
    """A 1x1 convolution that copies the three colours shows what the network takes in."""
    model = chain(conv(3, 1), height=8, width=8)
    offset = np.full(3, 200.0, np.float32)
    model.layers[1].set_weights([np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3), offset])
    means = compute_means(model, photo_folder, preprocessing=preprocessing, until=Until(limit=1))
    first = find_photos(photo_folder).shuffled(0).names[0]
    pixels = decode_file(photo_folder / first, Geometry(8)).astype(np.float64)
    expected = {
        "caffe": pixels[..., ::-1] - [103.939, 116.779, 123.68],
        "rgb255": pixels - [123.68, 116.779, 103.939],
        "torch": (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "tf": pixels / 127.5 - 1,
        "none": pixels,
    }[preprocessing]
    (found,) = means.mean.values()
    np.testing.assert_allclose(found, expected.mean(axis=(0, 1)) + 200, rtol=1e-5)


def test_rgb255_by_hand_to_the_last_bit() -> None:
    """Each number below is one subtraction in float32, which can be rounded in one way only.

    The pixels are taken as they are by three filters, and with the other sign by three more, since
    a rectifier follows. The other products are zeros. One position has no mean to round.
    """
    kernel = np.concatenate([np.eye(3), -np.eye(3)], axis=1, dtype=np.float32)
    model = chain(conv(6, 1, name="copy"), height=1, width=1)
    model.layers[1].set_weights([kernel.reshape(1, 1, 3, 6), np.zeros(6)])
    measuring = measuring_model(read_graph(model), "rgb255")
    photos = np.array([[200, 10, 104], [0, 117, 255], [124, 255, 1]], np.uint8)
    found = measuring.predict_on_batch(photos.reshape(3, 1, 1, 3))["copy"]
    red, green, blue = np.float32(123.68), np.float32(116.779), np.float32(103.939)
    expected = [
        [200 - red, 0, 104 - blue, 0, green - 10, 0],
        [0, 117 - green, 255 - blue, red, 0, 0],
        [124 - red, 255 - green, 0, 0, 0, blue - 1],
    ]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_a_reversed_kernel_has_the_same_means_with_rgb255(photo_folder: Path) -> None:
    """The products of the first layer are the same numbers, summed up in another order.

    A float32 sum of 27 products and a bias is off by at most 28 * 2^-24 of the sum of their sizes,
    in either order. No pixel is further than 151.061 from the mean colour. A rectifier and a mean
    do not make a difference larger; the sums over 32 rows of 32 positions, and the divisions, round
    66 times. The bound for two runs is twice that.
    """
    size = 32
    original, turned = (settle(chain(conv(5, name="a"), height=size, width=size)) for _ in "12")
    kernel, bias = original.get_layer("a").get_weights()
    turned.get_layer("a").set_weights([kernel[:, :, ::-1], bias])
    caffe = compute_means(original, photo_folder, preprocessing="caffe").mean["a"]
    rgb255 = compute_means(turned, photo_folder, preprocessing="rgb255").mean["a"]
    sizes = 151.061 * np.abs(kernel).sum(axis=(0, 1, 2), dtype=np.float64) + np.abs(bias)
    assert (np.abs(rgb255 - caffe) <= 2 * (28 + 66) * 2**-24 * sizes).all()
    wrong = compute_means(turned, photo_folder, preprocessing="caffe").mean["a"]
    assert np.abs(wrong / caffe - 1).max() > 1e-3


def test_an_unknown_preprocessing_is_refused(photo_folder: Path) -> None:
    with pytest.raises(
        NetworkError,
        match="the preprocessing 'vgg' is not known; it must be one of caffe, rgb255, torch, tf",
    ):
        compute_means(chain(conv(3)), photo_folder, preprocessing="vgg")  # type: ignore[arg-type]
