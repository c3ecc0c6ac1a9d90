"""How much memory a network would take, found from its description before any is taken."""

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vggnorm.errors import NetworkError
from vggnorm.files.nested_config import is_model
from vggnorm.network.keras_private import Call, calls_in
from vggnorm.network.paths import is_opened
from vggnorm.network.steps import require_readable

# How many bytes the activations of one photo may take at once. VGG16 takes 26 MB for a photo of 224
# pixels and 0.18 GB for one of 600. ConvNeXtXLarge takes the most of keras.applications at 600
# pixels, 0.21 GB. The limit is five times that.
MAX_ACTIVATIONS = 1 << 30

PHOTO_SIDE = 224  # of a picture for a network that takes photos of any size
NOISE_SIDE = 64  # of an input of another kind, for a network that takes any size

# How many bytes of means and variances a layer may have in its settings, and not as weights.
MAX_CONSTANTS = 1 << 28

STATISTICS = "vggnorm>Statistics"  # the name under which Keras knows the class below


class Statistics(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Stands for a `Normalization` while sizes are found: it has the same weights, but no arrays.

    Keras computes arrays from the weights or the settings of a `Normalization` as soon as the layer
    is built.
    """

    def __init__(self, axis: Any = -1, **settings: Any) -> None:
        """Take the settings of a `Normalization`."""
        kept = {key: settings[key] for key in ("name", "dtype", "trainable") if key in settings}
        super().__init__(**kept)
        self.are_settings = settings.get("mean") is not None
        if axis is None:
            self.axes = []
        elif isinstance(axis, list | tuple):
            self.axes = list(axis)
        else:
            self.axes = [axis]

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
        """Refuse large arrays, which Keras would make even if the settings hold a single number."""
        size = 2 * 4 * math.prod(length or 1 for length in kept)
        if size > MAX_CONSTANTS:
            raise NetworkError(
                f"layer {self.name}: its means and variances would take {size:,} bytes, more than "
                "any photo needs"
            )

    def call(self, inputs: Any) -> Any:
        """Leave the shape as it is."""
        return inputs


def require_room(
    config: Mapping[str, Any],
    path: Path,
    held_bytes: int,
    build: Callable[[Mapping[str, Any]], keras.Model],
) -> None:
    """Refuse a model whose weights or activations are implausibly large, before they are made.

    Args:
        config: the model's configuration, which has passed
            `vggnorm.files.allowlist.require_known`.
        path: the file that the configuration is from.
        held_bytes: how many bytes of weights the file holds at most, as float32.
        build: makes a model from a configuration.

    Raises:
        NetworkError: the network has more weights than the file holds, or layers that it does not
            use, or its activations would take more memory than those of any known network.
    """

    def look() -> None:
        stand_ins = keras.saving.custom_object_scope({STATISTICS: Statistics})
        with keras.StatelessScope(initialize_variables=False), stand_ins:
            model = _built(config, path, build)
            _require_all_used(config, model, path)
            _require_weights_there(model, path, held_bytes)
            _require_usual_activations(model, path)

    # Keras keeps a list of the weights that it must still initialize, one for each thread. A new
    # thread has a list of its own, which ends with it.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(look).result()


def _built(
    config: Mapping[str, Any], path: Path, build: Callable[[Mapping[str, Any]], keras.Model]
) -> keras.Model:
    try:
        return build(_without_arrays(config))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error


def _without_arrays(config: Mapping[str, Any]) -> Mapping[str, Any]:
    changed = copy.deepcopy(dict(config))
    for layer in _every_layer(changed):
        if layer["class_name"] == "Normalization":
            layer.update(
                class_name="Statistics",
                module=__name__,
                registered_name=STATISTICS,
                build_config=None,
            )
    return changed


def _every_layer(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the configuration of each layer of a model that is no model, those inside as well."""
    for layer in config["config"]["layers"]:
        if is_model(layer):
            yield from _every_layer(layer)
        else:
            yield layer


def _require_all_used(config: Mapping[str, Any], model: keras.Model, path: Path) -> None:
    """Refuse layers that the network does not use: they would be built, but are not counted."""
    names = [layer["config"].get("name") for layer in config["config"]["layers"]]
    used = keras.Model(model.inputs, model.outputs).operations
    spare = set(names) - {operation.name for operation in used}
    twice = {name for name in names if names.count(name) > 1}
    if spare or twice:
        name = min(map(str, spare or twice))
        raise NetworkError(
            f"{path}: describes a layer {name} that its network does not use; Keras does not write "
            "such a file"
        )
    for layer in config["config"]["layers"]:
        if is_model(layer):
            _require_all_used(layer, model.get_layer(layer["config"]["name"]), path)


def _require_weights_there(model: keras.Model, path: Path, held_bytes: int) -> None:
    needed = 0
    for weight in model.weights:
        needed += math.prod(weight.shape) * np.dtype(weight.dtype).itemsize
    if needed > held_bytes:
        raise NetworkError(
            f"{path}: describes a network with {needed:,} bytes of weights, but does not hold them"
        )


def _require_usual_activations(model: keras.Model, path: Path) -> None:
    try:
        if len(model.inputs) > 1:
            require_readable(model)  # says that it may have one
        require_usual_activations(model, noise_shape(model))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error
    except Exception:  # Keras raises anything for a picture that the network does not take
        if None not in model.inputs[0].shape[1:]:
            raise


def noise_shape(model: keras.Model) -> tuple[int, ...]:
    """Give the shape of a picture of noise that a network takes, as a batch of one."""
    sides = model.inputs[0].shape[1:]
    any_size = PHOTO_SIDE if len(sides) == 3 else NOISE_SIDE
    return (1, *(any_size if side is None else side for side in sides))


def require_usual_activations(model: keras.Model, shape: tuple[int, ...]) -> None:
    """Refuse a network whose activations would take more memory than those of any known network.

    Args:
        model: a functional or sequential model of one input.
        shape: the shape of the input, with the number of inputs first.

    Raises:
        NetworkError: they would take more than `MAX_ACTIVATIONS` bytes.
    """
    needed = activation_bytes(model, shape)
    if needed > MAX_ACTIVATIONS:
        size = "x".join(map(str, shape[1:]))
        raise NetworkError(
            f"{model.name}: its activations would take {needed / 1e9:,.1f} GB for one input of "
            f"{size}, and {MAX_ACTIVATIONS / 1e9:.1f} GB are allowed; if the network is meant to "
            "be so large, build it for smaller photos"
        )


def activation_bytes(
    model: keras.Model, shape: tuple[int, ...], in_place: Collection[type] = ()
) -> int:
    """Tell how many bytes a network's activations take at once for an input, without making them.

    The layers are called in Keras's order, and each activation is kept until the last layer that
    takes it is done. Activations count as float32, whatever the type of the network. Those inside a
    model count on top of what is kept while it is called.

    Args:
        model: a functional or sequential model of one input.
        shape: the shape of the input, with the number of inputs first.
        in_place: kinds of layers that write over their input where nothing else takes it.
    """
    calls = calls_in(model)
    last_use: dict[int, int] = {}  # id of a tensor -> index of the last call that takes it
    for index, call in enumerate(calls):
        last_use.update((id(tensor), index) for tensor in call.inputs)
    shapes = _tensor_shapes(model, calls, shape)
    size = {key: 4 * math.prod(found) for key, found in shapes.items()}
    live: dict[int, int] = {}  # id of a tensor that is kept -> bytes
    most = 0
    for index, call in enumerate(calls):
        given = {id(tensor): size[id(tensor)] for tensor in call.outputs}
        kept = {key: value for key, value in live.items() if last_use.get(key, len(calls)) > index}
        live = (kept if type(call.operation) in in_place else live) | given
        most = max(most, sum(live.values()) + _bytes_inside(call, shapes))
        live = kept | given
    return most


def _bytes_inside(call: Call, shapes: Mapping[int, tuple[int, ...]]) -> int:
    """Tell how many bytes the activations inside a model take at once; 0 for any other layer."""
    if not is_opened(call.operation) or len(call.inputs) != 1:
        return 0
    return activation_bytes(call.operation, shapes[id(call.inputs[0])])


def _tensor_shapes(
    model: keras.Model, calls: Sequence[Call], shape: tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """Tell the shape of each tensor for one input: id of the tensor -> shape."""
    tensors = [tensor for call in calls for tensor in call.outputs]
    whole = keras.Model(model.inputs[0], tensors)
    photo = keras.KerasTensor(shape, model.inputs[0].dtype)
    specs = keras.tree.flatten(whole.compute_output_spec(photo))
    pairs = zip(tensors, specs, strict=True)
    return {id(tensor): tuple(spec.shape) for tensor, spec in pairs}
