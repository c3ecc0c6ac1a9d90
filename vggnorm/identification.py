"""Is this file normalized, and with what? What a file of weights is, compared to the original's.

The scales come from `vggnorm.recovery`, which needs the two files alone. Whether they are means of activations, other
means tell, measured or kept in the file. Without any, three things can be told:

- Scales that are one number a layer, powers of two, or such that all of a layer's kernels have the same norm, have
  another origin.
- If a layer takes activations whose means are all 1, z = sum_kc W' a_kc + b' before the rectification has the mean
  sum_kc W' + b' over photos and positions; and since max(0, z) >= z (Jensen's inequality, for this function), the
  filter's mean activation is at least as large. If it is 1, then

      sum_kc W'[k, c, i] + b'[i] <= 1

  for every filter of a layer that takes rectified activations directly, with no pooling in between, by which means
  change. Padding with zeros takes a little from the left side or adds to it, as a share of the positions at the border.
- That is necessary and not sufficient: scales that are all twice the means pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from vggnorm.errors import MeansError
from vggnorm.h5file import holds_means, read_means, read_weights, require_plain_weights
from vggnorm.layers import Weights
from vggnorm.matching import Matched, is_preparation, load_original, match_layers, readable_shapes
from vggnorm.means import FilterMeans
from vggnorm.network import has_top, pair_weights, weights_sha256
from vggnorm.printable import join_lines, printable
from vggnorm.recovery import FLOAT32, LayerScales, Recovery, recover_scales, turned_back
from vggnorm.rescale import Float64, scale_from_mean
from vggnorm.summary import json_number

Kind = Literal["original", "normalized", "possibly normalized", "rescaled", "something else"]

# Of VGG16, normalized with means over 16 photos and over 60, no filter of a layer without pooling before it has
# sum W' + b' above 1.1. With random scales up to 75 % of a layer's filters have, with each layer's means exchanged
# among its filters up to 22 %.
DRIFT_LIMIT, DRIFT_SHARE = 1.1, 0.02
CONSTANT = 1e-3  # relative spread of what counts as one number
# The logarithms of VGG16's means over 16 photos and over 60 others are correlated by 0.65, in the median over the
# layers, and the layers' median ratios are 0.75 to 1.03. Means exchanged among a layer's filters are not correlated.
CORRELATION, RATIO = 0.4, 2.0
EXACT, CLOSE = 1e-4, 0.05  # relative
ALMOST = 0.99  # share of filters that are close; means over other photos never come as near
FILTERS_SHOWN = 6


@dataclass(frozen=True)
class MeansComparison:
    """How scales compare with means.

    Attributes:
        source: what the means are called.
        ratio: layer name -> `(filters,)`, scale divided by the scale that the means give; nan where unknown.
        correlation: layer name -> of the logarithms of both over the layer's filters; nan where either does not vary.
    """

    source: str
    ratio: dict[str, Float64]
    correlation: dict[str, float]

    @property
    def every_ratio(self) -> Float64:
        """The ratios of all filters, unknown ones left out."""
        every: Float64 = np.concatenate(list(self.ratio.values()))
        return every[np.isfinite(every)]

    @property
    def median(self) -> float:
        """The median ratio."""
        return float(np.median(self.every_ratio))

    @property
    def share_close(self) -> float:
        """The share of filters whose ratio is within 5 % of 1."""
        return float((np.abs(self.every_ratio - 1) <= CLOSE).mean())

    @property
    def is_related(self) -> bool:
        """Whether the scales may be means of the same filters over other photos."""
        known = [value for value in self.correlation.values() if np.isfinite(value)]
        related = bool(known) and float(np.median(known)) >= CORRELATION
        return related and 1 / RATIO <= self.median <= RATIO

    def describe(self, rounding: float) -> str:
        """Say how the scales compare with the means, if they are related; rounding is that of the weights, relative."""
        if (np.abs(self.every_ratio - 1) <= max(EXACT, 2 * rounding)).all():
            return f"It is normalized, exactly by {self.source}."
        if self.share_close > ALMOST:
            return f"It is normalized, by {self.source} or nearly the same."
        return (
            "It is normalized, by means that were measured on other photos, or photos cut in another way, than "
            f"{self.source}: its scales are {self.median:.2f} times those in the median, {self.share_close:.0%} of the "
            f"filters are within {CLOSE:.0%}."
        )


@dataclass(frozen=True)
class Identification:
    """What a file of weights is.

    Attributes:
        original: what the original is called.
        matched: whether its layers were found by `name` or by their `order` and shapes.
        names: layer name of the original -> that in the file, for the layers compared.
        missing: layers of the original that the file does not have.
        extra: layers with weights of the file that the original does not have.
        prepended: which of these is a 1x1 convolution of the photo, put before the first layer.
        recovery: the scales.
        turned: layers whose kernels are turned by 180 degrees. They were turned back before the scales were found.
        comparison: of the scales with means, if there are any.
    """

    original: str
    matched: Matched
    names: dict[str, str]
    missing: list[str]
    extra: list[str]
    prepended: str | None
    recovery: Recovery
    turned: list[str]
    comparison: MeansComparison | None = None

    @cached_property
    def troubles(self) -> dict[str, list[str]]:
        """Layer name -> what keeps it from being a pure rescaling, of layers that are one for the most part."""
        layers = self.recovery.layers.items()
        troubles = {
            name: _troubles(layer, is_first=self.recovery.takes_photos and not index)
            for index, (name, layer) in enumerate(layers)
        }
        for name, difference in self.recovery.normalizations.items():
            off = difference > self.recovery.rounding.relative
            troubles[name] = [f"batch normalization differs by {difference:.1e}"] if off else []
        for name in self.turned:
            troubles[name].append("kernels turned by 180 degrees")
        return {name: found for name, found in troubles.items() if found}

    @property
    def kind(self) -> Kind:
        """What the file is, by the layers whose weights are the original's but for a scale."""
        return self._judgement[0]

    @property
    def intact(self) -> bool:
        """Whether all layers of the file that were compared are a pure rescaling of the original's."""
        explained = all(bool(layer.explained.all()) for layer in self.recovery.layers.values())
        return explained and not self.troubles

    @property
    def sentence(self) -> str:
        """What the file is, in words."""
        return " ".join([self._judgement[1], *self._qualifications()])

    def state(self, name: str) -> str:
        """Say what one layer is."""
        layer = self.recovery.layers[name]
        if np.median(layer.alike) < 1:
            return "other weights"
        one = _is_one(layer.scale, self.recovery.rounding.relative)
        state = "original" if one else "rescaled"
        if np.median(layer.explained) < 1:
            state = f"nearly {state}"
        return "; ".join([state, *self.troubles.get(name, [])])

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as values that JSON can hold; what is not known is None."""
        comparison = self.comparison and {
            "source": self.comparison.source,
            "median_ratio": self.comparison.median,
            "share_within_5_percent": self.comparison.share_close,
            "median_ratios": {layer: _median(ratio) for layer, ratio in self.comparison.ratio.items()},
            "correlations": {layer: json_number(value) for layer, value in self.comparison.correlation.items()},
        }
        return {
            "kind": self.kind,
            "intact": self.intact,
            "sentence": self.sentence,
            "original": self.original,
            "matched_by": self.matched,
            "missing": self.missing,
            "extra": self.extra,
            "prepended": self.prepended,
            "format": self.recovery.rounding.format,
            "colours": list(self.recovery.colours),
            "turned": self.turned,
            "means": comparison,
            "layers": {name: self._layer_to_dict(name) for name in self.recovery.layers},
            "batch_normalization": self.recovery.normalizations,
        }

    def _layer_to_dict(self, name: str) -> dict[str, Any]:
        layer = self.recovery.layers[name]
        vectors = {
            "scale": layer.scale,
            "residual": layer.residual,
            "bias_deviation": layer.bias_deviation,
            "incoming": layer.incoming,
            "incoming_ratio": layer.link,
            "drift": layer.drift,
        }
        return {
            "in_file": self.names[name],
            "state": self.state(name),
            **{
                key: None if array is None else [json_number(value) for value in array]
                for key, array in vectors.items()
            },
        }

    def __str__(self) -> str:
        lines = [self.sentence, ""]
        width = max(len(printable(name)) for name in [*self.recovery.layers, *self.missing])
        row = f"{{:<{width}}} {{:>7}} {{:>9}} {{:>9}} {{:>9}} {{:>9}} {{:>8}}  {{}}"
        lines.append(row.format("layer", "filters", "scale min", "median", "max", "residual", "x means", "verdict"))
        for name, layer in self.recovery.layers.items():
            known = layer.scale[np.isfinite(layer.scale)]
            cells = [f"{of(known):.3f}" for of in (np.min, np.median, np.max)] if len(known) else ["-"] * 3
            ratio = None if self.comparison is None else _median(self.comparison.ratio.get(name))
            residual = f"{np.median(layer.residual):.1e}"
            last = "-" if ratio is None else f"{ratio:.2f}"
            lines.append(row.format(printable(name), len(layer.scale), *cells, residual, last, self.state(name)))
        lines += [
            f"{printable(name):<{width}} batch normalization: {self.troubles[name][0]}"
            for name in self._wrong_normalizations()
        ]
        lines += [f"{printable(name):<{width}} not in the file" for name in self.missing]
        return join_lines(lines)

    def _wrong_normalizations(self) -> list[str]:
        return [name for name in self.recovery.normalizations if name in self.troubles]

    @cached_property
    def _judgement(self) -> tuple[Kind, str]:
        if 2 * len(self.turned) > len(self.recovery.layers):
            return "something else", (
                f"It is something else: the kernels of {len(self.turned)} of its {len(self.recovery.layers)} layers "
                "are turned by 180 degrees, as Theano takes them, and Keras on TensorFlow does not turn them back. "
                f"Turned back: {self._judgement_of_scales[1]}"
            )
        return self._judgement_of_scales

    @cached_property
    def _judgement_of_scales(self) -> tuple[Kind, str]:
        layers = self.recovery.layers
        alike = {name: layer for name, layer in layers.items() if np.median(layer.alike) == 1}
        if 2 * len(alike) <= len(layers):
            return "something else", (
                f"It is something else: {len(layers) - len(alike)} of its {len(layers)} layers have weights that no "
                "scale of the original's filters gives."
            )
        if all(_is_one(layer.scale, self.recovery.rounding.relative) for layer in alike.values()):
            return "original", "It is the original, not rescaled."
        if self.comparison is not None and self.comparison.is_related:
            return "normalized", self.comparison.describe(self.recovery.rounding.relative)
        reason = _reason_against_means(alike)
        if self.comparison is not None:
            reason = f"{reason}; and they are" if reason else "the scales are"
            reason = f"{reason} not like {self.comparison.source}"
        if reason:
            return "rescaled", f"It is rescaled, and not by means of activations: {reason}."
        return "possibly normalized", (
            "It is rescaled, filter by filter, and the scales may be means of activations: nothing in the weights "
            "speaks against it. Whether they are, photos tell (--data FOLDER, or --means)."
        )

    def _qualifications(self) -> list[str]:
        """Say, in sentences, what else there is to say of the file."""
        said: list[str] = []
        layers = self.recovery.layers
        if self.kind == "something else":
            return said
        if self.recovery.rounding is not FLOAT32:
            said.append(f"Its weights are {self.recovery.rounding.format} numbers.")
        nearly = [name for name in layers if self.state(name).startswith("nearly")]
        if nearly:
            worst = max(float(np.median(layers[name].residual)) for name in nearly)
            said.append(
                f"{_some(nearly)} {'deviates' if len(nearly) == 1 else 'deviate'} from that besides (by {worst:.1e} of "
                "the weights at most, in a layer's median filter), as coarse rounding, pruning or further training "
                "leave it."
            )
        wrong = [name for name in layers if self.state(name) == "other weights" or name in self.troubles]
        wrong += self._wrong_normalizations()
        if wrong:
            said.append(f"It is not so throughout: see {_some(wrong)}.")
        said += self._said_of_photos()
        if self.matched == "order":
            said.append("Its layers have other names, and were matched by order and shapes.")
        if self.missing:
            said.append(f"It lacks {_some(self.missing)}.")
        unknown = [name for name in self.extra if name != self.prepended]
        if unknown:
            said.append(f"Not compared, since the original has no such layers: {_some(unknown)}.")
        return said

    def _said_of_photos(self) -> list[str]:
        said, colours = [], self.recovery.colours
        if self.prepended is not None:
            said.append(
                f"Before its first layer stands {self.prepended}, a 1x1 convolution that prepares the photo; "
                "it is not part of the comparison."
            )
        if colours == (2, 1, 0):
            said.append("It takes the colours of a photo in reverse order: RGB where the original takes BGR.")
        elif colours != tuple(range(len(colours))):
            said.append(f"It takes the channels of a photo in another order: {', '.join(map(str, colours))}.")
        layer = next(iter(self.recovery.layers.values()))
        if self.recovery.takes_photos and not layer.linked.all():
            factors = layer.link
            if np.ptp(factors) <= CONSTANT * abs(factors[0]):
                said.append(f"It takes photos divided by {np.median(factors):.6g}.")
            else:
                each = ", ".join(f"{factor:.6g}" for factor in factors)
                said.append(f"It takes photos whose channels are divided by {each}.")
        return said


def identify(
    path: str | Path, original: keras.Model | str | Path = "imagenet", means: FilterMeans | None = None
) -> Identification:
    """Tell whether a file's network is normalized, and with what.

    Args:
        path: a model or weights file of Keras, `.h5`, `.weights.h5` or `.keras`, made by anyone. Only its weights are
            read; nothing in it is executed.
        original: the network that it may be made from. `imagenet`: Keras's weights of VGG16 or VGG19, whichever the
            file's layers fit. A path: a model's file, or a file of VGG16's or VGG19's weights.
        means: of the original's activations, to compare the scales with; by default those that the file itself has.

    Raises:
        NetworkError: a file cannot be read; the file's layers have other shapes than the original's; or the original
            is of a kind that cannot be rescaled.
        MeansError: the means were measured on another network, or other weights.
    """
    path = Path(path)
    label = original.name if isinstance(original, keras.Model) else Path(original).name
    shapes = readable_shapes(path)
    model = original if isinstance(original, keras.Model) else load_original(original, path)
    matched, names = match_layers(model, shapes, path)
    require_plain_weights(path)
    arrays = dict(read_weights(path))
    found = {layer: _named(model.get_layer(layer), arrays[name], path) for layer, name in names.items()}
    recovery, turned = turned_back(model, found, recover_scales(model, found))
    source = "the means given"
    if means is None and holds_means(path):
        means, source = read_means(path), "the means that the file has"
    elif means is not None:
        _require_same_original(model, means)
    comparison = None if means is None else _compare(recovery, means, source)
    extra = [name for name in shapes if name not in names.values()]
    return Identification(
        label,
        matched,
        {layer: names[layer] for layer in recovery.layers},
        missing=[layer.name for layer in model.layers if layer.weights and layer.name not in names],
        extra=extra,
        prepended=next((name for name in extra if is_preparation(shapes[name])), None),
        recovery=recovery,
        turned=turned,
        comparison=comparison,
    )


def _named(layer: keras.Layer, arrays: Sequence[NDArray[Any]], path: Path) -> Weights:
    return {weight.name: array for weight, array in pair_weights(layer, arrays, path)}


def _require_same_original(model: keras.Model, means: FilterMeans) -> None:
    if not means.mean.keys() & {layer.name for layer in model.layers}:
        raise MeansError(f"the means have no layer of {model.name}; measure it with compute-means")
    if means.recipe.include_top == has_top(model) and weights_sha256(model) != means.recipe.weights_sha256:
        raise MeansError(
            f"the means were measured on other weights than {model.name}'s; measure these with compute-means"
        )


def _compare(recovery: Recovery, means: FilterMeans, source: str) -> MeansComparison | None:
    ratio, correlation = {}, {}
    for layer, mean in means.mean.items():
        scale = recovery.layers[layer].scale if layer in recovery.layers else np.empty(0)
        if len(scale) != len(mean):
            continue
        wanted = scale_from_mean(mean)
        known = np.isfinite(scale) & (scale > 0)
        ratio[layer] = np.where(known, scale / wanted, np.nan)
        logs = np.log(scale[known]), np.log(wanted[known])
        varies = known.any() and min(np.ptp(values) for values in logs) > CONSTANT
        correlation[layer] = float(np.corrcoef(*logs)[0, 1]) if varies else np.nan
    known_at_all = any(np.isfinite(values).any() for values in ratio.values())
    return MeansComparison(f"{source} ({means.image_count} photos)", ratio, correlation) if known_at_all else None


def _is_one(scale: Float64, tolerance: float) -> bool:
    return bool((np.abs(scale[np.isfinite(scale)] - 1) <= tolerance).all())


def _reason_against_means(layers: Mapping[str, LayerScales]) -> str:
    """Say, of scales, why they are not means of activations; empty if nothing speaks against it."""
    scales = {name: layer.scale[np.isfinite(layer.scale)] for name, layer in layers.items()}
    scales = {name: scale for name, scale in scales.items() if len(scale) > 1}
    every = np.concatenate(list(scales.values())) if scales else np.empty(0)
    if (every < 0).any():
        return f"{(every < 0).sum()} of them are negative"
    if scales and all(np.ptp(scale) <= CONSTANT * scale[0] for scale in scales.values()):
        return "all filters of a layer have the same scale"
    logs = np.log2(every)
    if len(every) and np.abs(logs - np.round(logs)).max() <= CONSTANT:
        return "they are powers of two"
    norms = [layer.norm[layer.norm > 0] for layer in layers.values() if len(layer.norm) > 1]
    if all(np.ptp(norm) <= CONSTANT * norm[0] for norm in norms if len(norm)):
        return "they make the kernels of a layer all of the same norm"
    above = {
        name: float((layer.drift > DRIFT_LIMIT).mean()) for name, layer in layers.items() if layer.drift is not None
    }
    worst = max(above, key=lambda name: above[name], default=None)
    if worst is not None and above[worst] > DRIFT_SHARE:
        return (
            f"if all means were 1, the weights alone would give {above[worst]:.0%} of the filters of {worst} a mean "
            f"above {DRIFT_LIMIT}"
        )
    return ""


def _troubles(layer: LayerScales, *, is_first: bool) -> list[str]:
    """Say what is wrong with a layer that is a rescaling for the most part."""
    if np.median(layer.alike) < 1:
        return []
    nearly = np.median(layer.explained) < 1
    off = ~layer.alike if nearly else ~layer.explained
    found = [
        ("{} with other weights", "filter", off),
        ("{} with the sign changed", "filter", layer.alike & (layer.scale < 0)),
        ("{} without weights, of unknown scale", "filter", layer.alike & np.isnan(layer.scale)),
    ]
    if not nearly:
        found.append(("{} with a bias of another scale than the kernel", "filter", ~layer.bias_fits & ~off))
        if not is_first:
            found.append(("{} taken at another scale than the layers before give", "channel", ~layer.linked))
    return [text.format(_which(what, at)) for text, what, at in found if at.any()]


def _which(what: str, at: NDArray[np.bool_]) -> str:
    indices = np.flatnonzero(at)
    if len(indices) > FILTERS_SHOWN:
        return f"{len(indices)} {what}s"
    return f"{what}{'' if len(indices) == 1 else 's'} {', '.join(map(str, indices))}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:FILTERS_SHOWN])
    return shown if len(names) <= FILTERS_SHOWN else f"{shown} and {len(names) - FILTERS_SHOWN} more"


def _median(values: Float64 | None) -> float | None:
    if values is None or not np.isfinite(values).any():
        return None
    return float(np.nanmedian(values))
