"""An open file of weights or of means, whatever its format."""

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

from vggnorm import vgg
from vggnorm.files.known_kernels import recognize_first_convolution
from vggnorm.files.tensor import (
    Array,
    LayerArrays,
    Layers,
    Shape,
    require_float,
    require_within_float32,
    shapes_of,
)
from vggnorm.files.vgg_config import vgg_config
from vggnorm.files.vgg_weights import NOT_KNOWN, TakenAs, VggWeights, recognized_colours
from vggnorm.means.filter_means import FilterMeans

FLOAT32_BYTES = 4


class Kind(Enum):
    """What a file is."""

    KERAS2_MODEL = "a model of Keras 2 in an .h5 file"
    KERAS2_WEIGHTS = "an .h5 file of weights in the layout of Keras 2"
    KERAS3_MODEL = "a model of Keras 3 in an .h5 file"
    KERAS3_WEIGHTS = "an .h5 file of weights in the layout of Keras 3"
    KERAS_ARCHIVE = "a model in a .keras archive"
    SAFETENSORS = "a safetensors file"
    PYTORCH = "a file of PyTorch"
    OLD_PYTORCH = "a file of PyTorch from before version 1.6"
    NPZ = "an .npz archive of numpy"
    MAT = "a .mat file"
    MEANS = "a file of means"
    OTHER_HDF5 = "an HDF5 file of another program"
    ZIP = "a zip archive"
    PICKLE = "a pickle"
    TAR = "a tar archive"
    TORCHSCRIPT = "a TorchScript program"
    ONNX = "an ONNX model"
    GGUF = "a GGUF file"
    TENSORFLOW = "a TensorFlow checkpoint"
    MAT_HDF5 = "a .mat file of MATLAB 7.3"
    SAVED_MODEL = "a SavedModel of TensorFlow"
    KERAS_FOLDER = "a .keras archive that is unpacked"
    SHARDED = "the list of a network's weights in several files"
    ARCHITECTURE = "a network without its weights"
    FOLDER = "a folder"
    WEB_PAGE = "a web page"
    UNKNOWN = "not known"


class WeightsFile(ABC):
    """An open file, checked: a model, weights or means.

    Attributes:
        path: the file.
        kind: what it is.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path
        self.kind = kind

    @property
    @abstractmethod
    def layers(self) -> Layers:
        """Layer name -> its weights in Keras's order and axes, which are read on demand.

        Raises:
            NetworkError: it does not hold weights, or is damaged.
        """

    @property
    @abstractmethod
    def means(self) -> FilterMeans | None:
        """The means that it is a file of, or that a normalized network was made with.

        Raises:
            MeansError: the means are damaged.
        """

    @property
    @abstractmethod
    def vgg(self) -> VggWeights:
        """The weights, if it holds those of a VGG.

        Raises:
            NetworkError: it does not.
        """

    @abstractmethod
    def config(self, registered: Container[str] = ()) -> dict[str, Any] | None:
        """Give the configuration of the model, `class_name` and `config`; None if there is none.

        Args:
            registered: names of classes and functions that the running program has registered with
                Keras; see `vggnorm.files.allowlist.require_known`.

        Raises:
            NetworkError: it names something that is not known to be harmless, or is damaged.
        """

    @property
    @abstractmethod
    def taken_as(self) -> TakenAs:
        """How the network takes photos, as the file says or its numbers show."""

    @property
    def holds_model(self) -> bool:
        """Whether a network can be built from it, and it is not weights or means alone."""
        return False

    @property
    def held_bytes(self) -> int:
        """How many bytes of weights it holds at most, as float32: the size of the file."""
        return self.path.stat().st_size

    @property
    def is_keras3_layout(self) -> bool:
        """Whether the weights are laid out as in a `.weights.h5` of Keras 3, also in an archive."""
        return False

    @property
    def names_layers(self) -> bool:
        """Whether the weights are listed under the names of their layers."""
        return True

    @property
    def is_in_network_order(self) -> bool:
        """Whether the layers come in the order of the network, and not kind by kind."""
        return True

    @property
    def names_backend(self) -> bool:
        """Whether it tells for which backend its kernels are, as every file of Keras 3 does."""
        return True

    def shapes(self) -> dict[str, list[Shape]]:
        """Give the shapes of the weights: layer name -> shapes, layers without weights left out.

        Raises:
            NetworkError: it does not hold weights, or is damaged; or its kernels are for Theano.
        """
        return shapes_of(self.layers)

    @property
    def layers_as_written(self) -> Layers:
        """Layer name -> its weights, in the way in which the file groups them into layers."""
        return self.layers

    def arrays(self) -> Mapping[str, list[Array]]:
        """Give the weights: layer name -> arrays in Keras's order and axes, kernel before bias.

        A layer is read when it is asked for. Layers come in the file's order.

        Raises:
            NetworkError: as of `shapes`; or, when a layer is read, that it cannot be read, or has
                numbers beyond those of float32.
        """
        return LayerArrays(self.layers)

    def require_plain(self) -> None:
        """Refuse weights that Keras would turn into other numbers without a word.

        Raises:
            NetworkError: as of `shapes`; or a kernel has whole numbers, or a weight has numbers
                beyond those of float32.
        """
        for layer, tensors in self.layers.items():
            for tensor in tensors:
                if tensor.dtype == "float64":
                    require_within_float32(tensor.read(), layer, self.path)
                if len(tensor.shape) > 1:
                    require_float(tensor.dtype, layer, self.path)


class TensorsFile(WeightsFile):
    """A file of arrays with names: the weights of a VGG, in the layout of some program.

    Attributes:
        found_in: where in the file the weights were, for people; empty if it holds nothing else.
    """

    def __init__(self, path: Path, kind: Kind, weights: VggWeights, found_in: str = "") -> None:
        super().__init__(path, kind)
        self.found_in = found_in
        self._weights = weights

    @property
    def layers(self) -> Layers:
        """Layer name -> its weights in Keras's order and axes."""
        return self._weights.layers

    @property
    def vgg(self) -> VggWeights:
        """The weights."""
        return self._weights

    @property
    def means(self) -> FilterMeans | None:
        """The means that travel with the file."""
        return self._weights.means

    @property
    def taken_as(self) -> TakenAs:
        """How the network takes photos."""
        return self._weights.taken_as

    @property
    def holds_model(self) -> bool:
        """Whether a network can be built from it: always, because a VGG's weights tell all."""
        return True

    @property
    def has_unknown_colours(self) -> bool:
        """Whether a 1x1 convolution stands in front that is not one of the known ones."""
        colours = self._weights.colours
        return colours is not None and recognized_colours(colours) is None

    @property
    def held_bytes(self) -> int:
        """How many bytes of weights it holds as float32, whatever their type and packing."""
        tensors = chain.from_iterable(self.layers.values())
        return sum(FLOAT32_BYTES * math.prod(tensor.shape) for tensor in tensors)

    def config(self, registered: Container[str] = ()) -> dict[str, Any] | None:  # noqa: ARG002
        """Give the configuration of the VGG."""
        return config_of(self._weights)


def taken_as_by_numbers(layers: Layers) -> TakenAs:
    """Tell by the numbers of the first convolution how a VGG takes photos."""
    first = vgg.convolution_name((1, 1))
    if first not in layers or len(layers[first]) != 2:
        return NOT_KNOWN
    kernel, bias = (tensor.read() for tensor in layers[first])
    found = recognize_first_convolution(kernel, bias)
    if found is None:
        return NOT_KNOWN
    convention, source = found
    return TakenAs(convention, f"its numbers, which are {source}")


def config_of(weights: VggWeights) -> dict[str, Any]:
    """Give the configuration of a VGG with these weights."""
    return vgg_config(
        weights.network,
        len(weights.places),
        batch_norm=weights.has_batch_norm,
        classes=weights.classes,
        pooling=weights.pooling,
    )
