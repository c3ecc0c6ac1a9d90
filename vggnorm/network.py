"""The only module that knows Keras: load a network, measure it, rescale it, save it."""

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from vggnorm.errors import MeansError, NetworkError
from vggnorm.h5file import check_h5_output, read_shapes, write_h5
from vggnorm.keras2_config import to_keras2
from vggnorm.means import FilterMeans
from vggnorm.rescale import recover_scale, rescale_weights, scale_from_mean

APPLICATIONS = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}

# On a CPU, XLA runs VGG's convolutions a quarter slower than TensorFlow's own kernels do. JAX has nothing else.
JIT_COMPILE = False if keras.backend.backend() == "tensorflow" else "auto"


# Loading


def load_network(network: str = "vgg16", weights: str | Path = "imagenet") -> keras.Model:
    """Load a network of `keras.applications`, without its dense layers and for photos of any size.

    Args:
        network: `vgg16` or `vgg19`.
        weights: `imagenet`, which Keras downloads once, or an .h5 file: one of Keras's own, a saved model, or a
            `.weights.h5`. Layers are found by name; a file with the dense layers will do.

    Raises:
        NetworkError: the network is none of the two; the weights cannot be downloaded or read, or are another's.
    """
    if network not in APPLICATIONS:
        raise NetworkError(f"the network {network!r} is not known; it must be one of {', '.join(APPLICATIONS)}")
    if weights == "imagenet":
        return _download(network)
    path = Path(weights)
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file; give 'imagenet' or an .h5 file of {network}'s weights")
    model = APPLICATIONS[network](weights=None, include_top=False)
    if path.name.endswith(".weights.h5"):
        _load_keras3_weights(model, path)
    else:
        _check_shapes(model, path)
        model.load_weights(path, by_name=True)
    return model


def _download(network: str) -> keras.Model:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress on stdout
            return APPLICATIONS[network](weights="imagenet", include_top=False)
    except Exception as error:
        if "URL fetch failure" not in str(error):  # Keras raises a bare Exception
            raise
        raise NetworkError(
            f"the ImageNet weights of {network} cannot be downloaded ({str(error).rpartition(' -- ')[2]}); give a file "
            "with --weights, for VGG16 the one that 'python scripts/fetch_weights.py -o vgg16_imagenet.h5' makes"
        ) from error


def _check_shapes(model: keras.Model, path: Path) -> None:
    """Refuse a file that lacks a layer's weights, which Keras would leave as they are without a word."""
    found = read_shapes(path)
    for layer in model.layers:
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if wanted and found.get(layer.name) != wanted:
            raise NetworkError(
                f"{path}: holds no weights of {model.name}: layer {layer.name} has weights of the shapes "
                f"{_shapes(wanted)} there, and {_shapes(found.get(layer.name))} in the file"
            )


def _load_keras3_weights(model: keras.Model, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping nested container")  # layers that would stay as they are
            model.load_weights(path)
    except (KeyError, OSError, UserWarning, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(f"{path}: holds no weights of {model.name}, or is damaged: {reason}") from error


def _shapes(shapes: list[tuple[int, ...]] | None) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes) if shapes else "none"


# What is measured


def measured_layers(model: keras.Model) -> dict[str, int]:
    """Name the layers whose filters are measured, with their number of filters, in network order.

    They are the convolutions. Between them there may stand what passes a positive scale through unchanged: pooling.

    Raises:
        NetworkError: the network is not a chain of rectified convolutions and pooling; the text names the layer.
    """
    filters = {}
    before = None
    for layer in model.layers:
        if before is not None and layer.input is not before.output:
            raise NetworkError(f"layer {layer.name} does not follow {before.name}: only chains of layers are supported")
        before = layer
        if isinstance(layer, keras.layers.Conv2D):
            if layer.activation is not keras.activations.relu or not layer.use_bias or layer.groups != 1:
                raise NetworkError(f"layer {layer.name} must be an ungrouped convolution with bias and 'relu'")
            filters[layer.name] = layer.filters
        elif not isinstance(layer, keras.layers.InputLayer | keras.layers.MaxPooling2D):
            raise NetworkError(
                f"layer {layer.name} is a {type(layer).__name__}: only Conv2D and MaxPooling2D are supported; "
                "load the network without its top"
            )
    if not filters:
        raise NetworkError(f"{model.name} has no convolution to measure")
    return filters


def weights_sha256(model: keras.Model) -> str:
    """Identify the weights of the measured layers.

    SHA-256 over the layers in network order, of each the kernel `(height, width, channels in, filters)` and then the
    bias, as little-endian float32.
    """
    digest = hashlib.sha256()
    for name in measured_layers(model):
        for array in model.get_layer(name).get_weights():
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def measuring_model(model: keras.Model) -> keras.Model:
    """Make the model that measures photos: the mean activation over positions of every filter.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to a dict: layer name -> `(photos, filters)`
        float32. Only these vectors leave the device.
    """
    photos, activations = _activations(model)
    means = {name: _position_mean(activation) for name, activation in activations(_preprocess(photos)).items()}
    return _compiled(keras.Model(photos, means, name="measuring"))


def comparing_model(model: keras.Model, normalized: keras.Model, scales: Mapping[str, NDArray[Any]]) -> keras.Model:
    """Make the model that runs photos through the original and the normalized network side by side.

    Args:
        model: the original.
        normalized: the one to compare with it.
        scales: layer name -> `(filters,)`, what the normalized activations are to be multiplied by.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to three dicts, each layer name -> array:
        `mean`, the normalized network's position means, `(photos, filters)`; `deviation`, each photo's largest
        absolute difference between scaled and original activations, `(photos,)`; `largest`, each photo's largest
        original activation, `(photos,)`.
    """
    photos, original = _activations(model)
    _, rescaled = _activations(normalized)
    before, after = original(_preprocess(photos)), rescaled(_preprocess(photos))
    positions_and_filters = (1, 2, 3)
    deviation = {
        name: ops.max(ops.abs(after[name] * scale.astype(np.float32) - before[name]), axis=positions_and_filters)
        for name, scale in scales.items()
    }
    outputs = {
        "mean": {name: _position_mean(after[name]) for name in scales},
        "deviation": deviation,
        "largest": {name: ops.max(before[name], axis=positions_and_filters) for name in scales},
    }
    return _compiled(keras.Model(photos, outputs, name="comparing"))


def _activations(model: keras.Model) -> tuple[Any, keras.Model]:
    """Give an input for photos, and the sub-model that gives the activations of all measured layers."""
    outputs = {name: model.get_layer(name).output for name in measured_layers(model)}
    return keras.Input(model.input_shape[1:], dtype="uint8", name="photos"), keras.Model(model.inputs, outputs)


def _preprocess(photos: Any) -> Any:
    """Prepare photos as Keras's VGG networks want them: BGR, less ImageNet's mean colour."""
    return keras.applications.vgg16.preprocess_input(ops.cast(photos, "float32"))


def _position_mean(activation: Any) -> Any:
    """Take the mean over positions, row by row first.

    In float32 it is ten times as exact as one mean over both axes, and quicker, since the sums stay short.
    """
    return ops.mean(ops.mean(activation, axis=2), axis=1)  # (n, h, w, filters) -> (n, h, filters) -> (n, filters)


def _compiled(model: keras.Model) -> keras.Model:
    model.compile(jit_compile=JIT_COMPILE)
    return model


# Normalizing


def normalize(model: keras.Model, means: FilterMeans) -> keras.Model:
    """Make an equivalent network in which every filter's mean activation is 1, by the rule of `vggnorm.rescale`.

    Args:
        model: the network that was measured. It is left as it is.
        means: of all its convolutions, on these weights.

    Raises:
        MeansError: the means were measured on other layers or other weights; the text says which.
        NetworkError: the network is of a kind that the rule does not cover, or a rescaled weight is not finite.
    """
    require_measured_on(model, means)
    normalized = keras.models.clone_model(model)
    scale_in = np.ones(3)  # red, green and blue of the photo itself
    for name, mean in means.mean.items():
        scale_out = scale_from_mean(mean)
        kernel, bias = model.get_layer(name).get_weights()
        rescaled = rescale_weights(kernel, bias, scale_in, scale_out)
        with np.errstate(over="ignore"):  # seen, and said better, by the next line
            weights = [array.astype(np.float32) for array in rescaled]
        if not all(np.isfinite(array).all() for array in weights):
            raise NetworkError(f"layer {name} would get weights that are not finite; its means are not plausible")
        normalized.get_layer(name).set_weights(weights)
        scale_in = scale_out
    return normalized


def require_measured_on(model: keras.Model, means: FilterMeans) -> None:
    """Refuse means that were measured on another network.

    Raises:
        MeansError: the layers or the weights are others; the text says which.
    """
    means.require_layers(measured_layers(model), source=model.name)
    found = weights_sha256(model)
    if found != means.recipe.weights_sha256:
        raise MeansError(
            f"the means were measured on other weights: on those of SHA-256 {means.recipe.weights_sha256[:12]}… "
            f"({means.recipe.weights}), these have {found[:12]}…; give the same --weights, or measure these"
        )


def recover_scales(model: keras.Model, normalized: keras.Model) -> dict[str, NDArray[np.float64]]:
    """Find what each filter's activation was divided by, from the two networks' weights alone.

    Args:
        model: the original.
        normalized: the same architecture, rescaled.

    Returns:
        Layer name -> `(filters,)`. See `vggnorm.rescale.recover_scale`.
    """
    scales: dict[str, NDArray[np.float64]] = {}
    scale = np.ones(3)
    for name in measured_layers(model):
        kernel, bias = model.get_layer(name).get_weights()
        kernel_rescaled, bias_rescaled = normalized.get_layer(name).get_weights()
        scales[name] = scale = recover_scale(kernel, bias, kernel_rescaled, bias_rescaled, scale)
    return scales


def layers_not_finite(model: keras.Model) -> list[str]:
    """Name the layers that have a weight which is nan or infinite."""
    return [layer.name for layer in model.layers if not all(np.isfinite(array).all() for array in layer.get_weights())]


# Saving


def save_network(
    model: keras.Model, path: str | Path, means: FilterMeans | None = None, *, force: bool = False
) -> None:
    """Save a whole model as an .h5 file that Keras 3, Keras 2 and `keras.applications` load.

    Args:
        model: what to save.
        path: a name that ends in `.h5`, and not in `.weights.h5`, by which Keras expects another layout.
        means: what the network was normalized with; kept in the file, for `vggnorm inspect` and `vggnorm verify`.
        force: whether an existing file may be replaced.

    Raises:
        OutputError: the file exists and `force` is false, has another ending, or cannot be written.
    """
    path = check_h5_output(path, force=force)
    weights = {
        layer.name: {weight.name: np.asarray(ops.convert_to_numpy(weight)) for weight in layer.weights}
        for layer in model.layers
    }
    config = to_keras2(type(model).__name__, model.get_config())
    write_h5(path, model_config=config, weights=weights, means=means)
