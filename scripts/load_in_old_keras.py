"""Load a model file in four ways, and say how far each network's output is from the expected one.

Usage:
    python load_in_old_keras.py MODULE VGG16.h5 EXPECTED.npz

MODULE is keras, tf_keras or tensorflow.keras. EXPECTED.npz holds `pixels` and the `output` that they must give. JSON
goes to stdout. This runs in Python 3.6 and later, with nothing but numpy and Keras: try_keras_versions.py starts it in
old versions of both.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np


def find_module(name: str) -> Any:
    """Import a module, or take it out of its package: `tensorflow.keras` is not a module in every version."""
    package, _, inner = name.rpartition(".")
    return getattr(importlib.import_module(package), inner) if package else importlib.import_module(name)


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
    """Give the largest difference between two arrays, relative to the largest expected value."""
    if found.shape != expected.shape:
        raise ValueError(f"the output has the shape {found.shape}, not {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def try_way(load: Any, keras: Any, path: str, pixels: Any, expected: Any) -> Any:
    """Give the difference of what a way loads, or the error that it ends in."""
    try:
        return {"difference": largest_difference(load(keras, path).predict(pixels), expected)}
    except Exception as error:  # whatever it is, it goes into the table
        return {"error": f"{type(error).__name__}: {error}"}


def main(name: str, path: str, expected_path: str) -> Any:
    """Try all ways."""
    with np.load(expected_path) as arrays:
        pixels, expected = arrays["pixels"], arrays["output"]
    keras = find_module(name)
    package = importlib.import_module(name.partition(".")[0])  # TensorFlow's Keras does not always tell its version
    return {
        "python": sys.version.split()[0],
        "version": package.__version__,
        "tensorflow": importlib.import_module("tensorflow").__version__,
        "ways": {way: try_way(load, keras, path, pixels, expected) for way, load in WAYS.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
