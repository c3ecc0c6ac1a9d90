"""A trial of a network at the size of a run, before any photo is read.

Keras checks most sizes only when a network runs. The trial has Keras and its backend work out the
shape of everything that the network computes, without computing it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from vggnorm.errors import NetworkError
from vggnorm.network.failures import kinds_of_failure, reason_of
from vggnorm.network.keras_private import calls_in
from vggnorm.network.paths import DOT, is_opened

# Other sizes are looked for among this many multiples of STRIDE, the nearest first, and then among
# all sizes up to NEAR pixels away. Networks that join maps of several sizes want multiples.
MULTIPLES, STRIDE = 10, 32
NEAR = 16
SUGGESTED = 2  # sizes

# TensorFlow takes the name of a layer as the name of a scope, which may hold these characters.
STRANGE = re.compile(r"[^A-Za-z0-9_.\\/>-]+")

Size = tuple[int, int]  # height and width, in pixels
Shape = tuple[int, ...]


class _Whole(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A network as a layer. Keras has the backend run such a layer to find its output's shape."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.network = network
        self.failure: Exception | None = None  # as it was raised; Keras raises another one

    def call(self, inputs: list[Any]) -> Any:
        try:
            return self.network(inputs, training=False)
        except kinds_of_failure() as error:
            self.failure = error
            raise


def require_runs(model: keras.Model, size: Size) -> None:
    """Require that a network takes photos of a size, and that the backend can build it.

    Args:
        model: a functional or built sequential model of one input.
        size: the height and width of the photos.

    Raises:
        NetworkError: Keras or its backend refuses; the text names the layer, gives their reason,
            and says what to do.
    """
    failure = failure_of(model, size)
    if failure is None:
        return
    layer = _failing_layer(model, size)
    reason = reason_of(failure)
    raise NetworkError(
        f"{model.name}: cannot run on photos of {size[0]} x {size[1]} pixels (height x width): "
        f"layer {layer.name} ({type(layer).__name__}): {reason}; "
        f"{_advice(model, size)}"
    ) from failure


def failure_of(model: keras.Model, size: Size) -> Exception | None:
    """Give what Keras or its backend raises for photos of a size; None if the network takes them.

    Args:
        model: as for `require_runs`.
        size: the height and width of the photos.
    """
    return failure_with(model, [_shape_of_photo(model, size)], model.outputs)


def failure_with(
    model: keras.Model, shapes: Sequence[Shape], tensors: Sequence[Any]
) -> Exception | None:
    """Give what Keras or its backend raises while it works out some tensors of a network.

    Args:
        model: a functional or built sequential model.
        shapes: the shape of each of its inputs, with the number of photos first.
        tensors: the tensors.

    Raises:
        NetworkError: a layer has a name that the backend does not take.
    """
    require_names(model)  # Keras does not recover from a scope that TensorFlow refuses
    whole = _Whole(keras.Model(model.inputs, list(tensors), name="trial"))
    pairs = zip(shapes, model.inputs, strict=True)
    inputs = [keras.KerasTensor(shape, tensor.dtype) for shape, tensor in pairs]
    try:
        whole.compute_output_spec(inputs)
    except kinds_of_failure() as error:
        return whole.failure or error
    return None


def _shape_of_photo(model: keras.Model, size: Size) -> Shape:
    """Give the shape of the smallest batch; the size fills in what the network leaves open."""
    first, *rest = model.inputs[0].shape
    sides = iter(size)
    return (first or 1, *(next(sides) if length is None else length for length in rest))


def _failing_layer(model: keras.Model, size: Size) -> Any:
    """Find the first layer or operation that Keras refuses to run, by halving the network."""
    calls = calls_in(model)
    tensors = [call.outputs for call in calls]
    shape = _shape_of_photo(model, size)
    works, fails = 0, len(calls) - 1  # the first call is the input, which always works
    while fails - works > 1:
        middle = (works + fails) // 2
        begun = [tensor for outputs in tensors[: middle + 1] for tensor in outputs]
        if failure_with(model, [shape], begun) is None:
            works = middle
        else:
            fails = middle
    return calls[fails].operation


def _advice(model: keras.Model, size: Size) -> str:
    if None in model.inputs[0].shape[1:]:
        sizes = sizes_that_run(model, size)
        if sizes:
            return f"use {_name_sizes(sizes)}"
    return "mend that layer, or leave out the layers from there on"


def require_names(model: keras.Model, holder: str = "model", path: str = "") -> None:
    """Require that TensorFlow takes the names of the layers in models inside a network.

    Args:
        model: the network, or a model inside it.
        holder: how a program gets at it.
        path: what the paths of its layers begin with.

    Raises:
        NetworkError: a name has a character that TensorFlow does not take.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model.layers:
        if STRANGE.search(layer.name):
            raise NetworkError(
                f"layer {path}{layer.name}: has a name that TensorFlow does not take; "
                f"{_advice_on_name(model, layer.name, holder)}"
            )
        if is_opened(layer):
            inside = f"{holder}.get_layer({layer.name!r})"
            require_names(layer, inside, f"{path}{layer.name}{DOT}")


def _advice_on_name(model: keras.Model, name: str, holder: str) -> str:
    return (
        "name each layer with letters of ASCII, digits, '_', '.' and '-' only: "
        f"{holder}.get_layer({name!r}).name = {_plain_name(model, name)!r}"
    )


def _plain_name(model: keras.Model, name: str) -> str:
    """Give a name that TensorFlow takes and no other layer has."""
    taken = {layer.name for layer in model.layers}
    plain = STRANGE.sub("_", name).strip("_.-") or "layer"
    numbered = (f"{plain}_{number}" for number in range(1, len(taken) + 2))
    return plain if plain not in taken else next(each for each in numbered if each not in taken)


def sizes_that_run(model: keras.Model, size: Size) -> list[Size]:
    """Find sizes of photos, near another one, that a network takes; none, one or two."""
    found: list[Size] = []
    for other in _other_sizes(size):
        if failure_of(model, other) is None:
            found.append(other)
        if len(found) == SUGGESTED:
            break
    return sorted(found)


def _other_sizes(size: Size) -> Iterator[Size]:
    """Give other sizes, the most likely first. Those of a square are squares."""
    nearest = [_multiples_near(side) for side in size]
    yield from (pair for pair in zip(*nearest, strict=True) if pair != size)
    height, width = size
    for distance in range(1, NEAR + 1):
        for step in (-distance, distance):
            if min(height, width) + step >= STRIDE:
                yield height + step, width + step


def _multiples_near(side: int) -> list[int]:
    every = range(STRIDE, side + MULTIPLES * STRIDE, STRIDE)
    return sorted(every, key=lambda multiple: abs(multiple - side))[:MULTIPLES]


def _name_sizes(sizes: list[Size]) -> str:
    if all(height == width for height, width in sizes):
        return "--size " + " or ".join(str(height) for height, _ in sizes)
    return "photos of " + " or ".join(f"{height} x {width}" for height, width in sizes) + " pixels"
