"""The configuration of a VGG, in the words in which Keras 2 wrote it, made without Keras.

Keras builds the network from it. And a model that a file holds is a plain VGG if its configuration
says the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vggnorm import vgg

Config = dict[str, Any]

NO_INITIALIZERS = {
    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
}

POOLING = {"max": "MaxPooling2D", "avg": "AveragePooling2D"}

# What decides what a layer of a VGG computes, and what it is where a configuration does not say.
POOLING_SETTINGS = {
    "pool_size": (2, 2),
    "strides": (2, 2),
    "padding": "valid",
    "data_format": "channels_last",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "Conv2D": {
        "filters": None,
        "kernel_size": None,
        "strides": (1, 1),
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": (1, 1),
        "groups": 1,
        "activation": "linear",
        "use_bias": True,
    },
    "BatchNormalization": {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True},
    "Activation": {"activation": None},
    "MaxPooling2D": POOLING_SETTINGS,
    "AveragePooling2D": POOLING_SETTINGS,
    "Flatten": {"data_format": "channels_last"},
    "Dense": {"units": None, "activation": "linear", "use_bias": True},
}

IDLE = ("InputLayer", "Dropout")  # they change nothing in a network that is not trained


def vgg_config(
    network: str,
    count: int,
    *,
    batch_norm: bool = False,
    classes: int | None = None,
    pooling: str = "max",
) -> Config:
    """Make the configuration of a VGG.

    Args:
        network: a name of `vggnorm.vgg.BLOCKS`.
        count: how many of its convolutions there are. A pooling behind the last one is included if
            it is the network's last.
        batch_norm: whether a batch normalization follows each convolution.
        classes: the units of the last dense layer; None for a network without dense layers.
        pooling: `max` or `avg`.

    Returns:
        `class_name` and `config`, as in the `model_config` of a Keras 2 model file.
    """
    side = None if classes is None else 224
    layers = [_layer("InputLayer", "input_layer", batch_input_shape=[None, side, side, 3])]
    layers += _convolutions(network, count, batch_norm, POOLING[pooling])
    if classes is not None:
        layers += _dense_layers(classes)
    previous = None
    for layer in layers:
        layer["inbound_nodes"] = [] if previous is None else [[[previous, 0, 0, {}]]]
        previous = layer["name"]
    return {
        "class_name": "Model",
        "config": {
            "name": network if not batch_norm else f"{network}_bn",
            "layers": layers,
            "input_layers": ["input_layer", 0, 0],
            "output_layers": [previous, 0, 0],
        },
    }


def is_plain_vgg(config: Mapping[str, Any], own: Config) -> bool:
    """Tell whether the configuration of a model says the same as one of `vgg_config`.

    Names, initializers, the size of the photos and layers for training may differ.

    Args:
        config: of the model, as Keras 2 or 3 wrote it.
        own: the configuration to compare it with.
    """
    return _outline(config) == _outline(own) and _is_chain(config)


def _convolutions(network: str, count: int, batch_norm: bool, pooling: str) -> Iterator[Config]:
    places = vgg.places_of(network)
    for place in places[:count]:
        activation = "linear" if batch_norm else "relu"
        name = vgg.convolution_name(place)
        yield _layer(
            "Conv2D",
            name,
            filters=vgg.BLOCK_FILTERS[place[0] - 1],
            kernel_size=[3, 3],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
            dilation_rate=[1, 1],
            activation=activation,
            use_bias=True,
            **NO_INITIALIZERS,
        )
        if batch_norm:
            yield _layer(
                "BatchNormalization",
                vgg.normalization_name(place),
                axis=-1,
                momentum=0.99,
                epsilon=vgg.NORMALIZATION_EPSILON,
                center=True,
                scale=True,
            )
            yield _layer("Activation", f"{name}_relu", activation="relu")
        is_last = place == places[:count][-1] and count < len(places)
        if vgg.ends_block(place, network) and not is_last:
            yield _layer(
                pooling,
                f"block{place[0]}_pool",
                pool_size=[2, 2],
                padding="valid",
                strides=[2, 2],
                data_format="channels_last",
            )


def _dense_layers(classes: int) -> Iterator[Config]:
    yield _layer("Flatten", "flatten", data_format="channels_last")
    units = (vgg.DENSE_UNITS, vgg.DENSE_UNITS, classes)
    activations = ("relu", "relu", "softmax")
    for name, count, activation in zip(vgg.DENSE, units, activations, strict=True):
        yield _layer(
            "Dense", name, units=count, activation=activation, use_bias=True, **NO_INITIALIZERS
        )


def _layer(class_name: str, name: str, **settings: Any) -> Config:
    config = {"name": name, "trainable": True, "dtype": "float32", **settings}
    if class_name == "InputLayer":
        del config["trainable"]
        config["sparse"] = False
    return {"class_name": class_name, "config": config, "name": name}


def _outline(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Say what the layers compute, in order."""
    outline = []
    for layer in config["config"]["layers"]:
        kind = layer["class_name"]
        if kind not in IDLE:
            outline.append((kind, _settings_of(kind, layer["config"])))
    return outline


def _settings_of(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {}
    for name, otherwise in SETTINGS.get(kind, {}).items():
        value = config.get(name, otherwise)
        if name == "axis" and value in (3, [3]):
            value = -1
        settings[name] = tuple(value) if isinstance(value, list) else value
    return settings


def _is_chain(config: Mapping[str, Any]) -> bool:
    """Tell whether each layer takes the output of the one before, once, and nothing else."""
    if config["class_name"] == "Sequential":
        return True
    layers: Sequence[Mapping[str, Any]] = config["config"]["layers"]
    previous = None
    for layer in layers:
        taken = _taken_by(layer)
        if taken != ([] if previous is None else [previous]):
            return False
        previous = layer["name"]
    return True


def _taken_by(layer: Mapping[str, Any]) -> list[str]:
    """Name the layers whose outputs a layer takes, in the words of Keras 2 or 3."""
    taken: list[str] = []
    for node in layer.get("inbound_nodes", []):
        if isinstance(node, Mapping):  # Keras 3
            tensors = node["args"]
            while len(tensors) == 1 and isinstance(tensors[0], list):
                tensors = tensors[0]
            taken += [tensor["config"]["keras_history"][0] for tensor in tensors]
        else:
            taken += [tensor[0] for tensor in node]
    return taken
