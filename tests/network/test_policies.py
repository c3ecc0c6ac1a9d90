"""Networks that compute in other types than float32, as mixed precision makes them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import nests
import numpy as np
import pytest
from keras import layers
from zoo import chain, conv, settle

import vggnorm
from vggnorm.network.paths import leaf_layers
from vggnorm.network.policies import in_float32

POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
MIXED = POLICIES[:2]


@contextmanager
def policy(name: str) -> Iterator[None]:
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def network(name: str, last: str | None = None) -> Any:
    """A network in a policy, and the end of it in another one."""
    with policy(name):
        return settle(
            chain(
                conv(4, name="a"),
                layers.BatchNormalization(name="norm"),
                layers.MaxPooling2D(name="pool"),
                conv(5, name="b"),
                layers.GlobalAveragePooling2D(name="flat"),
                layers.Dense(3, activation="softmax", dtype=last, name="scores"),
            )
        )


def policies_of(model: Any) -> list[str]:
    return [layer.dtype_policy.name for layer in model.layers[1:]]


def weights_in_float32(model: Any) -> list[np.ndarray]:
    return [np.asarray(array, np.float32) for array in model.get_weights()]


@pytest.mark.parametrize(
    ("name", "last"),
    [*((name, None) for name in POLICIES), ("mixed_float16", "float32"), ("float32", "float16")],
)
def test_it_is_measured_in_float32_and_saved_in_its_policy(
    name: str, last: str | None, photo_folder: Path, tmp_path: Path
) -> None:
    """The means are those of a float32 network with the same weights, to the last bit."""
    model, exact = network(name, last), network("float32")
    exact.set_weights(weights_in_float32(model))
    means, wanted = (vggnorm.compute_means(one, photo_folder) for one in (model, exact))
    for layer, mean in wanted.mean.items():
        np.testing.assert_array_equal(means.mean[layer], mean)
    normalized = vggnorm.normalize(model, means)
    computed_in = [layer.compute_dtype for layer in model.layers[1:]]
    assert [layer.compute_dtype for layer in normalized.layers[1:]] == computed_in
    assert {str(weight.dtype) for weight in normalized.weights} <= {"float32", "float64"}
    if name in MIXED:
        assert policies_of(normalized) == policies_of(model)
    path = tmp_path / "normalized.h5"
    vggnorm.save_network(normalized, path, means)
    loaded = vggnorm.load_network(str(path))
    assert policies_of(loaded) == policies_of(normalized)
    report = vggnorm.verify(model, loaded, photo_folder, means)
    assert report.passed, report
    assert policies_of(keras.models.load_model(path, compile=False)) == policies_of(normalized)


def transfer(name: str) -> Any:
    """A transfer model in a policy, whose augmentation takes photos of the policy's type."""
    keras.utils.set_random_seed(0)
    with policy(name):
        return nests.settle(nests.transfer())


@pytest.mark.parametrize("suffix", [None, ".keras", ".h5"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_transfer_model_is_measured_in_float32(
    name: str, suffix: str | None, photo_folder: Path, tmp_path: Path
) -> None:
    model, exact = transfer(name), transfer("float32")
    exact.set_weights(weights_in_float32(model))
    assert str(model.get_layer("augmentation").inputs[0].dtype) == model.compute_dtype
    if suffix is not None:
        model.save(tmp_path / f"model{suffix}")
        model = vggnorm.load_network(str(tmp_path / f"model{suffix}"))
    means, wanted = (
        vggnorm.compute_means(one, photo_folder, preprocessing="none") for one in (model, exact)
    )
    for layer, mean in wanted.mean.items():
        np.testing.assert_array_equal(means.mean[layer], mean)
    normalized = vggnorm.normalize(model, means)
    computed_in = [layer.compute_dtype for layer in leaf_layers(model).values() if layer.weights]
    assert [
        layer.compute_dtype for layer in leaf_layers(normalized).values() if layer.weights
    ] == computed_in
    vggnorm.save_network(normalized, tmp_path / "normalized.h5", means)
    loaded = vggnorm.load_network(str(tmp_path / "normalized.h5"))
    assert vggnorm.verify(model, loaded, photo_folder, means).passed


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
def test_photos_are_taken_in_float32(name: str, photo_folder: Path) -> None:
    """The network itself takes photos of another type, and computes in float32."""
    pixels = keras.Input((32, 32, 3), dtype=name)
    model = settle(keras.Model(pixels, conv(4, name="a")(pixels)))
    exact = settle(chain(conv(4, name="a"), height=32, width=32))
    means, wanted = (vggnorm.compute_means(one, photo_folder) for one in (model, exact))
    np.testing.assert_array_equal(means.mean["a"], wanted.mean["a"])
    assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed


def test_an_input_inside_that_rounds_is_left_out() -> None:
    """257 is 256 in bfloat16, which keeps 8 bits."""
    pixels = keras.Input((4, 4, 3), dtype="bfloat16")
    inside = keras.Model(pixels, conv(1, 1, kernel_initializer="ones", name="one")(pixels))
    photos = keras.Input((4, 4, 3))
    model = keras.Model(photos, conv(1, 1, kernel_initializer="ones", name="two")(inside(photos)))
    found = in_float32(model)(np.full((1, 4, 4, 3), 257, np.float32))
    np.testing.assert_array_equal(found, np.full((1, 4, 4, 1), 3 * 257, np.float32))


def test_a_float32_network_is_not_copied() -> None:
    model = network("float32")
    assert in_float32(model) is model


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_keras_3(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    model = network(name)
    model.save(path)
    loaded = vggnorm.load_network(str(path))
    assert policies_of(loaded) == policies_of(model)
    for found, wanted in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


KERAS_2 = """
import sys
import tf_keras as keras
from tf_keras import layers
keras.mixed_precision.set_global_policy(sys.argv[1])
photo = keras.Input((32, 32, 3))
tensor = layers.Conv2D(4, 3, activation="relu", bias_initializer="ones", name="a")(photo)
tensor = layers.Conv2D(5, 3, activation="relu", bias_initializer="ones", name="b")(tensor)
tensor = layers.GlobalAveragePooling2D(name="flat")(tensor)
model = keras.Model(photo, layers.Dense(3, dtype="float32", name="scores")(tensor))
for path in sys.argv[2:]:
    model.save(path)
"""


@pytest.mark.parametrize("name", MIXED)
def test_files_of_keras_2(name: str, photo_folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "model.h5", tmp_path / "model.keras"]
    subprocess.run(
        [sys.executable, "-c", KERAS_2, name, *paths], check=True, env=os.environ, timeout=300
    )
    for path in paths:
        model = vggnorm.load_network(str(path))
        assert policies_of(model) == [name, name, name, "float32"]
        means = vggnorm.compute_means(model, photo_folder)
        assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed
