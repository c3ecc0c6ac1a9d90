"""The advice about networks that cannot be read as they are, followed in a program."""

from pathlib import Path
from typing import Any

import keras
import pytest
from advice_texts import refused
from keras import layers, ops
from measuring import measure
from tiny import SIDE, chain, conv, photo

import vggnorm
from vggnorm.network import room
from vggnorm.network.graph import read_graph
from vggnorm.network.room import require_usual_activations
from vggnorm.network.surroundings import require_ready

# What a network is


def test_a_network_that_is_built() -> None:
    model = keras.Sequential([conv()])
    with refused("build it, or load its file with Keras 3"):
        read_graph(model)
    model.build((None, SIDE, SIDE, 3))
    read_graph(model)


def test_a_network_takes_photos_alone() -> None:
    pixels, numbers = photo(), keras.Input((2,))
    tensor = conv()(pixels)
    pooled = layers.GlobalAveragePooling2D()(tensor)
    joined = layers.Concatenate()([pooled, numbers])
    with refused("it must take photos and nothing else"):
        read_graph(keras.Model([pixels, numbers], joined))
    read_graph(keras.Model(pixels, tensor))


def test_both_sides_of_the_photos_are_fixed_or_none(photo_folder: Path) -> None:
    def model(*sides: int | None) -> Any:
        return keras.Sequential([keras.Input((*sides, 3)), conv()])

    with refused("build it with both sides fixed, or with none"):
        measure(model(SIDE, None), photo_folder)
    for sides in (SIDE, SIDE), (None, None):
        measure(model(*sides), photo_folder, size=SIDE)


def test_an_input_that_holds_the_photos(photo_folder: Path) -> None:
    def model(dtype: str) -> Any:
        pixels = photo(dtype=dtype)
        return keras.Model(pixels, conv()(layers.Rescaling(1.0)(pixels)))

    with refused("use the preprocessing none, or build the network with an input of float32"):
        measure(model("uint8"), photo_folder, preprocessing="caffe")
    measure(model("uint8"), photo_folder, preprocessing="none")
    measure(model("float32"), photo_folder, preprocessing="caffe")
    with refused("build the network with an input of float32"):
        measure(model("int8"), photo_folder, preprocessing="none")
    measure(model("float32"), photo_folder, preprocessing="none")


def test_filters_are_given_fractions() -> None:
    def model(dtype: str, *front: Any) -> Any:
        pixels = tensor = photo(dtype=dtype)
        for step in front:
            tensor = step(tensor)
        return keras.Model(pixels, conv()(tensor))

    with refused("build the network with an input of float32, or put a Rescaling layer in front"):
        read_graph(model("uint8"))
    read_graph(model("float32"))
    read_graph(model("uint8", layers.Rescaling(1 / 255)))


def test_a_network_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ACTIVATIONS", 4 * SIDE * SIDE * 5)  # five maps in float32
    model = keras.Sequential([keras.Input((None, None, 3)), conv(3)])
    with refused("if the network is meant to be so large, build it for smaller photos"):
        require_usual_activations(model, (1, SIDE, SIDE, 3))
    require_usual_activations(model, (1, SIDE // 2, SIDE // 2, 3))


# Layers of the user's own


def test_a_lambda_is_written_as_a_layer() -> None:
    class Twice(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    with refused("write it as a layer"):
        read_graph(chain(conv(), layers.Lambda(lambda tensor: 2 * tensor)))
    read_graph(chain(conv(), conv(), Twice()))


def test_a_layer_that_holds_layers_is_replaced_by_them() -> None:
    class Block(layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inside = conv()

        def build(self, shape: Any) -> None:
            self.inside.build(shape)

        def call(self, inputs: Any) -> Any:
            return self.inside(inputs)

    with refused("build the network from those layers"):
        read_graph(chain(Block()))
    read_graph(chain(Block().inside))


def test_a_layer_that_gives_several_tensors() -> None:
    class Both(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs, 2 * inputs

    pixels = photo()
    first = conv()(pixels)
    one, two = Both()(first)
    with refused("leave it out, or split the network there"):
        read_graph(keras.Model(pixels, conv()(layers.Concatenate()([one, two]))))
    read_graph(keras.Model(pixels, conv()(first)))
    read_graph(keras.Model(pixels, first))


def test_a_layer_that_takes_several_arguments_takes_a_list() -> None:
    class Added(layers.Layer):  # type: ignore[misc]
        def call(self, one: Any, other: Any = None) -> Any:
            return one + other if other is not None else one[0] + one[1]

    pixels = photo()
    one = conv()(conv()(pixels))
    two = layers.MaxPooling2D(1)(one)
    with refused("make it a layer that takes one list of them"):
        read_graph(keras.Model(pixels, Added()(one, two)))
    read_graph(keras.Model(pixels, Added()([one, two])))


def test_a_layer_that_is_random_in_training_only(photo_folder: Path) -> None:
    class Noise(layers.Layer):  # type: ignore[misc]
        def __init__(self, always: bool) -> None:
            super().__init__()
            self.always = always

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            if self.always or training:
                return inputs + keras.random.normal(ops.shape(inputs))
            return inputs

    def model(always: bool) -> Any:
        return chain(Noise(always), conv())

    with refused("let it do so only if its argument training is true"):
        measure(model(always=True), photo_folder, limit=1)
    measure(model(always=False), photo_folder, limit=1)


def test_a_function_of_the_users_own_is_registered_or_replaced(photo_folder: Path) -> None:
    def lifted(values: Any) -> Any:
        return ops.tanh(values) + 1

    def model(function: Any) -> Any:
        return chain(conv(name="a"), conv(name="b", activation=function))

    def normalize(model: Any) -> None:
        vggnorm.normalize(model, measure(model, photo_folder, limit=1))

    with refused(
        "register the function with keras.saving.register_keras_serializable, or use one of Keras's"
    ):
        normalize(model(lifted))
    normalize(model("tanh"))
    normalize(model(keras.saving.register_keras_serializable("advice")(lifted)))
    del keras.saving.get_custom_objects()["advice>lifted"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is about TensorFlow")
def test_vggnorm_is_called_outside_graphs() -> None:
    import tensorflow as tf

    with (
        tf.Graph().as_default(),
        refused(
            "call vggnorm outside tf.function and tf.Graph, in a program that does not call "
            "tf.compat.v1.disable_eager_execution()"
        ),
    ):
        require_ready()
    require_ready()


def test_layers_with_a_type_other_than_float32(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`in_float32` sees to that, so here it does nothing."""
    monkeypatch.setattr("vggnorm.measure.in_float32", lambda model: model)
    with refused("build or load the network in float32"):
        measure(chain(conv(dtype="mixed_float16")), photo_folder, limit=1)
    measure(chain(conv(dtype="float32")), photo_folder, limit=1)
