"""An open file of Keras: a model or weights, in HDF5 or in a `.keras` archive."""

import json
from collections.abc import Container, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.conventions import CONVENTIONS
from vggnorm.files.keras_weights import (
    CONVENTION,
    backends_of,
    holds_names,
    is_keras3_layout,
    layers_apart,
    read_layers,
    to_text,
)
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.older_config import to_newest
from vggnorm.files.stored_means import read_stored_means
from vggnorm.files.tensor import Layers, Tensor
from vggnorm.files.unnamed_layers import KindAndName, named_in_order
from vggnorm.files.untrusted import parse_model_config
from vggnorm.files.vgg_by_order import names_by_order
from vggnorm.files.vgg_config import POOLING, is_plain_vgg
from vggnorm.files.vgg_weights import (
    NOT_KNOWN,
    TakenAs,
    VggWeights,
    networks_in,
    read_layout,
)
from vggnorm.files.weights_file import Kind, WeightsFile, config_of, taken_as_by_numbers
from vggnorm.means.filter_means import FilterMeans

MODELS = (Kind.KERAS2_MODEL, Kind.KERAS3_MODEL, Kind.KERAS_ARCHIVE)

# What the weights of a layer are called, by their number.
WEIGHT_NAMES = {2: ("kernel", "bias"), 4: vgg.NORMALIZATION_WEIGHTS}


class KerasFile(WeightsFile):
    """An open file of Keras."""

    def __init__(
        self, path: Path, kind: Kind, file: h5py.File, archived_config: bytes | None = None
    ) -> None:
        super().__init__(path, kind)
        self._file = file
        self._archived_config = archived_config

    @property
    def holds_model(self) -> bool:
        """Whether it is a whole model, and not weights alone."""
        return self.kind in MODELS

    @property
    def is_keras3_layout(self) -> bool:
        """Whether the weights are laid out as in a `.weights.h5` of Keras 3, also in an archive."""
        return is_keras3_layout(self._file)

    @property
    def names_backend(self) -> bool:
        """Whether it tells for which backend its kernels are, as every file of Keras 3 does."""
        return self.is_keras3_layout or bool(backends_of(self._file))

    @cached_property
    def layers(self) -> Layers:
        """Layer name -> its weights in Keras's order and axes, which are read on demand.

        A layer inside a model is named by its path, such as `vgg16.block1_conv1`.
        """
        if self.is_keras3_layout:  # which has each layer by itself
            return self.layers_as_written
        layers: dict[str, list[Tensor]] = {}
        models = _names_of_models(_attribute(self._file, "model_config", self.path))
        for layer, paths in layers_apart(self._file, self.path, models).items():
            if not paths:
                layers[layer] = []
            for path, tensor in zip(paths, self.layers_as_written[layer], strict=True):
                layers.setdefault(path, []).append(tensor)
        return layers

    @cached_property
    def layers_as_written(self) -> Layers:
        """Layer name -> its weights; an .h5 file has all weights of a model inside together.

        Keras's own reader takes all that a file lists for a layer into memory before it looks how
        much a layer needs.
        """
        layers = read_layers(self._file, self.path)
        if self._archived_config is None:
            return layers
        model = _kinds_and_names(self._archived_config)
        if not self.names_layers:
            layers = named_in_order(layers, model) or layers
        order = {name: place for place, (_, name) in enumerate(model)}
        return dict(sorted(layers.items(), key=lambda item: order.get(item[0], len(order))))

    @property
    def is_in_network_order(self) -> bool:
        """Whether the layers come in the order of the network, and not kind by kind."""
        return not self.is_keras3_layout or self._archived_config is not None

    @property
    def names_layers(self) -> bool:
        """Whether the weights are listed under the names of their layers."""
        return not self.is_keras3_layout or holds_names(self._file)

    @cached_property
    def vgg(self) -> VggWeights:
        """The weights, if the layers are those of a VGG under Keras's names.

        Raises:
            NetworkError: they are not; or the file holds a model with other settings.
        """
        return replace(self._plain, means=self.means, taken_as=self.taken_as)

    @cached_property
    def _plain(self) -> VggWeights:
        names = names_by_order(self.layers) or {}
        layers = {names.get(name, name): tensors for name, tensors in self.layers.items()}
        return plain_vgg(layers, self.config(), self.path)

    @cached_property
    def taken_as(self) -> TakenAs:
        """How the network takes photos, if vggnorm wrote the file, or if its numbers tell.

        The numbers tell of weights alone and of a plain VGG. Another model may prepare the photos
        itself.

        Raises:
            NetworkError: the file says something that is not a convention.
        """
        if CONVENTION in self._file.attrs:
            stated = _attribute(self._file, CONVENTION, self.path)
            convention = to_text(stated) if isinstance(stated, str | bytes) else ""
            if convention not in CONVENTIONS:
                raise NetworkError(
                    f"{self.path}: is damaged: it says that its network takes photos as "
                    f"{str(stated)[:60]!r}; get the file again"
                )
            return TakenAs(convention, "the file")
        if self.means is not None:
            return TakenAs(self.means.recipe.preprocessing, "the file")
        try:
            plain = self._plain
        except NetworkError:
            return NOT_KNOWN
        return taken_as_by_numbers(plain.layers)

    def config(self, registered: Container[str] = ()) -> dict[str, Any] | None:
        """Give the configuration of the model; None if it holds weights alone."""
        if not self.holds_model:
            return None
        text: Any = self._archived_config
        if text is None:
            text = _attribute(self._file, "model_config", self.path)
        return parse_model_config(text, self.path, registered)

    @cached_property
    def means(self) -> FilterMeans | None:
        """The means that the network was normalized with, if vggnorm wrote the file."""
        return read_stored_means(self._file, self.path)


def _kinds_and_names(config: bytes) -> list[KindAndName]:
    """List the layers of a configuration."""
    return [(kind, name) for kind, name, _ in _layers_in(config)]


def _names_of_models(config: Any) -> set[str]:
    """Name the layers of a configuration that are models, and so have layers of their own."""
    return {name for _, name, settings in _layers_in(config) if "layers" in settings}


def _layers_in(config: Any) -> Iterator[tuple[str, str, Container[str]]]:
    """Give the kind, the name and the settings of each layer of a configuration.

    The configuration is not checked yet, so only texts are taken from it.
    """
    try:
        model = to_newest(json.loads(config))
    except (RecursionError, TypeError, ValueError):
        return
    match model:
        case {"config": {"layers": list(layers)}}:
            for layer in layers:
                match layer:
                    case {"class_name": str(kind), "config": {"name": str(name)} as settings}:
                        yield kind, name, settings


def plain_vgg(layers: Layers, config: dict[str, Any] | None, path: Path) -> VggWeights:
    """Take the weights of a model of Keras as those of a VGG.

    Args:
        layers: its weights by layer.
        config: its configuration; None for weights alone.
        path: the file, or the model's name, for messages.

    Raises:
        NetworkError: the layers are not those of a VGG under Keras's names, or the model has other
            settings.
    """
    tensors: dict[str, Tensor] = {}
    for layer, weights in layers.items():
        names = WEIGHT_NAMES.get(len(weights), tuple(map(str, range(len(weights)))))
        tensors |= {f"{layer}/{name}": weight for name, weight in zip(names, weights, strict=True)}
    if config is not None and not networks_in(tensors, LAYOUTS["keras"]):
        raise NetworkError(
            f"{path}: is a model of another network than a VGG, which only an .h5 file can hold; "
            "write it to one, with normalize or vggnorm.save_network"
        )
    found = read_layout(tensors, LAYOUTS["keras"], path)
    if config is None:
        return found
    kinds = {layer["class_name"] for layer in config["config"]["layers"]}
    if POOLING["avg"] in kinds:
        found = replace(found, pooling="avg")
    if found.surplus or not is_plain_vgg(config, config_of(found)):
        raise NetworkError(
            f"{path}: is a model of Keras that differs from a plain VGG in more than its weights, "
            "which only an .h5 file can hold; write it to one, with normalize or "
            "vggnorm.save_network"
        )
    return found


def kind_of_hdf5(file: h5py.File, path: Path) -> Kind:
    """Tell what an HDF5 file is."""
    if "model_config" in file.attrs:
        version = str(_attribute(file, "keras_version", path))
        return Kind.KERAS3_MODEL if version.startswith("3") else Kind.KERAS2_MODEL
    if is_keras3_layout(file):
        return Kind.KERAS3_WEIGHTS
    if "model_weights" in file or {"layer_names", "layer_names0"} & file.attrs.keys():
        return Kind.KERAS2_WEIGHTS
    return Kind.OTHER_HDF5


def _attribute(file: h5py.File, name: str, path: Path) -> Any:
    """Read an attribute of the root; an empty text if there is none."""
    try:
        return file.attrs.get(name, "")
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: is damaged: {error}") from error
