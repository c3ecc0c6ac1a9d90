"""Is this file normalized, and with what? Compare a file of weights with the original's.

The scales come from `vggnorm.identification.recovery`, which needs the two files alone, and the
verdict from `vggnorm.identification.judge`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from vggnorm.errors import MeansError
from vggnorm.files.formats import WeightsFile, open_weights
from vggnorm.identification.comparison import compare_with_means
from vggnorm.identification.judge import judge
from vggnorm.identification.matching import (
    is_preparation,
    load_original,
    match_layers,
)
from vggnorm.identification.recovery import recover_scales, turned_back
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.applications import has_top
from vggnorm.network.steps import LayerWeights
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
    original: keras.Model | str | Path = "imagenet",
    means: FilterMeans | None = None,
) -> Identification:
    """Tell whether a file's network is normalized, and with what.

    Args:
        path: a model or weights file of Keras, `.h5`, `.weights.h5` or `.keras`, made by anyone.
            Only its weights are read; nothing in it is executed. The file may be open already: see
            `vggnorm.files.formats.open_weights`.
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
    with open_weights(path) as file:
        return _identify(file, original, means)


def _identify(
    file: WeightsFile, original: keras.Model | str | Path, means: FilterMeans | None
) -> Identification:
    label = original.name if isinstance(original, keras.Model) else Path(original).name
    shapes = file.shapes()
    model = original if isinstance(original, keras.Model) else load_original(original, file)
    matched, names = match_layers(model, shapes, file.path)
    found = _read_found(model, names, file)
    recovery, turned = turned_back(model, found, recover_scales(model, found))
    if means is not None:
        _require_same_original(model, means)
    known, source = _choose_means(means, file)
    comparison = None if known is None else compare_with_means(recovery, known, source)
    extra = [name for name in shapes if name not in names.values()]
    return Identification(
        original=label,
        matched=matched,
        names={layer: names[layer] for layer in recovery.layers},
        missing=[layer.name for layer in model.layers if layer.weights and layer.name not in names],
        extra=extra,
        prepended=next((name for name in extra if is_preparation(shapes[name])), None),
        recovery=recovery,
        turned=turned,
        comparison=comparison,
        verdict=judge(recovery, turned, comparison),
    )


def _read_found(
    model: keras.Model, names: Mapping[str, str], file: WeightsFile
) -> dict[str, LayerWeights]:
    """Read the weights of the layers that were matched: layer name -> weight name -> array."""
    file.require_plain()
    arrays = dict(file.arrays())
    return {
        layer: _named(model.get_layer(layer), arrays[name], file.path)
        for layer, name in names.items()
    }


def _named(layer: keras.Layer, arrays: Sequence[NDArray[Any]], path: Path) -> LayerWeights:
    return {weight.name: array for weight, array in pair_weights(layer, arrays, path)}


def _choose_means(means: FilterMeans | None, file: WeightsFile) -> tuple[FilterMeans | None, str]:
    """Choose the means to compare with, those given before those in the file, and name them."""
    if means is not None:
        return means, "the means given"
    return file.means, "the means that the file has"


def _require_same_original(model: keras.Model, means: FilterMeans) -> None:
    if not means.mean.keys() & {layer.name for layer in model.layers}:
        raise MeansError(f"the means have no layer of {model.name}; measure it with compute-means")
    is_comparable = means.recipe.include_top == has_top(model)
    if is_comparable and weights_sha256(model) != means.recipe.weights_sha256:
        raise MeansError(
            f"the means were measured on other weights than {model.name}'s; measure these with "
            "compute-means"
        )
