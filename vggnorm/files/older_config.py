"""A model's configuration as an older Keras wrote it, in the words that the newest Keras reads.

Keras 2 and the first versions of Keras 3 wrote settings that the newest Keras refuses, although
they change nothing: arguments that a layer inherited and never used, or how a layer draws random
numbers in training. Such a setting is left out where it has the value at which it says nothing. At
any other value it stays, and Keras gives its reason. The names of layers lose their slashes, which
Keras 3 does not allow: `fire2/squeeze1x1` becomes `fire2_squeeze1x1`.

The tables were found by saving each layer of `vggnorm.files.allowlist` in tf_keras 2.21, TensorFlow
2.15 and Keras 3.0 and 3.3, and networks of the usual layers in Keras 2.1.6 and 2.2.4 and TensorFlow
1.15, 2.4, 2.9, 2.12 and 2.13. This module does not need Keras.
"""

from collections.abc import Mapping
from typing import Any

from vggnorm.files.allowlist import INITIALIZERS
from vggnorm.files.nested_config import MODELS


class _Any:
    """Stands for a setting that says nothing, whatever its value."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # it is equal to everything


ANY = _Any()

# Keras 2 made these layers out of a convolution, whose settings they wrote down, too.
_DEPTHWISE = {"groups": 1}
_SEPARABLE = {
    "groups": 1,
    "kernel_constraint": ANY,
    "kernel_initializer": ANY,
    "kernel_regularizer": ANY,
}

# Layers that only do something in training.
_SPATIAL_DROPOUT = {"noise_shape": None, "trainable": ANY}
_RANDOM = {"rng_type": ANY}
_MOVING = {"rng_type": ANY, "value_range": ANY}  # these change no colour
_MOVING_LAYERS = ["Crop", "Flip", "Rotation", "Translation", "Zoom"]

_ATTENTION_SHAPES = {"key_shape": ANY, "query_shape": ANY, "value_shape": ANY}

# Layer -> setting -> the value at which it says nothing.
SAYS_NOTHING: Mapping[str, Mapping[str, Any]] = {
    "Attention": {"score_mode": "dot"},
    "MultiHeadAttention": {"softmax_robust_masking": False, **_ATTENTION_SHAPES},
    **{f"Conv{rank}DTranspose": {"groups": 1} for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _DEPTHWISE for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _SEPARABLE for rank in (1, 2)},
    **{f"SpatialDropout{rank}D": _SPATIAL_DROPOUT for rank in (1, 2, 3)},
    **{f"Random{kind}": _RANDOM for kind in ("Brightness", "Contrast")},
    **{f"Random{kind}": _MOVING for kind in _MOVING_LAYERS},
}

ENDS = ("input_layers", "output_layers")

ONE_AXIS = frozenset(["BatchNormalization"])  # Keras 2 wrote its axis as a list of one


def to_newest(config: Any) -> Any:
    """Rewrite the configuration of a whole model.

    Args:
        config: the JSON of the file, which may be anything.

    Returns:
        The configuration. Parts that are not understood are left as they are.
    """
    match config:
        case {"class_name": "Sequential", "config": list(layers)}:  # Keras 2.1
            model: dict[str, Any] = {"name": "sequential"}
        case {"class_name": _, "config": {"layers": list(layers)} as model}:
            pass
        case _:
            return config
    if config["class_name"] == "Sequential":
        layers = _with_input(layers)
    ends = {key: _with_allowed_names(model[key]) for key in ENDS if key in model}
    rewritten = [_layer(layer) for layer in layers]
    return {**config, "config": {**model, **ends, "layers": rewritten}}


def allowed_name(name: str) -> str:
    """Give a layer's name as Keras 3 allows it, which has no slashes in names."""
    return name.replace("/", "_")


def _with_input(layers: list[Any]) -> list[Any]:
    """Put in the input layer that Keras 2.1 and 2.2 left out of a Sequential model.

    There, the first layer says the shape of the input.
    """
    match layers:
        case [{"class_name": str(kind), "config": {"batch_input_shape": shape} as first}, *_]:
            pass
        case _:
            return layers
    if kind == "InputLayer":
        return layers
    settings = {
        "batch_input_shape": shape,
        "dtype": first.get("dtype", "float32"),
        "name": f"{first.get('name')}_input",
    }
    return [{"class_name": "InputLayer", "config": settings}, *layers]


def _layer(layer: Any) -> Any:
    match layer:
        case {"class_name": str(kind), "config": {"layers": _}} if kind in MODELS:
            rewritten = _with_single_ends(to_newest(layer))
        case {"class_name": str(kind), "config": dict(settings)}:
            rewritten = {**layer, "config": _without_what_says_nothing(kind, settings)}
        case _:
            return layer
    settings = rewritten["config"]
    if isinstance(settings.get("name"), str):
        settings["name"] = allowed_name(settings["name"])
    for key in ("name", "inbound_nodes"):
        if key in layer:
            rewritten[key] = _with_allowed_names(layer[key])
    return rewritten


def _without_what_says_nothing(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite the settings of a layer."""
    nothing = SAYS_NOTHING.get(kind, {})
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in nothing or nothing[name] != value:
            kept[name] = _without_type(value)
    if kind != "InputLayer":
        kept.pop("batch_input_shape", None)  # the input layer says it
    axis = kept.get("axis")
    if kind in ONE_AXIS and isinstance(axis, list) and len(axis) == 1:
        kept["axis"] = axis[0]
    return kept


def _with_single_ends(model: Mapping[str, Any]) -> dict[str, Any]:
    """Let a model inside give its output as it is, and not in a list of one, as Keras 2 says it.

    A layer behind it in a Sequential model would be called on that list.
    """
    settings = dict(model["config"])
    for key in ENDS:
        match settings.get(key):
            case [[*single]]:
                settings[key] = single
    return {**model, "config": settings}


def _with_allowed_names(value: Any) -> Any:
    """Rewrite the names of layers in the lists in which Keras 2 says what is connected."""
    if isinstance(value, str):
        return allowed_name(value)
    if isinstance(value, list):
        return [_with_allowed_names(inner) for inner in value]
    return value


def _without_type(value: Any) -> Any:
    """Leave out the type of the numbers that an initializer of TensorFlow 1 draws."""
    match value:
        case {"class_name": str(kind), "config": {"dtype": _, **settings}} if kind in INITIALIZERS:
            return {**value, "config": settings}
        case _:
            return value
