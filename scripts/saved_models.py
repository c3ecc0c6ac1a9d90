"""Build networks on VGG16 as tutorials do, and load what became of them, in any version of Keras.

Usage:
    python saved_models.py build MODULE WEIGHTS.h5 FOLDER
    python saved_models.py load MODULE MODEL EXPECTED.npz

MODULE is keras or tensorflow.keras. `build` saves each network as .h5 and .keras, and beside it
`pixels` and the `output` that they give. `load` prints how far a model's output is from that, as
JSON. try_saved_models.py starts this program in old versions of Keras, so it needs only numpy and
Keras.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from load_in_old_keras import find_module, largest_difference

SIDE = 96  # pixels
CLASSES = 10


def frozen(keras: Any, weights: str) -> Any:
    """The base with frozen weights, and a classifier on its output."""
    base = keras.applications.VGG16(weights=weights, include_top=False, input_shape=(SIDE, SIDE, 3))
    base.trainable = False
    return keras.Model(base.input, classified(keras, base.output))


def input_tensor(keras: Any, weights: str) -> Any:
    """The base on an input of the user's own."""
    photo = keras.Input((SIDE, SIDE, 3), name="photo")
    base = keras.applications.VGG16(weights=weights, include_top=False, input_tensor=photo)
    return keras.Model(photo, classified(keras, base.output))


def sequential(keras: Any, weights: str) -> Any:
    """The base as the first layer of a Sequential model."""
    base = keras.applications.VGG16(weights=weights, include_top=False, input_shape=(SIDE, SIDE, 3))
    layers = keras.layers
    return keras.Sequential([base, layers.Flatten(), layers.Dense(CLASSES)])


def nested(keras: Any, weights: str) -> Any:
    """The base as one layer of a functional model."""
    photo = keras.Input((SIDE, SIDE, 3), name="photo")
    base = keras.applications.VGG16(weights=weights, include_top=False)
    return keras.Model(photo, classified(keras, base(photo, training=False)))


def prepared(keras: Any, weights: str) -> Any:
    """The same with augmentation and preprocess_input inside."""
    photo = keras.Input((SIDE, SIDE, 3), name="photo")
    features = keras.layers.RandomFlip("horizontal")(photo)
    features = keras.layers.RandomRotation(0.1)(features)
    features = keras.applications.vgg16.preprocess_input(features)
    base = keras.applications.VGG16(weights=weights, include_top=False)
    features = base(features, training=False)
    return keras.Model(photo, classified(keras, keras.layers.Dropout(0.2)(features)))


def classified(keras: Any, features: Any) -> Any:
    """Put a classifier behind features."""
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.layers.Dense(CLASSES)(pooled)


WAYS: Any = {
    "frozen": frozen,
    "input_tensor": input_tensor,
    "sequential": sequential,
    "nested": nested,
    "prepared": prepared,
}


def build(keras: Any, weights: str, folder: str) -> Any:
    """Build and save all networks; give the names of the files, and the error of each failure."""
    pixels = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    made: Any = {}
    for way, make in WAYS.items():
        model = make(keras, weights)
        expected = Path(folder, f"{way}.npz")
        np.savez(expected, pixels=pixels, output=np.asarray(model(pixels, training=False)))
        for ending in (".h5", ".keras"):
            try:
                model.save(str(Path(folder, way + ending)))
                made[way + ending] = None
            except Exception as error:  # any error goes into the table
                made[way + ending] = f"{type(error).__name__}: {error}"
    return made


def load(keras: Any, path: str, expected_path: str) -> Any:
    """Load a model and compare its output, or give the error from loading it."""
    with np.load(expected_path) as arrays:
        pixels, expected = arrays["pixels"], arrays["output"]
    try:
        model = keras.models.load_model(path, compile=False)
        found = np.asarray(model.predict(pixels, verbose=0))
        return {"difference": largest_difference(found, expected)}
    except Exception as error:  # any error goes into the table
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    command, name, one, other = sys.argv[1:]
    work = {"build": build, "load": load}[command]
    print(json.dumps(work(find_module(name), one, other)))
