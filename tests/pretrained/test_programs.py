"""The files that vggnorm writes compute in other programs' networks what Keras computes here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import decode_file

import vggnorm
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Until

torch = pytest.importorskip("torch")
programs = pytest.importorskip("programs")  # it imports torch

# Of a layer's largest activation. Both libraries compute in float32 and add up to 4,608 products in
# orders of their own; after 13 layers, they differ by some 1e-6.
CLOSE = 1e-4

SIDE = 224  # a multiple of 16: poolings that round up and those that round down give the same

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# Every layout in every container that can hold it.
FILES = [
    (layout, ending)
    for layout in ("gatys", "torchvision", "adain", "wct", "list-oihw", "keras")
    for ending in (".safetensors", ".pth", ".npz")
    if layout != "list-oihw" or ending == ".npz"  # its program counts the arrays of an .npz file
]
FILES += [("list", ".npz"), ("matconvnet", ".mat")]

# What a program gives its network, where a file of its layout has the layout's usual convention.
TAKEN = {"adain": "adain", "wct": "adain", "matconvnet": "rgb255"}


@pytest.fixture(scope="module")
def photo(sample_photos: Path) -> np.ndarray:
    """A photo of an astronaut: (height, width, 3), RGB 0..255."""
    pixels: np.ndarray = decode_file(sample_photos / "astronaut.png", Geometry(SIDE))
    return pixels


class Normalized:
    """A normalized network, and what Keras computes with it on the photo."""

    def __init__(self, original: Any, photos: Path, photo: np.ndarray, **options: Any) -> None:
        means = vggnorm.compute_means(original, photos, until=Until(limit=4), **options)
        self.model = vggnorm.normalize(original, means)
        self.weights = vggnorm.weights_of(self.model, "caffe", means)
        self.activations = keras_activations(self.model, photo)

    def save(self, path: Path, **options: Any) -> Path:
        vggnorm.save_weights(path, self.weights, **options)
        return path


def keras_activations(model: Any, photo: np.ndarray) -> dict[str, np.ndarray]:
    """Return the activations of a network of Keras: relu1_1 and so on -> (1, filters, h, w)."""
    import keras

    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    outputs = [model.get_layer(name).output for name in names]
    pixels = keras.applications.vgg16.preprocess_input(photo[np.newaxis].astype(np.float32))
    found = keras.Model(model.input, outputs)(pixels)
    return {
        name.replace("block", "relu").replace("conv", ""): np.asarray(maps).transpose(0, 3, 1, 2)
        for name, maps in zip(names, found, strict=True)
    }


@pytest.fixture(scope="module")
def networks(
    vgg16: Any, vgg19_file: Path, sample_photos: Path, photo: np.ndarray
) -> dict[str, Normalized]:
    """VGG16, and VGG19 whose kernels are rounded to 8 bits where Keras's host is out of reach."""
    vgg19 = vggnorm.load_network("vgg19", vgg19_file)
    originals = {"vgg16": vgg16, "vgg19": vgg19}
    return {
        name: Normalized(original, sample_photos, photo) for name, original in originals.items()
    }


def require_close(
    found: Any, expected: dict[str, np.ndarray], inside: Callable[[str], int]
) -> None:
    """Require that activations are equal, `inside(layer)` positions from the border."""
    for layer in LAYERS:
        border = inside(layer)
        own, other = found[layer].numpy(), expected[layer]
        assert own.shape == other.shape
        within = slice(border, other.shape[2] - border)
        assert within.stop > within.start
        off = np.abs(own - other)[:, :, within, within].max()
        assert off <= CLOSE * other.max(), layer


def nowhere(_: str) -> int:
    return 0


@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
@pytest.mark.parametrize(("layout", "ending"), FILES)
def test_every_layout_in_every_container(
    layout: str,
    ending: str,
    network: str,
    networks: dict[str, Normalized],
    photo: np.ndarray,
    tmp_path: Path,
) -> None:
    normalized = networks[network]
    path = normalized.save(tmp_path / f"vgg{ending}", layout=layout)
    model = programs.load(path, layout, network)
    pixels = programs.prepared(photo, TAKEN.get(layout, "caffe"))
    require_close(programs.activations(model, pixels), normalized.activations, nowhere)


@pytest.mark.parametrize("convention", ["caffe", "rgb255", "torch"])
@pytest.mark.parametrize("layout", ["gatys", "torchvision", "keras"])
def test_every_convention(
    layout: str,
    convention: str,
    networks: dict[str, Normalized],
    photo: np.ndarray,
    tmp_path: Path,
) -> None:
    """With `torch`, the zeros around a photo are another colour; inside of that, all is equal.

    What stands around the photo reaches 1, 2, 3, 4 and 4 positions into relu1_1 to relu5_1 of
    VGG16, whose maps are 224, 112, 56, 28 and 14 positions wide.
    """
    normalized = networks["vgg16"]
    path = normalized.save(tmp_path / "vgg.pth", layout=layout, convention=convention)
    model = programs.load(path, layout, "vgg16")
    found = programs.activations(model, programs.prepared(photo, convention))

    def inside(layer: str) -> int:
        return int(programs.border_of(layer, "vgg16")) if convention == "torch" else 0

    require_close(found, normalized.activations, inside)


@pytest.mark.parametrize("convention", ["caffe", "rgb255", "torch", "adain"])
@pytest.mark.parametrize("layout", ["adain", "wct"])
def test_the_colour_convolution_leads_to_every_convention(
    layout: str,
    convention: str,
    networks: dict[str, Normalized],
    photo: np.ndarray,
    tmp_path: Path,
) -> None:
    """Such a program gives RGB from 0 to 1, whatever the layers behind the colours take.

    Zeros stand around what the colours became, and so for the mean colour of that convention.
    """
    normalized = networks["vgg16"]
    path = normalized.save(tmp_path / "vgg.pth", layout=layout, convention=convention)
    model = programs.load(path, layout, "vgg16")
    found = programs.activations(model, programs.prepared(photo, "adain"))

    def inside(layer: str) -> int:
        return int(programs.border_of(layer, "vgg16")) if convention == "torch" else 0

    require_close(found, normalized.activations, inside)


def test_the_border_is_what_another_mean_colour_changes(
    networks: dict[str, Normalized], photo: np.ndarray, tmp_path: Path
) -> None:
    """If a torch program pads with the colour that VGG was trained with, all of it is equal."""
    normalized = networks["vgg16"]
    path = normalized.save(tmp_path / "vgg.pth", layout="torchvision", convention="torch")
    model = programs.load(path, "torchvision", "vgg16")
    colour = programs.prepared(np.array([[programs.MEAN_COLOUR]]), "torch")
    height, width = SIDE + 2, SIDE + 2
    padded = colour.expand(1, 3, height, width).clone()
    padded[:, :, 1:-1, 1:-1] = programs.prepared(photo, "torch")
    model.features[0].padding = (0, 0)
    require_close(programs.activations(model, padded), normalized.activations, nowhere)


@pytest.fixture(scope="module")
def reflecting(imagenet_file: Path, sample_photos: Path, photo: np.ndarray) -> Normalized:
    """VGG16 with reflection padding, measured and normalized with it."""
    original = vggnorm.load_network("vgg16", imagenet_file, padding="reflect")
    return Normalized(original, sample_photos, photo)


@pytest.mark.parametrize(
    ("layout", "ending"), [("adain", ".pth"), ("wct", ".pth"), ("list", ".npz")]
)
def test_programs_that_reflect(
    layout: str, ending: str, reflecting: Normalized, photo: np.ndarray, tmp_path: Path
) -> None:
    """These are the programs as they are, without zeros in their paddings."""
    path = reflecting.save(tmp_path / f"vgg{ending}", layout=layout)
    model = programs.load(path, layout, "vgg16", padding=torch.nn.ReflectionPad2d)
    pixels = programs.prepared(photo, TAKEN.get(layout, "caffe"))
    require_close(programs.activations(model, pixels), reflecting.activations, nowhere)
    # The file leads back to the same network: behind the colours, it takes photos as Keras's does.
    loaded = vggnorm.load_network(path, padding="reflect")
    for layer, maps in keras_activations(loaded, photo).items():
        np.testing.assert_array_equal(maps, reflecting.activations[layer], err_msg=layer)
