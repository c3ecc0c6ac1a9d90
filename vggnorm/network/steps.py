"""A network as a list of its layers' calls, in order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.network.keras_private import Call, calls_in, inner_layers, operation_name
from vggnorm.network.paths import is_opened

LayerWeights = Mapping[str, NDArray[Any]]  # weight name -> array, of one layer


@dataclass(frozen=True)
class Step:
    """One call of a layer or of an operation.

    Attributes:
        layer: the layer, or an operation such as `keras.ops.pad`.
        inputs: the tensors that it takes, each a `keras.KerasTensor`.
        output: the tensor that it gives.
        positional: its positional arguments.
        named: its keyword arguments.
    """

    layer: Any
    inputs: tuple[Any, ...]
    output: Any
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axis(self) -> int:
        """The axis of the channels in the output."""
        return channel_axis(self.layer, len(self.output.shape))

    @property
    def weights(self) -> LayerWeights:
        """The layer's weights by name."""
        return {
            weight.name: np.asarray(keras.ops.convert_to_numpy(weight))
            for weight in self.layer.weights
        }


def channel_axis(layer: keras.Layer, rank: int) -> int:
    """Tell which axis a layer takes for the channels, in a tensor with `rank` axes."""
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if channels_first else rank - 1


def steps_in(model: keras.Model) -> list[Step]:
    """List the calls of a network's layers, each after those whose output it takes.

    A model inside that could be opened is one layer here: see `vggnorm.network.nesting`.

    Raises:
        NetworkError: the network is not a functional or built sequential model of one input, or
            has a call that could not be copied and saved.
    """
    require_readable(model)
    steps = []
    for call in calls_in(model):
        _refuse_unusual(call)
        step = Step(call.operation, call.inputs, call.outputs[0], call.positional, call.named)
        steps.append(step)
    return steps


def require_readable(model: keras.Model) -> None:
    """Refuse what is no functional or built sequential model of one input."""
    is_model = isinstance(model, keras.Model) and hasattr(model, "outputs")
    if not is_model or not getattr(model, "inputs", None):
        raise NetworkError(
            f"{getattr(model, 'name', model)!r} is not a functional or built sequential model of "
            "Keras 3; build it, or load its file with Keras 3"
        )
    if len(model.inputs) != 1:
        raise NetworkError(
            f"{model.name}: has {len(model.inputs)} inputs; it must take photos and nothing else"
        )


# Calls that could not be copied and saved are refused, wherever they stand. A recorded argument
# `training` does not count, whether the user wrote it or Keras itself, as it does for augmentation:
# `predict`, and everything here, calls each layer of a network with training=False.


def _is_unknown_operation(call: Call) -> bool:
    is_layer = isinstance(call.operation, keras.Layer)
    return not is_layer and not operation_name(call.operation)


def _is_lambda(call: Call) -> bool:
    return isinstance(call.operation, layers.Lambda)


def _holds_layers(call: Call) -> bool:
    if isinstance(call.operation, keras.Model):
        return not is_opened(call.operation)
    if not isinstance(call.operation, keras.Layer):
        return False
    return any(inner.weights for inner in inner_layers(call.operation))


def _gives_several(call: Call) -> bool:
    return len(call.outputs) != 1


def _takes_several(call: Call) -> bool:
    arguments = len(call.positional) + ("inputs" in call.named)
    is_layer = isinstance(call.operation, keras.Layer)
    return is_layer and not call.is_input and arguments != 1


# The first one that applies is the reason for the refusal.
UNUSUAL: tuple[tuple[Callable[[Call], bool], str], ...] = (
    (
        _is_unknown_operation,
        "is an operation that is not Keras's own, which can be neither copied nor saved; write it "
        "as a layer",
    ),
    (
        _is_lambda,
        "is a Lambda, whose code can be neither copied nor saved; write it as a layer",
    ),
    (
        _holds_layers,
        "holds layers of its own, which are not read; build the network from those layers",
    ),
    (
        _gives_several,
        "gives several tensors; leave it out, or split the network there",
    ),
    (
        _takes_several,
        "is called with several arguments, which are not read; make it a layer that takes one list "
        "of them",
    ),
)


def _refuse_unusual(call: Call) -> None:
    name = call.operation.name
    for is_unusual, trouble in UNUSUAL:
        if is_unusual(call):
            raise NetworkError(f"layer {name}: {trouble.format(name=name)}")
