"""Whether a network prepares the photos itself, and so takes them from 0 to 255 as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers, ops
from keras.applications.imagenet_utils import preprocess_input
from zoo import chain, conv, photo, settle

import vggnorm
from vggnorm.network.family import taken_as_by
from vggnorm.network.front import prepares_photos

Front = Callable[[Any], Any]

AROUND = [[0, 0], [1, 1], [1, 1], [0, 0]]

PREPARED: dict[str, Front] = {
    "caffe": lambda x: preprocess_input(x, "channels_last", "caffe"),
    "torch": lambda x: preprocess_input(x, "channels_last", "torch"),
    "tf": lambda x: preprocess_input(x, "channels_last", "tf"),
    "from 0 to 1": lambda x: x / 255,
    "a layer": layers.Rescaling(1 / 127.5, offset=-1),
    "and padded": lambda x: ops.pad(x / 127.5 - 1, AROUND, mode="reflect"),
    "and flipped in training": lambda x: layers.RandomFlip()(x / 255.0),
}

OTHER: dict[str, Front] = {
    "nothing": lambda x: x,
    "padding": lambda x: ops.pad(x, AROUND),
    "doubling": lambda x: x * 2,
    "another mean": lambda x: x - 100.0,
}


def network(front: Front, side: int | None = 32) -> Any:
    pixels = keras.Input((side, side, 3), name="photo")
    return settle(keras.Model(pixels, conv(3, name="b")(conv(4, name="a")(front(pixels)))))


@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.parametrize("side", [32, None])
def test_known_ways_are_recognized(name: str, side: int | None) -> None:
    assert prepares_photos(network(PREPARED[name], side))


def test_mixed_precision_hides_nothing() -> None:
    """Float16 rounds the prepared photos to 11 bits."""
    model = network(layers.Rescaling(1 / 127.5, -1, dtype="mixed_float16"))
    assert taken_as_by(model).convention == "none"


@pytest.mark.parametrize("name", OTHER)
def test_others_are_not(name: str) -> None:
    assert not prepares_photos(network(OTHER[name]))


@pytest.mark.parametrize(("layer", "found"), [("pool", True), ("crop", True), ("large", False)])
def test_what_needs_large_photos_may_stand_in_front(layer: str, found: bool) -> None:
    """No photo of the sizes that are tried, up to 512, is left by the last one."""
    front = {
        "pool": layers.MaxPooling2D(16),
        "crop": layers.Cropping2D(100),
        "large": layers.Cropping2D(300),
    }[layer]
    assert prepares_photos(network(lambda x: front(x / 255.0), None)) == found


def test_nothing_behind_a_filter_counts() -> None:
    pixels = photo(32, 32)
    tensor = layers.Conv2D(3, 1, name="a")(pixels)
    assert not prepares_photos(keras.Model(pixels, conv(3, name="b")(tensor / 255.0)))


def test_such_a_network_is_given_photos_as_they_are(photo_folder: Path) -> None:
    """What is prepared twice would give wrong means without a word."""
    model = network(PREPARED["caffe"])
    means = vggnorm.compute_means(model, photo_folder)
    assert means.recipe.preprocessing == "none"
    assert vggnorm.compute_means(network(OTHER["doubling"]), photo_folder).recipe.preprocessing == (
        "caffe"
    )


def test_it_is_said_if_photos_are_prepared_twice(photo_folder: Path) -> None:
    said: list[str] = []
    model = network(PREPARED["tf"])
    watch = vggnorm.Watch(say=said.append)
    vggnorm.compute_means(model, photo_folder, preprocessing="tf", watch=watch)
    assert said[0].endswith(
        "takes photos as none, according to what stands in front of its first filter; it is given "
        "them as tf"
    )
    said.clear()
    vggnorm.compute_means(model, photo_folder, preprocessing="none", watch=watch)
    assert not said


def test_a_chain_of_layers_alone(photo_folder: Path) -> None:
    model = settle(chain(layers.Rescaling(1 / 255), conv(4, name="a"), height=32, width=32))
    assert vggnorm.compute_means(model, photo_folder).recipe.preprocessing == "none"
