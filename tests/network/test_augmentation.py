"""Augmentation, resizing and cropping: what `predict` computes is what is measured."""

import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from zoo import chain, conv, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.files.keras2_config import to_keras2
from vggnorm.network.graph import read_graph
from vggnorm.network.kinds import AUGMENTING

# Settings without which Keras does not make a layer.
SETTINGS: dict[str, dict[str, Any]] = {
    "RandomBrightness": {"factor": 0.5},
    "RandomContrast": {"factor": 0.5},
    "RandomGrayscale": {"factor": 0.5},
    "RandomHue": {"factor": 0.5},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.5},
    "RandomSaturation": {"factor": 0.5},
    "RandomSharpness": {"factor": 0.5},
    "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
    "RandomZoom": {"height_factor": 0.5},
    "RandomColorDegeneration": {"factor": 0.5},
}

FRONTS = {
    **{
        kind.__name__: kind(**SETTINGS.get(kind.__name__, {}))
        for kind in (layers.RandomFlip, layers.RandomRotation, layers.RandomZoom)
    },
    "RandomContrast": layers.RandomContrast(0.5),
    "RandomBrightness": layers.RandomBrightness(0.5),
    "RandomTranslation": layers.RandomTranslation(0.5, 0.5),
    "RandomCrop": layers.RandomCrop(20, 20),
    "Dropout": layers.Dropout(0.5),
    "Sequential": keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.5)]),
}


def means_of(model: Any, folder: Path) -> Any:
    return vggnorm.compute_means(model, folder, preprocessing="none").mean


@pytest.mark.parametrize("kind", AUGMENTING, ids=lambda kind: kind.__name__)
def test_keras_gives_the_input_back_when_a_network_is_used(kind: Any) -> None:
    """If a version of Keras does not, the layer does not belong to the group."""
    layer = kind(**SETTINGS.get(kind.__name__, {}))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 40, 56, 3)).astype(np.float32)
    np.testing.assert_array_equal(chain(layer).predict(pixels, verbose=0), pixels)


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_augmentation_in_front_changes_no_mean(front: Any, photo_folder: Path) -> None:
    plain = settle(chain(conv(4, name="one")))
    augmented = chain(front, conv(4, name="one"))
    augmented.set_weights(plain.get_weights())
    wanted = means_of(plain, photo_folder)
    np.testing.assert_array_equal(means_of(augmented, photo_folder)["one"], wanted["one"])


@pytest.mark.parametrize("training", [True, False, None])
@pytest.mark.parametrize("kind", ["Dropout", "BatchNormalization"])
def test_a_recorded_training_counts_for_predict_alone(
    kind: str, training: bool | None, photo_folder: Path
) -> None:
    """Keras's own `predict` calls every layer with training=False."""

    def between(tensor: Any) -> Any:
        options = {"rate": 0.5} if kind == "Dropout" else {}
        return getattr(layers, kind)(**options)(tensor, training=training)

    model = settle(chain(conv(4, name="one"), between, conv(3, name="two")))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 40, 56, 3)).astype(np.float32)
    means = vggnorm.compute_means(model, photo_folder, preprocessing="none")
    normalized = vggnorm.normalize(model, means)
    wanted = model.predict(pixels, verbose=0)
    found = normalized.predict(pixels, verbose=0) * means.mean["two"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())


def test_a_saved_network_augments_in_training_only() -> None:
    """Keras 3 records training=True where nobody said so, and Keras 2 would obey it."""
    model = chain(layers.RandomFlip(name="flip"), layers.Resizing(20, 20), conv(3))
    for node in _nodes(to_keras2("Functional", model.get_config())):
        assert "training" not in node[0][3]


def test_every_layer_that_trains_by_default_is_known() -> None:
    for name in dir(layers):
        kind: Any = getattr(layers, name)
        is_layer = inspect.isclass(kind) and issubclass(kind, layers.Layer)
        if not is_layer:
            continue
        parameter = inspect.signature(kind.call).parameters.get("training")
        if parameter is None or parameter.default is not True:
            continue
        config: dict[str, Any] = {"class_name": name, "config": {"name": "it"}, "name": "it"}
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["photos", 0, 0]}}
        config["inbound_nodes"] = [{"args": [tensor], "kwargs": {"training": True}}]
        written = to_keras2("Functional", {"name": "model", "layers": [config]})
        assert _nodes(written) == [[["photos", 0, 0, {}]]], name


def test_what_the_user_said_of_training_is_kept() -> None:
    model = chain(conv(3), lambda tensor: layers.Dropout(0.5)(tensor, training=True))
    assert _nodes(to_keras2("Functional", model.get_config()))[-1][0][3] == {"training": True}


def _nodes(config: Any) -> list[Any]:
    return [node for layer in config["config"]["layers"] for node in layer["inbound_nodes"]]


def test_a_crop_before_a_dense_layer_is_refused_with_advice(photo_folder: Path) -> None:
    """Keras's own `predict` cannot run such a network."""

    def build(crop: Any) -> Any:
        return chain(crop, conv(4, name="one"), layers.Flatten(), layers.Dense(3))

    cropped = build(layers.RandomCrop(20, 20))
    pixels = np.zeros((1, 40, 56, 3), np.float32)
    with pytest.raises(Exception, match="."):  # each backend has its own error
        cropped.predict(pixels, verbose=0)
    with pytest.raises(NetworkError, match="layer dense.*: has weights for another size .* put"):
        read_graph(cropped)
    for crop in (layers.CenterCrop(20, 20), layers.Resizing(20, 20)):
        assert list(means_of(settle(build(crop)), photo_folder)) == ["one"]


class Noise(layers.Layer):  # type: ignore[misc]
    """Makes photos brighter or darker at random; always, unless it listens to `training`."""

    def __init__(self, *, always: bool, **options: Any) -> None:
        super().__init__(**options)
        self.always = always
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not self.always and not training:
            return inputs
        return inputs * keras.random.uniform((), 0.5, 2, seed=self.seeds)


def test_a_network_that_is_random_when_used_is_refused(photo_folder: Path) -> None:
    def build(*, always: bool) -> Any:
        return settle(chain(Noise(always=always, name="noise"), conv(4, name="one")))

    with pytest.raises(NetworkError, match=r"layer one: gives something else .*own \(noise\)"):
        means_of(build(always=True), photo_folder)
    assert list(means_of(build(always=False), photo_folder)) == ["one"]
