"""Networks of a few weights, for tests that only ask whether they are taken."""

from typing import Any

import keras
from keras import layers

SIDE = 8


def photo(**options: Any) -> Any:
    return keras.Input((SIDE, SIDE, 3), **options)


def conv(filters: int = 2, **options: Any) -> Any:
    return layers.Conv2D(filters, 3, **{"padding": "same", "activation": "relu", **options})


def chain(*steps: Any) -> Any:
    tensor = first = photo()
    for step in steps:
        tensor = step(tensor)
    return keras.Model(first, tensor, name="chain")


def part(name: str = "part", *steps: Any) -> Any:
    """A model for the inside of another."""
    tensor = first = photo()
    for step in steps or (conv(name="one"),):
        tensor = step(tensor)
    return keras.Model(first, tensor, name=name)


def run_advice(code: str, model: Any) -> Any:
    """Run the code that a message shows."""
    return eval(code, {"keras": keras, "model": model})
