"""A VGG of Keras, out of files of other programs and into them."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from vggnorm import vgg
from vggnorm.files.conventions import converted
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.keras2_config import to_keras2
from vggnorm.files.keras_file import plain_vgg
from vggnorm.files.tensor import of_array
from vggnorm.files.vgg_weights import NOT_KNOWN, TakenAs, VggWeights
from vggnorm.files.weights_file import WeightsFile, taken_as_by_numbers
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.front import prepares_photos
from vggnorm.network.keras_private import calls_in
from vggnorm.network.kinds import IN_TRAINING
from vggnorm.network.nesting import opened
from vggnorm.network.padding import with_padding
from vggnorm.network.paths import DOT
from vggnorm.network.policies import in_float32
from vggnorm.network.reflection import ReflectionPadding2D
from vggnorm.network.storage import load_model
from vggnorm.network.surroundings import require_ready
from vggnorm.network.weights import weights_in_files_order
from vggnorm.photos.geometry import Preprocessing


def load_normalized(path: str | Path | WeightsFile) -> keras.Model:
    """Load a normalized network as its original was measured, to compare the two.

    If the file was converted to take photos in another way, its first convolution is converted
    back. If the original was measured with reflection padding, the network gets it, too.

    Args:
        path: a file that vggnorm made, of any format. It may be open already.

    Raises:
        MeansError: the file does not hold the means that it was normalized with.
        NetworkError: as of `vggnorm.load_network`.
    """
    require_ready()
    with open_weights(path) as file:
        recipe = load_means(file).recipe
        model = load_model(file)
        convention = file.taken_as.convention
    if convention is not None and convention != recipe.preprocessing:
        layer = model.get_layer(vgg.convolution_name((1, 1)))
        kernel, bias = layer.get_weights()
        layer.set_weights(converted(kernel, bias, convention, recipe.preprocessing))
    return with_padding(model, recipe.padding)


def taken_as_by(model: keras.Model) -> TakenAs:
    """Tell by the numbers of its first convolution how a network takes photos.

    They do not tell if anything stands in front of it but reflection padding, augmentation and
    other layers that do nothing when the network is used. But if that prepares photos of 0 to 255
    in a known way, the network takes them as they are. In transfer learning, the convolution is
    inside a model: its path ends in its name.
    """
    network = opened(in_float32(model))
    if prepares_photos(network):
        return TakenAs("none", "what stands in front of its first filter")
    first = vgg.convolution_name((1, 1))
    calls = {id(call.outputs[0]): call for call in calls_in(network)}
    for call in calls.values():
        if call.operation.name.rpartition(DOT)[2] != first:
            continue
        before = calls[id(call.inputs[0])]
        while isinstance(before.operation, (ReflectionPadding2D, *IN_TRAINING)):
            before = calls[id(before.inputs[0])]
        if before.is_input:
            arrays = [of_array(array) for array in call.operation.get_weights()]
            return taken_as_by_numbers({first: arrays})
    return NOT_KNOWN


def weights_of(
    model: keras.Model,
    preprocessing: Preprocessing | None = None,
    means: FilterMeans | None = None,
) -> VggWeights:
    """Give the weights of a VGG for `vggnorm.save_weights`.

    Args:
        model: VGG16, VGG19 or one like them, with the names that Keras gives its layers. Its
            padding, zeros or reflections, is not part of the weights.
        preprocessing: what it takes photos as; by default what the recipe of the means says, or
            what the numbers of the first convolution show.
        means: the means that it was normalized with. They travel with the weights.

    Raises:
        NetworkError: the model is not a plain VGG.
    """
    require_ready()
    if preprocessing is not None:
        taken_as = TakenAs(preprocessing, "the caller")
    elif means is not None:
        taken_as = TakenAs(means.recipe.preprocessing, "the recipe of the means")
    else:
        taken_as = taken_as_by(model)
    model = with_padding(model, "zeros")
    layers = {
        layer.name: [
            of_array(np.asarray(keras.ops.convert_to_numpy(weight)))
            for weight in weights_in_files_order(layer)
        ]
        for layer in model.layers
        if layer.weights
    }
    config = to_keras2(type(model).__name__, model.get_config())
    weights = plain_vgg(layers, config, Path(model.name))
    return replace(weights, means=means, taken_as=taken_as)
