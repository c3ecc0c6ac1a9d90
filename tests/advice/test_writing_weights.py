"""The advice of `vggnorm.save_weights`, followed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from advice_texts import refused, said
from vgg_files import first_weights

import vggnorm
from vggnorm import vgg
from vggnorm.files.layouts import LAYOUTS
from vggnorm.files.tensor import of_array
from vggnorm.files.vgg_weights import NOT_KNOWN, VggWeights


def save(path: Path, weights: VggWeights, **options: Any) -> list[str]:
    """Write a file, require that it can be read, and give what was said."""
    lines: list[str] = []
    vggnorm.save_weights(path, weights, say=lines.append, force=True, **options)
    with vggnorm.open_weights(path) as file:
        assert file.vgg.network == weights.network
    return lines


def with_batch_norm(weights: VggWeights) -> VggWeights:
    layers = dict(weights.layers)
    for place in weights.places:
        count = layers[vgg.convolution_name(place)][1].shape[0]
        ones = of_array(np.ones(count, dtype=np.float32))
        layers[vgg.normalization_name(place)] = [ones] * 4
    return replace(weights, layers=layers)


def whole_vgg16(classes: int | None = None) -> VggWeights:
    """Give a VGG16 whose weights take no memory, because each array repeats one number."""
    layers = {}
    channels = 3
    for place in vgg.places_of("vgg16"):
        filters = vgg.BLOCK_FILTERS[place[0] - 1]
        layers[vgg.convolution_name(place)] = [zeros(3, 3, channels, filters), zeros(filters)]
        channels = filters
    if classes is not None:
        channels = vgg.FLAT
        for name, units in zip(vgg.DENSE, (vgg.DENSE_UNITS, vgg.DENSE_UNITS, classes), strict=True):
            layers[name] = [zeros(channels, units), zeros(units)]
            channels = units
    return replace(first_weights(), network="vgg16", layers=layers)


def zeros(*shape: int) -> Any:
    return of_array(np.broadcast_to(np.float32(0), shape))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vgg.safetensors"


def test_a_convolution_that_is_there(path: Path) -> None:
    with refused("give one of these as --up-to"):
        save(path, first_weights(), up_to="conv9_9")
    save(path, first_weights(), up_to="conv1_1")


def test_a_known_layout(path: Path) -> None:
    with refused("it must be one of {}"):
        save(path, first_weights(), layout="lua")
    for layout in set(LAYOUTS) - {"matconvnet"}:
        save(path, first_weights(), layout=layout)


def test_the_layout_of_the_format(path: Path) -> None:
    h5 = path.with_suffix(".h5")
    with refused("leave out --layout, or give another ending"):
        save(h5, first_weights(), layout="gatys")
    save(h5, first_weights())
    save(path, first_weights(), layout="gatys")


def test_the_name_of_a_mat_file(path: Path) -> None:
    with refused("give such a name"):
        save(path, first_weights(), layout="matconvnet")
    save(path.with_suffix(".mat"), whole_vgg16(), layout="matconvnet")


def test_the_type_of_an_h5_file(path: Path) -> None:
    h5 = path.with_suffix(".h5")
    with refused("leave out --dtype, or give another ending"):
        save(h5, first_weights(), dtype="float16")
    save(h5, first_weights())
    save(path, first_weights(), dtype="float16")


def test_the_convention_of_a_mat_file(path: Path) -> None:
    mat = path.with_suffix(".mat")
    with refused("leave out --convention, or give another format"):
        save(mat, whole_vgg16(), convention="caffe")
    save(mat, whole_vgg16())
    save(path, first_weights(), convention="caffe")


def test_a_layout_with_batch_normalization(path: Path) -> None:
    weights = with_batch_norm(first_weights())
    with refused("give --layout as one of {}"):
        save(path, weights, layout="gatys")
    save(path, weights, layout="torchvision")


def test_the_dense_layers_are_left_out_where_none_can_be(path: Path) -> None:
    with refused("leave out --with-classifier"):
        save(path, first_weights(), layout="gatys", with_classifier=True)
    save(path, first_weights(), layout="gatys")
    with refused("leave out --with-classifier"):
        save(path, first_weights(), with_classifier=True)
    save(path, first_weights())


def test_the_dense_layers_are_written_where_they_are_wanted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg, "LAST_SIDE", 1)
    monkeypatch.setattr(vgg, "FLAT", 512)
    monkeypatch.setattr(vgg, "DENSE_UNITS", 4)
    weights = whole_vgg16(classes=7)
    lines = save(path, weights)
    assert said(lines, "--with-classifier writes them")
    assert said(lines, "see --with-classifier")
    assert not save(path, weights, with_classifier=True)
    with vggnorm.open_weights(path) as file:
        assert file.vgg.classes == 7


def test_the_convention_of_a_network_that_does_not_say_it(path: Path) -> None:
    weights = replace(first_weights(), taken_as=NOT_KNOWN)
    with refused("say so with --preprocessing, one of {}"):
        save(path, weights, convention="torch")
    save(path, weights, convention="torch", preprocessing="caffe")


def test_a_layout_with_a_convolution_of_the_colours(path: Path) -> None:
    with refused("give --convention as one of {}, or another --layout"):
        save(path, first_weights(), layout="gatys", convention="adain")
    save(path, first_weights(), layout="gatys", convention="torch")
    save(path, first_weights(), layout="adain", convention="adain")


def test_a_format_that_holds_bfloat16(path: Path) -> None:
    npz = path.with_suffix(".npz")
    with refused("use safetensors, or --dtype float32"):
        save(npz, first_weights(), dtype="bfloat16")
    save(path, first_weights(), dtype="bfloat16")
    save(npz, first_weights(), dtype="float32")


def test_a_type_that_holds_the_weights(path: Path) -> None:
    weights = first_weights()
    kernel, bias = weights.layers["block1_conv1"]
    large = of_array(np.full(bias.shape, 1e5, dtype=np.float32))
    weights = replace(weights, layers={**weights.layers, "block1_conv1": [kernel, large]})
    with refused("give another --dtype, or get the weights again"):
        save(path, weights, dtype="float16")
    save(path, weights, dtype="bfloat16")
    save(path, first_weights(), dtype="float16")


def test_a_name_that_tells_the_format(path: Path) -> None:
    other = path.with_suffix(".weights")
    with refused("give a name that ends in one of {}, or --format"):
        save(other, first_weights())
    save(other, first_weights(), file_format="safetensors")
    save(path, first_weights())


def test_the_program_loads_the_same_part_with_the_same_pooling_and_padding(path: Path) -> None:
    lines = save(path.with_suffix(".npz"), first_weights())
    assert said(lines, "load it into a network of these layers")
    lines = save(path, replace(first_weights(), pooling="avg"), layout="torchvision")
    assert said(lines, "let the program that loads the file use it, too")
