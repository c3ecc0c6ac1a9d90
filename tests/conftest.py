"""What many tests share: small photos, small networks, and a VGG16 with random weights."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

import vggnorm
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of nine photos: coloured clouds with noise, of several shapes, one grey."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for index in range(9):
        height, width = random.integers(60, 120, size=2)
        clouds = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(
            (width, height)
        )
        noisy = np.clip(
            np.asarray(clouds) + random.normal(0, 8, (height, width, 3)), 0, 255
        ).astype(np.uint8)
        photo = Image.fromarray(noisy)
        (photo.convert("L") if index == 4 else photo).save(folder / f"{index}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def mixed_folder(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of nine photos and two empty files."""
    folder = tmp_path_factory.mktemp("photos")
    for path in photo_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "a.jpg").touch()
    (folder / "b.jpg").touch()
    return folder


@pytest.fixture(scope="session")
def make_chain() -> Callable[..., Any]:
    """Build a small network like VGG with random weights: `make_chain(filters=(4, 5, 3))`."""
    import keras

    def make(filters: tuple[int, ...] = (4, 5, 3), seed: int = 0, name: str = "chain") -> Any:
        random = np.random.default_rng(seed)
        layers: list[Any] = [keras.Input((None, None, 3), name="pixels")]
        for index, count in enumerate(filters, 1):
            layers.append(
                keras.layers.Conv2D(
                    count, 3, padding="same", activation="relu", name=f"conv{index}"
                )
            )
            if index % 2 == 0:
                layers.append(keras.layers.MaxPooling2D(name=f"pool{index}"))
        tensor = layers[0]
        for layer in layers[1:]:
            tensor = layer(tensor)
        model = keras.Model(layers[0], tensor, name=name)
        for layer in model.layers:
            if layer.weights:
                kernel, bias = layer.get_weights()
                spread = np.sqrt(2 / np.prod(kernel.shape[:3]))
                layer.set_weights(
                    [random.normal(0, spread, kernel.shape), random.normal(0, 1, bias.shape)]
                )
        return model

    return make


@pytest.fixture(scope="session")
def chain_file(make_chain: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small network of three convolutions whose filters all fire; return its file."""
    from zoo import settle

    path = tmp_path_factory.mktemp("network") / "chain.keras"
    settle(make_chain((6, 5, 4))).save(path)
    return path


@pytest.fixture(scope="session")
def random_vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, written by Keras, of a VGG16 with random weights of which every filter fires."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            # The kernels are so small that the biases decide and every filter fires.
            kernel /= 300 if layer.name == "block1_conv1" else 3
            layer.set_weights([kernel, np.random.default_rng(2).uniform(1, 2, bias.shape)])
    path = tmp_path_factory.mktemp("weights") / "random_vgg16.h5"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Return a recipe."""
    return Recipe(
        network="chain",
        include_top=False,
        weights="random",
        weights_sha256="0" * 64,
        pooling="max",
        dense=False,
        preprocessing="caffe",
        size=224,
        fit="crop",
        interpolation="bilinear",
        precision="float32",
        control=0,
        accuracy=None,
        photos="photos",
        annotations="",
        categories=(),
        listed=3,
        listed_sha256="3" * 64,
        limit=None,
        tolerance=None,
        shard=None,
        seed=0,
        batch_size=32,
        taken_sha256="2" * 64,
        photos_sha256="1" * 64,
        version=vggnorm.__version__,
    )


@pytest.fixture
def some_means(recipe: Recipe) -> FilterMeans:
    """Return means of two layers over three photos; one filter is silent."""
    return FilterMeans(
        Moments(
            count=3,
            mean={"conv1": np.array([1.0, 2.0]), "conv2": np.array([0.5, 0.0, 4.0])},
            squared_deviation={"conv1": np.array([6.0, 0.5]), "conv2": np.array([0.0, 0.0, 24.0])},
        ),
        recipe=recipe,
        skipped=(vggnorm.SkippedPhoto("broken \udcff.jpg", "is empty"),),
    )


@pytest.fixture(scope="session")
def coco_photos() -> Path:
    """A folder of real COCO photos."""
    return _test_photos("coco")


@pytest.fixture(scope="session")
def awkward_photos() -> Path:
    """A folder of broken and unusual image files."""
    return _test_photos("awkward")


def _test_photos(name: str) -> Path:
    folder = Path(os.environ.get("VGGNORM_TEST_PHOTOS", "")) / name
    if not os.environ.get("VGGNORM_TEST_PHOTOS") or not folder.is_dir():
        pytest.skip("set VGGNORM_TEST_PHOTOS to a folder with coco/ and awkward/")
    return folder


@pytest.fixture
def corrected(recipe: Recipe) -> FilterMeans:
    """Return means over four photos of 1, 2, 3 and 6.

    In float32, the first two give 1.5 and 2.1, which is 0.5 and 0.1 more.
    """
    measured = Moments.of({"conv": np.array([[1.0], [2.0], [3.0], [6.0]])})
    correction = Moments.of({"conv": np.array([[0.5], [0.1]])})
    return FilterMeans(
        measured, replace(recipe, precision="bfloat16", control=2), correction=correction
    )
