"""Small networks with models inside, as programs for transfer learning build them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

SIDE = 24


def conv(filters: int, name: str) -> Any:
    return layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)


def base() -> Any:
    """A functional model that stands for VGG16."""
    pixels = keras.Input((SIDE, SIDE, 3), name="base_input")
    tensor = layers.MaxPooling2D(name="pool")(conv(4, "one")(pixels))
    return keras.Model(pixels, conv(5, "two")(tensor), name="base")


def augmentation() -> Any:
    return keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)], name="augmentation"
    )


def photos() -> Any:
    return keras.Input((SIDE, SIDE, 3), name="photos")


def transfer() -> Any:
    """Keras's own pattern: augmentation, preparation, the base, and a new head."""
    pixels = photos()
    tensor = layers.Rescaling(1 / 127.5, offset=-1)(augmentation()(pixels))
    tensor = base()(tensor, training=False)
    tensor = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(tensor))
    return keras.Model(pixels, layers.Dense(2, activation="softmax")(tensor), name="transfer")


def sequential() -> Any:
    return keras.Sequential(
        [photos(), base(), layers.Flatten(), layers.Dense(2, activation="softmax")],
        name="sequential",
    )


def twice_nested() -> Any:
    """A base inside a model inside a model, and a head of the same name as a layer inside."""
    inner = keras.Sequential([photos(), base(), conv(4, "three")], name="inner")
    pixels = photos()
    return keras.Model(pixels, conv(3, "one")(inner(pixels)), name="twice_nested")


def several_outputs() -> Any:
    whole = base()
    parts = keras.Model(whole.input, [whole.get_layer("one").output, whole.output], name="parts")
    pixels = photos()
    first, last = parts(pixels)
    pooled = layers.MaxPooling2D()(first)
    joined = layers.Concatenate()([pooled, last])
    return keras.Model(pixels, conv(3, "three")(joined), name="several_outputs")


def ends_in_a_model() -> Any:
    pixels = photos()
    return keras.Model(pixels, base()(augmentation()(pixels)), name="ends_in_a_model")


def ends_in_a_sequence() -> Any:
    pixels = photos()
    last = keras.Sequential([conv(4, "one"), conv(3, "two")], name="last")
    return keras.Model(pixels, last(pixels), name="ends_in_a_sequence")


def partly_frozen() -> Any:
    """The last layer of a base that is not trained is trained."""
    model = transfer()
    inside = model.get_layer("base")
    inside.trainable = False
    inside.get_layer("two").trainable = True
    return model


def called_twice() -> Any:
    """A model without weights may be called twice."""
    rectifier = keras.Sequential([keras.Input((SIDE, SIDE, 4)), layers.ReLU()], name="rectifier")
    pixels = photos()
    tensor = rectifier(layers.Conv2D(4, 3, padding="same", name="one")(pixels))
    tensor = rectifier(layers.Conv2D(4, 3, padding="same", name="two")(tensor))
    return keras.Model(pixels, tensor, name="called_twice")


def normalized_inside() -> Any:
    """Batch normalization inside, whose weights an .h5 file has in two places."""
    inside = keras.Sequential(
        [
            layers.Conv2D(4, 3, use_bias=False, name="one"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            conv(3, "two"),
        ],
        name="inside",
    )
    pixels = photos()
    return keras.Model(pixels, conv(2, "three")(inside(pixels)), name="normalized_inside")


NESTS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        transfer,
        sequential,
        twice_nested,
        several_outputs,
        ends_in_a_model,
        ends_in_a_sequence,
        partly_frozen,
        called_twice,
        normalized_inside,
    )
}


def settle(model: Any) -> Any:
    """Give a network random weights with which every filter fires."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        low, high = (0.2, 0.5) if len(weight.shape) == 1 else (-0.2, 0.25)
        weight.assign(random.uniform(low, high, weight.shape))
    return model
