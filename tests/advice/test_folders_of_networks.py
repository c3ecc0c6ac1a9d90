"""The advice about networks that Keras and TensorFlow save as folders or in several files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from advice_texts import refused

from vggnorm.network.storage import load_network
from vggnorm.network.weights import load_weights

MakeChain = Callable[..., Any]

# Writes a network as a SavedModel, and its weights; and loads and saves the network as one file.
SAVED_MODEL = """
import sys, numpy as np, tf_keras
layers = tf_keras.layers
photo = tf_keras.Input((12, 12, 3))
features = layers.Conv2D(4, 3, activation="relu", name="conv")(photo)
model = tf_keras.Model(photo, features)
model.save(sys.argv[1])
np.savez(sys.argv[2], *model.get_weights())
tf_keras.models.load_model(sys.argv[1]).save(sys.argv[3])  # as the advice says
"""


def run(program: str, *arguments: Path) -> None:
    subprocess.run(  # tf_keras and keras do not share a process
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True
    )


def require_same_weights(model: Any, arrays: list[np.ndarray]) -> None:
    for found, wanted in zip(model.get_weights(), arrays, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_saved_model(tmp_path: Path) -> None:
    folder, weights = tmp_path / "saved", tmp_path / "weights.npz"
    run(SAVED_MODEL, folder, weights, tmp_path / "model.h5")
    for path in folder, folder / "saved_model.pb":
        with refused(
            "load its folder with tf_keras.models.load_model, and save the network as one file, "
            "model.save('FILE.h5')"
        ):
            load_network(path)
    with np.load(weights) as arrays:
        require_same_weights(load_network(tmp_path / "model.h5"), list(arrays.values()))


def test_an_archive_that_is_not_packed(make_chain: MakeChain, tmp_path: Path) -> None:
    model = make_chain()
    model.save(tmp_path / "unpacked", zipped=False)
    with refused(
        "load it with keras.saving.load_model, and save it as one file, model.save('FILE.keras')"
    ):
        load_network(tmp_path / "unpacked")
    keras.saving.load_model(tmp_path / "unpacked").save(tmp_path / "packed.keras")
    require_same_weights(load_network(tmp_path / "packed.keras"), model.get_weights())


def test_weights_in_several_files(make_chain: MakeChain, tmp_path: Path) -> None:
    model, other = make_chain((30, 30, 30)), make_chain((30, 30, 30), seed=1)
    model.save_weights(tmp_path / "chain.weights.json", max_shard_size=5e-5)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    with refused(
        "load it with model.load_weights, and save it as one file, "
        "model.save_weights('FILE.weights.h5')"
    ):
        load_weights(other, tmp_path / "chain.weights.json")
    follower = make_chain((30, 30, 30), seed=2)
    follower.load_weights(tmp_path / "chain.weights.json")
    follower.save_weights(tmp_path / "one.weights.h5")
    load_weights(other, tmp_path / "one.weights.h5")
    require_same_weights(other, model.get_weights())


def test_a_network_without_its_weights(make_chain: MakeChain, tmp_path: Path) -> None:
    model = make_chain()
    (tmp_path / "chain.json").write_text(model.to_json())
    model.save_weights(tmp_path / "chain.weights.h5")
    with refused(
        "build it with keras.models.model_from_json, load its weights, and save both, "
        "model.save('FILE.keras')"
    ):
        load_network(tmp_path / "chain.json")
    built = keras.models.model_from_json((tmp_path / "chain.json").read_text())
    built.load_weights(tmp_path / "chain.weights.h5")
    built.save(tmp_path / "both.keras")
    require_same_weights(load_network(tmp_path / "both.keras"), model.get_weights())


def test_a_folder_of_anything(chain_file: Path) -> None:
    with refused("name the file in it that holds the network or its weights"):
        load_network(chain_file.parent)
    load_network(chain_file)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is about TensorFlow")
def test_a_checkpoint_of_tensorflow(make_chain: MakeChain, tmp_path: Path) -> None:
    import tensorflow as tf

    model, other = make_chain(), make_chain(seed=1)
    tf.train.Checkpoint(weights=model.weights).write(tmp_path / "chain")
    for path in tmp_path.glob("chain*"):
        with refused(
            "load it into its model in TensorFlow, and save the model's weights as .h5 with "
            "model.save_weights"
        ):
            load_weights(other, path)
    follower = make_chain(seed=2)
    tf.train.Checkpoint(weights=follower.weights).read(str(tmp_path / "chain"))
    follower.save_weights(tmp_path / "chain.weights.h5")
    load_weights(other, tmp_path / "chain.weights.h5")
    require_same_weights(other, model.get_weights())
