"""Models inside a model, in configurations from Keras and from strangers."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from vggnorm.errors import NetworkError
from vggnorm.files.allowlist import require_known
from vggnorm.files.keras2_config import to_keras2
from vggnorm.files.nested_config import for_keras3, is_model, model_calls
from vggnorm.network.storage import load_network

CONV = {"class_name": "Conv2D", "config": {"name": "conv"}, "inbound_nodes": [[["in", 0, 0, {}]]]}


def layer(name: str, *nodes: Any, class_name: str = "ReLU") -> dict[str, Any]:
    return {
        "class_name": class_name,
        "name": name,
        "config": {"name": name},
        "inbound_nodes": list(nodes),
    }


def model(name: str, inner: list[Any], *nodes: Any, class_name: str = "Functional") -> Any:
    found = layer(name, *nodes, class_name=class_name)
    found["config"]["layers"] = inner
    return found


def call(name: str, number: int = 0) -> list[list[Any]]:
    return [[name, number, 0, {}]]


def test_calls_that_keras_2_counts_from_1_are_counted_from_0() -> None:
    """In Keras 2, the calls of a model begin with 1, those of other layers with 0."""
    whole = model(
        "whole",
        [
            layer("in"),
            model("base", [], call("in")),
            layer("one", call("base", 1)),
            model("twice", [], call("one"), call("one"), class_name="Sequential"),
            layer("two", call("twice", 1), call("twice", 2)),
        ],
    )
    whole["config"]["output_layers"] = [["twice", 2, 0], ["two", 1, 0]]
    found = for_keras3(whole)["config"]
    assert found["layers"][2]["inbound_nodes"] == [call("base", 0)]
    assert found["layers"][4]["inbound_nodes"] == [call("twice", 0), call("twice", 1)]
    assert found["output_layers"] == [["twice", 1, 0], ["two", 1, 0]]


def test_calls_that_are_counted_from_0_stay() -> None:
    whole = model("whole", [model("base", [], call("in")), layer("one", call("base", 0))])
    assert for_keras3(whole) == whole


def test_both_versions_find_each_call_of_a_model_that_is_written_for_them() -> None:
    """Keras 2 takes call `n` from place `n - 1` of the list, and Keras 3 from place `n`."""
    photo = keras.Input((8, 8, 3), name="photo")
    twice = keras.Sequential([photo, keras.layers.ReLU()], name="twice")
    end = twice(keras.layers.Identity(name="between")(twice(photo)))
    whole = keras.Model(photo, keras.layers.Identity(name="end")(end))
    written = to_keras2("Functional", whole.get_config())["config"]["layers"]
    nodes = {found["name"]: found["inbound_nodes"] for found in written}
    for taker, taken in (("between", "photo"), ("end", "between")):
        ((name, number, *_),) = nodes[taker][0]
        assert name == "twice"
        assert [nodes["twice"][place][0][0] for place in (number - 1, number)] == [taken] * 2


def test_what_a_model_inside_was_trained_with_is_left_out(tmp_path: Path) -> None:
    photo = keras.Input((8, 8, 3))
    inside = keras.Sequential([photo, keras.layers.Conv2D(2, 3, activation="relu")], name="inside")
    inside.compile(loss="mse")
    path = tmp_path / "model.keras"
    whole = keras.Model(photo, inside(photo))
    whole.save(path)
    noise = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3))
    np.testing.assert_array_equal(
        load_network(path).predict(noise, verbose=0), whole.predict(noise, verbose=0)
    )


@pytest.mark.parametrize(
    "evil",
    [
        {"module": "somewhere.functional"},
        {"registered_name": "other>Functional"},
        {"class_name": "Model2"},
        {"config": {"layers": "many"}},
    ],
    ids=str,
)
def test_another_class_is_no_model_of_keras(evil: dict[str, Any]) -> None:
    inside = {**model("inside", [CONV], call("in")), **evil}
    assert not is_model(inside)
    with pytest.raises(ValueError, match="is not known to be harmless|has a layer without"):
        require_known(model("whole", [inside]))


def doubling(depth: int) -> Any:
    """A model that calls a model twice, which calls another one twice, and so on."""
    inner = [layer("relu", call("in"))]
    for level in range(depth):
        inner = [model(f"level{level}", inner, call("in"), call("in"))]
    return model("whole", inner)


def test_calls_in_models_inside_are_multiplied() -> None:
    assert model_calls(doubling(3)["config"]) == 8


def test_models_that_double_their_calls_are_refused() -> None:
    require_known(doubling(15))  # 32,768 calls
    with pytest.raises(ValueError, match="more than 50,000 times"):
        require_known(doubling(16))


def test_deep_nesting_is_refused_in_one_line(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    whole: Any = [layer("relu", call("in"))]
    for level in range(200):
        whole = [model(f"level{level}", whole, call("in"))]
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model("whole", whole))
        file.attrs["keras_version"] = "2.15.0"
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
    with pytest.raises(NetworkError, match=r"deep\.h5: ") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", [None, 3, [], {}, {"config": 3}, {"config": {"layers": [3, None]}}])
def test_what_is_no_model_is_left_to_the_check(odd: Any) -> None:
    assert for_keras3(odd) == odd
