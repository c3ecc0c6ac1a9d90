"""VGG16 and VGG19 as `keras.applications` builds them."""

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import keras

from vggnorm import vgg
from vggnorm.errors import NetworkError
from vggnorm.files.conversion import Say
from vggnorm.files.formats import open_weights
from vggnorm.files.weights_file import TensorsFile, WeightsFile
from vggnorm.network.description import architecture_sha256, describe
from vggnorm.network.graph import read_graph
from vggnorm.network.surroundings import usual_settings
from vggnorm.network.weights import load_weights

APPLICATIONS = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}


def load_vgg(
    network: str,
    weights: str | Path | WeightsFile,
    *,
    include_top: bool = False,
    say: Say | None = None,
) -> keras.Model:
    """Load VGG16 or VGG19; for the arguments see `vggnorm.load_network`.

    Raises:
        NetworkError: the weights cannot be downloaded or read, or are another network's.
    """
    with usual_settings():
        if weights == "imagenet":
            return _download(network, include_top=include_top)
        model = APPLICATIONS[network](weights=None, include_top=include_top)
    with open_weights(weights) as file:
        _require_caffe(file)
        load_weights(model, file, say)
    return model


def _require_caffe(file: WeightsFile) -> None:
    """Refuse weights of another program that take photos in another way than Keras's VGG."""
    convention = file.taken_as.convention
    is_kerases = not isinstance(file, TensorsFile)
    if convention != "caffe" and not (convention is None and is_kerases):
        known = "in a way that is not known" if convention is None else f"as {convention}"
        raise NetworkError(
            f"{file.path}: takes photos {known}, and not as Keras's VGG does (caffe); give the "
            "file itself as the network, --network FILE, with --preprocessing if it is not known"
        )


def has_top(model: keras.Model) -> bool:
    """Tell whether a model is VGG16 or VGG19 with its dense layers."""
    names = [layer.name for layer in model.layers]
    return model.name in vgg.NETWORKS and vgg.TOP in names


def is_application(model: keras.Model) -> bool:
    """Tell whether a network is VGG16 or VGG19 as Keras builds it, with max or average pooling."""
    graph = read_graph(model)
    if architecture_sha256(graph) is None:
        return False
    found = describe(graph)
    with ThreadPoolExecutor(1) as thread:  # see vggnorm.network.room.require_room
        known = thread.submit(_describe_applications).result()
    with_average = [text.replace("MaxPooling2D", "AveragePooling2D") for text in known]
    return found in [*known, *with_average]


def _describe_applications() -> list[str]:
    """Describe VGG16 and VGG19, with and without the dense layers, without making their weights."""
    descriptions: list[str] = []
    for include_top in (False, True):
        for build in APPLICATIONS.values():
            with usual_settings(), keras.StatelessScope(initialize_variables=False):
                model = build(weights=None, include_top=include_top)
                descriptions.append(describe(read_graph(model)))
    return descriptions


def _download(network: str, *, include_top: bool) -> keras.Model:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress on stdout
            return APPLICATIONS[network](weights="imagenet", include_top=include_top)
    except Exception as error:
        # Keras raises a bare Exception for a failed download, and a ValueError for a file that is
        # not the one it wants.
        expected = "URL fetch failure" in str(error) or "corrupted file" in str(error)
        if not expected and not isinstance(error, OSError | HTTPException):
            raise
        reason = " ".join(str(error).rpartition(" -- ")[2].split()) or type(error).__name__
        raise NetworkError(
            f"the ImageNet weights of {network} cannot be downloaded ({reason}); give a file "
            "with --weights, for VGG16 the one that 'python scripts/fetch_weights.py -o "
            "vgg16_imagenet.h5' makes"
        ) from error
