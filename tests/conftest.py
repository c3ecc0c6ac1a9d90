"""What many tests share: small photos, small networks, and a VGG16 with random weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

import vggnorm
from vggnorm.means import FilterMeans
from vggnorm.moments import Moments
from vggnorm.recipe import Recipe


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine photos of several shapes, one of them grey: clouds of colour with some noise."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for index in range(9):
        height, width = random.integers(60, 120, size=2)
        clouds = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.clip(np.asarray(clouds) + random.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
        photo = Image.fromarray(noisy)
        (photo.convert("L") if index == 4 else photo).save(folder / f"{index}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def make_chain() -> Callable[..., Any]:
    """Build a small network of VGG's kind with seeded random weights: `make_chain(filters=(4, 5, 3))`."""
    import keras

    def make(filters: tuple[int, ...] = (4, 5, 3), seed: int = 0, name: str = "chain") -> Any:
        random = np.random.default_rng(seed)
        layers: list[Any] = [keras.Input((None, None, 3), name="pixels")]
        for index, count in enumerate(filters, 1):
            layers.append(keras.layers.Conv2D(count, 3, padding="same", activation="relu", name=f"conv{index}"))
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
                layer.set_weights([random.normal(0, spread, kernel.shape), random.normal(0, 1, bias.shape)])
        return model

    return make


@pytest.fixture(scope="session")
def random_vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a VGG16 with seeded random weights, written by Keras itself; no filter of it is silent."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            kernel /= 300 if layer.name == "block1_conv1" else 3  # the bias decides, so that every filter fires
            layer.set_weights([kernel, np.random.default_rng(2).uniform(1, 2, bias.shape)])
    path = tmp_path_factory.mktemp("weights") / "random_vgg16.h5"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Some recipe."""
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
    """Means of two layers over three photos, one filter silent."""
    return FilterMeans(
        Moments(
            count=3,
            mean={"conv1": np.array([1.0, 2.0]), "conv2": np.array([0.5, 0.0, 4.0])},
            squared_deviation={"conv1": np.array([6.0, 0.5]), "conv2": np.array([0.0, 0.0, 24.0])},
        ),
        recipe=recipe,
        skipped=(vggnorm.SkippedPhoto("broken \udcff.jpg", "is empty"),),
    )
