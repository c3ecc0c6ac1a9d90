"""The translation to Keras 2's words, against what Keras 2 itself writes and reads."""

import json
import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from vggnorm.files.keras2_config import to_keras2

# Keras 2 builds a model from the configuration on its standard input, and writes its own on its
# standard output.
KERAS_2 = """
import json, sys
import tf_keras
config = json.load(sys.stdin)
model = tf_keras.models.model_from_json(json.dumps(config))
single = not isinstance(model.input, list)
written = {"config": json.loads(model.to_json()), "output": list(model.output_shape)}
print(json.dumps({**written, "single": single}))
"""


def in_keras_2(config: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", KERAS_2],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def chain() -> Any:
    pixels = keras.Input((32, 32, 3), name="pixels")
    conv = keras.layers.Conv2D(
        4, 3, activation="relu", name="conv", kernel_initializer="he_normal"
    )(pixels)
    return keras.Model(pixels, keras.layers.MaxPooling2D(2, name="pool")(conv), name="chain")


def branches() -> Any:
    pixels = keras.Input((32, 32, 3), name="pixels")
    one = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="one")(pixels)
    other = keras.layers.Conv2D(2, 1, activation="relu", name="other")(pixels)
    joined = keras.layers.Concatenate(name="joined")([one, other])
    return keras.Model(pixels, [joined, one], name="branches")


def sequence() -> Any:
    return keras.Sequential(
        [
            keras.Input((32, 32, 3), name="pixels"),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.Flatten(name="f"),
        ],
        name="sequence",
    )


def translated(model: Any) -> dict[str, Any]:
    return to_keras2(type(model).__name__, json.loads(json.dumps(model.get_config())))


@pytest.mark.parametrize("make", [chain, branches, sequence])
def test_keras_2_builds_the_same_network(make: Any) -> None:
    model = make()
    found = in_keras_2(translated(model))
    expected = (
        model.output_shape if isinstance(model.output_shape, list) else list(model.output_shape)
    )
    assert [
        list(shape) if isinstance(shape, list | tuple) else shape for shape in found["output"]
    ] == [list(shape) if isinstance(shape, list | tuple) else shape for shape in expected]


def test_early_versions_of_keras_2_know_every_word() -> None:
    # TensorFlow 1.15 and stand-alone Keras 2.2.4 know neither `Functional` nor these settings.
    config = translated(chain())
    assert config["class_name"] == "Model"
    for layer in config["config"]["layers"]:
        assert not {"groups", "ragged", "optional"} & set(layer["config"])


def test_a_call_names_no_option_that_is_at_its_default() -> None:
    # Keras 3 calls batch normalization with a `mask` of None, and early versions of Keras 2 take no
    # `mask` there.
    pixels = keras.Input((8, 8, 3), name="pixels")
    normalized = keras.layers.BatchNormalization(name="normalized")(pixels)
    config = translated(keras.Model(pixels, normalized))
    assert config["config"]["layers"][1]["inbound_nodes"] == [[["pixels", 0, 0, {}]]]
    kept = translated(
        keras.Model(
            pixels, keras.layers.BatchNormalization(name="normalized")(pixels, training=True)
        )
    )
    assert kept["config"]["layers"][1]["inbound_nodes"] == [[["pixels", 0, 0, {"training": True}]]]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_groups_are_kept_where_there_are_several(rank: int) -> None:
    pixels = keras.Input((*[8] * rank, 4), name="pixels")
    conv = getattr(keras.layers, f"Conv{rank}D")(4, 3, groups=2, name="conv")
    config = translated(keras.Model(pixels, conv(pixels)))
    assert config["config"]["layers"][1]["config"]["groups"] == 2
    assert in_keras_2(config)["config"]["config"]["layers"][1]["config"]["groups"] == 2


def test_a_chain_has_one_input_and_one_output_wherever_it_is_read(tmp_path: Any) -> None:
    # Style-transfer programs take `model.input` and `model.output` for tensors, not for lists of
    # one.
    from vggnorm.network.storage import save_network

    assert in_keras_2(translated(chain()))["single"]
    save_network(chain(), tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    assert type(loaded).__name__ == "Functional"
    assert isinstance(loaded.input, keras.KerasTensor)
    assert isinstance(loaded.output, keras.KerasTensor)


def words(value: Any) -> Any:
    """Leave out the keys that newer Keras 2 writes and does not need."""
    if isinstance(value, dict):
        dropped = {"module", "registered_name", "build_config", "optional"}
        return {key: words(inner) for key, inner in value.items() if key not in dropped}
    return [words(inner) for inner in value] if isinstance(value, list) else value


def wrapped(ends: list[Any]) -> list[Any]:
    """Put a single `[layer, call, output]` into a list, as Keras 2 does."""
    return [ends] if isinstance(ends[0], str) else ends


@pytest.mark.parametrize("make", [chain, branches])
def test_the_words_are_those_of_keras_2(make: Any) -> None:
    # What Keras 2 writes of the network it built must be, word for word, what it was given.
    given = translated(make())
    written = words(in_keras_2(given)["config"])
    assert (written["class_name"], given["class_name"]) == (
        "Functional",
        "Model",
    )  # two words for one thing
    for ends in "input_layers", "output_layers":
        assert wrapped(written["config"][ends]) == wrapped(given["config"][ends])
    for layer, expected in zip(written["config"]["layers"], given["config"]["layers"], strict=True):
        assert layer["inbound_nodes"] == expected["inbound_nodes"]
        assert {key: layer["config"].get(key) for key in expected["config"]} == json.loads(
            json.dumps(expected["config"])
        )


@pytest.mark.parametrize("make", [chain, branches, sequence])
def test_keras_3_still_reads_it(make: Any, tmp_path: Any) -> None:
    from vggnorm.network.storage import save_network

    model = make()
    save_network(model, tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    photo = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    for found, expected in zip(
        keras.tree.flatten(loaded(photo)), keras.tree.flatten(model(photo)), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_an_initializer_keeps_its_seed_and_loses_what_keras_2_does_not_know() -> None:
    config = translated(chain())["config"]["layers"][1]["config"]
    assert config["dtype"] == "float32"
    assert config["kernel_initializer"] == {"class_name": "HeNormal", "config": {"seed": None}}
    assert config["bias_initializer"] == {"class_name": "Zeros", "config": {}}
