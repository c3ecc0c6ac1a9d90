"""Rescale a trained VGG network so that every convolutional filter has mean activation 1.

>>> import vggnorm
>>> model = vggnorm.load_network("vgg16")
>>> means = vggnorm.compute_means(model, "coco/val2017")
>>> normalized = vggnorm.normalize(model, means)
>>> vggnorm.save_network(normalized, "vgg16_norm.h5", means)
>>> report = vggnorm.verify(model, normalized, "coco/val2017", means)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vggnorm.errors import MeansError, NetworkError, OutputError, PhotoError, StoppedError, VggnormError
from vggnorm.means import FilterMeans, SkippedPhoto, load_means, save_means
from vggnorm.recipe import Recipe

# TensorFlow turns oneDNN on by itself on some processors only. It is read when TensorFlow is imported, which is later.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if TYPE_CHECKING:
    from vggnorm.identification import Identification, identify
    from vggnorm.matching import load_original
    from vggnorm.measure import compute_means
    from vggnorm.merging import merge_means
    from vggnorm.network import load_network, normalize, save_network
    from vggnorm.plot import plot_before_after, plot_every_layer, plot_means, save_figure
    from vggnorm.verification import VerifyReport, verify

__version__ = "0.1.0"

__all__ = [
    "FilterMeans",
    "Identification",
    "MeansError",
    "NetworkError",
    "OutputError",
    "PhotoError",
    "Recipe",
    "SkippedPhoto",
    "StoppedError",
    "VerifyReport",
    "VggnormError",
    "__version__",
    "compute_means",
    "identify",
    "load_means",
    "load_network",
    "load_original",
    "merge_means",
    "normalize",
    "plot_before_after",
    "plot_every_layer",
    "plot_means",
    "save_figure",
    "save_means",
    "save_network",
    "verify",
]

# These modules import Keras, and with it TensorFlow, which takes seconds, or Pillow, or matplotlib and scipy: only when
# one of the names is asked for.
_ON_DEMAND = {
    "compute_means": "vggnorm.measure",
    "merge_means": "vggnorm.merging",
    "Identification": "vggnorm.identification",
    "identify": "vggnorm.identification",
    "load_network": "vggnorm.network",
    "load_original": "vggnorm.matching",
    "normalize": "vggnorm.network",
    "save_network": "vggnorm.network",
    "plot_before_after": "vggnorm.plot",
    "plot_every_layer": "vggnorm.plot",
    "plot_means": "vggnorm.plot",
    "save_figure": "vggnorm.plot",
    "verify": "vggnorm.verification",
    "VerifyReport": "vggnorm.verification",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'vggnorm' has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name]), name)
