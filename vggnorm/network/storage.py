"""Loading a network from a file or from Keras, and saving one."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.conversion import Say
from vggnorm.files.formats import open_weights
from vggnorm.files.keras2_config import to_keras2
from vggnorm.files.keras_h5 import check_h5_output, require_writable, write_h5
from vggnorm.files.weights_file import WeightsFile, config_of
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.recipe import Padding
from vggnorm.network.applications import load_vgg
from vggnorm.network.copies import cloned, require_same_outputs
from vggnorm.network.operations import operations_in
from vggnorm.network.padding import with_padding
from vggnorm.network.paths import is_opened, leaf_layers
from vggnorm.network.room import require_room
from vggnorm.network.surroundings import require_ready
from vggnorm.network.weights import give_weights, require_finite, weights_in_files_order

AVERAGING = {
    keras.layers.MaxPooling1D: keras.layers.AveragePooling1D,
    keras.layers.MaxPooling2D: keras.layers.AveragePooling2D,
    keras.layers.MaxPooling3D: keras.layers.AveragePooling3D,
}


# Loading


def load_network(
    network: str | Path | WeightsFile = "vgg16",
    weights: str | Path = "imagenet",
    *,
    include_top: bool = False,
    pooling: str = "max",
    padding: Padding = "zeros",
    say: Say | None = None,
) -> keras.Model:
    """Load a network of `keras.applications`, or a model file.

    Args:
        network: `vgg16` or `vgg19`, for photos of any size unless `include_top`; or a file, which
            may be open already: a model of Keras, `.keras` or `.h5`, or the weights of a VGG in the
            layout of any program, see `vggnorm.open_weights`.
        weights: VGG's weights: `imagenet`, which Keras downloads once, or a file: one of Keras's
            own, a saved model, or a `.weights.h5`. Layers that the network does not have are left
            out, but not convolutions. A model file has its own weights.
        include_top: whether VGG has its dense layers, which fix the size of the photos to 224.
        pooling: `max` leaves the network as it is; `avg` replaces each max pooling by average
            pooling, as style transfer often does.
        padding: `zeros` leaves the network as it is; `reflect` replaces the zeros around the input
            of each convolution by the input's reflection, see `vggnorm.network.padding`.
        say: is told what a user should know of the file, such as that its layers have other names.

    Raises:
        NetworkError: the network is not known, or cannot have this padding; or the weights or the
            model cannot be downloaded or read, or are another network's.
    """
    require_ready()
    if isinstance(network, str) and network in vgg.NETWORKS:
        if weights != "imagenet":
            _require_file(Path(weights), f"'imagenet' or an .h5 file of {network}'s weights")
        model = load_vgg(network, weights, include_top=include_top, say=say)
    elif include_top:
        known = " and ".join(vgg.NETWORKS)
        raise NetworkError(
            f"{_name(network)}: include_top is for {known}; a model file is as it is"
        )
    else:
        model = _load_model_from(network, weights, say)
    if pooling != "max":
        model = _with_pooling(model, pooling)
    return model if padding == "zeros" else with_padding(model, padding)


def load_model(file: WeightsFile, say: Say | None = None) -> keras.Model:
    """Load the model that an open file holds, or the VGG whose weights it holds.

    Raises:
        NetworkError: the file does not hold a model, or holds one that could do harm or cannot be
            built.
    """
    config = file.config(keras.saving.get_custom_objects()) or _config_of_weights(file)
    try:
        file.require_plain()
        require_room(config, file.path, file.held_bytes, _build)
        model = _build(config)
        give_weights(model, file, say)
    except NetworkError:
        raise
    except Exception as error:  # what a stranger's file makes Keras raise cannot be foreseen
        raise NetworkError(
            f"{file.path}: cannot be loaded as a Keras model: {_innermost_reason(error)}"
        ) from error
    require_finite(model, file.path)
    return model


def _innermost_reason(error: Exception) -> str:
    """Give the reason at the end of what Keras says, which repeats whole configurations first."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    return " ".join(reason.split()) or type(error).__name__


def _config_of_weights(file: WeightsFile) -> dict[str, Any]:
    """Give the configuration of the VGG whose weights a file of Keras holds, without a model."""
    try:
        weights = file.vgg
    except NetworkError as error:
        raise NetworkError(
            f"{file.path}: cannot be loaded as a model, because it is {file.kind.value} and not "
            "those of a VGG; give a .keras or .h5 file of a model"
        ) from error
    if weights.has_batch_norm:
        raise NetworkError(
            f"{file.path}: holds weights of batch normalization and does not say their epsilon; "
            "give a .keras or .h5 file of the whole model"
        )
    return config_of(weights)


def require_as_keras_loads(model: keras.Model, path: Path) -> bool:
    """Compare a network that was loaded from a model file with what Keras itself loads from it.

    Returns:
        Whether Keras could load the file; if not, nothing is compared.

    Raises:
        NetworkError: the two compute something else.
    """
    with open_weights(path) as file:
        file.config(keras.saving.get_custom_objects())  # refuses what could do harm
    try:
        loaded = keras.saving.load_model(path, compile=False)
    except Exception:  # what Keras raises for a file that it cannot read cannot be foreseen
        return False
    require_same_outputs(loaded, model, f"what was loaded from {path}")
    return True


def _load_model_from(
    network: str | Path | WeightsFile, weights: str | Path, say: Say | None
) -> keras.Model:
    if weights != "imagenet":
        raise NetworkError(
            f"{_name(network)}: a model file has its own weights; leave out --weights"
        )
    if not isinstance(network, WeightsFile):
        path = Path(network)
        if not path.suffix and not path.exists():  # not the name of a file
            known = ", ".join(vgg.NETWORKS)
            raise NetworkError(
                f"the network {str(network)!r} is not known; it must be one of {known}, or a file"
            )
        _require_file(path, "the file of a network")
    with open_weights(network) as file:
        return load_model(file, say)


def _name(network: str | Path | WeightsFile) -> str:
    return str(network.path if isinstance(network, WeightsFile) else network)


def _build(config: Mapping[str, Any]) -> keras.Model:
    """Build a model, without its weights, from a configuration in the words of Keras 2 or 3."""
    kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
    return kind.from_config(copy.deepcopy(config["config"]))  # Keras takes it apart


def _require_file(path: Path, wanted: str) -> None:
    try:
        is_there = path.exists()  # a folder is refused when it is opened, with what to do
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_there:
        raise NetworkError(f"{path}: there is no such file; give {wanted}")


def _with_pooling(model: keras.Model, pooling: str) -> keras.Model:
    """Replace each max pooling by average pooling, under its name."""
    if pooling != "avg":
        raise NetworkError(f"the pooling {pooling!r} is not known; it must be one of max, avg")

    if "MaxPool" in operations_in(model):
        raise NetworkError(
            f"{model.name}: pools with the operation max_pool, which cannot be replaced; build the "
            "network with MaxPooling2D layers in its place"
        )
    require_same_outputs(model, cloned(model, {}), "a copy of it")
    return cloned(model, AVERAGING)


# Saving


def save_network(
    model: keras.Model, path: str | Path, means: FilterMeans | None = None, *, force: bool = False
) -> None:
    """Save a whole model as an .h5 file for Keras 2 and 3.

    Keras 3.4 and later, TensorFlow's Keras 2, and `keras.applications` load it. `load_model` of
    Keras 3.0 to 3.3, and of Keras 2 outside TensorFlow, cannot read it. There, build the same
    layers and give them the weights: `keras.applications.VGG16(weights=path, include_top=False)`,
    or `model.load_weights(path)`.

    A network with operations, such as `keras.ops.pad`, is loaded by Keras 3.11 and later alone.

    A network with reflection padding is saved with zero padding, because Keras has no layer that
    would do the other in every program that loads the file. The weights are the same, and the
    recipe of the means says `reflect`. `load_network` with `padding="reflect"` gives it back.

    Args:
        model: the model to save.
        path: a name that ends in `.h5`, but not in `.weights.h5`, for which Keras expects another
            layout.
        means: the means that the network was normalized with. They are kept in the file, for
            `vggnorm inspect` and `vggnorm verify`.
        force: whether an existing file may be replaced.

    Raises:
        OutputError: the file exists and `force` is false, has another ending, or cannot be written.
        NetworkError: the network has reflections that zero padding cannot replace.
    """
    require_ready()
    path = check_h5_output(path, force=force)
    model = with_padding(model, "zeros")
    weights = {layer.name: _named_arrays(layer) for layer in model.layers}
    config = to_keras2(type(model).__name__, model.get_config())
    write_h5(path, model_config=config, weights=weights, means=means)


def require_network_saveable(model: keras.Model) -> None:
    """Try, before any photo is measured, whether `save_network` could write such a model.

    Raises:
        NetworkError: the name of a layer is too long for the file.
    """
    names = {layer.name: list(_named_weights(layer)) for layer in model.layers}
    try:
        config = to_keras2(type(model).__name__, model.get_config())
    except NotImplementedError:
        return  # a layer of the user's own cannot be saved, but its means are wanted all the same
    require_writable(config, names)


def _named_arrays(layer: keras.Layer) -> dict[str, np.ndarray]:
    named = _named_weights(layer)
    return {name: np.asarray(ops.convert_to_numpy(weight)) for name, weight in named.items()}


def _named_weights(layer: keras.Layer) -> dict[str, Any]:
    """Name a layer's weights for an .h5 file; with numbers, if it has the same name twice.

    That may be so in a layer that is made of other layers.
    """
    if is_opened(layer):
        return _named_weights_inside(layer)
    weights = weights_in_files_order(layer)
    names = [weight.name for weight in weights]
    if len(set(names)) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names)]
    return dict(zip(names, weights, strict=True))


def _named_weights_inside(model: keras.Model) -> dict[str, Any]:
    """Name the weights of a model that is a layer, in the order in which Keras reads them.

    What is trained comes first. Whoever loads the file knows that of each layer inside, and not of
    the model as a whole.
    """
    named = {}
    for path, layer in leaf_layers(model).items():
        for name, weight in _named_weights(layer).items():
            named[f"{path}/{name}"] = weight
    return dict(sorted(named.items(), key=lambda item: not item[1].trainable))
