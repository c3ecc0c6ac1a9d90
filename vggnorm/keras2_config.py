"""From a Keras 3 model's configuration to the words in which Keras 2 wrote it.

Keras 3 reads both; Keras 2, which many style-transfer programs still run on, reads only its own. The differences are
in how data types, initializers, inputs and the connections between layers are written down.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}, "InputLayer": {"batch_shape": "batch_input_shape"}}
# What Keras 2, or an early version of it, does not know, and need not know at these values.
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
    """Translate a whole model.

    Args:
        class_name: `Functional` or `Sequential`.
        config: what Keras 3's `model.get_config()` gives.

    Returns:
        The `model_config` of a Keras 2 model file.
    """
    translated: dict[str, Any] = {"name": config["name"], "layers": [_layer(layer) for layer in config["layers"]]}
    # Both read these alike. Keras 2 itself would put a single input into a list, and so would Keras 3 then.
    translated |= {ends: config[ends] for ends in ("input_layers", "output_layers") if ends in config}
    # `Functional` came with TensorFlow 2.3. Every version reads `Model`, and builds the same network from it.
    return {"class_name": "Model" if class_name == "Functional" else class_name, "config": translated}


def _layer(layer: Config) -> dict[str, Any]:
    renamed, dropped = RENAMED.get(layer["class_name"], {}), LATER.get(layer["class_name"], {})
    config = {
        renamed.get(name, name): _value(value)
        for name, value in layer["config"].items()
        if name not in dropped or value != dropped[name]
    }
    class_name = layer["class_name"]
    if not (layer.get("module", "keras") or "").startswith("keras"):  # of somebody's own; None in a script or notebook
        class_name = layer["registered_name"] or class_name
    translated = {"class_name": class_name, "config": config}
    if "inbound_nodes" in layer:  # not in a Sequential model
        translated["name"] = layer["name"]
        translated["inbound_nodes"] = [_node(node) for node in layer["inbound_nodes"]]
    return translated


def _value(value: Any) -> Any:
    """Translate a setting of a layer: a data type, an initializer, or something both write alike."""
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    if value["class_name"] == "DTypePolicy":
        return value["config"]["name"]
    # What Keras 3 added to the initializers stands at None where it is not used.
    config = {name: _value(inner) for name, inner in value["config"].items() if inner is not None or name == "seed"}
    return {"class_name": value["class_name"], "config": config}


def _node(node: Config) -> list[list[Any]]:
    """Translate one call of a layer: the tensors that it takes, each `[layer, call, output, keyword arguments]`."""
    # None is every option's default. Keras 3 writes it out, also for `mask`, which not every layer of Keras 2 takes.
    options = {name: value for name, value in node["kwargs"].items() if value is not None}
    tensors = node["args"][0] if node["args"] else options.pop("inputs")
    if isinstance(tensors, Mapping):
        tensors = [tensors]
    return [[*tensor["config"]["keras_history"], options] for tensor in tensors]
