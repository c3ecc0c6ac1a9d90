"""Load a model file in four ways, and compare the output of each network with the expected one.

Usage:
    python load_in_old_keras.py MODULE VGG16.h5 EXPECTED.npz

MODULE is keras, tf_keras or tensorflow.keras. EXPECTED.npz holds `pixels` and the `output` that
they must give. The result goes to stdout as JSON. try_keras_versions.py starts this program in old
versions of Keras and Python, so it needs only Python 3.6, numpy and Keras.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np


def find_module(name: str) -> Any:
    """Import a module; `tensorflow.keras` is not a module in every version, but an attribute."""
    package, _, inner = name.rpartition(".")
    if package:
        return getattr(importlib.import_module(package), inner)
    return importlib.import_module(name)


def with_weights(keras: Any, path: str, **options: bool) -> Any:
    """Make a VGG16 with random weights, and load a file's weights into it."""
    model = keras.applications.VGG16(weights=None, include_top=False)
    model.load_weights(path, **options)
    return model


WAYS: Any = {
    "load_model": lambda keras, path: keras.models.load_model(path, compile=False),
    "applications": lambda keras, path: keras.applications.VGG16(weights=path, include_top=False),
    "load_weights": with_weights,
    "by_name": lambda keras, path: with_weights(keras, path, by_name=True),
}


def largest_difference(found: Any, expected: Any) -> float:
    """Return the largest difference of two arrays, relative to the largest expected value."""
    if found.shape != expected.shape:
        raise ValueError(f"the output has the shape {found.shape}, not {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def try_way(load: Any, keras: Any, path: str, pixels: Any, expected: Any) -> Any:
    """Return how much the output of a loaded network differs, or the error from loading it."""
    try:
        return {"difference": largest_difference(load(keras, path).predict(pixels), expected)}
    except Exception as error:  # any error goes into the table
        return {"error": f"{type(error).__name__}: {error}"}


def main(name: str, path: str, expected_path: str) -> Any:
    """Try all ways."""
    with np.load(expected_path) as arrays:
        pixels, expected = arrays["pixels"], arrays["output"]
    keras = find_module(name)
    # TensorFlow's Keras does not always have a version of its own.
    package = importlib.import_module(name.partition(".")[0])
    return {
        "python": sys.version.split()[0],
        "version": package.__version__,
        "tensorflow": importlib.import_module("tensorflow").__version__,
        "ways": {way: try_way(load, keras, path, pixels, expected) for way, load in WAYS.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
