"""Translating what Keras 3 cannot read in a model's configuration into words that it can read.

`vggnorm.files.keras2_config` goes the other way.
"""

from collections.abc import Mapping
from typing import Any

from vggnorm.files import keras2_operations, operations

# What TensorFlow calls functions that Keras has. Keras saves a function by its name alone.
OTHER_NAMES = {"softmax_v2": "softmax", "log_softmax_v2": "log_softmax", "swish": "silu"}

# What Keras 2 calls a policy of data types; the second one is that of TensorFlow 2.1 to 2.3.
POLICIES = ("Policy", "PolicyV1")

MODULES_OF_POLICIES = (None, "keras.mixed_precision")


def to_keras3(value: Any) -> Any:
    """Translate a configuration, or any part of it.

    Args:
        value: a value out of JSON. It is not changed.

    Raises:
        UnreadOperationError: it holds an operation of Keras 2 that is not known here.
    """
    if isinstance(value, list):
        return [to_keras3(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "function" and str(value.get("config")) in OTHER_NAMES:
        return OTHER_NAMES[value["config"]]
    if value.get("class_name") in POLICIES and value.get("module") in MODULES_OF_POLICIES:
        return _policy(value)
    if value.get("class_name") in keras2_operations.CLASSES and "inbound_nodes" in value:
        return keras2_operations.to_operation(value)
    translated = {key: to_keras3(entry) for key, entry in value.items()}
    return operations.with_name(operations.with_module(translated))


def _policy(policy: Mapping[str, Any]) -> Any:
    """Translate a policy; its name says it all."""
    match policy:
        case {"config": {"name": str(name)}}:
            config = {"name": name}
            return {
                "module": "keras",
                "class_name": "DTypePolicy",
                "config": config,
                "registered_name": None,
            }
        case _:
            return policy
