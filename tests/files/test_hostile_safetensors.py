"""Safetensors files that are damaged or lie are refused in one line, before anything swells."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vgg_files import gatys_layers, memory_below, require_refused

from vggnorm.errors import NetworkError
from vggnorm.files import safetensors
from vggnorm.files.formats import open_weights
from vggnorm.files.safetensors import write_safetensors
from vggnorm.files.tensor import Tensor

Header = dict[str, dict[str, Any]]


def parts() -> tuple[Header, bytes]:
    """Make the header and the data of a file, as the format's specification says."""
    header: Header = {}
    data = b""
    for name, array in gatys_layers().items():
        content = np.ascontiguousarray(array).tobytes()
        places = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": places}
        data += content
    return header, data


def as_text(header: Header) -> bytes:
    return json.dumps(header).encode()


def write(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    length = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", length) + header + data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vgg.safetensors"


def test_a_file_made_by_hand_is_read(path: Path) -> None:
    header, data = parts()
    write(path, as_text(header), data)
    with open_weights(path) as file:
        found = file.arrays()["block1_conv2"][1]
    np.testing.assert_array_equal(found, gatys_layers()["conv1_2.bias"])


@pytest.mark.parametrize("kept", [9, 100, 400, -1, -1000])
def test_a_file_that_is_cut_off(kept: int, path: Path) -> None:
    header, data = parts()
    write(path, as_text(header), data)
    path.write_bytes(path.read_bytes()[:kept])
    assert require_refused(path).startswith("is damaged: ")


def test_bytes_that_no_tensor_names(path: Path) -> None:
    header, data = parts()
    write(path, as_text(header), data + b"more")
    assert require_refused(path).startswith("is damaged: ")


LIES: dict[str, dict[str, Any]] = {
    "offsets behind the end": {"data_offsets": [0, 1 << 40]},
    "offsets that overlap another tensor's": {"data_offsets": [6912, 7168 + 6912]},
    "offsets before the beginning": {"data_offsets": [-4, 6908]},
    "offsets the wrong way round": {"data_offsets": [6912, 0]},
    "a shape larger than the data": {"shape": [64, 3, 3, 4]},
    "a shape that overflows": {"shape": [1 << 40, 1 << 40, 1 << 40, 1]},
    "a negative shape": {"shape": [-64, -3, 3, 3]},
    "a type that does not exist": {"dtype": "F31"},
    "a type of another size": {"dtype": "F64"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(lie: str, path: Path) -> None:
    header, data = parts()
    header["conv1_1.weight"].update(LIES[lie])
    write(path, as_text(header), data)
    with memory_below(1 << 24):
        assert require_refused(path).startswith("is damaged: ")


def test_a_tensor_that_is_named_twice(path: Path) -> None:
    header, data = parts()
    again = json.dumps(header["conv1_1.bias"])
    text = as_text(header).removesuffix(b"}") + f', "conv1_1.bias": {again}}}'.encode()
    write(path, text, data)
    assert require_refused(path).startswith("is refused: its header names something twice")


def test_metadata_that_are_named_twice(path: Path) -> None:
    header, data = parts()
    more = b', "__metadata__": {"vggnorm": "{}", "vggnorm": "[]"}}'
    write(path, as_text(header).removesuffix(b"}") + more, data)
    assert require_refused(path).startswith("is refused: its header names something twice")


@pytest.mark.parametrize("length", [1 << 63, 1 << 40, 1 << 30, (1 << 24) + 1])
def test_a_header_that_claims_to_be_huge(length: int, path: Path) -> None:
    header, data = parts()
    write(path, as_text(header), data, length)
    with memory_below(1 << 24):
        assert f"its header claims {length:,} bytes" in require_refused(path)


def test_a_header_that_is_huge(path: Path) -> None:
    header, data = parts()
    write(path, as_text(header) + b" " * (1 << 25), data)
    with memory_below(1 << 24):
        assert "more than any VGG needs" in require_refused(path)


@pytest.mark.parametrize(
    "header",
    [b'{"a":' * 50_000 + b"}" * 50_000, b'{"a": [1]}', b'{"a": NaN}', b'{"\xff": 1}', b"{"],
)
def test_a_header_that_is_not_one(header: bytes, path: Path) -> None:
    write(path, header, b"")
    assert require_refused(path).startswith("is damaged: ")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"])
def test_quantized_weights(dtype: str, path: Path) -> None:
    header: Header = {}
    end = 0
    for name, array in gatys_layers().items():
        places = [end, end + array.size]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": places}
        end += array.size
    write(path, as_text(header), bytes(end))
    text = require_refused(path)
    assert f"has weights of type {dtype.lower()}, whose scale is not known; give the file" in text


def test_numbers_that_float32_makes_infinite(path: Path) -> None:
    arrays = gatys_layers("float64")
    arrays["conv1_2.bias"][5] = 1e39
    write_safetensors(path, arrays, {})
    assert "layer block1_conv2 has a weight of 1.0e+39" in require_refused(path)


def test_a_missing_layer_and_what_helps(path: Path) -> None:
    arrays = gatys_layers()
    bias = arrays.pop("conv1_2.bias")
    write_safetensors(path, arrays, {})
    assert "lacks conv1_2.bias" in require_refused(path)
    write_safetensors(path, {**arrays, "conv1_2.bias": bias}, {})  # as it says
    with open_weights(path) as file:
        assert file.vgg.network == "vgg16"


def test_an_unknown_layout_and_what_helps(path: Path) -> None:
    arrays = {f"net.{name}": array for name, array in gatys_layers().items()}
    write_safetensors(path, arrays, {})
    assert "are of none of the known layouts" in require_refused(path)
    write_safetensors(path, {name.removeprefix("net."): arrays[name] for name in arrays}, {})
    with open_weights(path) as file:
        assert file.vgg.layout == "gatys"


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "absent.safetensors"
    with pytest.raises(NetworkError, match=rf"^{path}: cannot be read: "), open_weights(path):
        pass
    with pytest.raises(NetworkError, match=rf"^{tmp_path}: is a folder"), open_weights(tmp_path):
        pass


def test_a_file_is_described_without_reading_its_tensors(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(path, gatys_layers(), {})
    make: Any = vars(safetensors)["_tensor"]
    read: list[str] = []

    def noted(file: Any, name: str) -> Tensor:
        tensor: Tensor = make(file, name)

        def note() -> Any:
            read.append(name)
            return tensor.read()

        return Tensor(tensor.shape, tensor.dtype, note)

    monkeypatch.setattr(safetensors, "_tensor", noted)
    with open_weights(path) as file:
        assert file.shapes()["block1_conv2"] == [(3, 3, 64, 64), (64,)]
        assert file.vgg.dtypes == ["float32"]
        # The first convolution tells by its numbers how the network takes photos.
        assert read == ["conv1_1.weight", "conv1_1.bias"]
