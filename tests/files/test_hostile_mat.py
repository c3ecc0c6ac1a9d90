"""MatConvNet's files: old and new ones are read, and no lie makes SciPy take memory or crash."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from vgg_files import first_layers, memory_below, require_refused

from vggnorm.files.formats import open_weights
from vggnorm.files.tensor import Array

MEAN = np.array([123.68, 116.779, 103.939])
IMAGE = np.broadcast_to(MEAN, (224, 224, 3)).copy()


def cells(parts: list[Any]) -> Array:
    array = np.empty((1, len(parts)), dtype=object)
    for index, part in enumerate(parts):
        array[0, index] = part
    return array


def convolution(number: int) -> tuple[Array, Array]:
    """Give the kernel `(w, h, in, out)` and the bias of a convolution of block 1."""
    arrays = first_layers()
    kernel = arrays[f"block1_conv{number}/kernel"].transpose(1, 0, 2, 3)
    return np.ascontiguousarray(kernel), arrays[f"block1_conv{number}/bias"].reshape(1, -1)


def new_layers() -> list[dict[str, Any]]:
    return [
        {"name": f"conv1_{number}", "type": "conv", "weights": cells(list(convolution(number)))}
        for number in (1, 2)
    ]


def old_layers() -> list[dict[str, Any]]:
    layers = []
    for number in (1, 2):
        kernel, bias = convolution(number)
        name = f"conv1_{number}"
        layers.append({"name": name, "type": "conv", "filters": kernel, "biases": bias})
    return layers


def as_mat(*, compressed: bool = False, **variables: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=compressed)
    return buffer.getvalue()


def network(*, compressed: bool = False) -> bytes:
    normalization = {"averageImage": IMAGE}
    layers = cells(new_layers())
    return as_mat(compressed=compressed, layers=layers, normalization=normalization)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vgg.mat"


# What people have


@pytest.mark.parametrize("layers", [new_layers(), old_layers()], ids=["weights", "filters"])
@pytest.mark.parametrize("mean", [MEAN, MEAN.reshape(1, 1, 3), IMAGE], ids=["3", "1x1x3", "image"])
@pytest.mark.parametrize("is_new", [True, False])
def test_old_and_new_files_are_read(is_new: bool, mean: Array, layers: Any, path: Path) -> None:
    normalization = {"averageImage": mean, "border": np.zeros((1, 2))}
    if is_new:
        path.write_bytes(as_mat(layers=cells(layers), meta={"normalization": normalization}))
    else:
        path.write_bytes(as_mat(layers=cells(layers), normalization=normalization))
    with open_weights(path) as file:
        assert file.taken_as.convention == "rgb255"
        for layer in ("block1_conv1", "block1_conv2"):
            for part, array in zip(("kernel", "bias"), file.arrays()[layer], strict=True):
                np.testing.assert_array_equal(array, first_layers()[f"{layer}/{part}"])


UNTELLING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "meta without normalization": {"meta": {"classes": 3}},
    "normalization without a mean": {"normalization": {"border": 3}},
    "a normalization that is a number": {"normalization": 3.0},
    "blue first": {"normalization": {"averageImage": MEAN[::-1].copy()}},
    "no numbers": {"normalization": {"averageImage": np.zeros((0, 0))}},
    "two colours": {"normalization": {"averageImage": np.zeros((5, 2))}},
    "a text": {"normalization": {"averageImage": "mean"}},
}


@pytest.mark.parametrize("what", UNTELLING)
def test_a_file_that_does_not_say_how_it_takes_photos(what: str, path: Path) -> None:
    path.write_bytes(as_mat(layers=cells(new_layers()), **UNTELLING[what]))
    with open_weights(path) as file:
        assert file.taken_as.convention is None
        assert file.vgg.network == "vgg16"


# What is not a network


def with_weights(*weights: Any) -> bytes:
    layer = {"name": "conv1_1", "type": "conv", "weights": cells(list(weights))}
    return as_mat(layers=cells([layer]))


BIAS = np.zeros((1, 64), dtype=np.float32)
OTHERS = {
    "no layers": (as_mat(x=1.0), "is not a network of MatConvNet: it has no list of layers"),
    "layers that are a number": (as_mat(layers=3.0), "is not a network of MatConvNet"),
    "a layer without a name": (as_mat(layers=cells([{"type": "conv"}])), "is not a network"),
    "a layer twice": (
        as_mat(layers=cells([new_layers()[0]] * 2)),
        "two layers are called 'conv1_1'",
    ),
    "texts": (with_weights("a", "b"), "layer 'conv1_1' has weights that are not numbers"),
    "no bias": (with_weights(np.zeros((3, 3, 3, 64))), "lacks conv1_1.weights.1"),
    "whole numbers": (with_weights(np.zeros((3, 3, 3, 64), np.int16), BIAS), "of type int16"),
    "five axes": (with_weights(np.zeros((3, 3, 3, 64, 2)), BIAS), "none of the known layouts"),
    "another size": (with_weights(np.zeros((5, 5, 3, 64)), BIAS), "has the shape 5x5x3x64"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_not_a_vgg(what: str, path: Path) -> None:
    content, reason = OTHERS[what]
    path.write_bytes(content)
    assert reason in require_refused(path)


# What is damaged, or lies


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [100, 130, 140, 1000, -1])
def test_a_file_that_is_cut_off(kept: int, compressed: bool, path: Path) -> None:
    path.write_bytes(network(compressed=compressed)[:kept])
    assert "is cut off; get the file again" in require_refused(path)


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(axes: tuple[int, ...], kind: int, content: bytes = b"", name: bytes = b"") -> bytes:
    """Make a matrix of a class of MATLAB: 1 is cells, 2 a struct, 4 a text, 7 float32."""
    flags = element(6, struct.pack("<II", kind, 0))
    sizes = element(5, struct.pack(f"<{len(axes)}i", *axes))
    return element(14, flags + sizes + element(1, name) + content)


def nested(depth: int) -> bytes:
    inner = matrix((0, 0), 7, element(7, b""))
    for _ in range(depth):
        inner = matrix((1, 1), 1, inner)
    return inner


FIELDS = struct.pack("<HHi", 5, 4, 8) + element(1, b"name\0\0\0\0")
LIES = {
    "cells by the billion": (matrix((1, 1 << 30), 1, name=b"layers"), "it is cut off"),
    "more cells than numbers can count": (
        matrix((1 << 30, 1 << 30, 1 << 30), 1, name=b"layers"),
        "it is cut off",
    ),
    "empty cells without end": (
        matrix((1, 1 << 30), 1, element(14, b"") * 110_000, name=b"layers"),
        "it holds more arrays in arrays than any VGG",
    ),
    "fewer cells than none": (matrix((-1, 5), 1, name=b"layers"), "claims the sizes (-1, 5)"),
    "structs by the million": (matrix((1, 1 << 27), 2, FIELDS, name=b"layers"), "it is cut off"),
    "a text of a billion letters": (
        matrix((1, 1 << 30), 4, element(16, b"abcd"), name=b"layers"),
        "a text claims 1,073,741,824 letters and has 4 bytes",
    ),
    "numbers by the billion": (
        matrix((1 << 15, 1 << 15), 7, element(7, bytes(8)), name=b"layers"),
        "an array claims 1,073,741,824 numbers and has 8 bytes",
    ),
    "one number too few": (
        matrix((1, 3), 7, element(7, bytes(8)), name=b"layers"),
        "an array claims 3 numbers and has 8 bytes",
    ),
    "numbers of no type": (
        matrix((1, 2), 7, element(99, bytes(8)), name=b"layers"),
        "an array has numbers of type 99",
    ),
    "a matrix of no class": (matrix((1, 1), 99, name=b"layers"), "an array of MATLAB's class 99"),
    "a function": (matrix((1, 1), 16, name=b"layers"), "an array of MATLAB's class 16"),
    "cells in cells": (
        matrix((1, 1), 1, nested(1000), name=b"layers"),
        "it holds more arrays in arrays than any VGG",
    ),
    "a size behind the end": (struct.pack("<II", 14, 1 << 31) + bytes(8), "it is cut off"),
    "no variable": (element(5, bytes(8)), "it holds something else than variables"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_sizes_that_lie(lie: str, compressed: bool, path: Path) -> None:
    content, reason = LIES[lie]
    if compressed:
        packed = zlib.compress(content)
        content = struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes(network()[:128] + content)
    with memory_below(1 << 25):
        text = require_refused(path)
    assert text.startswith("is damaged: ")
    if lie != "a size behind the end":  # which is not looked at where it unpacks to less
        assert reason in text


def test_a_variable_that_is_there_twice(path: Path) -> None:
    path.write_bytes(network() + matrix((0, 0), 1, name=b"layers"))
    assert "the variable 'layers' is there twice" in require_refused(path)


def test_a_stream_that_swells_beyond_any_vgg(path: Path) -> None:
    # 3 GB of numbers, which are zeros, in 3 MB.
    size = 3 << 30
    pack = zlib.compressobj()
    head = matrix((1, size // 4), 7, name=b"layers")[8:] + struct.pack("<II", 7, size)
    packed = pack.compress(struct.pack("<II", 14, size + len(head)) + head)
    packed += b"".join(pack.compress(bytes(1 << 20)) for _ in range(64)) + pack.flush()
    path.write_bytes(network()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with memory_below(1 << 25):
        assert "unpacks to more than 2,147,483,648 bytes" in require_refused(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_wrong_bits_end_in_one_line(compressed: bool, path: Path) -> None:
    # Many of these made SciPy take gigabytes, or crashed the process, before the file was checked.
    whole = network(compressed=compressed)
    random = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(128, 1200, 4):
            content[place] ^= int(random.integers(1, 256))
        path.write_bytes(content)
        with memory_below(1 << 25):
            read_or_refused(path)


def read_or_refused(path: Path) -> None:
    try:
        with open_weights(path) as file:
            file.arrays()
    except Exception:
        require_refused(path)


def test_variables_that_are_not_read_may_be_anything(path: Path) -> None:
    path.write_bytes(network() + matrix((1, 1), 16, name=b"opts"))
    with open_weights(path) as file:
        assert file.vgg.network == "vgg16"
