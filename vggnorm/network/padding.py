"""A network with reflection padding in place of zero padding, and back.

PyTorch's programs for style transfer pad with reflections in front of every convolution: pad by 1,
then convolve without padding. Keras's VGG pads with zeros. The weights are the same either way.
"""

from collections.abc import Callable
from typing import Any, get_args

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.means.recipe import Padding
from vggnorm.network.cloning import copied
from vggnorm.network.copies import finalize, input_like, require_same_outputs
from vggnorm.network.kinds import CONVOLUTIONS, DEPTHWISE, SEPARABLE, TRANSPOSED
from vggnorm.network.paths import is_opened, leaf_layers
from vggnorm.network.reflection import ReflectionPadding2D, padding_in
from vggnorm.network.steps import steps_in

WITH_KERNELS = frozenset((*CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE))
ZERO_PADDING = frozenset((layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D))

OTHER: dict[Padding, Padding] = {"zeros": "reflect", "reflect": "zeros"}


def with_padding(model: keras.Model, padding: Padding) -> keras.Model:
    """Give a network another padding in front of its convolutions; every layer keeps its weights.

    Args:
        model: the network. It is not changed.
        padding: `reflect` makes of each Conv2D with the padding `same` a ReflectionPadding2D, and a
            Conv2D with the padding `valid` under its own name. `zeros` undoes that.

    Returns:
        A copy, a functional model; or the network itself, if it has that padding.

    Raises:
        NetworkError: the padding is not known, or the network cannot have it; the text names the
            layer.
    """
    if padding not in get_args(Padding):
        known = ", ".join(get_args(Padding))
        raise NetworkError(f"the padding {padding!r} is not known; it must be one of {known}")
    if padding_in(leaf_layers(model).values()) == padding:
        return model
    for layer in model.layers:
        if is_opened(layer) and any(_pads(inner) for inner in leaf_layers(layer).values()):
            raise NetworkError(
                f"layer {layer.name}: is a model inside the model, and its padding cannot be "
                f"changed there; give that part alone: model.get_layer({layer.name!r})"
            )
    changed = _changed(model, padding)
    _require_same_weights(model, changed)
    before = OTHER[padding]
    back = _changed(changed, before)
    require_same_outputs(model, back, f"a copy whose padding was changed to {padding} and back")
    return changed


def _changed(model: keras.Model, padding: Padding) -> keras.Model:
    return _reflecting(model) if padding == "reflect" else _padding_with_zeros(model)


def _require_same_weights(model: keras.Model, other: keras.Model) -> None:
    """Require that the layers of two networks that have weights have the same ones."""
    own, others = _weights_by_layer(model), _weights_by_layer(other)
    if own.keys() != others.keys():
        raise NetworkError(f"{model.name}: a copy with another padding has other layers")
    for name, arrays in own.items():
        for array, another in zip(arrays, others[name], strict=True):
            if not np.array_equal(array, another, equal_nan=True):
                raise NetworkError(f"layer {name}: has other weights in a copy with other padding")


def _weights_by_layer(model: keras.Model) -> dict[str, list[NDArray[Any]]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _reflecting(model: keras.Model) -> keras.Model:
    """Make a copy that pads with reflections."""
    reflections = _reflections_for(model)

    def clone(layer: keras.Layer) -> keras.Layer:
        return copied(layer, padding="valid") if layer.name in reflections else copied(layer)

    def call(layer: keras.Layer, *tensors: Any, **named: Any) -> Any:
        if layer.name not in reflections:
            return layer(*tensors, **named)
        tensor = tensors[0] if tensors else named.pop("inputs")
        return layer(reflections[layer.name](tensor), **named)

    return _cloned(model, clone, call)


def _padding_with_zeros(model: keras.Model) -> keras.Model:
    """Make a copy that has no layers for reflections, and pads with zeros instead."""
    convolutions = _reflected_convolutions(model)

    def clone(layer: keras.Layer) -> keras.Layer:
        return copied(layer, padding="same") if layer.name in convolutions else copied(layer)

    def call(layer: keras.Layer, *tensors: Any, **named: Any) -> Any:
        if type(layer) is ReflectionPadding2D:
            return tensors[0] if tensors else named["inputs"]
        return layer(*tensors, **named)

    return _cloned(model, clone, call)


def _reflections_for(model: keras.Model) -> dict[str, ReflectionPadding2D]:
    """Make the layers that are to pad: name of a convolution -> the layer in front of it."""
    reflections: dict[str, ReflectionPadding2D] = {}
    for step in steps_in(model):
        layer = step.layer
        if not _pads_with_zeros(layer):
            continue
        if reason := _reason_against(layer):
            raise NetworkError(
                f"layer {layer.name}: {reason}, so it cannot have reflection padding; use padding "
                "with zeros"
            )
        reflection = ReflectionPadding2D(
            _width_for(layer),
            data_format=layer.data_format,
            dtype=layer.dtype_policy,
            name=f"{layer.name}_padding",
        )
        reflection.require_fits(step.inputs[0].shape)
        reflections[layer.name] = reflection
    if not reflections:
        raise NetworkError(
            f"{model.name}: has no convolution that pads with zeros, so it cannot have reflection "
            "padding; use it as it is"
        )
    taken = {layer.name for layer in model.layers}
    for convolution, reflection in reflections.items():
        if reflection.name in taken:
            raise NetworkError(
                f"layer {reflection.name}: has the name that the reflection padding of "
                f"{convolution} needs; rename it"
            )
    return reflections


def _reflected_convolutions(model: keras.Model) -> set[str]:
    """Name the convolutions for which a layer pads with reflections."""
    steps = steps_in(model)
    reflections = {
        id(step.output): step.layer for step in steps if type(step.layer) is ReflectionPadding2D
    }
    convolutions = set()
    for step in steps:
        for reflection in (reflections.get(id(tensor)) for tensor in step.inputs):
            if reflection is None:
                continue
            if not _pads_for(reflection, step.layer):
                raise NetworkError(
                    f"layer {reflection.name}: does not pad as the convolution behind it would "
                    f"({step.layer.name}), so padding with zeros cannot take its place"
                )
            convolutions.add(step.layer.name)
    return convolutions


def _pads(layer: keras.Layer) -> bool:
    return type(layer) is ReflectionPadding2D or _pads_with_zeros(layer)


def _pads_with_zeros(layer: keras.Layer) -> bool:
    """Tell whether a layer puts zeros around its input."""
    kind = type(layer)
    if kind in ZERO_PADDING:
        return True
    return kind in WITH_KERNELS and layer.padding != "valid" and max(layer.kernel_size) > 1


def _reason_against(layer: keras.Layer) -> str | None:
    """Say why reflections cannot take the place of a layer's zeros; None if they can."""
    kind = type(layer)
    if kind is not layers.Conv2D:
        return f"pads with zeros and is a {kind.__name__} and not a Conv2D"
    if max(layer.strides) > 1:
        return f"pads with zeros and has the strides {layer.strides}"
    if any(side % 2 == 0 for side in layer.kernel_size):
        return f"pads with zeros and has a kernel of the even size {layer.kernel_size}"
    return None


def _pads_for(reflection: ReflectionPadding2D, layer: keras.Layer) -> bool:
    """Tell whether a layer pads for a convolution as wide as zeros would."""
    if type(layer) is not layers.Conv2D or layer.padding != "valid" or _reason_against(layer):
        return False
    return reflection.padding == _width_for(layer)


def _width_for(convolution: keras.layers.Conv2D) -> tuple[int, int]:
    """Tell how many rows and columns a side keep the size of a map, for a kernel of odd size."""
    rows, columns = (
        (side - 1) // 2 * dilation
        for side, dilation in zip(convolution.kernel_size, convolution.dilation_rate, strict=True)
    )
    return rows, columns


def _cloned(
    model: keras.Model, clone: Callable[[keras.Layer], keras.Layer], call: Callable[..., Any]
) -> keras.Model:
    """Make a copy of a network in which `clone` copies the layers and `call` calls them."""
    if isinstance(model, keras.Sequential):  # which Keras would not let `call` call
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    copy = keras.models.clone_model(
        model, input_like(model), clone_function=clone, call_function=call
    )
    weighty = [layer for layer in model.layers if layer.weights]
    for layer in weighty:  # by name, because layers between them may change the order
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    finalize(copy)
    return copy
