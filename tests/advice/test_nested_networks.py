"""The advice about models inside a model, followed in a program."""

from typing import Any

import keras
import numpy as np
import pytest
from advice_texts import refused
from keras import layers
from tiny import SIDE, chain, conv, part, photo, run_advice

from vggnorm.network import nesting
from vggnorm.network.graph import read_graph
from vggnorm.network.padding import with_padding
from vggnorm.network.storage import require_network_saveable


def test_models_inside_that_are_called_very_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "MAX_CALLS", 3)
    inside = part("inside", layers.ReLU(), layers.MaxPooling2D(1))

    def model(times: int) -> Any:
        pixels = photo()
        tensor = conv(3)(pixels)
        for _ in range(times):
            tensor = inside(tensor)
        return keras.Model(pixels, tensor)

    with refused("call them less often"):
        read_graph(model(2))
    monkeypatch.setattr(nesting, "MAX_CALLS", 4)
    read_graph(model(1))


def test_models_inside_have_layers_of_their_own() -> None:
    pixels, same = photo(), conv(3, name="one")
    first, second = (keras.Model(pixels, same(pixels), name=name) for name in ("first", "second"))
    with refused("give each model layers of its own"):
        read_graph(keras.Model(pixels, second(first(pixels))))
    one, other = part("first", conv(3, name="one")), part("second", conv(3, name="one"))
    read_graph(keras.Model(pixels, other(one(pixels))))


def test_each_use_has_a_layer_of_its_own() -> None:
    same = conv(3)
    with refused("give each use a layer of its own"):
        read_graph(chain(same, same))
    read_graph(chain(conv(3), conv(3)))


def test_a_layer_that_can_be_copied() -> None:
    class Shifted(layers.Layer):  # type: ignore[misc]
        def __init__(self, by: Any, **options: Any) -> None:
            super().__init__(**options)
            self.by = np.asarray(by)

        def call(self, inputs: Any) -> Any:
            return inputs + self.by

    class Copied(Shifted):
        def get_config(self) -> dict[str, Any]:
            return {**layers.Layer.get_config(self), "by": self.by.tolist()}

    def model(kind: Any) -> Any:
        pixels = photo()
        return keras.Model(pixels, conv(3)(part("part", kind(np.ones(3)))(pixels)))

    with refused("give its class a get_config that Keras can build it from"):
        read_graph(model(Shifted))
    read_graph(model(Copied))


def test_a_cropping_that_predict_knows() -> None:
    def model(cropping: Any) -> Any:
        layer = layers.Dense(2, activation="softmax")
        return chain(cropping, conv(3), conv(3), layers.Flatten(), layer)

    with refused("put CenterCrop or Resizing in its place"):
        read_graph(model(layers.RandomCrop(4, 4)))
    for cropping in layers.CenterCrop(4, 4), layers.Resizing(4, 4):
        read_graph(model(cropping))


def test_a_model_inside_is_given_what_its_input_holds() -> None:
    def model(dtype: str) -> Any:
        whole = photo(dtype=dtype)
        inside = keras.Model(whole, layers.Rescaling(1.0)(whole), name="inside")
        pixels = photo()
        return keras.Model(pixels, conv()(inside(layers.Rescaling(0.5)(pixels))))

    with refused("build it with an input of float32"):
        read_graph(model("uint8"))
    read_graph(model("float32"))


def test_a_model_inside_is_given_a_tensor_for_each_input() -> None:
    one, other = photo(), photo()
    inside = keras.Model([one, other], layers.Concatenate()([one, other]), name="inside")
    with refused("give each input a tensor"):
        nesting._require_taken_as_given(inside, "inside", [one])  # noqa: SLF001  Keras refuses it
    pixels = photo()
    read_graph(keras.Model(pixels, conv()(inside([pixels, layers.Rescaling(2.0)(pixels)]))))


def test_two_layers_of_one_path() -> None:
    pixels = photo()
    last = conv(3, name="inside.one")
    model = keras.Model(pixels, last(part("inside")(pixels)))
    with refused("rename one of the two"):
        read_graph(model)
    last.name = "other"
    read_graph(model)


@pytest.mark.parametrize(("outer", "name"), [("in ner", "one"), ("inner", "größe")])
def test_names_inside_that_tensorflow_takes(outer: str, name: str) -> None:
    pixels = photo()
    inside = keras.Model(pixels, conv(3, name=name)(pixels), name=outer)
    model = keras.Model(pixels, conv(3, name="last")(inside(pixels)))
    with refused(
        "name each layer with letters of ASCII, digits, '_', '.' and '-' only: "
        "{}.get_layer({}).name = {}"
    ) as caught:
        read_graph(model)
    exec(caught.text.rpartition("only: ")[2], {"model": model})
    assert len(read_graph(model).filters) == 2


def test_maps_of_a_size_that_a_model_inside_takes() -> None:
    """Keras itself says nothing when it calls such a model."""

    def model(side: int) -> Any:
        pixels = keras.Input((None, None, 3))
        both = [pixels, layers.UpSampling2D()(layers.MaxPooling2D()(pixels))]
        inside = keras.Model(pixels, conv(3, name="one")(layers.Concatenate()(both)))
        pixels = keras.Input((side, side, 3))
        return keras.Model(pixels, inside(pixels))

    with refused("give that model maps of another size"):
        read_graph(model(33))
    read_graph(model(32))


def test_a_model_inside_is_called_on_a_list() -> None:
    """Before the first photo, because the file could not be written in the end."""
    names = ["left", "right"]

    def model(*, as_dict: bool) -> Any:
        pixels = [keras.Input((SIDE, SIDE, 3), name=name) for name in names]
        joined = layers.Concatenate()([conv(3)(each) for each in pixels])
        inside = keras.Model(dict(zip(names, pixels, strict=True)) if as_dict else pixels, joined)
        whole = photo()
        given = [whole, layers.Rescaling(0.5)(whole)]
        tensor = inside(dict(zip(names, given, strict=True)) if as_dict else given)
        return keras.Model(whole, conv(3)(tensor))

    with refused("build it with a list of inputs, and call it on a list"):
        require_network_saveable(model(as_dict=True))
    require_network_saveable(model(as_dict=False))


def test_the_padding_of_a_part_is_changed_alone() -> None:
    pixels = photo()
    model = keras.Model(pixels, conv(3)(part("inside")(pixels)))
    with refused("give that part alone: model.get_layer({})") as caught:
        with_padding(model, "reflect")
    with_padding(run_advice(caught.text.rpartition("alone: ")[2], model), "reflect")
