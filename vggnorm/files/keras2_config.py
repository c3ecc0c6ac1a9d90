"""Translating a Keras 3 model's configuration into the words in which Keras 2 wrote it.

Keras 3 reads both. Keras 2, on which many style-transfer programs still run, reads only its own.
They differ in how they write data types, initializers, inputs, and the connections between layers.
"""

from collections.abc import Mapping
from typing import Any

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
}


def to_keras2(class_name: str, config: Config) -> dict[str, Any]:
    """Translate the configuration of a whole model.

    Args:
        class_name: `Functional` or `Sequential`.
        config: what Keras 3's `model.get_config()` gives.

    Returns:
        The `model_config` of a Keras 2 model file.
    """
    translated: dict[str, Any] = {
        "name": config["name"],
        "layers": [_layer(layer) for layer in config["layers"]],
    }
    # Keras 2 and 3 read these alike. Keras 2 itself would put a single input into a list, and then
    # Keras 3 would do so, too.
    for ends in ("input_layers", "output_layers"):
        if ends in config:
            translated[ends] = config[ends]
    # `Functional` came with TensorFlow 2.3. Every version reads `Model`, and builds the same
    # network from it.
    name = "Model" if class_name == "Functional" else class_name
    return {"class_name": name, "config": translated}


def _layer(layer: Config) -> dict[str, Any]:
    class_name = layer["class_name"]
    renamed = RENAMED.get(class_name, {})
    dropped = LATER.get(class_name, {})
    config: dict[str, Any] = {}
    for name, value in layer["config"].items():
        if name not in dropped or value != dropped[name]:
            config[renamed.get(name, name)] = _value(value)
    module = layer.get("module", "keras") or ""  # None in a script or notebook
    if not module.startswith("keras"):  # a layer of the user's own
        class_name = layer["registered_name"] or class_name
    translated = {"class_name": class_name, "config": config}
    if "inbound_nodes" in layer:  # not in a Sequential model
        translated["name"] = layer["name"]
        translated["inbound_nodes"] = [_node(node) for node in layer["inbound_nodes"]]
    return translated


def _value(value: Any) -> Any:
    """Translate a data type or an initializer; leave what both write alike as it is."""
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    if value["class_name"] == "DTypePolicy":
        return value["config"]["name"]
    config: dict[str, Any] = {}
    for name, inner in value["config"].items():
        # Settings that Keras 3 added to the initializers are None where they are not used.
        if inner is not None or name == "seed":
            config[name] = _value(inner)
    return {"class_name": value["class_name"], "config": config}


def _node(node: Config) -> list[list[Any]]:
    """Translate one call of a layer.

    Returns:
        The tensors that the layer takes, each `[layer, call, output, keyword arguments]`.
    """
    # None is every option's default. Keras 3 writes it out, also for `mask`, which not every layer
    # of Keras 2 takes.
    options = {name: value for name, value in node["kwargs"].items() if value is not None}
    tensors = node["args"][0] if node["args"] else options.pop("inputs")
    if isinstance(tensors, Mapping):
        tensors = [tensors]
    return [[*tensor["config"]["keras_history"], options] for tensor in tensors]
