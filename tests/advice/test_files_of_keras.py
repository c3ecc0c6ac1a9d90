"""The advice about files of Keras, followed: each is saved or loaded as the message says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from advice_texts import refused, said
from keras import layers
from small_files import rewritten, saved, small
from tiny import chain, conv, part, photo
from vgg_files import first_weights

import vggnorm
from vggnorm import vgg
from vggnorm.files.carried import means_path
from vggnorm.files.keras_h5 import check_h5_output
from vggnorm.network import applications
from vggnorm.network.graph import read_graph
from vggnorm.network.storage import load_network, save_network
from vggnorm.network.weights import load_weights


def fresh(model: Any) -> Any:
    """Make the same network with other weights."""
    return type(model).from_config(model.get_config())


def require_loaded(path: Path, model: Any) -> None:
    """Load weights into a network, and require that they are those of another one."""
    loaded = fresh(model)
    load_weights(loaded, path)
    for found, wanted in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


# Which network


def test_a_name_or_a_file_of_a_network(chain_file: Path) -> None:
    with refused("it must be one of {}, or a file"):
        load_network("vgg15")
    with refused("give {}"):
        load_network("chain.keras")
    load_network(chain_file)


def test_a_kind_of_pooling(chain_file: Path) -> None:
    with refused("it must be one of max, avg"):
        load_network(chain_file, pooling="min")
    for pooling in "max", "avg":
        load_network(chain_file, pooling=pooling)


def test_average_pooling_in_the_place_of_layers(tmp_path: Path) -> None:
    pixels = photo()
    by_operation = keras.Model(pixels, conv()(keras.ops.max_pool(conv()(pixels), 2)))
    path = saved(by_operation, tmp_path / "operation.keras")
    with refused("build the network with MaxPooling2D layers in its place"):
        load_network(path, pooling="avg")
    load_network(saved(chain(conv(), layers.MaxPooling2D()), path), pooling="avg")


def test_weights_that_cannot_be_downloaded(
    random_vgg16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> Any:
        raise OSError("no network")

    with monkeypatch.context() as patched:
        patched.setitem(applications.APPLICATIONS, "vgg16", fail)
        with refused(
            "give a file with --weights, for VGG16 the one that 'python scripts/fetch_weights.py "
            "-o vgg16_imagenet.h5' makes"
        ):
            load_network("vgg16")
    load_network("vgg16", random_vgg16)


# Weights without their network


def test_weights_of_another_network_are_given_with_their_model(tmp_path: Path) -> None:
    model = chain(conv())
    model.save_weights(tmp_path / "x.weights.h5")
    with refused("give a .keras or .h5 file of a model"):
        load_network(tmp_path / "x.weights.h5")
    for name in "x.keras", "x.h5":
        load_network(saved(model, tmp_path / name))


def test_batch_normalization_is_given_with_its_model(tmp_path: Path) -> None:
    model = chain(
        layers.Conv2D(64, 3, padding="same", name=vgg.convolution_name((1, 1))),
        layers.BatchNormalization(name=vgg.normalization_name((1, 1))),
        layers.ReLU(),
    )
    model.save_weights(tmp_path / "vgg.weights.h5")
    with refused("give a .keras or .h5 file of the whole model"):
        load_network(tmp_path / "vgg.weights.h5")
    for name in "vgg.keras", "vgg.h5":
        read_graph(load_network(saved(model, tmp_path / name)))


def test_a_normalization_that_the_network_does_not_have(tmp_path: Path) -> None:
    plain = chain(conv(3, name="a"), conv(3, name="b"))
    whole = chain(conv(3, name="a"), layers.BatchNormalization(name="n"), conv(3, name="b"))
    path = saved(whole, tmp_path / "whole.h5")
    with refused("give the file of the whole model, --network FILE"):
        load_weights(plain, path)
    load_network(path)


def test_weights_for_other_classes_are_given_as_the_network(tmp_path: Path) -> None:
    def classifier(classes: int) -> Any:
        return chain(conv(name="a"), layers.Flatten(), layers.Dense(classes, name=vgg.TOP))

    path = saved(classifier(5), tmp_path / "five.h5")
    with refused("give the file itself as the network, --network FILE"):
        load_weights(classifier(3), path)
    load_network(path)


def test_weights_that_fit_twice(tmp_path: Path) -> None:
    pixels = photo()
    parts = [part(name, conv(name="one"))(pixels) for name in ("left", "right")]
    whole = keras.Model(pixels, conv()(layers.Concatenate()(parts)))
    whole.save_weights(tmp_path / "x.weights.h5")
    with refused("give the file of the whole model with --network"):
        load_weights(part("part", conv(name="one")), tmp_path / "x.weights.h5")
    load_network(saved(whole, tmp_path / "x.keras"))


def test_weights_of_a_larger_network(tmp_path: Path) -> None:
    pixels = photo()
    whole = keras.Model(pixels, part("inside", conv(5, name="other"))(conv(3)(pixels)))
    path = tmp_path / "x.weights.h5"
    whole.save_weights(path)
    with refused(
        "if it is of a larger network, in which {} is one layer, give the file of that whole model "
        "with --network"
    ):
        load_weights(
            part("part", conv(3, name="one"), part("in", conv())), tmp_path / "x.weights.h5"
        )
    load_network(saved(whole, tmp_path / "x.keras"))


@keras.saving.register_keras_serializable("advice")
class Turned(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Keeps its weight in a file with the opposite sign, as only Keras can load it."""

    def build(self, _shape: Any) -> None:
        self.number = self.add_weight((), initializer="random_normal", name="number")

    def call(self, inputs: Any) -> Any:
        return inputs * self.number

    def save_own_variables(self, store: Any) -> None:
        store["0"] = -self.number.numpy()

    def load_own_variables(self, store: Any) -> None:
        self.number.assign(-store["0"][()])


def test_weights_that_only_keras_can_load(tmp_path: Path) -> None:
    model = chain(Turned(), conv())
    path, other = tmp_path / "x.weights.h5", tmp_path / "x.bin"
    model.save_weights(path)
    path.rename(other)
    with refused("rename it so that it ends in {}") as caught:
        load_weights(fresh(model), other)
    renamed = other.with_suffix(caught.text.rpartition("ends in ")[2])
    require_loaded(other.rename(renamed), model)


# Models that are not loaded


def test_a_layer_of_the_users_own_is_loaded_by_their_program(tmp_path: Path) -> None:
    class Own(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs / 255

    path = saved(chain(Own(), conv()), tmp_path / "own.keras")
    with refused(
        "if you trust it, load it with Keras in a program of your own, and give vggnorm the model"
    ):
        load_network(path)
    read_graph(keras.saving.load_model(path, custom_objects={"Own": Own}))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_lambda_is_replaced_by_a_layer(ending: str, tmp_path: Path) -> None:
    class Twice(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    model = chain(layers.Lambda(lambda tensor: 2 * tensor), conv(name="a"))
    path = saved(model, tmp_path / f"lambda.{ending}")
    with refused(
        "build the network again with a layer of your own in its place, and give it the weights in "
        "this file with model.load_weights"
    ):
        load_network(path)
    again = chain(Twice(), conv(name="a"))
    again.load_weights(path)
    for found, wanted in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    read_graph(again)


def test_an_operation_of_keras_2_is_left_out(tmp_path: Path) -> None:
    """The operation is put between two layers of a file, as Keras 2 writes it."""
    model = chain(conv(name="a"), conv(name="b"))
    path = tmp_path / "old.h5"
    save_network(model, path)

    def insert(config: Any) -> None:
        found = config["config"]["layers"]
        found.insert(
            2,
            {
                "class_name": "TFOpLambda",
                "config": {"name": "square", "function": "math.square"},
                "name": "square",
                "inbound_nodes": [["a", 0, 0, {}]],
            },
        )
        found[3]["inbound_nodes"] = [[["square", 0, 0, {}]]]

    rewritten(path, insert)
    with refused(
        "build the network again in Keras 3 without it, and give it the weights in this file with "
        "model.load_weights"
    ):
        load_network(path)
    again = fresh(model)
    again.load_weights(path)
    for found, wanted in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_file_with_much_unused_room_is_repacked(tmp_path: Path) -> None:
    """A thousand texts, each of which could be as long as the file."""
    path = saved(small(), tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["waste"] = np.ones(3_000_000, np.uint8)
        file.attrs["texts"] = ["a"] * 1000
    with h5py.File(path, "r+") as file:
        del file["waste"]
    with refused("h5repack makes the file smaller"):
        load_network(path)
    repacked = tmp_path / "repacked.h5"
    with h5py.File(path) as file, h5py.File(repacked, "w") as other:  # as h5repack does
        for name in file:
            file.copy(name, other)
        for name, value in file.attrs.items():
            other.attrs[name] = value
    load_network(repacked)


# What an .h5 file holds


def test_another_network_is_written_to_an_h5_file(tmp_path: Path) -> None:
    path = saved(chain(conv()), tmp_path / "x.keras")
    with refused("write it to one, with normalize or vggnorm.save_network"):
        vggnorm.save_weights(tmp_path / "x.npz", open_and_close(path))
    save_network(load_network(path), tmp_path / "x.h5")
    keras.saving.load_model(tmp_path / "x.h5")


def open_and_close(path: Path) -> Any:
    with vggnorm.open_weights(path) as file:
        return file.vgg


def test_a_name_for_keras(tmp_path: Path) -> None:
    with refused(
        "give a name that ends in .h5 and not in .weights.h5, or Keras will not load the file"
    ):
        check_h5_output(tmp_path / "x.weights.h5")
    save_network(chain(conv()), tmp_path / "x.h5")
    keras.saving.load_model(tmp_path / "x.h5")


def test_the_name_of_a_layer_fits_into_a_file(tmp_path: Path) -> None:
    convolution = conv(name="x" * 70_000)
    model = chain(convolution)
    with refused("give it a shorter name"):
        save_network(model, tmp_path / "x.h5")
    convolution.name = "x" * 200
    save_network(model, tmp_path / "x.h5")


def test_means_with_reflections_go_with_a_network_that_reflects(
    tmp_path: Path, some_means: Any
) -> None:
    means = replace(some_means, recipe=replace(some_means.recipe, padding="reflect"))
    lines: list[str] = []
    path = tmp_path / "vgg.npz"
    vggnorm.save_weights(path, replace(first_weights(), means=means), say=lines.append)
    assert said(lines, "give the network reflection padding")
    means_path(path).unlink()
    network = load_network(path, padding="reflect")
    assert read_graph(network).padding == "reflect"
