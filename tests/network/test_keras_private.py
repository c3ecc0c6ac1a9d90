"""The calls of a network as Keras records them; no other module uses its private attributes."""

import re
from pathlib import Path

import keras
from keras import layers
from zoo import NETWORKS, chain, conv, photo

import vggnorm
from vggnorm.network.keras_private import calls_in, inner_layers

# What Keras calls its own. Attributes of `self` are not meant.
PRIVATE = re.compile(
    r"(?<!self)\._(keras_history|inputs_struct|outputs_struct|nodes|nodes_by_depth|operations"
    r"|flatten_layers|layers|functional|inbound_nodes|outbound_nodes|name)\b"
)


def test_no_other_module_uses_private_attributes_of_keras() -> None:
    package = Path(vggnorm.__file__).parent
    users = set()
    for path in package.rglob("*.py"):
        if PRIVATE.search(path.read_text(encoding="utf-8")):
            users.add(path.relative_to(package).as_posix())
    assert users == {"network/keras_private.py"}


def test_each_call_comes_after_those_it_takes_input_from() -> None:
    for build in NETWORKS.values():
        given: set[int] = set()
        for call in calls_in(build()):
            assert call.is_input or given.issuperset(map(id, call.inputs))
            given.update(map(id, call.outputs))


def test_a_call_has_its_layer_tensors_and_arguments() -> None:
    pixels = photo()
    relu = layers.ReLU(name="relu")
    first = relu(pixels)
    second = relu(first, training=True)
    begin, one, two = calls_in(keras.Model(pixels, second))
    assert (begin.operation.name, begin.is_input) == ("photo", True)
    assert begin.outputs[0] is pixels
    assert one.operation is two.operation is relu
    assert (one.inputs[0], one.outputs[0], one.is_input) == (pixels, first, False)
    assert (two.inputs[0], two.outputs[0]) == (first, second)
    assert two.named["training"] is True


def test_a_sequential_model_begins_with_its_input() -> None:
    model = keras.Sequential([photo(), conv(3, name="one"), layers.ReLU(name="two")])
    assert [call.operation.name for call in calls_in(model)] == ["photo", "one", "two"]


def test_inner_layers_are_those_that_a_layer_holds_and_theirs() -> None:
    held = conv(3, name="held")
    inner = layers.TimeDistributed(held, name="inner")
    assert inner_layers(layers.TimeDistributed(inner)) == [inner, held]
    assert inner_layers(held) == []


def test_reading_adds_no_call_to_a_layer() -> None:
    model = chain(conv(3, name="one"))
    calls_in(model)
    assert len(vars(model.get_layer("one"))["_inbound_nodes"]) == 1  # there is no public count
