"""Archives of numpy that are damaged or lie are refused in one line, before anything swells."""

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vgg_files import first_layers, memory_below, require_refused, zipped

from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.files.tensor import Array

NAMES = ("arr_1", "arr_2", "arr_3", "arr_4")


def as_npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def members() -> dict[str, bytes]:
    """Make the members of an archive of two convolutions, as the list in an .npz file."""
    arrays = dict(zip(NAMES, first_layers().values(), strict=True))
    made = {f"{name}.npy": as_npy(array) for name, array in arrays.items()}
    return {"arr_0.npy": as_npy(np.array(4)), **made}


def header(text: str) -> bytes:
    """Make the beginning of a .npy file with any text in it."""
    content = text.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(content)) + content


def claiming(shape: Any, descr: Any = "<f4") -> bytes:
    return header(repr({"descr": descr, "fortran_order": False, "shape": shape}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vgg.npz"


def write(path: Path, changed: dict[str, bytes], *, compressed: bool = False) -> None:
    path.write_bytes(zipped((members() | changed).items(), compressed=compressed))


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_made_by_hand_is_read(compressed: bool, path: Path) -> None:
    write(path, {}, compressed=compressed)
    with open_weights(path) as file:
        found = file.arrays()["block1_conv2"][0]
    np.testing.assert_array_equal(found, first_layers()["block1_conv2/kernel"])


@pytest.mark.parametrize("order", ["big endian", "Fortran"])
def test_arrays_in_another_order_of_bytes_or_axes_are_the_same(order: str, path: Path) -> None:
    kernel = first_layers()["block1_conv1/kernel"]
    other = kernel.astype(">f4") if order == "big endian" else np.asfortranarray(kernel)
    write(path, {"arr_1.npy": as_npy(other)})
    with open_weights(path) as file:
        np.testing.assert_array_equal(file.arrays()["block1_conv1"][0], kernel)


@pytest.mark.parametrize("kept", [40, 3000, -30, -1])
def test_an_archive_that_is_cut_off(kept: int, path: Path) -> None:
    write(path, {})
    path.write_bytes(path.read_bytes()[:kept])
    assert require_refused(path).startswith("is a zip archive that is cut off or damaged: ")


def test_a_member_that_is_there_twice(path: Path) -> None:
    content = [*members().items(), ("arr_1.npy", members()["arr_1.npy"])]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(zipped(content))
    assert require_refused(path) == "is refused: 'arr_1.npy' in it is there twice"


class Toucher:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_objects_are_never_loaded(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Toucher(trace)] * 64, dtype=object)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, objects, allow_pickle=True)
    pickle.loads(pickle.dumps(Toucher(tmp_path / "works"), 2))
    assert (tmp_path / "works").exists()  # the trap itself works
    write(path, {"arr_2.npy": buffer.getvalue()})
    assert "'arr_2.npy' holds Python objects, which are never loaded" in require_refused(path)
    write(path, {"surplus.npy": buffer.getvalue()})
    assert "'surplus.npy' holds Python objects" in require_refused(path)
    assert not trace.exists()


ODD = {
    "a text": b"hello",
    "nothing": b"",
    "a version to come": b"\x93NUMPY\x09\x00" + bytes(10),
    "a list": header("[1, 2]"),
    "code": header("__import__('os').getcwd()"),
    "a nested text": header("(" * 9000),
    "a text that Python's parser cannot hold": header("-" * 9000 + "1"),
    "a long text": header(" " * 100_000),
    "a negative shape": claiming((-3, 3, 3, -64)) + bytes(6912),
    "a shape of nothing": claiming((0, 3, 3, 64)),
    "too little": claiming((3, 3, 3, 64)) + bytes(6911),
    "too much": claiming((3, 3, 3, 64)) + bytes(6913),
    "100 GB": claiming((3, 3, 3, 10**9)) + bytes(6912),
    "more than numbers can count": claiming((1 << 40, 1 << 40, 1 << 40, 64)),
    "a record": claiming((3, 3, 3, 64), [("a", "<f4")]) + bytes(6912),
    "texts": claiming((3, 3, 3, 64), "<U1") + bytes(6912),
    "whole numbers": claiming((3, 3, 3, 64), "<i4") + bytes(6912),
    "raw bytes": claiming((3, 3, 3, 64), "|V4") + bytes(6912),
}


@pytest.mark.parametrize("what", ODD)
def test_a_member_that_is_not_the_array_that_it_should_be(what: str, path: Path) -> None:
    write(path, {"arr_1.npy": ODD[what]})
    with memory_below(1 << 24):
        text = require_refused(path)
    assert "arr_1" in text or "are not those of a VGG" in text


def bomb(path: Path, beginning: bytes, megabytes: int) -> None:
    """Write an archive in which one member swells to so many megabytes."""
    write(path, {})
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("swelling.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(beginning)
        for _ in range(megabytes):
            stream.write(bytes(1_000_000))


def test_a_surplus_array_that_swells_is_not_read(path: Path) -> None:
    bomb(path, claiming((200, 1000, 1000), "|i1"), 200)
    assert path.stat().st_size < 1_000_000
    with memory_below(1 << 24), open_weights(path) as file:
        assert len(file.arrays()["block1_conv1"]) == 2
        assert list(file.vgg.surplus) == ["swelling"]


def test_a_header_that_swells_is_not_read(path: Path) -> None:
    beginning = b"\x93NUMPY\x02\x00" + struct.pack("<I", 200_000_000)
    bomb(path, beginning, 200)
    with memory_below(1 << 24):
        assert "'swelling.npy' is not an array of numpy, or is damaged" in require_refused(path)


def test_an_array_that_claims_less_than_it_swells_to(path: Path) -> None:
    bomb(path, claiming((3, 3, 3, 64)), 200)
    with memory_below(1 << 24):
        assert "'swelling.npy' claims 6,912 bytes and has 200,000,000" in require_refused(path)


def test_an_archive_is_described_without_reading_its_tensors(path: Path) -> None:
    # One bit of the second convolution is wrong, and its checksum tells whoever reads it.
    write(path, {})
    content = bytearray(path.read_bytes())
    kernel = np.ascontiguousarray(first_layers()["block1_conv2/kernel"]).tobytes()
    content[content.index(kernel) + len(kernel) - 100] ^= 1
    path.write_bytes(content)
    with open_weights(path) as file:
        assert file.shapes()["block1_conv2"] == [(3, 3, 64, 64), (64,)]
        assert file.vgg.dtypes == ["float32"]
        arrays = file.arrays()
        with pytest.raises(NetworkError, match=r"vgg\.npz: is damaged: 'arr_3\.npy': Bad CRC-32"):
            arrays["block1_conv2"]


def test_bits_that_are_wrong_are_noticed(path: Path) -> None:
    write(path, {})
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole) - 600, 20):  # before the list at the end
        content = bytearray(whole)
        content[place] ^= 0x10
        path.write_bytes(content)
        try:
            with open_weights(path) as file:
                found = [array for layer in file.layers for array in file.arrays()[layer]]
        except NetworkError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            for array, wanted in zip(found, first_layers().values(), strict=True):
                np.testing.assert_array_equal(array, wanted)
