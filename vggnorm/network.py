"""Load a network, measure it, rescale it, save it: all that builds Keras models."""

import contextlib
import copy
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from vggnorm.description import architecture_sha256, describe
from vggnorm.errors import MeansError, NetworkError
from vggnorm.geometry import Preprocessing
from vggnorm.graph import Graph, Site, read_graph
from vggnorm.h5file import (
    check_h5_output,
    read_shapes,
    read_weights,
    require_float,
    require_plain_weights,
    require_writable,
    write_h5,
)
from vggnorm.keras2_config import to_keras2
from vggnorm.layers import FILTERS, as_channels
from vggnorm.means import FilterMeans, require_not_negative
from vggnorm.precision import exact_float32
from vggnorm.rescale import scale_from_mean
from vggnorm.room import require_room, require_usual_activations
from vggnorm.untrusted import open_hdf5, read_model_config

APPLICATIONS = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}
AVERAGING = {
    keras.layers.MaxPooling1D: keras.layers.AveragePooling1D,
    keras.layers.MaxPooling2D: keras.layers.AveragePooling2D,
    keras.layers.MaxPooling3D: keras.layers.AveragePooling3D,
}

SAME = 1e-5  # of the largest output: by how much two networks that compute the same may differ
# Of noise for a network that takes photos of any size: the first at which it runs. And for other inputs of any size.
SIDES, NOISE_SIDE = (224, 256, 512), 64

Shape = tuple[int, ...]

# On a CPU, XLA runs VGG's convolutions a quarter slower than TensorFlow's own kernels do. JAX has nothing else.
JIT_COMPILE = False if keras.backend.backend() == "tensorflow" else "auto"


# Loading


def load_network(
    network: str = "vgg16", weights: str | Path = "imagenet", *, include_top: bool = False, pooling: str = "max"
) -> keras.Model:
    """Load a network of `keras.applications`, or a model file.

    Args:
        network: `vgg16` or `vgg19`, for photos of any size unless `include_top`; or the path of a model, a `.keras` or
            `.h5` file.
        weights: of VGG: `imagenet`, which Keras downloads once, or an .h5 file: one of Keras's own, a saved model, or
            a `.weights.h5`. Dense layers that the network does not have are left out. A model file has its own weights.
        include_top: whether VGG has its dense layers, which fix the size of the photos to 224.
        pooling: `max` leaves the network as it is, `avg` puts average pooling in the place of each max pooling, as
            style transfer often does.

    Raises:
        NetworkError: the network is not known; the weights or the model cannot be downloaded or read, or are another's.
    """
    if network not in APPLICATIONS:
        if include_top:
            raise NetworkError(f"{network}: include_top is for {' and '.join(APPLICATIONS)}; a model file is as it is")
        model = _load_model(network, weights)
    else:
        model = _load_application(network, weights, include_top=include_top)
    return model if pooling == "max" else _with_pooling(model, pooling)


def _load_application(network: str, weights: str | Path, *, include_top: bool) -> keras.Model:
    if (keras.config.floatx(), keras.config.image_data_format()) != ("float32", "channels_last"):
        raise NetworkError(
            f"Keras is set to {keras.config.floatx()} and {keras.config.image_data_format()}, in keras.json or by the "
            "program; VGG needs float32 and channels_last"
        )
    if weights == "imagenet":
        return _download(network, include_top=include_top)
    model = APPLICATIONS[network](weights=None, include_top=include_top)
    _load_weights(model, Path(weights))
    return model


def _load_model(network: str, weights: str | Path) -> keras.Model:
    path = Path(network)
    if path.suffix not in (".keras", ".h5"):
        known = ", ".join(APPLICATIONS)
        raise NetworkError(f"the network {network!r} is not known; it must be one of {known}, or a .keras or .h5 file")
    if weights != "imagenet":
        raise NetworkError(f"{path}: a model file has its own weights; leave out --weights")
    _require_file(path, "a .keras or .h5 file of a model")
    config = read_model_config(path, keras.saving.get_custom_objects())
    try:
        require_plain_weights(path)
        require_room(config, path, _build)
        model = _build(config)
        if path.suffix == ".keras":
            model.load_weights(path)
        else:
            _load_keras2_weights(model, path)
    except NetworkError:
        raise
    except Exception as error:  # what a stranger's file makes Keras raise cannot be foreseen
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(f"{path}: cannot be loaded as a Keras model: {reason}") from error
    _require_finite(model, path)
    return model


def require_as_keras_loads(model: keras.Model, path: Path) -> bool:
    """Hold a network that was loaded from a model file against what Keras itself loads from it.

    Returns:
        Whether Keras could load the file; if not, nothing is compared.

    Raises:
        NetworkError: the two compute something else.
    """
    read_model_config(path, keras.saving.get_custom_objects())
    try:
        loaded = keras.saving.load_model(path, compile=False)
    except Exception:  # what Keras raises for a file that it cannot read cannot be foreseen
        return False
    require_same_outputs(loaded, model, f"what was loaded from {path}")
    return True


def _build(config: Mapping[str, Any]) -> keras.Model:
    """Build a model, without its weights, from a configuration in the words of Keras 2 or 3."""
    kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
    return kind.from_config(copy.deepcopy(config["config"]))  # Keras takes it apart


def _at_a_fitting_size(model: keras.Model, run: Callable[[Sequence[Shape]], Any]) -> Any:
    """Do something with the shape of one photo; of a network that takes any size, with one that it does take.

    Args:
        model: the network.
        run: takes a shape for each input. It is called again with a larger one if Keras raises an error.

    Raises:
        NetworkError: Keras raises an error for each size; the text has the last one.
    """

    def shapes(side: int) -> list[Shape]:
        return [_one_photo(tensor.shape, side) for tensor in model.inputs]

    if all(None not in tensor.shape[1:] for tensor in model.inputs):
        return run(shapes(SIDES[0]))
    for side in SIDES:
        try:
            return run(shapes(side))
        except NetworkError:
            raise
        except Exception as error:  # each backend has errors of its own for a size that does not fit
            failure = error
    reason = " ".join(str(failure).split())[:200]
    raise NetworkError(f"{model.name}: cannot be run on a photo of {SIDES[-1]} pixels: {reason}") from failure


def _one_photo(shape: Sequence[int | None], side: int) -> Shape:
    """Give the shape of one photo, in a batch of as few as a network takes."""
    any_size = side if len(shape) == 4 else NOISE_SIDE
    return (shape[0] or 1, *(any_size if length is None else length for length in shape[1:]))


def _require_finite(model: keras.Model, path: Path) -> None:
    if broken := layers_not_finite(model):
        raise NetworkError(f"{path}: has weights that are not finite, in layer {broken[0]}")


def _require_file(path: Path, wanted: str) -> None:
    try:
        is_file = path.is_file()
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_file:
        raise NetworkError(f"{path}: there is no such file; give {wanted}")


def _download(network: str, *, include_top: bool) -> keras.Model:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress on stdout
            return APPLICATIONS[network](weights="imagenet", include_top=include_top)
    except Exception as error:
        # Keras raises a bare Exception for what it expects, and a ValueError for a file that is not the one it wants.
        expected = "URL fetch failure" in str(error) or "corrupted file" in str(error)
        if not expected and not isinstance(error, OSError | HTTPException):
            raise
        reason = " ".join(str(error).rpartition(" -- ")[2].split()) or type(error).__name__
        raise NetworkError(
            f"the ImageNet weights of {network} cannot be downloaded ({reason}); give a file "
            "with --weights, for VGG16 the one that 'python scripts/fetch_weights.py -o vgg16_imagenet.h5' makes"
        ) from error


def _load_weights(model: keras.Model, path: Path) -> None:
    _require_file(path, f"'imagenet' or an .h5 file of {model.name}'s weights")
    require_plain_weights(path)
    if path.name.endswith(".weights.h5"):
        _load_keras3_weights(model, path)
    else:
        _load_keras2_weights(model, path)
    _require_finite(model, path)


def _with_pooling(model: keras.Model, pooling: str) -> keras.Model:
    """Put average pooling in the place of each max pooling, under its name."""
    if pooling != "avg":
        raise NetworkError(f"the pooling {pooling!r} is not known; it must be one of max, avg")

    require_same_outputs(model, _cloned(model, {}), "a copy of it")
    return _cloned(model, AVERAGING)


def _cloned(model: keras.Model, replaced: Mapping[type[keras.Layer], type[keras.Layer]]) -> keras.Model:
    """Make a copy with layers of other kinds in the place of some."""

    def clone(layer: keras.Layer) -> keras.Layer:
        return replaced.get(type(layer), type(layer)).from_config(layer.get_config())

    changed = keras.models.clone_model(model, clone_function=clone)
    _give_weights(changed, model)
    return changed


def _load_keras2_weights(model: keras.Model, path: Path) -> None:
    _check_shapes(model, path)
    names = {layer.name for layer in model.layers}
    for name, arrays in read_weights(path):
        if name in names:
            for weight, array in pair_weights(model.get_layer(name), arrays, path):
                weight.assign(array)
    _finalize(model)


def pair_weights(layer: keras.Layer, arrays: Sequence[NDArray[Any]], path: Path) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Give each weight of a layer and its array in an .h5 file.

    Raises:
        NetworkError: an array has whole numbers in the place of others.
    """
    for weight, array in zip(weights_in_files_order(layer), arrays, strict=True):
        if "float" in str(weight.dtype):
            require_float(path, layer.name, array.dtype)
        yield weight, array


def weights_in_files_order(layer: keras.Layer) -> list[Any]:
    """Give a layer's weights in the order of an .h5 file: what is trained comes first.

    That is not always the order of `layer.weights`, which a layer made of other layers lists one by one.
    """
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _check_shapes(model: keras.Model, path: Path) -> None:
    """Refuse what Keras would load without a word: a file that lacks a layer, or is of a larger network."""
    found = read_shapes(path)
    for layer in model.layers:
        wanted = [tuple(weight.shape) for weight in weights_in_files_order(layer)]
        if wanted and found.get(layer.name) != wanted:
            raise NetworkError(
                f"{path}: holds no weights of {model.name}: layer {layer.name} has weights of the shapes "
                f"{name_shapes(wanted)} there, and {name_shapes(found.get(layer.name))} in the file"
            )
    convolutions = {name for name, shapes in found.items() if any(len(shape) == 4 for shape in shapes)}
    unknown = convolutions - {layer.name for layer in model.layers}
    if unknown:
        raise NetworkError(
            f"{path}: holds the weights of another network than {model.name}, with a layer {min(unknown)}; "
            "say which with --network"
        )


def _load_keras3_weights(model: keras.Model, path: Path) -> None:
    with open_hdf5(path):
        pass  # nothing in it but numbers, all of them there
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping nested container")  # layers that would stay as they are
            model.load_weights(path)
    except UserWarning as error:
        raise NetworkError(f"{path}: holds no weights of {model.name}: layers of it are missing") from error
    except (KeyError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(f"{path}: holds no weights of {model.name}, or is damaged: {reason}") from error


def name_shapes(shapes: Sequence[tuple[int, ...]] | None) -> str:
    """Write down the shapes of a layer's weights, for people."""
    return " and ".join("x".join(map(str, shape)) for shape in shapes) if shapes else "none"


# Measuring


def weights_sha256(model: keras.Model) -> str:
    """Identify a network's weights.

    SHA-256 over all its layers in network order, of each the weights in Keras's order, for a convolution the kernel
    `(height, width, channels in, filters)` and then the bias, as little-endian float32.
    """
    digest = hashlib.sha256()
    for layer in model.layers:
        for array in layer.get_weights():
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def has_top(model: keras.Model) -> bool:
    """Tell whether a model is VGG16 or VGG19 with its dense layers."""
    return model.name in APPLICATIONS and any(layer.name == "predictions" for layer in model.layers)


def photo_size(model: keras.Model) -> tuple[int, int] | None:
    """Tell the height and width of the photos that a network takes; None if it takes any.

    Raises:
        NetworkError: it does not take RGB photos.
    """
    shape = model.inputs[0].shape
    if len(shape) != 4 or 3 not in (shape[1], shape[-1]):
        raise NetworkError(f"{model.name}: takes {shape[1:]}, and not photos of 3 colours")
    height, width = shape[2:] if _is_channels_first(model) else shape[1:3]
    if (height is None) != (width is None):
        raise NetworkError(f"{model.name}: fixes one side of the photos, {shape[1:]}; build it with both, or with none")
    return None if height is None else (height, width)


def measuring_model(
    graph: Graph, preprocessing: Preprocessing = "caffe", size: tuple[int, int] | None = None
) -> keras.Model:
    """Make the model that measures photos: the mean activation over positions of every filter.

    Args:
        graph: the network.
        preprocessing: of the photos.
        size: their height and width, where that is known; it makes the means quicker.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to a dict: layer name -> `(photos, filters)`
        float32. Only these vectors leave the device.

    Raises:
        NetworkError: its input cannot hold the photos, or Keras computes it wrongly at that size.
    """
    photos = _photos(graph.model, size)
    pixels = _prepared(photos, graph.model, preprocessing)
    _require_biases_on_channels(graph, pixels)
    activations = keras.Model(graph.model.inputs[0], _activations(graph), name="activations")(pixels)
    means = {name: _position_mean(activations[name], site) for name, site in graph.sites.items()}
    return _compiled(keras.Model(photos, means, name="measuring"))


def comparing_model(
    graph: Graph,
    normalized: Graph,
    scales: Mapping[str, NDArray[np.float64]],
    preprocessing: Preprocessing = "caffe",
    size: tuple[int, int] | None = None,
) -> keras.Model:
    """Make the model that runs photos through the original and the normalized network side by side.

    Args:
        graph: the original.
        normalized: the one to compare with it.
        scales: layer name -> `(filters,)`, what the normalized activations are to be multiplied by.
        preprocessing: of the photos.
        size: their height and width, where that is known.

    Returns:
        A model from `(photos, height, width, 3)` uint8, RGB 0..255, to three dicts, each layer name -> array:
        `mean`, the normalized network's position means, `(photos, filters)`; `deviation`, each photo's largest
        absolute difference between scaled and original activations, `(photos,)`; `largest`, each photo's largest
        absolute original activation, `(photos,)`. The latter two have the network's outputs, too.

    Raises:
        NetworkError: as `measuring_model` has it.
    """
    photos = _photos(graph.model, size)
    pixels = _prepared(photos, graph.model, preprocessing)
    _require_biases_on_channels(graph, pixels)
    before, after = (
        keras.Model(side.model.inputs[0], _activations(side) | _outputs(side), name=name)(pixels)
        for name, side in (("original", graph), ("normalized", normalized))
    )
    factors = dict(zip(_outputs(graph), graph.rescale(scales).outputs, strict=True))
    for name, site in graph.sites.items():
        factors[name] = as_channels(scales[name], site.axis, len(site.activation.shape))
    outputs = {
        "mean": {name: _position_mean(after[name], site) for name, site in graph.sites.items()},
        "deviation": {
            name: _photo_max(after[name] * factor.astype(np.float32) - before[name]) for name, factor in factors.items()
        },
        "largest": {name: _photo_max(before[name]) for name in factors},
    }
    return _compiled(keras.Model(photos, outputs, name="comparing"))


def _photos(model: keras.Model, size: tuple[int, int] | None) -> Any:
    height, width = photo_size(model) or size or (None, None)
    return keras.Input((height, width, 3), dtype="uint8", name="photos")


def _prepared(photos: Any, model: keras.Model, preprocessing: Preprocessing) -> Any:
    """Turn uint8 RGB photos into what the network takes."""
    if preprocessing not in get_args(Preprocessing):
        known = ", ".join(get_args(Preprocessing))
        raise NetworkError(f"the preprocessing {preprocessing!r} is not known; it must be one of {known}")
    _require_room_for(model, preprocessing)
    pixels = ops.cast(photos, "float32")
    if preprocessing != "none":
        pixels = keras.applications.imagenet_utils.preprocess_input(pixels, "channels_last", preprocessing)
    return ops.transpose(pixels, (0, 3, 1, 2)) if _is_channels_first(model) else pixels


def _require_room_for(model: keras.Model, preprocessing: Preprocessing) -> None:
    """Refuse a network whose input cannot hold the prepared photos: Keras would round them without a word."""
    dtype = str(model.inputs[0].dtype)
    if dtype in ("float32", "float64"):
        return
    if preprocessing != "none":
        raise NetworkError(
            f"{model.name}: its input is of type {dtype}, which does not hold the numbers that the preprocessing "
            f"{preprocessing} gives; give the preprocessing none, or build the network with an input of float32"
        )
    if dtype not in ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16"):
        raise NetworkError(
            f"{model.name}: its input is of type {dtype}, which does not hold the numbers from 0 to 255; build the "
            "network with an input of float32"
        )


def _require_biases_on_channels(graph: Graph, pixels: Any) -> None:
    """Refuse a network of which Keras on TensorFlow adds a bias along the wrong axis.

    There Keras tells the axis of a bias by its length, and looks at the last axis first. Where the channels come first
    and a map is as wide as it has filters, that is the width.
    """
    if keras.backend.backend() != "tensorflow":
        return
    outputs = {
        step.layer.name: step.output
        for step in graph.steps
        if type(step.layer) in FILTERS and step.axis == 1 and len(step.output.shape) > 2 and step.layer.use_bias
    }
    if not outputs:
        return
    for name, output in keras.Model(graph.model.inputs[0], outputs)(pixels).items():
        filters, width = output.shape[1], output.shape[-1]
        if filters == width > 1:  # a bias of one number has no axis to mistake
            raise NetworkError(
                f"layer {name}: has the channels first and gives a map as wide as it has filters, {width}, and there "
                "Keras with TensorFlow adds the bias along the width; give photos of another size, build the network "
                "with the channels last, or set KERAS_BACKEND=jax"
            )


def _is_channels_first(model: keras.Model) -> bool:
    shape = model.inputs[0].shape
    return bool(shape[1] == 3 and shape[-1] != 3)


def _activations(graph: Graph) -> dict[str, Any]:
    return {name: site.activation for name, site in graph.sites.items()}


def _outputs(graph: Graph) -> dict[str, Any]:
    """Name the network's outputs after what they are, so that they do not hide a site of the same layer."""
    return {
        f"output {index} ({output._keras_history.operation.name})": output
        for index, output in enumerate(graph.model.outputs)
    }


def _position_mean(activation: Any, site: Site) -> Any:
    """Take the mean over positions, `(photos, ..., filters)` -> `(photos, filters)` float32, one axis after the other.

    In float32 that is ten times as exact as one mean over all axes, since the sums stay short. With TensorFlow, the
    first and largest reduction is a pooling over whole rows, which costs little beside the convolutions; a mean does
    not. In bfloat16 it sums in float32 and rounds each row's mean, which cancels out over the rows. JAX pools in
    bfloat16 all through, so that there, and elsewhere, the numbers are made float32 first.
    """
    width = activation.shape[2] if len(activation.shape) == 4 else None
    if keras.backend.backend() == "tensorflow" and site.axis == 3 and width is not None:
        activation = ops.average_pool(
            activation, (1, width), data_format="channels_last"
        )  # (n, h, w, filters) -> (n, h, 1, filters)
    activation = ops.cast(activation, "float32")
    for axis in reversed(range(1, len(site.activation.shape))):
        if axis != site.axis:
            activation = ops.mean(activation, axis=axis)
    return activation


def _photo_max(values: Any) -> Any:
    return ops.max(ops.abs(values), axis=tuple(range(1, len(values.shape))))


def _compiled(model: keras.Model) -> keras.Model:
    # On a CPU, TensorFlow itself has no convolution with the channels first. oneDNN and XLA have one.
    model.compile(jit_compile=_has_channels_first(model) or JIT_COMPILE)
    return model


def _has_channels_first(model: keras.Model) -> bool:
    return any(
        getattr(layer, "data_format", None) == "channels_first"
        or (isinstance(layer, keras.Model) and _has_channels_first(layer))
        for layer in model.layers
    )


# Normalizing


def normalize(model: keras.Model, means: FilterMeans) -> keras.Model:
    """Make an equivalent network in which every filter's mean activation is 1, by the rule of `vggnorm.rescale`.

    Args:
        model: the network that was measured. It is left as it is.
        means: what was measured, on these weights.

    Raises:
        MeansError: the means were measured on other layers, weights or pooling, or are not possible; the text says
            which.
        NetworkError: the network is of a kind that the rule does not cover, or a rescaled weight is not finite.
    """
    graph = read_graph(model, dense=means.recipe.dense)
    require_measured_on(graph, means)
    rescaled = graph.rescale({name: scale_from_mean(mean) for name, mean in means.mean.items()})
    normalized = copy_network(model)
    require_same_outputs(model, normalized, "a copy of it")
    for layer in model.layers:
        if layer.name in rescaled.weights:
            changed = rescaled.weights[layer.name]()
            arrays = zip(layer.weights, layer.get_weights(), strict=True)
            normalized.get_layer(layer.name).set_weights(
                [_finite(layer.name, changed.get(variable.name, array)) for variable, array in arrays]
            )
    return normalized


def copy_network(model: keras.Model) -> keras.Model:
    """Make a copy with layers and weights of its own, all under the same names."""

    def clone(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config())

    photos = model.inputs[0]
    name = photos._keras_history.operation.name
    copied: Any = keras.Input(batch_shape=photos.shape, dtype=photos.dtype, name=name)
    if hasattr(model, "_inputs_struct"):  # a list or dict of one, as in files of Keras 2
        copied = keras.tree.pack_sequence_as(model._inputs_struct, [copied])
    copy = keras.models.clone_model(model, copied, clone_function=clone)
    _give_weights(copy, model)
    return copy


def _give_weights(copy: keras.Model, model: keras.Model) -> None:
    copy.set_weights(model.get_weights())
    _finalize(copy)


def _finalize(model: keras.Model) -> None:
    """Have the layers derive anew what they derive from their weights, as Keras's own loading does."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def require_same_outputs(model: keras.Model, other: keras.Model, what: str) -> None:
    """Refuse to go on if two networks that must compute the same do not.

    Both are given two pictures of noise, and every layer of them is compared: a difference behind the first layer may
    not show in the outputs, where they are saturated. A layer may differ by `SAME` of its largest number.

    Args:
        model: the network.
        other: what must compute the same.
        what: what to call `other` in the error.

    Raises:
        NetworkError: a layer differs; the text names the first one.
    """
    (names, wanted), (other_names, found) = _every_tensor(model), _every_tensor(other)
    if len(names) != len(other_names):
        raise NetworkError(f"{model.name}: {what} has {len(other_names)} layers, and the network has {len(names)}")

    def compare(shapes: Sequence[Shape]) -> None:
        require_usual_activations(model, shapes[0])
        for noise in _pictures_of_noise(model, shapes):
            before, after = _run_once(model, wanted, noise), _run_once(other, found, noise)
            for name, one, another in zip(names, before, after, strict=True):
                _require_same(f"{model.name}: {what} computes something else, from layer {name} on", one, another)

    with exact_float32():
        _at_a_fitting_size(model, compare)


def _pictures_of_noise(model: keras.Model, shapes: Sequence[Shape]) -> Iterator[list[NDArray[Any]]]:
    """Give noise from 0 to 255, which some networks take, and from -1 to 1, which others take."""
    random = np.random.default_rng(0)
    for low, high in ((0, 255), (-1, 1)):
        pictures = [random.uniform(low, high, shape) for shape in shapes]
        yield [_as_input(picture, str(tensor.dtype)) for picture, tensor in zip(pictures, model.inputs, strict=True)]


def _as_input(picture: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    return np.abs(picture).round().astype(dtype) if "int" in dtype else picture.astype(np.float32)


def _require_same(trouble: str, wanted: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    largest = np.abs(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).max(initial=0)
    if not np.allclose(found, wanted, rtol=0, atol=SAME * largest, equal_nan=True):
        difference = np.abs(found - wanted).max()
        raise NetworkError(
            f"{trouble}; that differs by up to {difference:.1e}, and its largest number is {largest:.1e}; the layer "
            "may keep state that is not among its weights, or draw random numbers"
        )


def _run_once(model: keras.Model, tensors: list[Any], noise: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Compute tensors of a network. Nothing is compiled, which takes longer than running it, unless it must be."""
    giving = keras.Model(model.inputs, tensors)
    if _has_channels_first(model):
        given = _compiled(giving).predict_on_batch(noise)
    else:
        given = giving([ops.convert_to_tensor(photo) for photo in noise], training=False)
    return [np.asarray(ops.convert_to_numpy(tensor), np.float32) for tensor in keras.tree.flatten(given)]


def _every_tensor(model: keras.Model) -> tuple[list[str], list[Any]]:
    """Give all that a network computes, from the input to the outputs, and the name of the layer of each."""
    by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    tensors = [(node.operation.name, tensor) for node in nodes for tensor in node.outputs]
    return [name for name, _ in tensors], [tensor for _, tensor in tensors]


def require_measured_on(graph: Graph, means: FilterMeans) -> None:
    """Refuse means that were measured on another network.

    Raises:
        MeansError: the means are those of a part of the photos, the layers, the weights or the pooling are others, or
            a mean is negative that cannot be; the text says which.
    """
    means.require_whole()
    means.require_layers(graph.filters, source=graph.model.name)
    found, measured = weights_sha256(graph.model), means.recipe.weights_sha256
    if found != measured:
        raise MeansError(
            f"the means were measured on other weights: on those of SHA-256 {measured[:12]}… ({means.recipe.weights}), "
            f"these have {found[:12]}…; give the same --weights, or measure these"
        )
    if graph.pooling != means.recipe.pooling:
        raise MeansError(
            f"the means were measured with {means.recipe.pooling} pooling, and this network has {graph.pooling} "
            "pooling; give the same --pooling, or measure this one"
        )
    known = means.recipe.architecture_sha256
    if known is not None and known != architecture_sha256(graph):
        raise MeansError(
            "the means were measured on another network with the same weights: a setting of a layer differs, such as a "
            "stride, a padding, a slope or an epsilon, or what stands in front; give that network, or measure this one"
        )
    for name, site in graph.sites.items():
        if site.rectified:
            try:
                require_not_negative(f"the mean of {name}", means.mean[name])
            except ValueError as error:
                raise MeansError(f"the means are not possible: {error}, behind a rectified linear unit") from error


def is_application(model: keras.Model) -> bool:
    """Tell whether a network is VGG16 or VGG19 as Keras builds them, with max or average pooling."""
    graph = read_graph(model)
    if architecture_sha256(graph) is None:
        return False
    found = describe(graph)

    def own(include_top: bool) -> list[str]:
        with keras.StatelessScope(initialize_variables=False):
            return [
                describe(read_graph(build(weights=None, include_top=include_top))) for build in APPLICATIONS.values()
            ]

    with ThreadPoolExecutor(1) as thread:  # see vggnorm.room.require_room
        descriptions = [text for top in (False, True) for text in thread.submit(own, top).result()]
    return any(found in (text, text.replace("MaxPooling2D", "AveragePooling2D")) for text in descriptions)


def layers_not_finite(model: keras.Model) -> list[str]:
    """Name the layers that have a weight which is nan or infinite."""
    return [layer.name for layer in model.layers if not all(np.isfinite(array).all() for array in layer.get_weights())]


def _finite(layer: str, array: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # seen, and said better, below
        rounded = array.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise NetworkError(f"layer {layer} would get weights that are not finite; its means are not plausible")
    return rounded


# Saving


def save_network(
    model: keras.Model, path: str | Path, means: FilterMeans | None = None, *, force: bool = False
) -> None:
    """Save a whole model as an .h5 file that Keras 3.4 and later, TensorFlow's Keras 2 and `keras.applications` load.

    `load_model` of Keras 3.0 to 3.3, and of Keras 2 outside TensorFlow, cannot read it. There, build the same
    layers and give them the weights: `keras.applications.VGG16(weights=path, include_top=False)`, or
    `model.load_weights(path)`.

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
        layer.name: {name: np.asarray(ops.convert_to_numpy(weight)) for name, weight in _named_weights(layer).items()}
        for layer in model.layers
    }
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
    except NotImplementedError:  # a layer of somebody's own does not describe itself; its means are wanted all the same
        return
    require_writable(config, names)


def _named_weights(layer: keras.Layer) -> dict[str, Any]:
    """Name a layer's weights for an .h5 file; in a layer made of other layers, names alone may be there twice."""
    weights = weights_in_files_order(layer)
    names = [weight.name for weight in weights]
    if len(set(names)) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names)]
    return dict(zip(names, weights, strict=True))
