"""Operations of TensorFlow in files of Keras 2: what is loaded computes what Keras 2 computes."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import NetworkError

# Keras 2 saves a network for each operation, and what it computes on the same noise.
KERAS_2 = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers
from tf_keras.applications.imagenet_utils import preprocess_input

folder = Path(sys.argv[1])
around = [[0, 0], [1, 1], [1, 1], [0, 0]]
front = {
    "caffe": lambda x: preprocess_input(x, mode="caffe"),
    "torch": lambda x: preprocess_input(x, mode="torch"),
    "tf": lambda x: preprocess_input(x, mode="tf"),
    "reversed": lambda x: x[..., ::-1] / 127.5 - 1.0,
    "from_one": lambda x: 1.0 - tf.cast(x, tf.float32) / 255.0,
    "resized": lambda x: tf.image.resize(x, (20, 24)),
}
inside = {
    "reflection": lambda x: tf.pad(x, around, mode="REFLECT"),
    "symmetric": lambda x: tf.pad(x, around, "SYMMETRIC"),
    "zeros": lambda x: tf.pad(x, around),
    "cropping": lambda x: x[:, 1:-1, 2:],
    "joined": lambda x: tf.concat([x, tf.reverse(x, [-1])], axis=-1),
    "rectifiers": lambda x: tf.maximum(tf.nn.relu(tf.nn.leaky_relu(x)), 0.0) * 2,
}
other = {"power": lambda x: x**2, "split": lambda x: tf.split(x, 2, axis=-1)[0]}

def network(before, between):
    photo = keras.Input((32, 32, 3))
    start = keras.initializers.RandomUniform(-0.1, 0.15, seed=1)
    options = {"kernel_initializer": start, "bias_initializer": "ones", "activation": tf.nn.relu}
    tensor = layers.Conv2D(4, 3, name="a", **options)(before(photo))
    return keras.Model(photo, layers.Conv2D(3, 3, name="b", **options)(between(tensor)))

noise = np.load(folder / "noise.npy")
same = lambda x: x
networks = {name: network(make, same) for name, make in front.items()}
networks |= {name: network(same, make) for name, make in {**inside, **other}.items()}
for name, model in networks.items():
    model.save(folder / f"{name}.h5")
    np.save(folder / f"{name}.npy", model(noise))
"""

FRONT = ("caffe", "torch", "tf", "reversed", "from_one", "resized")
INSIDE = ("reflection", "symmetric", "zeros", "cropping", "joined", "rectifiers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of Keras 2."""
    made = tmp_path_factory.mktemp("keras2")
    noise = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.save(made / "noise.npy", noise)
    subprocess.run([sys.executable, "-c", KERAS_2, made], check=True, env=os.environ, timeout=300)
    return made


@pytest.mark.parametrize("name", [*FRONT, *INSIDE])
def test_it_computes_what_keras_2_computes(name: str, folder: Path, photo_folder: Path) -> None:
    model = vggnorm.load_network(str(folder / f"{name}.h5"))
    wanted = np.load(folder / f"{name}.npy")
    functional = keras.Model(model.inputs[0], model.outputs[0])
    found = keras.ops.convert_to_numpy(functional(np.load(folder / "noise.npy")))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * wanted.max())
    means = vggnorm.compute_means(model, photo_folder, preprocessing="none")
    assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed


@pytest.mark.parametrize(("name", "function"), [("power", r"math\.pow"), ("split", "split")])
def test_what_is_not_read_is_refused_and_the_advice_works(
    name: str, function: str, folder: Path, photo_folder: Path
) -> None:
    path = folder / f"{name}.h5"
    with pytest.raises(
        NetworkError, match=rf"is TensorFlow's operation {function}, .*; build the network again"
    ):
        vggnorm.load_network(str(path))
    photo = keras.Input((32, 32, 3))
    tensor = keras.layers.Conv2D(4, 3, activation="relu", name="a")(photo)
    halves = tensor[..., :2] if name == "split" else tensor
    model = keras.Model(photo, keras.layers.Conv2D(3, 3, activation="relu", name="b")(halves))
    model.load_weights(path)
    means = vggnorm.compute_means(model, photo_folder, preprocessing="none")
    assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed
