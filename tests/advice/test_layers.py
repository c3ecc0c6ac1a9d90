"""The advice about layers that stand where they cannot, and about padding, followed."""

import re
from pathlib import Path
from typing import Any

import keras
import pytest
from advice_texts import refused
from keras import layers, ops
from measuring import measure
from tiny import SIDE, chain, conv, photo, run_advice

from vggnorm.network.copies import require_same_outputs
from vggnorm.network.graph import read_graph
from vggnorm.network.padding import with_padding
from vggnorm.network.reflection import ReflectionPadding2D


def test_a_layer_is_replaced_or_left_out_with_those_behind_it() -> None:
    model = chain(conv(name="a"), conv(activation="selu", name="b"), conv(name="c"))
    with refused(
        "replace it, or leave out the layers from there on: "
        "keras.Model({}.inputs, {}.get_layer({}).output)"
    ) as caught:
        read_graph(model)
    read_graph(run_advice(caught.text.rpartition("there on: ")[2], model))
    read_graph(chain(conv(name="a"), conv(activation="relu", name="b"), conv(name="c")))


def test_the_first_layer_is_replaced() -> None:
    """Without it and those behind it, nothing would be left."""
    with refused("replace it") as caught:
        read_graph(chain(conv(activation="selu", name="b"), conv(name="c")))
    assert "leave out" not in caught.text
    read_graph(chain(conv(name="b"), conv(name="c")))


def test_an_activation_that_is_a_layer() -> None:
    model = chain(conv(activation=layers.LeakyReLU(0.2)), conv())
    with refused("use a layer of its own, or the name of a function"):
        read_graph(model)
    read_graph(chain(conv(activation=None), layers.LeakyReLU(0.2), conv()))
    read_graph(chain(conv(activation="leaky_relu"), conv()))


def test_layers_that_mix_channels_along_another_axis() -> None:
    def model(data_format: str, *behind: Any) -> Any:
        pool = layers.MaxPooling2D(2, data_format=data_format)
        return chain(conv(4), pool, *behind)

    with refused(
        "give it the data_format that its input has, or leave out the layers from there on"
    ):
        read_graph(model("channels_first"))
    read_graph(model("channels_last"))
    read_graph(chain(conv(4)))
    pixels = photo()
    maps = conv(4, name="maps")(pixels)
    joined = keras.Model(pixels, layers.Concatenate(axis=1)([maps, maps]))
    with refused("leave out the layers from there on"):
        read_graph(joined)
    read_graph(keras.Model(joined.inputs, joined.get_layer("maps").output))


def test_a_reshaping_of_photos_of_a_fixed_size() -> None:
    def model(side: int | None) -> Any:
        return keras.Sequential(
            [keras.Input((side, SIDE, 3)), conv(), layers.Permute((2, 1, 3)), conv()]
        )

    with refused("build it with one"):
        read_graph(model(None))
    read_graph(model(SIDE))


def test_a_network_without_adapters() -> None:
    model = chain(conv(3, name="one"), layers.Conv2D(2, 3, activation="relu", name="two"))
    model.get_layer("two").enable_lora(1)
    with refused("give the network without quantization or adapters"):
        read_graph(model)
    read_graph(chain(conv(3), conv(2)))


# Padding by reflection


def test_a_network_that_can_have_reflection_padding() -> None:
    valid, strided = chain(conv(padding="valid")), chain(conv(strides=2))
    with refused("use it as it is"):
        with_padding(valid, "reflect")
    read_graph(valid)
    with refused("use padding with zeros"):
        with_padding(strided, "reflect")
    read_graph(with_padding(strided, "zeros"))


def test_the_name_of_a_padding_is_free() -> None:
    taken = layers.ReLU(name="one_padding")
    model = chain(conv(name="one"), taken)
    with refused("rename it"):
        with_padding(model, "reflect")
    taken.name = "other"
    with_padding(model, "reflect")


def test_photos_that_are_large_enough_to_be_reflected(photo_folder: Path) -> None:
    pixels = keras.Input((None, None, 3))
    model = keras.Model(pixels, layers.Conv2D(2, 9, padding="same", activation="relu")(pixels))
    with refused("use larger photos, or padding with zeros"):
        measure(with_padding(model, "reflect"), photo_folder, size=4)
    measure(with_padding(model, "reflect"), photo_folder, size=5)
    measure(model, photo_folder, size=4)


def test_photos_that_are_large_enough_for_an_operation(photo_folder: Path) -> None:
    pixels = keras.Input((None, None, 3))
    padded = ops.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    model = keras.Model(pixels, conv()(padded))
    with refused("use larger photos"):
        measure(model, photo_folder, size=4)
    measure(model, photo_folder, size=5)


def test_the_settings_of_a_padding() -> None:
    with refused("it must not be negative"):
        ReflectionPadding2D((-1, 1))
    with refused("it must be one of Keras's two"):
        ReflectionPadding2D((1, 1), data_format="first")
    for data_format in "channels_last", "channels_first":
        ReflectionPadding2D((0, 1), data_format=data_format)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is about TensorFlow")
def test_a_bias_that_keras_adds_to_the_channels(photo_folder: Path) -> None:
    def model(data_format: str) -> Any:
        shape = (None, None, 3) if data_format == "channels_last" else (3, None, None)
        return keras.Sequential([keras.Input(shape), conv(SIDE, data_format=data_format)])

    with refused(
        "use photos of another size, build the network with the channels last, or set "
        "KERAS_BACKEND=jax"
    ):
        measure(model("channels_first"), photo_folder, size=SIDE)
    measure(model("channels_last"), photo_folder, size=SIDE)
    measure(model("channels_first"), photo_folder, size=SIDE + 1)


# Sizes and names that Keras does not take


def joining() -> Any:
    """A network that takes photos of even sides."""
    pixels = keras.Input((None, None, 3))
    fine = conv()(pixels)
    coarse = layers.UpSampling2D()(layers.MaxPooling2D()(fine))
    return keras.Model(pixels, conv()(layers.Concatenate()([fine, coarse])))


def test_a_size_that_the_network_takes(photo_folder: Path) -> None:
    with refused("use {}") as caught:
        measure(joining(), photo_folder, size=33)
    sizes = [int(size) for size in re.findall("[0-9]+", caught.text.rpartition("--size ")[2])]
    assert sizes
    for size in sizes:
        measure(joining(), photo_folder, size=size)


def test_a_layer_that_does_not_fit_is_mended_or_left_out(photo_folder: Path) -> None:
    pixels = keras.Input((None, None, 3))
    maps = conv()(pixels)

    def model(padding: int) -> Any:
        both = layers.Concatenate()([maps, layers.ZeroPadding2D(padding)(maps)])
        return keras.Model(pixels, conv()(both))

    with refused("mend that layer, or leave out the layers from there on"):
        measure(model(1), photo_folder, size=SIDE)
    measure(model(0), photo_folder, size=SIDE)
    measure(keras.Model(pixels, maps), photo_folder, size=SIDE)


def test_names_that_tensorflow_takes(photo_folder: Path) -> None:
    model = chain(conv(name="erste größe"))
    with refused(
        "name each layer with letters of ASCII, digits, '_', '.' and '-' only: "
        "{}.get_layer({}).name = {}"
    ) as caught:
        measure(model, photo_folder, limit=1)
    exec(caught.text.rpartition("only: ")[2], {"model": model})
    measure(model, photo_folder, limit=1)


def test_noise_of_a_size_that_the_network_takes() -> None:
    def model(side: int | None) -> Any:
        pixels = keras.Input((side, side, 3))
        return keras.Model(pixels, layers.Cropping2D(300)(conv()(pixels)))

    free = model(None)
    with refused("mend that, or build the network with an input of a fixed size that it takes"):
        require_same_outputs(free, free, "a copy")
    fixed = model(602)
    require_same_outputs(fixed, fixed, "a copy")
