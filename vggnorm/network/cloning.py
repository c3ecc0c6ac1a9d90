"""A layer's copy without its weights."""

from collections.abc import Callable
from typing import Any

import keras
from keras import activations

from vggnorm.errors import NetworkError
from vggnorm.network.operations import is_operation
from vggnorm.network.paths import is_opened
from vggnorm.network.rectifiers import function_name, function_of, is_kerases


def copied(
    operation: Any, clone: Callable[[Any], Any] | None = None, inputs: Any = None, **changed: Any
) -> Any:
    """Make a copy of a layer without its weights, or of an operation, which has none.

    Args:
        operation: the layer or operation.
        clone: makes the copies of the layers in a model; by default this function.
        inputs: of the copy of a model; by default like its own.
        changed: settings that the copy has in place of its own; of an operation, the name at most.

    Raises:
        NetworkError: the activation is a function that Keras would not find again.
    """
    if is_opened(operation):
        return keras.models.clone_model(operation, inputs, clone_function=clone or copied)
    if is_operation(operation):
        return type(operation).from_config({**operation.get_config(), **changed})
    _require_known_activation(operation)
    return type(operation).from_config({**config_of_layer(operation), **changed})


def config_of_layer(layer: keras.Layer) -> dict[str, Any]:
    """Give a layer's settings; a function that is Keras's under another name is named as Keras's.

    Without that, Keras would not find `tf.nn.softmax` again, which it writes as `softmax_v2`.
    """
    config: dict[str, Any] = layer.get_config()
    if "activation" in config and is_kerases(function_of(layer)):
        config["activation"] = activations.serialize(function_of(layer))
    return config


def _require_known_activation(layer: keras.Layer) -> None:
    function = function_of(layer)
    if isinstance(function, keras.Layer):
        return
    try:
        activations.get(activations.serialize(function))
    except (AttributeError, TypeError, ValueError) as error:
        raise NetworkError(
            f"layer {layer.name}: its activation {function_name(layer)!r} is not one of Keras's, "
            "so the layer can be neither copied nor saved; register the function with "
            "keras.saving.register_keras_serializable, or use one of Keras's"
        ) from error
