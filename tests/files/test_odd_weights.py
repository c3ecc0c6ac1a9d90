"""Files whose weights are numbers that a network cannot take: one line names the layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from zoo import chain, conv, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.identification.rounding import FLOAT32, rounding_of
from vggnorm.identification.verdict import identify

READERS: dict[str, Callable[[Path, Any], Any]] = {
    "load_network": lambda path, _: vggnorm.load_network(str(path)),
    "identify": identify,
}


@pytest.fixture(scope="module")
def model() -> Any:
    return settle(chain(conv(4, name="a"), conv(5, name="b")))


@pytest.fixture
def path(model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "network.h5"
    vggnorm.save_network(model, path)
    return path


def replace(path: Path, weight: str, change: Callable[[Any], Any]) -> None:
    """Replace a weight of layer a by what `change` makes of its array; None stands for a group."""
    with h5py.File(path, "r+") as file:
        group = file["model_weights/a/a"]
        array = group[weight][()]
        del group[weight]
        changed = change(array)
        if changed is None:
            group.create_group(weight)
        else:
            group[weight] = changed


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("weight", ["kernel:0", "bias:0"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool"])
def test_whole_numbers_are_refused(
    reader: str, weight: str, dtype: str, model: Any, path: Path
) -> None:
    replace(path, weight, lambda array: (array * 100).astype(dtype))
    with pytest.raises(
        NetworkError, match=f"layer a has weights of type {dtype}, whose scale is not known"
    ):
        READERS[reader](path, model)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floating_point_numbers_are_read(dtype: str, model: Any, path: Path) -> None:
    kernel = model.get_layer("a").get_weights()[0]
    replace(path, "kernel:0", lambda array: array.astype(dtype))
    loaded = vggnorm.load_network(str(path)).get_layer("a").get_weights()[0]
    np.testing.assert_array_equal(loaded, kernel.astype(dtype).astype(np.float32))


def test_the_largest_number_of_float32_is_read(path: Path) -> None:
    replace(
        path, "bias:0", lambda array: np.full(array.shape, np.finfo(np.float32).max, np.float64)
    )
    bias = vggnorm.load_network(str(path)).get_layer("a").get_weights()[1]
    np.testing.assert_array_equal(bias, np.float32(2) ** 127 * (2 - np.float32(2) ** -23))


def test_infinities_are_not_taken_for_numbers_of_16_bits() -> None:
    assert rounding_of({"a": {"kernel": np.full((3, 3, 3, 4), np.inf, np.float32)}}) is FLOAT32


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("where", ["/", "model_weights"])
@pytest.mark.parametrize(
    "backend", ["theano", np.bytes_("theano"), np.array("theano", dtype=h5py.string_dtype())]
)
def test_the_mirrored_kernels_of_theano_are_refused(
    reader: str, where: str, backend: Any, model: Any, path: Path
) -> None:
    with h5py.File(path, "r+") as file:
        file[where].attrs["backend"] = backend
    with pytest.raises(
        NetworkError, match=r"network\.h5: was written with Theano as Keras's backend"
    ):
        READERS[reader](path, model)


@pytest.mark.parametrize("backend", ["tensorflow", "cntk", "", 5, None])
def test_other_backends_are_read(backend: Any, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for group in file, file["model_weights"]:
            del group.attrs["backend"]
            if backend is not None:
                group.attrs["backend"] = backend
    assert vggnorm.load_network(str(path)).get_layer("a").weights
