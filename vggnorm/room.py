"""How much memory a network takes, told from its description before any of it is taken."""

import copy
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vggnorm.errors import NetworkError

# Bytes that the activations of one photo may take at once. VGG16 takes 26 MB for a photo of 224 pixels and 0.18 GB for
# one of 600; of keras.applications at 600 pixels, ConvNeXtXLarge takes most, 0.21 GB. This is five times as much.
MAX_ACTIVATIONS = 1 << 30
PHOTO_SIDE, NOISE_SIDE = 224, 64  # of an input for a network that takes photos, or something else, of any size

MAX_CONSTANTS = 1 << 28  # bytes of the means and variances that are settings of a layer, and no weights

STATISTICS = "vggnorm>Statistics"  # what Keras is to know it by


class Statistics(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Stands for a `Normalization` while sizes are looked at: as many weights, and no array.

    Keras computes arrays from a `Normalization`'s weights, or from its settings, as soon as it is built.
    """

    def __init__(self, axis: Any = -1, **settings: Any) -> None:
        """Take the settings of a `Normalization`."""
        super().__init__(**{key: settings[key] for key in ("name", "dtype", "trainable") if key in settings})
        self.are_settings = settings.get("mean") is not None
        self.axes = [] if axis is None else axis if isinstance(axis, list | tuple) else [axis]

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        kept = [input_shape[axis] for axis in self.axes]
        if self.are_settings:
            self._require_few(kept)
            return
        self.add_weight(kept, name="mean")
        self.add_weight(kept, name="variance")
        self.add_weight((), name="count")

    def _require_few(self, kept: list[int | None]) -> None:
        """Refuse arrays that Keras would make from the settings, however few numbers stand there."""
        size = 2 * 4 * math.prod(length or 1 for length in kept)
        if size > MAX_CONSTANTS:
            raise NetworkError(
                f"layer {self.name}: its means and variances would take {size:,} bytes, as no photo needs"
            )

    def call(self, inputs: Any) -> Any:
        """Leave the shape as it is."""
        return inputs


def require_room(config: Mapping[str, Any], path: Path, build: Callable[[Mapping[str, Any]], keras.Model]) -> None:
    """Refuse a model whose weights or activations are larger than they can be meant to be, before they are made.

    Args:
        config: the model's configuration, which `vggnorm.modelconfig.require_known` let through.
        path: the file it is from, which is as large as the weights in it.
        build: makes a model from a configuration.

    Raises:
        NetworkError: the network has more weights than the file, or layers that it does not use; or its activations
            are not plausible.
    """

    def look() -> None:
        stand_ins = keras.saving.custom_object_scope({STATISTICS: Statistics})
        with keras.StatelessScope(initialize_variables=False), stand_ins:
            model = _built(config, path, build)
            _require_all_used(config, model, path)
            _require_weights_there(model, path)
            _require_usual_activations(model, path)

    # In a thread of its own: Keras keeps a list, one for each thread, of the weights that are still to be initialized.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(look).result()


def _built(config: Mapping[str, Any], path: Path, build: Callable[[Mapping[str, Any]], keras.Model]) -> keras.Model:
    try:
        return build(_without_arrays(config))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error


def _without_arrays(config: Mapping[str, Any]) -> Mapping[str, Any]:
    changed = copy.deepcopy(dict(config))
    for layer in changed["config"]["layers"]:
        if layer["class_name"] == "Normalization":
            layer.update(class_name="Statistics", module=__name__, registered_name=STATISTICS, build_config=None)
    return changed


def _require_all_used(config: Mapping[str, Any], model: keras.Model, path: Path) -> None:
    """Refuse layers that would be built although the network does not have them; their weights are not counted."""
    names = [layer["config"].get("name") for layer in config["config"]["layers"]]
    spare = set(names) - {layer.name for layer in getattr(model, "operations", model._layers)}
    if len(set(names)) < len(names) or spare:
        name = min(map(str, spare or {name for name in names if names.count(name) > 1}))
        raise NetworkError(f"{path}: describes a layer {name} that its network does not have, as Keras does not do")


def _require_weights_there(model: keras.Model, path: Path) -> None:
    needed = sum(math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights)
    if needed > path.stat().st_size:
        raise NetworkError(f"{path}: describes a network with {needed:,} bytes of weights, and does not hold them")


def _require_usual_activations(model: keras.Model, path: Path) -> None:
    try:
        require_usual_activations(model, noise_shape(model))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error
    except Exception:  # Keras raises anything for a picture that the network does not take
        if None not in model.inputs[0].shape[1:]:
            raise


def noise_shape(model: keras.Model) -> tuple[int, ...]:
    """Give the shape of one picture of noise that a network takes, as a batch of one."""
    sides = model.inputs[0].shape[1:]
    any_size = PHOTO_SIDE if len(sides) == 3 else NOISE_SIDE
    return (1, *(any_size if side is None else side for side in sides))


def require_usual_activations(model: keras.Model, shape: tuple[int, ...]) -> None:
    """Refuse a network that would take more memory for one input than any network is known to take.

    Raises:
        NetworkError: it would.
    """
    needed = activation_bytes(model, shape)
    if needed > MAX_ACTIVATIONS:
        size = "x".join(map(str, shape[1:]))
        raise NetworkError(
            f"{model.name}: its activations would take {needed / 1e9:,.1f} GB for one input of {size}, and "
            f"{MAX_ACTIVATIONS / 1e9:.1f} GB are allowed; if the network is meant to be so, build it for smaller photos"
        )


def activation_bytes(model: keras.Model, shape: tuple[int, ...]) -> int:
    """Tell how many bytes a network's activations take at once for an input, without making them.

    Layers are called in Keras's order, and an activation is kept until the last layer that takes it is done. In
    float32, whatever the network's type.

    Args:
        model: a functional or sequential model of one input.
        shape: of the input, with the number of inputs first.
    """
    nodes_by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth
    nodes = [node for depth in sorted(nodes_by_depth, reverse=True) for node in nodes_by_depth[depth]]
    last_use = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.input_tensors}
    tensors = [tensor for node in nodes for tensor in node.output_tensors]
    whole = keras.Model(model.inputs[0], tensors)
    specs = keras.tree.flatten(whole.compute_output_spec(keras.KerasTensor(shape, model.inputs[0].dtype)))
    size = {id(tensor): 4 * math.prod(spec.shape) for tensor, spec in zip(tensors, specs, strict=True)}
    live: dict[int, int] = {}
    most = 0
    for index, node in enumerate(nodes):
        live |= {id(tensor): size[id(tensor)] for tensor in node.output_tensors}
        most = max(most, sum(live.values()))
        live = {key: value for key, value in live.items() if last_use.get(key, len(nodes)) > index}
    return most
