"""Models inside a model, in the configurations that Keras 2 and 3 write.

Keras 2 counts the calls of a model from 1, because it counts its making as the call 0. Keras 3
counts them from 0. Its reader of Keras 2's files does so, too, and takes the second call for the
first. So a file that both read has every call twice: the first two stand for call 0, the next two
for call 1. Of each two, Keras 2 finds the first under the number under which Keras 3 finds the
second.

Only `output_layers` is counted in another way: there, Keras 3 counts those of a functional model
from 1, as Keras 2 does, and those of a sequential one from 0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

MODELS = frozenset(["Functional", "Model", "Sequential"])

# The modules under which Keras writes its own models; None: without a module.
KERAS3_MODULES = (
    None,
    "keras",
    "keras.models",
    "keras.src.models.functional",
    "keras.src.models.sequential",
)
KERAS2_MODULES = (
    "keras.engine.functional",
    "keras.engine.sequential",
    "keras.src.engine.functional",
    "keras.src.engine.sequential",
    "tf_keras",
    "tf_keras.src.engine.functional",
    "tf_keras.src.engine.sequential",
)


def is_model(layer: Any) -> bool:
    """Tell whether the configuration of a layer is that of one of Keras's own models."""
    match layer:
        case {"class_name": str(class_name), "config": {"layers": list()}}:
            is_plain = layer.get("registered_name") in (None, class_name)
            known = layer.get("module") in (*KERAS3_MODULES, *KERAS2_MODULES)
            return class_name in MODELS and is_plain and known
        case _:
            return False


def number_in_both(call: int) -> int:
    """Give the number under which Keras 2 and 3 find a call of a model that is written twice.

    Args:
        call: its number, from 0.
    """
    return 2 * call + 1


def for_keras3(config: Any) -> Any:
    """Give the configuration of a whole model in words that Keras 3 can read.

    Of other layers than models, nothing is changed. A model inside is never
    compiled, so what Keras wrote down about that is left out.

    Args:
        config: the configuration, as any version of Keras wrote it.
    """
    match config:
        case {"config": {"layers": list(layers)} as settings}:
            pass
        case _:
            return config
    changed = {**settings, "layers": [_layer_for_keras3(layer) for layer in layers]}
    for layer in changed["layers"]:
        if is_model(layer) and _counts_from_1(layer, changed):
            _count_from_0(layer, changed)
    return {**config, "config": changed}


def _layer_for_keras3(layer: Any) -> Any:
    if not is_model(layer):
        return layer
    changed = dict(for_keras3(layer))
    changed.pop("compile_config", None)
    if layer.get("module") in KERAS2_MODULES:
        del changed["module"]
        changed.pop("registered_name", None)
    return changed


def _counts_from_1(model: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Tell whether the calls of a model inside are counted from 1.

    Every call that is written down is taken by another layer or is an output, so the largest number
    tells.
    """
    nodes = model.get("inbound_nodes")
    calls = len(nodes) if isinstance(nodes, list) else 0
    return calls > 0 and any(taken[1] == calls for taken in _taken_from(model, settings))


def _count_from_0(model: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for taken in _taken_from(model, settings):
        taken[1] -= 1


def _taken_from(model: Mapping[str, Any], settings: Mapping[str, Any]) -> list[list[Any]]:
    """Find where the outputs of a model are taken: `[name, call, output, ...]`, in Keras 2's words.

    Those places are left out in which Keras 3 counts from 1.
    """
    places = [
        layer["inbound_nodes"]
        for layer in settings["layers"]
        if isinstance(layer, dict) and isinstance(layer.get("inbound_nodes"), list)
    ]
    if model["class_name"] == "Sequential":
        places.append(settings.get("output_layers"))
    return [taken for taken in _references(places) if taken[0] == model.get("name")]


def _references(value: Any) -> Iterator[list[Any]]:
    match value:
        case [str(), int(), int(), *_]:
            yield value
        case list():
            for inner in value:
                yield from _references(inner)
        case _:
            return


def model_calls(config: Mapping[str, Any]) -> int:
    """Count the calls of layers that a model makes, those in the models inside it each time.

    Args:
        config: the configuration of a model, with `layers`.
    """
    total = 0
    for layer in config["layers"]:
        nodes = layer.get("inbound_nodes") or [None]
        inside = model_calls(layer["config"]) if is_model(layer) else 1
        total += len(nodes) * inside
    return total
