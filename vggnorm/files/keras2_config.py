"""Translating a Keras 3 model's configuration into the words in which Keras 2 wrote it.

Keras 3 reads both. Keras 2, on which many style-transfer programs still run, reads only its own.
They differ in how they write data types, initializers, inputs, and the connections between layers.
Operations, such as `keras.ops.pad`, stay in the words of Keras 3, because Keras 2 has none that
Keras 3 reads. Only Keras 3 loads a file with operations.
"""

from collections.abc import Container, Mapping
from typing import Any

from vggnorm.errors import NetworkError
from vggnorm.files.keras3_config import OTHER_NAMES
from vggnorm.files.nested_config import is_model, number_in_both
from vggnorm.files.operations import is_operation, without_ellipsis

Config = Mapping[str, Any]

# Layer -> setting in Keras 3 -> the same setting in Keras 2.
RENAMED = {
    "LeakyReLU": {"negative_slope": "alpha"},
    "InputLayer": {"batch_shape": "batch_input_shape"},
}

# Settings that Keras 2, or an early version of it, does not know. At these values it does not need
# them.
LATER: dict[str, dict[str, Any]] = {
    "BatchNormalization": {
        "renorm": False,
        "renorm_clipping": None,
        "renorm_momentum": 0.99,
        "synchronized": False,
    },
    **{f"Conv{rank}D": {"groups": 1} for rank in (1, 2, 3)},
    "Dense": {"quantization_config": None},
    "InputLayer": {"optional": False, "ragged": False},
    "LayerNormalization": {"rms_scaling": False},
    "ZeroPadding1D": {"data_format": "channels_last"},
    **{
        f"Random{what}": {"data_format": "channels_last"}
        for what in ("Crop", "Flip", "Rotation", "Translation", "Zoom")
    },
    "CenterCrop": {"data_format": "channels_last"},
    "RandomBrightness": {"data_format": "channels_last"},
    "RandomContrast": {"data_format": "channels_last", "value_range": [0, 255]},
    "Resizing": {
        "antialias": False,
        "data_format": "channels_last",
        "fill_mode": "constant",
        "fill_value": 0.0,
        "pad_to_aspect_ratio": False,
    },
}

# How the names of the layers begin that Keras 3 calls with training=True if nothing else is said,
# and writes that down. Keras 2 would take it for the user's wish, and augment the photos when the
# network is used.
TRAINING_BY_DEFAULT = (
    "AugMix",
    "AutoContrast",
    "CenterCrop",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "CutMix",
    "Equalization",
    "MaxNumBoundingBoxes",
    "MixUp",
    "Pipeline",
    "RandAugment",
    "Random",
    "Resizing",
    "Solarization",
)


def to_keras2(class_name: str, config: Config) -> dict[str, Any]:
    """Translate the configuration of a whole model.

    Args:
        class_name: `Functional` or `Sequential`.
        config: what Keras 3's `model.get_config()` gives.

    Returns:
        The `model_config` of a Keras 2 model file.
    """
    models = {
        layer["config"]["name"]: layer["class_name"]
        for layer in config["layers"]
        if is_model(layer)
    }
    translated: dict[str, Any] = {
        "name": config["name"],
        "layers": [_layer(layer, models) for layer in config["layers"]],
    }
    # Keras 2 and 3 read these alike. Keras 2 itself would put a single input into a list, and then
    # Keras 3 would do so, too.
    for ends in ("input_layers", "output_layers"):
        if ends in config:
            translated[ends] = _ends(config[ends], models)
    # `Functional` came with TensorFlow 2.3. Every version reads `Model`, and builds the same
    # network from it.
    name = "Model" if class_name == "Functional" else class_name
    return {"class_name": name, "config": translated}


def _ends(tensors: Any, models: Mapping[str, str]) -> Any:
    """Translate the inputs or outputs of a model, which may be in lists and dictionaries.

    Keras 3 counts the calls of a functional model from 1 here, and those of others from 0.

    Args:
        tensors: one or several, each `[layer, call, output]`.
        models: the name of each layer that is a model -> its class.
    """
    match tensors:
        case [str(name), int(call), int(output)] if name in models:
            from_0 = call if models[name] == "Sequential" else call - 1
            return [name, number_in_both(from_0), output]
        case {**named}:
            return {key: _ends(inner, models) for key, inner in named.items()}
        case [[*_], *_]:
            return [_ends(inner, models) for inner in tensors]
        case _:
            return tensors


def _layer(layer: Config, models: Container[str]) -> dict[str, Any]:
    """Translate one layer; `models` names those that are models."""
    class_name = layer["class_name"]
    if is_operation(layer):
        return without_ellipsis(layer)
    if is_model(layer):
        return _model_inside(layer, models)
    renamed = RENAMED.get(class_name, {})
    dropped = LATER.get(class_name, {})
    config: dict[str, Any] = {}
    for name, value in layer["config"].items():
        plain = list(value) if isinstance(value, tuple) else value
        if name not in dropped or plain != dropped[name]:
            config[renamed.get(name, name)] = _value(value)
    module = layer.get("module", "keras") or ""  # None in a script or notebook
    if not module.startswith("keras"):  # a layer of the user's own
        class_name = layer["registered_name"] or class_name
    translated = {"class_name": class_name, "config": config}
    if "inbound_nodes" in layer:  # not in a Sequential model
        translated["name"] = layer["name"]
        translated["inbound_nodes"] = [
            _node(node, layer, models, by_default=class_name.startswith(TRAINING_BY_DEFAULT))
            for node in layer["inbound_nodes"]
        ]
    return translated


def _model_inside(layer: Config, models: Container[str]) -> dict[str, Any]:
    """Translate a model inside. Its calls are written twice, see `vggnorm.files.nested_config`."""
    translated = to_keras2(layer["class_name"], layer["config"])
    if "inbound_nodes" in layer:
        nodes = [_node(node, layer, models) for node in layer["inbound_nodes"]]
        translated["name"] = layer["name"]
        translated["inbound_nodes"] = [node for node in nodes for _ in range(2)]
    return translated


def _value(value: Any) -> Any:
    """Translate a data type, a function or an initializer; leave what both write alike as it is."""
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    if value["class_name"] == "DTypePolicy":
        return value["config"]["name"]
    if value["class_name"] == "function":
        return OTHER_NAMES.get(value["config"], value["config"])
    config: dict[str, Any] = {}
    for name, inner in value["config"].items():
        # Settings that Keras 3 added to the initializers are None where they are not used.
        if inner is not None or name == "seed":
            config[name] = _value(inner)
    return {"class_name": value["class_name"], "config": config}


def _node(
    node: Config, layer: Config, models: Container[str], *, by_default: bool = False
) -> list[list[Any]]:
    """Translate one call of a layer.

    Args:
        node: the call.
        layer: the layer.
        models: the names of the layers that are models.
        by_default: whether Keras itself may have written down training=True.

    Returns:
        The tensors that the layer takes, each `[layer, call, output, keyword arguments]`.

    Raises:
        NetworkError: the layer is called on a dict.
    """
    # None is every option's default. Keras 3 writes it out, also for `mask`, which not every layer
    # of Keras 2 takes.
    options = {name: value for name, value in node["kwargs"].items() if value is not None}
    tensors = node["args"][0] if node["args"] else options.pop("inputs")
    if isinstance(tensors, Mapping):
        if "class_name" not in tensors:
            raise NetworkError(
                f"layer {layer['name']}: is called on a dict, which the normalized file cannot "
                "say; build it with a list of inputs, and call it on a list"
            )
        tensors = [tensors]
    if by_default and options.get("training") is True:
        del options["training"]
    references = []
    for tensor in tensors:
        name, call, output = tensor["config"]["keras_history"]
        number = number_in_both(call) if name in models else call
        references.append([name, number, output, options])
    return references
