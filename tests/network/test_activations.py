"""Activation functions that are Keras's own under another name, and those that are not."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from zoo import chain, conv, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import read_graph

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these are TensorFlow's functions"
)

Names = list[tuple[str, str]]

# TensorFlow's function, and Keras's name for it.
OF_TENSORFLOW: Names = [
    ("nn.relu", "relu"),
    ("nn.leaky_relu", "leaky_relu"),
    ("nn.relu6", "relu6"),
    ("nn.elu", "elu"),
    ("nn.selu", "selu"),
    ("nn.silu", "silu"),
    ("nn.swish", "silu"),
    ("nn.gelu", "gelu"),
    ("nn.softmax", "softmax"),
    ("nn.log_softmax", "log_softmax"),
    ("nn.softplus", "softplus"),
    ("math.tanh", "tanh"),
    ("sigmoid", "sigmoid"),
]


def of_tensorflow(name: str) -> Any:
    import tensorflow

    function = tensorflow
    for part in name.split("."):
        function = getattr(function, part)
    return function


def network(inside: Any = "relu", last: Any = "relu") -> Any:
    """A network with a given activation inside and at its end."""
    return settle(chain(conv(4, activation=inside, name="a"), conv(3, activation=last, name="b")))


@pytest.mark.parametrize("function", ["nn.relu", "nn.leaky_relu"])
def test_a_rectifier_of_tensorflow_is_kerases(function: str, photo_folder: Path) -> None:
    model, kerases = network(of_tensorflow(function)), network(function.removeprefix("nn."))
    means = vggnorm.compute_means(model, photo_folder)
    wanted = vggnorm.compute_means(kerases, photo_folder)
    for layer in wanted.mean:
        np.testing.assert_allclose(means.mean[layer], wanted.mean[layer], rtol=1e-5)
    assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed


@pytest.mark.parametrize(("name", "kerases"), OF_TENSORFLOW)
def test_any_function_of_tensorflow_at_the_end_is_saved_as_kerases(
    name: str, kerases: str, photo_folder: Path, tmp_path: Path
) -> None:
    model = network(last=of_tensorflow(name))
    digest = architecture_sha256(read_graph(model))
    assert digest == architecture_sha256(read_graph(network(last=kerases)))
    means = vggnorm.compute_means(model, photo_folder)
    path = tmp_path / "normalized.h5"
    vggnorm.save_network(vggnorm.normalize(model, means), path, means)
    loaded = keras.models.load_model(path, compile=False)
    assert loaded.get_layer("b").activation is getattr(keras.activations, kerases)
    model.save(tmp_path / "model.keras")
    from_file = vggnorm.load_network(str(tmp_path / "model.keras"))
    assert from_file.get_layer("b").activation is getattr(keras.activations, kerases)


def test_kerases_operations_are_its_activations() -> None:
    for function in (ops.relu, ops.leaky_relu, keras.activations.relu):
        assert set(read_graph(network(function)).sites) == {"a", "b"}


def test_a_function_that_only_has_the_name_is_not_taken_for_kerases() -> None:
    def relu(values: Any) -> Any:
        return ops.maximum(values, 1)

    relu.__module__ = "tensorflow.python.ops"
    with pytest.raises(NetworkError, match="'relu' stands before .* is not one of Keras's"):
        read_graph(network(relu))


def raised(values: Any) -> Any:
    return ops.tanh(values) + 1


def test_the_advice_for_a_function_of_the_users_own_works(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(last=raised)
    means = vggnorm.compute_means(model, photo_folder)
    with pytest.raises(NetworkError, match=r"layer b: its activation .*; register the function"):
        vggnorm.normalize(model, means)
    # As the decorator does, for this test alone.
    registered = keras.saving.get_custom_objects()
    monkeypatch.setitem(registered, "test>raised", raised)
    with keras.saving.custom_object_scope({"raised": raised}):
        normalized = vggnorm.normalize(model, means)
        assert vggnorm.verify(model, normalized, photo_folder, means).passed
