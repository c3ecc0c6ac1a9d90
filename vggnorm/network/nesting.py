"""A network without models inside it, in place of one that has some, as in transfer learning."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.network.cloning import copied
from vggnorm.network.copies import finalize, input_like, require_same_tensors
from vggnorm.network.failures import kinds_of_failure, reason_of
from vggnorm.network.keras_private import Call, calls_in
from vggnorm.network.paths import DOT, is_opened, leaves_in
from vggnorm.network.trial import require_names

# More calls than any network has. A model inside that is called twice doubles the calls, and so
# does each level of nesting.
MAX_CALLS = 50_000


def opened(model: keras.Model) -> keras.Model:
    """Give a network in which no layer is a model, and which computes what `predict` computes.

    `RandomCrop` is left out: it crops in training only, and yet tells Keras that its output is
    smaller.

    Args:
        model: a functional or built sequential model of one input. It is left as it is.

    Returns:
        The network itself if it has nothing to be opened; or else a functional model with copies of
        the layers, named by their paths.

    Raises:
        NetworkError: a model inside cannot be opened, or shares layers; the text names the layer.
    """
    if not _has_models(model):
        return model
    flat, tensors = _flat(model)
    calls = calls_in(model)
    outer = [(call.operation.name, tensor) for call in calls for tensor in call.outputs]
    require_same_tensors(
        model,
        flat,
        [(name, tensor, tensors[id(tensor)]) for name, tensor in outer],
        "what was read of it",
    )
    return flat


def without_models(model: keras.Model) -> keras.Model:
    """Do what `opened` does, and do not run the two networks to compare them.

    They differ where the input of a model inside is of float16 and rounds what it is given.
    """
    return _flat(model)[0] if _has_models(model) else model


def _flat(model: keras.Model) -> tuple[keras.Model, dict[int, Any]]:
    """Build a network without models inside; give it, and its tensors by the ids of the model's."""
    require_names(model)
    _require_different_paths(model)
    opening = _Opening()
    photos = input_like(model)
    tensors = opening.run(model, "", keras.tree.flatten(photos))
    flat = keras.Model(photos, [tensors[id(output)] for output in model.outputs], name=model.name)
    opening.give_weights()
    finalize(flat)
    return flat, tensors


def _has_models(model: keras.Model) -> bool:
    return any(_must_be_replaced(layer) for layer in model.layers)


def _must_be_replaced(layer: keras.Layer) -> bool:
    return is_opened(layer) or type(layer) is layers.RandomCrop


def _require_different_paths(model: keras.Model) -> None:
    """Refuse layers that would have the same path: the name of one has a dot in it."""
    paths = [path for path, _ in leaves_in(model)]
    for path in paths:
        if paths.count(path) > 1:
            raise NetworkError(
                f"layer {path}: is the name of a layer and also the path of one inside a model; "
                "rename one of the two"
            )


class _Opening:
    """Copies the layers of a network and of the models inside it, and calls the copies."""

    def __init__(self) -> None:
        self._copies: dict[str, Any] = {}  # path -> the copy of a layer
        self._originals: dict[str, Any] = {}  # path -> the layer
        self._paths: dict[int, str] = {}  # id of a layer -> its path
        self._calls = 0

    def run(self, model: keras.Model, prefix: str, inputs: Sequence[Any]) -> dict[int, Any]:
        """Call copies of a model's layers.

        Args:
            model: the network, or a model inside it.
            prefix: what the paths of its layers begin with.
            inputs: the tensors that it is given.

        Returns:
            The id of each tensor of the model -> the tensor of the copies.
        """
        found = {id(own): given for own, given in zip(model.inputs, inputs, strict=True)}
        for call in calls_in(model):
            if call.is_input:
                continue
            path = prefix + call.operation.name
            taken = [found[id(tensor)] for tensor in call.inputs]
            outputs = self._outputs(call, path, taken, found)
            found |= {id(own): given for own, given in zip(call.outputs, outputs, strict=True)}
        return found

    def _outputs(
        self, call: Call, path: str, taken: Sequence[Any], found: dict[int, Any]
    ) -> list[Any]:
        """Give what one call of a layer gives, with copies in place of the layers."""
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise NetworkError(
                f"layer {path}: is inside models that are called so often that the network has "
                f"more than {MAX_CALLS:,} calls; call them less often"
            )
        layer = call.operation
        if is_opened(layer):
            _require_taken_as_given(layer, path, taken)
            inside = self.run(layer, path + DOT, taken)
            return [inside[id(output)] for output in layer.outputs]
        if isinstance(layer, keras.Model):
            raise NetworkError(
                f"layer {path}: holds layers of its own, which are not read; build the network "
                "from those layers"
            )
        if type(layer) is layers.RandomCrop:
            return list(taken)
        copy = self._copy(layer, path)

        def replaced(value: Any) -> Any:
            return found.get(id(value), value)

        positional, named = keras.tree.map_structure(replaced, (call.positional, dict(call.named)))
        try:
            return list(keras.tree.flatten(copy(*positional, **named)))
        except kinds_of_failure() as error:
            raise NetworkError(
                f"layer {path}: does not take what the model that it is in is given: "
                f"{reason_of(error)}; give that model maps of another size"
            ) from error

    def _copy(self, layer: Any, path: str) -> Any:
        """Copy a layer, once for all its calls."""
        other = self._paths.setdefault(id(layer), path)
        if other != path and getattr(layer, "weights", None):
            raise NetworkError(
                f"layer {path}: is the same layer as {other}, and its weights cannot be rescaled "
                "for one and not for the other; give each model layers of its own"
            )
        if path not in self._copies:
            try:
                self._copies[path] = copied(layer, name=path)
            except (NotImplementedError, TypeError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise NetworkError(
                    f"layer {path}: cannot be copied out of the model that it is in: {reason}; "
                    "give its class a get_config that Keras can build it from"
                ) from error
            self._originals[path] = layer
        return self._copies[path]

    def give_weights(self) -> None:
        """Give the copies the weights of the layers."""
        for path, copy in self._copies.items():
            if not isinstance(copy, keras.Layer):
                continue
            try:
                copy.set_weights(self._originals[path].get_weights())
            except ValueError as error:
                raise NetworkError(
                    f"layer {path}: has weights for another size than predict gives it, because "
                    "RandomCrop crops in training only; put CenterCrop or Resizing in its place"
                ) from error


def _require_taken_as_given(model: keras.Model, path: str, taken: Sequence[Any]) -> None:
    """Refuse a model inside whose input would round what it is given to whole numbers."""
    if len(taken) != len(model.inputs):
        raise NetworkError(
            f"layer {path}: is a model of {len(model.inputs)} inputs and is given {len(taken)} "
            "tensors; give each input a tensor"
        )
    for own, given in zip(model.inputs, taken, strict=True):
        if own.dtype != given.dtype and "float" not in own.dtype:
            raise NetworkError(
                f"layer {path}: is a model whose input is of type {own.dtype}, which rounds the "
                f"{given.dtype} that it is given; build it with an input of float32"
            )
