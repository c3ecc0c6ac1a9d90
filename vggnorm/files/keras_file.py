"""An open file of Keras: a model or weights, in HDF5 or in a `.keras` archive."""

from collections.abc import Container
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
    is_keras3_layout,
    read_layers,
    to_text,
)
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.stored_means import read_stored_means
from vggnorm.files.tensor import Layers, Tensor
from vggnorm.files.untrusted import parse_model_config
from vggnorm.files.vgg_config import POOLING, is_plain_vgg
from vggnorm.files.vgg_weights import NOT_KNOWN, TakenAs, VggWeights, read_layout
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

        Keras's own reader takes all that a file lists for a layer into memory before it looks how
        much a layer needs.
        """
        return read_layers(self._file, self.path)

    @cached_property
    def vgg(self) -> VggWeights:
        """The weights, if the layers are those of a VGG under Keras's names.

        Raises:
            NetworkError: they are not; or the file holds a model with other settings.
        """
        return replace(self._plain, means=self.means, taken_as=self.taken_as)

    @cached_property
    def _plain(self) -> VggWeights:
        return plain_vgg(self.layers, self.config(), self.path)

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
    found = read_layout(tensors, LAYOUTS["keras"], path)
    if config is None:
        return found
    kinds = {layer["class_name"] for layer in config["config"]["layers"]}
    if POOLING["avg"] in kinds:
        found = replace(found, pooling="avg")
    if found.surplus or not is_plain_vgg(config, config_of(found)):
        raise NetworkError(
            f"{path}: is a model of Keras that differs from a plain VGG in more than its weights, "
            "which files of other programs cannot say; use an .h5 file"
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
