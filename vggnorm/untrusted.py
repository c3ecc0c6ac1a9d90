"""Files from strangers: what is looked at before anything else reads them.

HDF5 and zip are formats in which a small file can name other files, contain itself, or swell to terabytes. Keras writes
none of that, so it is refused: a file holds no more than its own size, and nothing of it is elsewhere. Needs no Keras.
"""

import errno
import json
import mmap
import os
import stat
import zipfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from vggnorm.errors import NetworkError
from vggnorm.modelconfig import require_known

WEIGHTS = "model.weights.h5"
ARCHIVED = ("metadata.json", "config.json", WEIGHTS)  # all that a .keras archive needs
MAX_CONFIG = 1 << 22  # bytes; the largest of keras.applications has a quarter of that
MAX_ATTRIBUTE = 1 << 24  # bytes
MAX_TEXTS = 1 << 30  # bytes
MAX_OBJECTS = 50_000  # groups and datasets; the largest of keras.applications has a tenth of that
HEAP = b"GCOL\x01\0\0\0"  # how each heap of texts begins
NUMBERS = (h5t.FLOAT, h5t.INTEGER, h5t.ENUM)  # HDF5's enumerations are numpy's bool
TEXTS_BELOW = "/vggnorm_means/"  # where datasets may be texts


class HarmfulFileError(ValueError):
    """Something in a file that Keras would not have written; the text is the reason alone, without the file."""


def require_regular_file(path: Path) -> None:
    """Refuse what waits for ever or never ends when it is opened and read: pipes, sockets and devices.

    Raises:
        OSError: there is no such file, or it is of another kind; `strerror` says which.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is no regular file")


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file after a look at all that is in it.

    Raises:
        NetworkError: it cannot be read, is no HDF5 file, or one that could do harm; the text says where and how.
    """
    try:
        require_regular_file(path)
        file = h5py.File(path, "r")
    except OSError as error:
        # What HDF5 itself has to say is too much.
        reason = os.strerror(error.errno) if error.errno else error.strerror or "it is no HDF5 file, or damaged"
        raise NetworkError(f"{path}: cannot be read: {reason}") from error
    with file:
        try:
            _check_heaps(path)
            _check_hdf5(file, path.stat().st_size)
        except HarmfulFileError as error:
            raise NetworkError(f"{path}: is refused: {error}") from error
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise NetworkError(f"{path}: is damaged: {error}") from error
        yield file


@contextmanager
def open_weights(path: Path) -> Iterator[h5py.File]:
    """Open the HDF5 file that holds weights, after a look at it: a `.keras` archive's inner one, or the file itself.

    Raises:
        NetworkError: as of `open_hdf5` and `read_model_config`.
    """
    if path.suffix != ".keras":
        with open_hdf5(path) as file:
            yield file
        return
    _read_archive(path)
    with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS) as stream, h5py.File(stream, "r") as file:
        yield file


def read_model_config(path: Path, registered: Container[str] = ()) -> dict[str, Any]:
    """Look at all of a model file before Keras does, and read its configuration.

    Args:
        path: a `.keras` archive, or else an HDF5 file.
        registered: see `vggnorm.modelconfig.require_known`.

    Returns:
        The configuration, `class_name` and `config`, which names nothing but what is known to be harmless.

    Raises:
        NetworkError: it cannot be read, is no model file, or one that could do harm; the text says where and how.
    """
    if path.suffix == ".keras":
        text = _read_archive(path)
    else:
        with open_hdf5(path) as file:
            try:
                text = file.attrs.get("model_config", "")
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                raise NetworkError(f"{path}: is damaged: {error}") from error
    try:
        if not isinstance(text, str | bytes):
            raise HarmfulFileError("its configuration is no text")
        if len(text) > MAX_CONFIG:
            raise HarmfulFileError(f"its configuration has more than {MAX_CONFIG:,} bytes")
        config: dict[str, Any] = json.loads(text)
        require_known(config, registered)
    except (RecursionError, TypeError, ValueError) as error:
        reason = "its configuration is nested too deep" if isinstance(error, RecursionError) else error
        raise NetworkError(
            f"{path}: is not loaded: {reason}; if you trust it, load it with Keras in a program of your own, and give "
            "vggnorm the model"
        ) from error
    return config


def _read_archive(path: Path) -> bytes:
    """Look at all of a `.keras` archive, and read the text of the configuration."""
    try:
        require_regular_file(path)
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist())
            _check_heaps(path)  # not compressed, the weights stand in it as they are
            with archive.open(WEIGHTS) as stream, h5py.File(stream, "r") as file:
                _check_hdf5(file, archive.getinfo(WEIGHTS).file_size)
            with archive.open("config.json") as stream:
                return stream.read(MAX_CONFIG + 1)
    except HarmfulFileError as error:
        raise NetworkError(f"{path}: is refused: {error}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error.strerror or f"{WEIGHTS} in it is damaged"
        raise NetworkError(f"{path}: cannot be read: {reason}") from error
    except (EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise NetworkError(f"{path}: cannot be loaded as a Keras model: {error}") from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse what an archive could hide: other files, files under two names, and bytes that are not there."""
    names = [member.filename for member in members]
    for member in members:
        if member.filename not in ARCHIVED:
            raise HarmfulFileError(f"it holds {member.filename[:120]!r}, and may hold {', '.join(ARCHIVED)}")
        if names.count(member.filename) > 1:
            raise HarmfulFileError(f"it holds {member.filename} twice")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise HarmfulFileError(f"{member.filename} in it is a link")
        if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
            raise HarmfulFileError(f"{member.filename} in it is encrypted or compressed, as Keras does not do")
        if member.file_size != member.compress_size:
            raise HarmfulFileError(f"{member.filename} in it claims another size than it has")


def _check_heaps(path: Path) -> None:
    """Refuse a heap of texts on which HDF5 1.14 would work for ever: with a piece of no length, or beyond its end.

    The layout is that of the HDF5 File Format Specification 3.0, section III.E, "Global Heap".
    """
    objects = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        heap = content.find(HEAP)
        while heap >= 0:
            end = min(heap + int.from_bytes(content[heap + 8 : heap + 16], "little"), len(content))
            place = heap + 16
            while place + 16 <= end:
                index, length = (int.from_bytes(content[place + a : place + b], "little") for a, b in ((0, 2), (8, 16)))
                step = length if index == 0 else 16 + -(-length // 8) * 8
                place, objects = place + step, objects + 1
                if not step or place > end or objects > 10 * MAX_OBJECTS:
                    raise HarmfulFileError("its texts are damaged")
            heap = content.find(HEAP, heap + 8)


def _check_hdf5(file: h5py.File, size: int) -> None:
    """Refuse links that lead elsewhere or back, and arrays that are elsewhere, not there, or no numbers.

    Args:
        file: to be looked at.
        size: of the file, in bytes. All arrays together must find room in it.
    """
    waiting: list[tuple[str, Any]] = [("/", h5g.open(file.id, b"/"))]
    seen = {h5o.get_info(waiting[0][1]).addr}
    most_texts = 0
    while waiting:
        where, item = waiting.pop()
        most_texts = max(most_texts, _check_attributes(item, where))
        if isinstance(item, h5d.DatasetID):
            size -= _check_dataset(item, where)
            if size < 0:
                raise HarmfulFileError("its arrays claim more bytes than the file has")
        elif not isinstance(item, h5g.GroupID):
            raise HarmfulFileError(f"{where} is neither a group nor an array")
        else:
            for name in item:
                inside = f"{where.rstrip('/')}/{name.decode(errors='backslashreplace')}"
                if item.links.get_info(name).type != h5l.TYPE_HARD:
                    raise HarmfulFileError(f"{inside} is a link to somewhere else")
                child = h5o.open(item, name)
                address = h5o.get_info(child).addr
                if address in seen:
                    raise HarmfulFileError(f"{inside} is in the file twice")
                seen.add(address)
                if len(seen) > MAX_OBJECTS:
                    raise HarmfulFileError(f"it has more than {MAX_OBJECTS:,} groups and arrays")
                waiting.append((inside, child))
    # Texts of variable length are outside the arrays; any number of them may be the same bytes of the file.
    if most_texts * size > MAX_TEXTS:
        raise HarmfulFileError("its texts claim more bytes than are plausible; h5repack makes the file smaller")


def _check_attributes(item: Any, where: str) -> int:
    """Check the attributes of a group or array; give the largest number of texts of variable length in one of them."""
    most_texts = 0
    for index in range(h5a.get_num_attrs(item)):
        attribute = h5a.open(item, index=index)
        kind, space = attribute.get_type(), attribute.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            raise HarmfulFileError(f"{where} has an attribute without a value, as Keras does not write")
        count = space.get_simple_extent_npoints()
        if kind.get_class() not in (*NUMBERS, h5t.STRING):
            raise HarmfulFileError(f"{where} has an attribute that is neither a text nor numbers")
        if count * kind.get_size() > MAX_ATTRIBUTE:
            raise HarmfulFileError(f"{where} has an attribute of more than {MAX_ATTRIBUTE:,} bytes")
        if kind.get_class() == h5t.STRING and kind.is_variable_str():
            most_texts = max(most_texts, count)
    return most_texts


def _check_dataset(dataset: h5d.DatasetID, where: str) -> int:
    """Check one array; give its size in bytes."""
    kind, space, creation = dataset.get_type(), dataset.get_space(), dataset.get_create_plist()
    if space.get_simple_extent_type() == h5s.NULL:
        raise HarmfulFileError(f"{where} is an array without a value, as Keras does not write")
    is_text = kind.get_class() == h5t.STRING and space.get_simple_extent_type() == h5s.SCALAR
    is_number = kind.get_class() in NUMBERS and kind.get_size() <= 8 and kind.dtype.kind in "fiub"
    if not is_number and not (is_text and where.startswith(TEXTS_BELOW)):
        raise HarmfulFileError(f"{where} is no array of numbers")
    if creation.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS) or creation.get_external_count():
        raise HarmfulFileError(f"{where} is chunked, compressed, virtual or kept in another file, as Keras does not do")
    size: int = space.get_simple_extent_npoints() * kind.get_size()
    if size > dataset.get_storage_size():
        raise HarmfulFileError(f"{where} claims {size:,} bytes, of which {dataset.get_storage_size():,} are there")
    return size
