"""HDF5 files that reach other files or swell: each is made for real, and refused before it can.

Through every function that reads files.
"""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_files import change_inner, saved, small

from vggnorm.errors import MeansError, NetworkError, PhotoError, VggnormError
from vggnorm.files.formats import load_means
from vggnorm.files.untrusted import open_hdf5
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.storage import load_network, save_network
from vggnorm.network.weights import load_weights
from vggnorm.photos.coco import list_photos

# HDF5 files that reach elsewhere, or claim what is not there

KERNEL = "model_weights/conv/conv/kernel"


def replaced(make: Callable[[h5py.Group, str, Path], None]) -> Callable[[h5py.File, Path], None]:
    """Put something else in the place of the kernel."""

    def change(file: h5py.File, other: Path) -> None:
        del file[KERNEL]
        make(file[KERNEL.rpartition("/")[0]], "kernel", other)

    return change


def link(group: h5py.Group, name: str, target: Any) -> None:
    group[name] = target


def soft_link(target: str) -> Callable[[h5py.Group, str, Path], None]:
    return lambda group, name, _: link(group, name, h5py.SoftLink(target))


def dataset(**options: Any) -> Callable[[h5py.File, Path], None]:
    return replaced(lambda group, name, _: group.create_dataset(name, **options))


def external_storage(group: h5py.Group, name: str, other: Path) -> None:
    group.create_dataset(name, (3, 3, 3, 2), "f4", external=[(str(other), 0, 216)])


def virtual(group: h5py.Group, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 2), "f4")
    layout[:] = h5py.VirtualSource(other, "kernel", (3, 3, 3, 2))
    group.create_virtual_dataset(name, layout)


def never_written(group: h5py.Group, name: str, _: Path) -> None:
    space, kind = h5py.h5s.create_simple((1 << 40,)), h5py.h5t.IEEE_F32LE
    h5py.h5d.create(group.id, name.encode(), kind, space)


def grouped(file: h5py.File, _: Path) -> None:
    file["model_weights/conv/again"] = file["model_weights/conv"]


def attribute(value: Any, **options: Any) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file["model_weights"].attrs.create("odd", value, **options)


COMPOUND = np.dtype([("a", "f4"), ("b", "f4")])
BIAS = "/model_weights/conv/conv/bias"

IS_LINK = f"/{KERNEL} is a link to somewhere else"
ELSEWHERE = (
    f"/{KERNEL} is chunked, compressed, virtual or kept in another file, as Keras does not do"
)
NOT_NUMBERS = f"/{KERNEL} is not an array of numbers"
ODD_ATTRIBUTE = "has an attribute that is neither a text nor numbers"
HDF5_HAZARDS: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "external link": (
        replaced(lambda group, name, other: link(group, name, h5py.ExternalLink(other, "/kernel"))),
        IS_LINK,
    ),
    "soft link": (replaced(soft_link(BIAS)), IS_LINK),
    "soft link to itself": (replaced(soft_link(f"/{KERNEL}")), IS_LINK),
    "soft link to nothing": (
        lambda file, _: link(file, "more", h5py.SoftLink("/nothing")),
        "/more is a link to somewhere else",
    ),
    "loop": (grouped, "/model_weights/conv/again is in the file twice"),
    "a loop to the root": (
        lambda file, _: link(file, "again", file["/"]),
        "/again is in the file twice",
    ),
    "the same array twice": (
        lambda file, _: link(file, "again", file[KERNEL]),
        "is in the file twice",
    ),
    "external storage": (replaced(external_storage), ELSEWHERE),
    "virtual": (replaced(virtual), ELSEWHERE),
    "terabytes of zeros": (
        dataset(shape=(1 << 40,), dtype="f4", chunks=(1 << 20,), compression="gzip"),
        ELSEWHERE,
    ),
    "compressed": (
        dataset(data=np.zeros((3, 3, 3, 2), "f4"), compression="gzip", shuffle=True),
        ELSEWHERE,
    ),
    "never written": (
        replaced(never_written),
        f"/{KERNEL} claims 4,398,046,511,104 bytes, of which 0 are there",
    ),
    "text": (dataset(data="kernel"), NOT_NUMBERS),
    "texts": (dataset(data=["kernel"] * 3), NOT_NUMBERS),
    "bytes": (dataset(data=np.array([b"kernel"] * 3)), NOT_NUMBERS),
    "compound": (dataset(data=np.zeros(3, COMPOUND)), NOT_NUMBERS),
    "arrays of arrays": (dataset(shape=(2,), dtype=np.dtype("(3,)f4")), NOT_NUMBERS),
    "lists": (dataset(shape=(2,), dtype=h5py.vlen_dtype("f4")), NOT_NUMBERS),
    "references": (dataset(shape=(2,), dtype=h5py.ref_dtype), NOT_NUMBERS),
    "region references": (dataset(shape=(2,), dtype=h5py.regionref_dtype), NOT_NUMBERS),
    "complex": (dataset(data=np.zeros(2, "c8")), NOT_NUMBERS),
    "opaque": (dataset(data=np.zeros(2, "V4")), NOT_NUMBERS),
    "longer floats": (dataset(data=np.zeros(2, "f16")), NOT_NUMBERS),
    "a type": (
        replaced(lambda group, name, _: link(group, name, np.dtype("f4"))),
        "is neither a group nor an array",
    ),
    "attribute of lists": (
        attribute(np.zeros(0), dtype=h5py.vlen_dtype("i4"), shape=(0,)),
        ODD_ATTRIBUTE,
    ),
    "attribute of references": (
        attribute(None, dtype=h5py.ref_dtype, shape=(1,)),
        ODD_ATTRIBUTE,
    ),
}


@pytest.mark.parametrize("hazard", HDF5_HAZARDS)
def test_hdf5_that_could_harm_is_refused(hazard: str, tmp_path: Path) -> None:
    change, text = HDF5_HAZARDS[hazard]
    path = saved(small(), tmp_path / "small.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.zeros((3, 3, 3, 2), "f4")
    with open_hdf5(path):
        pass
    with h5py.File(path, "r+") as file:
        change(file, tmp_path / "other.h5")
    with pytest.raises(NetworkError) as caught, open_hdf5(path):
        pass
    assert f"{path}: is refused: " in str(caught.value)
    assert text in str(caught.value)


def test_arrays_in_the_same_place_do_not_swell(tmp_path: Path) -> None:
    """Two arrays with the same bytes: each fits into the file, and both together do not."""
    path = tmp_path / "twice.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for name in "one", "other":
            file[name] = np.zeros(100_000)
        places = [file[name].id.get_offset() for name in ("one", "other")]
    content = bytearray(path.read_bytes())
    one, other = (struct.pack("<Q", place) for place in places)
    assert content.count(other) == 1
    content = content.replace(other, one)[: places[1]]
    struct.pack_into(
        "<Q", content, 40, len(content)
    )  # where the file ends, in the superblock of version 0
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert file["other"].shape == file["one"].shape == (100_000,)
    with (
        pytest.raises(
            NetworkError, match=r"twice\.h5: is refused: its arrays claim more bytes than"
        ),
        open_hdf5(path),
    ):
        pass


def test_a_file_where_there_are_no_locks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 fails so on Lustre without its option `flock`, and on NFS without a lock server."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1.0]
    open_usually = h5py.File

    def without_locks(name: Path, mode: str, locking: bool = True) -> Any:
        if locking:
            raise OSError(errno.ENOLCK, "unable to lock file")
        return open_usually(name, mode, locking=False)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_hdf5(path) as found:
        assert list(found) == ["x"]


def test_texts_in_the_same_place_do_not_swell(tmp_path: Path) -> None:
    """One long text, to which a list of a thousand names refers a thousand times."""
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["x" * 2_000_000, *["y"] * 999]
    with h5py.File(path) as file:
        assert (
            len(file.attrs["layer_names"]) == 1000
        )  # the file is sound, and would be with a thousand references
    with pytest.raises(
        MeansError, match=r"texts\.h5: is refused: its texts claim more bytes than are plausible"
    ):
        load_means(path)


# Through every door


def as_weights(path: Path) -> None:
    load_weights(small(), path)


def write_file(kind: str, folder: Path, means: FilterMeans) -> tuple[Path, Callable[[Path], Any]]:
    """Write a lawful file of a kind; give it and what reads it."""
    model = small()
    if kind == "means":
        save_network(model, folder / "normalized.h5", means)
        return folder / "normalized.h5", load_means
    if kind == "weights":
        return saved(model, folder / "weights.h5"), as_weights
    if kind == ".weights.h5":
        model.save_weights(folder / "small.weights.h5")
        return folder / "small.weights.h5", as_weights
    return saved(model, folder / f"small{kind}"), lambda path: load_network(str(path))


KINDS = ("weights", ".weights.h5", ".h5", ".keras", "means")


def find_vectors(file: h5py.File) -> list[str]:
    """The names of the arrays with one axis, as a bias has."""
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if getattr(item, "shape", None) == (2,) else None
    )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_reader_follows_a_link_to_another_file(
    kind: str, some_means: FilterMeans, tmp_path: Path
) -> None:
    path, read = write_file(kind, tmp_path, some_means)
    read(path)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.array([1.0, 2.0])

    def change(file: h5py.File) -> None:
        name = find_vectors(file)[0]
        del file[name]
        file[name] = h5py.ExternalLink(tmp_path / "other.h5", "/secret")

    change_inner(path, change)
    with pytest.raises(VggnormError, match=r"is refused: /.* is a link to somewhere else"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [".h5", ".keras", "weights", ".weights.h5"])
def test_weights_that_are_not_finite_are_refused(
    kind: str, value: float, some_means: FilterMeans, tmp_path: Path
) -> None:
    path, read = write_file(kind, tmp_path, some_means)

    def change(file: h5py.File) -> None:
        file[find_vectors(file)[0]][1] = value

    change_inner(path, change)
    with pytest.raises(
        NetworkError, match=rf"{path.name}: has weights that are not finite, in layer conv"
    ):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_is_refused_without_waiting(
    kind: str, some_means: FilterMeans, tmp_path: Path
) -> None:
    path, read = write_file(kind, tmp_path, some_means)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        VggnormError,
        match=rf"{path.name}: (cannot be read: it is not a regular file|there is no such file)",
    ):
        read(path)


def test_a_layer_that_is_listed_again_and_again_is_read_once(tmp_path: Path) -> None:
    path = saved(small(), tmp_path / "again.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/conv"].attrs["weight_names"] = [b"conv/kernel"] * 1000
    with pytest.raises(
        NetworkError,
        match=r"layer conv has weights of the shapes 3x3x3x2 and 2 there, and 3x3x3x2 and",
    ):
        load_network(str(path))


# Damage that HDF5 itself does not survive


def test_a_heap_on_which_hdf5_would_work_for_ever_is_refused(
    some_means: FilterMeans, tmp_path: Path
) -> None:
    path = tmp_path / "normalized.h5"
    save_network(small(), path, some_means)
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL\x01\0\0\0") + 16
    while content[place : place + 2] != b"\0\0":  # the free piece at the end of the heap
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(MeansError, match=r"normalized\.h5: is refused: its texts are damaged"):
        load_means(path)


# Other files


def test_other_files_that_are_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(MeansError, match="pipe: cannot be read: it is not a regular file"):
        load_means(path)
    with pytest.raises(PhotoError, match="pipe: cannot be read: it is not a regular file"):
        list_photos(path)
