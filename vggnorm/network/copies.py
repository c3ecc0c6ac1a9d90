"""Copies of a network, and a check that a copy computes the same as its original."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.network.cloning import copied
from vggnorm.network.compilation import compiled, has_channels_first
from vggnorm.network.failures import reason_of
from vggnorm.network.keras_private import calls_in
from vggnorm.network.paths import leaf_layers
from vggnorm.network.precision import exact_float32
from vggnorm.network.room import NOISE_SIDE, require_usual_activations
from vggnorm.network.trial import failure_with

# How far two networks that compute the same may differ, relative to the largest output of a layer.
SAME = 1e-5

# Sides of the pictures of noise for a network that takes photos of any size, to be tried in turn.
SIDES = (224, 256, 512)

Shape = tuple[int, ...]


def fitting_shapes(model: keras.Model) -> list[Shape]:
    """Give a shape for each input of a network, with photos of a size that the network takes.

    Raises:
        NetworkError: Keras refuses every size that is tried; the text has the last reason.
    """
    failure: Exception | None = None
    shapes: list[Shape] = []
    for side in SIDES:
        shapes = [_one_photo(tensor.shape, side) for tensor in model.inputs]
        failure = failure_with(model, shapes, model.outputs)
        if failure is None:
            return shapes
        if all(None not in tensor.shape[1:] for tensor in model.inputs):
            break
    reason = "" if failure is None else reason_of(failure)
    raise NetworkError(
        f"{model.name}: cannot be run on noise of the shape {shapes[0][1:]}: {reason}; mend that, "
        "or build the network with an input of a fixed size that it takes"
    ) from failure


def _one_photo(shape: Sequence[int | None], side: int) -> Shape:
    """Give the shape of one photo, in the smallest batch that the network takes."""
    any_size = side if len(shape) == 4 else NOISE_SIDE
    return (shape[0] or 1, *(any_size if length is None else length for length in shape[1:]))


def cloned(
    model: keras.Model, replaced: Mapping[type[keras.Layer], type[keras.Layer]]
) -> keras.Model:
    """Make a copy in which layers of some kinds are replaced by layers of others."""

    def clone(layer: keras.Layer) -> keras.Layer:
        other = replaced.get(type(layer))
        if other is None:
            return copied(layer, clone)
        return other.from_config(layer.get_config())

    changed = keras.models.clone_model(model, clone_function=clone)
    _give_weights(changed, model)
    return changed


def copy_network(model: keras.Model) -> keras.Model:
    """Make a copy that shares no layer and no weight, and has all the same names."""
    copy = keras.models.clone_model(model, input_like(model), clone_function=copied)
    _give_weights(copy, model)
    return copy


def input_like(model: keras.Model, type_of: Callable[[str], str] = str) -> Any:
    """Make new inputs for a copy of a network, with the types and names of the network's own.

    Args:
        model: the network.
        type_of: gives the type of a new input from that of the network's own.

    Returns:
        What `keras.models.clone_model` takes: one input, or a list or dict of them, as in the
        network. A list or dict may hold one alone, as in files of Keras 2.
    """
    names = {id(call.outputs[0]): call.operation.name for call in calls_in(model) if call.is_input}
    copied = [
        keras.Input(batch_shape=own.shape, dtype=type_of(str(own.dtype)), name=names[id(own)])
        for own in model.inputs
    ]
    if isinstance(model, keras.Sequential):
        return copied[0]
    return keras.tree.pack_sequence_as(model.input, copied)


def _give_weights(copy: keras.Model, model: keras.Model) -> None:
    copy.set_weights(model.get_weights())
    finalize(copy)


def finalize(model: keras.Model) -> None:
    """Let layers derive again what they derive from their weights, as Keras does after loading."""
    for layer in leaf_layers(model).values():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def require_same_outputs(model: keras.Model, other: keras.Model, what: str) -> None:
    """Require that two networks compute the same.

    Both get two pictures of noise, and every layer is compared, because a difference inside may not
    show in outputs that are saturated. A layer may differ by `SAME` times its largest number.

    Args:
        model: the network.
        other: the network that must compute the same.
        what: what to call `other` in the error.

    Raises:
        NetworkError: a layer differs; the text names the first one that does.
    """
    (names, wanted), (other_names, found) = _every_tensor(model), _every_tensor(other)
    if len(names) != len(other_names):
        raise NetworkError(
            f"{model.name}: {what} has {len(other_names)} layers, and the network has {len(names)}"
        )
    require_same_tensors(model, other, list(zip(names, wanted, found, strict=True)), what)


def require_same_tensors(
    model: keras.Model, other: keras.Model, pairs: Sequence[tuple[str, Any, Any]], what: str
) -> None:
    """Require that two networks compute the same in some of their tensors.

    Args:
        model: the network.
        other: the network that must compute the same.
        pairs: for each tensor to compare, the name of the layer that gives it, the tensor of the
            network and that of `other`.
        what: what to call `other` in the error.

    Raises:
        NetworkError: a tensor differs; the text names the first layer.
    """
    names, wanted, found = zip(*pairs, strict=True)

    shapes = fitting_shapes(model)
    for network in (model, other):
        require_usual_activations(network, shapes[0])
    with exact_float32():
        for noise in _pictures_of_noise(model, shapes):
            before = _run_once(model, wanted, noise)
            after = _run_once(other, found, noise)
            for name, one, another in zip(names, before, after, strict=True):
                trouble = f"{model.name}: {what} computes something else, from layer {name} on"
                _require_same(trouble, one, another)


def _pictures_of_noise(model: keras.Model, shapes: Sequence[Shape]) -> Iterator[list[NDArray[Any]]]:
    """Give noise from 0 to 255 and from -1 to 1: networks take photos in one of these ranges."""
    random = np.random.default_rng(0)
    for low, high in ((0, 255), (-1, 1)):
        pictures = [random.uniform(low, high, shape) for shape in shapes]
        yield [
            _as_input(picture, str(tensor.dtype))
            for picture, tensor in zip(pictures, model.inputs, strict=True)
        ]


def _as_input(picture: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    return np.abs(picture).round().astype(dtype) if "int" in dtype else picture.astype(np.float32)


def _require_same(trouble: str, wanted: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    if found.shape != wanted.shape:
        raise NetworkError(f"{trouble}; it gives {found.shape} instead of {wanted.shape}")
    largest = np.abs(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).max(initial=0)
    if not np.allclose(found, wanted, rtol=0, atol=SAME * largest, equal_nan=True):
        difference = np.abs(found - wanted).max()
        raise NetworkError(
            f"{trouble}; it differs by up to {difference:.1e}, and its largest number is "
            f"{largest:.1e}; the layer may keep state that is not among its weights, or draw "
            "random numbers"
        )


def _run_once(
    model: keras.Model, tensors: Sequence[Any], noise: list[NDArray[Any]]
) -> list[NDArray[np.float32]]:
    """Compute tensors of a network; compile it only if it must be, because that takes longer."""
    giving = keras.Model(model.inputs, list(tensors))
    if has_channels_first(model):
        given = compiled(giving).predict_on_batch(noise)
    else:
        given = giving([ops.convert_to_tensor(photo) for photo in noise], training=False)
    arrays = [ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(given)]
    return [np.asarray(array, np.float32) for array in arrays]


def _every_tensor(model: keras.Model) -> tuple[list[str], list[Any]]:
    """List the tensors of a network from input to outputs, and before them their layers' names."""
    names, tensors = [], []
    for call in calls_in(model):
        for tensor in call.outputs:
            names.append(call.operation.name)
            tensors.append(tensor)
    return names, tensors
