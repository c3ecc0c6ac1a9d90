"""Is this file normalized, and with what? Compare a file of weights with the original's.

The scales come from `vggnorm.identification.recovery`, which needs the two files alone, and the
verdict from `vggnorm.identification.judge`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from vggnorm import vgg
from vggnorm.errors import MeansError
from vggnorm.files import conventions
from vggnorm.files.formats import open_weights
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.weights_file import TensorsFile, WeightsFile
from vggnorm.identification.comparison import compare_with_means
from vggnorm.identification.judge import judge
from vggnorm.identification.matching import (
    Original,
    is_preparation,
    match_layers,
    open_original,
)
from vggnorm.identification.recovery import recover_scales, turned_back
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.applications import has_top
from vggnorm.network.copies import copy_network
from vggnorm.network.family import taken_as_by
from vggnorm.network.paths import leaf_layers
from vggnorm.network.steps import LayerWeights
from vggnorm.network.surroundings import require_ready
from vggnorm.network.weights import pair_weights, weights_sha256
from vggnorm.report.identification import (
    describe,
    describe_layer,
    format_identification,
    identification_to_dict,
)
from vggnorm.verdicts.identification import Findings


class Identification(Findings):
    """What a file of weights is. `print` shows it as a table below a sentence.

    The attributes are those of `vggnorm.verdicts.identification.Findings`.
    """

    @property
    def sentence(self) -> str:
        """What the file is, in words."""
        return describe(self)

    def state(self, name: str) -> str:
        """Say what one layer is, in words."""
        return describe_layer(self.verdict.layers[name])

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as values that JSON can hold; an unknown number is None."""
        return identification_to_dict(self)

    def __str__(self) -> str:
        return format_identification(self)


def identify(
    path: str | Path | WeightsFile,
    original: keras.Model | Original | str | Path = "imagenet",
    means: FilterMeans | None = None,
) -> Identification:
    """Tell whether a file's network is normalized, and with what.

    Args:
        path: a file of weights made by anyone, of any format that `vggnorm.open_weights` reads.
            Only its weights are read; nothing in it is executed. The file may be open already.
        original: the network that it may be made from. `imagenet`: Keras's weights of VGG16 or
            VGG19, whichever the file's layers fit. A path: a model's file, or a file of VGG16's or
            VGG19's weights.
        means: of the original's activations, to compare the scales with; by default those stored in
            the file, if it has any.

    Raises:
        NetworkError: a file cannot be read; the file's layers have other shapes than the
            original's; or the original is of a kind that cannot be rescaled.
        MeansError: the means were measured on another network, or on other weights.
    """
    require_ready()
    with open_weights(path) as file:
        return _identify(file, original, means)


def _identify(
    file: WeightsFile, original: keras.Model | Original | str | Path, means: FilterMeans | None
) -> Identification:
    shapes = file.shapes()
    chosen, source = _choose_means(means, file)
    known, label = _take_original(original, file)
    known = _with_convention_of(chosen, known)
    model, converted = _in_convention_of(file, known)
    matched, names = match_layers(model, shapes, file.path)
    found = _read_found(model, names, file)
    recovery, turned = turned_back(model, found, recover_scales(model, found))
    if means is not None:
        _require_same_original(known.model, means)
    comparison = None if chosen is None else compare_with_means(recovery, chosen, source)
    extra = [name for name in shapes if name not in names.values()]
    return Identification(
        original=label,
        matched=matched,
        names={layer: names[layer] for layer in recovery.layers},
        missing=[
            path
            for path, layer in leaf_layers(model).items()
            if layer.weights and path not in names
        ],
        extra=extra,
        prepended=_prepended(file, extra),
        converted=converted,
        recovery=recovery,
        turned=turned,
        comparison=comparison,
        verdict=judge(recovery, turned, comparison),
    )


def _take_original(
    original: keras.Model | Original | str | Path, file: WeightsFile
) -> tuple[Original, str]:
    """Load the original where it is not loaded, and say what to call it."""
    if isinstance(original, keras.Model):
        return Original(original, taken_as_by(original).convention), original.name
    if isinstance(original, Original):
        return original, original.model.name
    return open_original(original, file), Path(original).name


def _with_convention_of(means: FilterMeans | None, known: Original) -> Original:
    """Take from means of the original how it takes photos, if nothing else tells.

    Means of other weights tell nothing of it.
    """
    if means is None or known.convention is not None:
        return known
    if weights_sha256(known.model) != means.recipe.weights_sha256:
        return known
    return known._replace(convention=means.recipe.preprocessing)


def _in_convention_of(file: WeightsFile, known: Original) -> tuple[keras.Model, str | None]:
    """Convert the original's first convolution to what the file's network takes photos as.

    Returns:
        The original, converted if both conventions are known and differ; and the file's convention
        if it was converted.
    """
    wanted = file.taken_as.convention
    first = vgg.convolution_name((1, 1))
    has_first = any(layer.name == first for layer in known.model.layers)
    if wanted is None or known.convention in (None, wanted) or not has_first:
        return known.model, None
    converted_model = copy_network(known.model)
    layer = converted_model.get_layer(first)
    kernel, bias = layer.get_weights()
    layer.set_weights(conventions.converted(kernel, bias, str(known.convention), wanted))
    return converted_model, wanted


def _prepended(file: WeightsFile, extra: Sequence[str]) -> str | None:
    """Name the 1x1 convolution of the photo before the first layer, if there is one."""
    if isinstance(file, TensorsFile) and file.vgg.colours is not None:
        names = LAYOUTS[file.vgg.layout].colours
        return None if names is None else names[0]
    shapes = file.shapes()
    return next((name for name in extra if is_preparation(shapes[name])), None)


def _read_found(
    model: keras.Model, names: Mapping[str, str], file: WeightsFile
) -> dict[str, LayerWeights]:
    """Read the weights of the layers that were matched: layer name -> weight name -> array."""
    file.require_plain()
    arrays = dict(file.arrays())
    layers = leaf_layers(model)
    return {layer: _named(layers[layer], arrays[name], file.path) for layer, name in names.items()}


def _named(layer: keras.Layer, arrays: Sequence[NDArray[Any]], path: Path) -> LayerWeights:
    return {weight.name: array for weight, array in pair_weights(layer, arrays, path)}


def _choose_means(means: FilterMeans | None, file: WeightsFile) -> tuple[FilterMeans | None, str]:
    """Choose the means to compare with, those given before those in the file, and name them."""
    stored = file.means
    if means is None:
        return stored, "the means that the file has"
    means.require_photos()
    if stored is not None:
        means = means.with_max_scale(stored.recipe.max_scale)
    return means, "the means given"


def _require_same_original(model: keras.Model, means: FilterMeans) -> None:
    if not means.mean.keys() & leaf_layers(model).keys():
        raise MeansError(f"the means have no layer of {model.name}; measure it with compute-means")
    is_comparable = means.recipe.include_top == has_top(model)
    if is_comparable and weights_sha256(model) != means.recipe.weights_sha256:
        raise MeansError(
            f"the means were measured on other weights than {model.name}'s; measure these with "
            "compute-means"
        )
