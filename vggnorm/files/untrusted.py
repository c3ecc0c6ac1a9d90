"""Files from strangers: they are checked here before anything else reads them.

HDF5 and zip are formats in which a small file can name other files, contain itself, or swell to
terabytes. Keras writes nothing of the kind, so it is refused: a file may hold no more than its own
size, and nothing in it may lead elsewhere. This module does not need Keras.
"""

import json
import mmap
import os
import stat
import zipfile
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from vggnorm.disk import require_regular_file
from vggnorm.errors import NetworkError
from vggnorm.files.allowlist import CodeInFileError, require_known
from vggnorm.files.archives import BAD_ARCHIVE
from vggnorm.files.keras2_operations import UnreadOperationError
from vggnorm.files.keras3_config import to_keras3
from vggnorm.files.nested_config import for_keras3
from vggnorm.files.older_config import to_newest

WEIGHTS, CONFIG = "model.weights.h5", "config.json"

ARCHIVED = ("metadata.json", CONFIG, WEIGHTS)  # all that a .keras archive needs

MAX_CONFIG = 1 << 22  # bytes; the largest of keras.applications has a quarter of that

MAX_ATTRIBUTE = 1 << 24  # bytes

MAX_TEXTS = 1 << 30  # bytes

MAX_OBJECTS = 50_000  # groups and datasets; the largest of keras.applications has a tenth of that

HEAP = b"GCOL\x01\0\0\0"  # how each heap of texts begins

NUMBERS = (h5t.FLOAT, h5t.INTEGER, h5t.ENUM)  # HDF5's enumerations are numpy's bool

TEXTS_BELOW = "/vggnorm_means/"  # where datasets may be texts


class HarmfulFileError(ValueError):
    """Something that Keras would not have written; the text is the reason, without the file."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file and check all that is in it.

    Raises:
        NetworkError: the file cannot be read, is not an HDF5 file, or could do harm; the text says
            where and how.
    """
    try:
        require_regular_file(path)
        file = _open_file(path)
    except OSError as error:
        reason = _reason(error, "it is not an HDF5 file, or is damaged")
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


def _open_file(path: Path) -> h5py.File:
    """Open a file with a lock; without one where the file system has none, as some on networks.

    Keras may open the same file meanwhile, always with a lock. HDF5 refuses to do both in one
    process.
    """
    try:
        return h5py.File(path, "r")
    except OSError:
        return h5py.File(path, "r", locking=False)


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[h5py.File, bytes]]:
    """Open a `.keras` archive and check all that is in it.

    Yields:
        The HDF5 file of the weights in it, and the text of the model's configuration.

    Raises:
        NetworkError: the file cannot be read, is not such an archive, or could do harm; the text
            says where and how.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            _check_members(archive.infolist())
            _check_heaps(path)  # the weights are not compressed, so their bytes are in the archive
            stream = stack.enter_context(archive.open(WEIGHTS))
            file = stack.enter_context(h5py.File(stream, "r"))
            _check_hdf5(file, archive.getinfo(WEIGHTS).file_size)
            with archive.open(CONFIG) as config_stream:
                config = config_stream.read(MAX_CONFIG + 1)
        except HarmfulFileError as error:
            raise NetworkError(f"{path}: is refused: {error}") from error
        except OSError as error:
            reason = _reason(error, f"{WEIGHTS} in it is damaged")
            raise NetworkError(f"{path}: cannot be read: {reason}") from error
        except BAD_ARCHIVE as error:
            raise NetworkError(f"{path}: cannot be loaded as a Keras model: {error}") from error
        yield file, config


def parse_model_config(text: Any, path: Path, registered: Container[str] = ()) -> dict[str, Any]:
    """Parse the configuration of a model, and refuse what is not known to be harmless.

    Args:
        text: what the file holds as the configuration; it should be JSON.
        path: the file, for messages.
        registered: see `vggnorm.files.allowlist.require_known`.

    Returns:
        The configuration, with `class_name` and `config`, in the words of the newest Keras.

    Raises:
        NetworkError: it is not a configuration, or could do harm; the text says where and how.
    """
    try:
        if not isinstance(text, str | bytes):
            raise HarmfulFileError("its configuration is not a text")
        if len(text) > MAX_CONFIG:
            raise HarmfulFileError(f"its configuration has more than {MAX_CONFIG:,} bytes")
        given = to_newest(json.loads(text))
        config: dict[str, Any] = to_keras3(for_keras3(given))
        require_known(config, registered)
    except RecursionError as error:
        raise _not_loaded(path, "its configuration is nested too deeply") from error
    except UnreadOperationError as error:
        raise NetworkError(f"{path}: is not loaded: {error}") from error
    except CodeInFileError as error:
        raise NetworkError(
            f"{path}: is not loaded: {error}; build the network again with a layer of your own in "
            "its place, and give it the weights in this file with model.load_weights"
        ) from error
    except (TypeError, ValueError) as error:
        raise _not_loaded(path, str(error)) from error
    return config


def _not_loaded(path: Path, reason: str) -> NetworkError:
    return NetworkError(
        f"{path}: is not loaded: {reason}; if you trust it, load it with Keras in a program of "
        "your own, and give vggnorm the model"
    )


def _reason(error: OSError, otherwise: str) -> str:
    """Say why a file cannot be opened; what HDF5 itself says is too much for a user."""
    if error.errno:
        return os.strerror(error.errno)
    return error.strerror or otherwise


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse what an archive could hide: other files, a name used twice, and bytes it lacks."""
    names = [member.filename for member in members]
    for member in members:
        if member.filename not in ARCHIVED:
            raise HarmfulFileError(
                f"it holds {member.filename[:120]!r}, and may hold {', '.join(ARCHIVED)}"
            )
        if names.count(member.filename) > 1:
            raise HarmfulFileError(f"it holds {member.filename} twice")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise HarmfulFileError(f"{member.filename} in it is a link")
        if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
            raise HarmfulFileError(
                f"{member.filename} in it is encrypted or compressed, as Keras does not do"
            )
        if member.file_size != member.compress_size:
            raise HarmfulFileError(f"{member.filename} in it claims another size than it has")


def _check_heaps(path: Path) -> None:
    """Refuse a heap of texts on which HDF5 1.14 would work for ever.

    In such a heap, a piece has no length, or ends beyond the heap. The layout is that of the HDF5
    File Format Specification 3.0, section III.E, "Global Heap".
    """
    pieces = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        heap = content.find(HEAP)
        while heap >= 0:
            pieces = _check_heap(content, heap, pieces)
            heap = content.find(HEAP, heap + 8)


def _check_heap(content: mmap.mmap, heap: int, pieces: int) -> int:
    """Check the heap that begins at `heap`; give the number of pieces seen so far."""

    def number(start: int, end: int) -> int:
        return int.from_bytes(content[start:end], "little")

    end = min(heap + number(heap + 8, heap + 16), len(content))
    place = heap + 16
    while place + 16 <= end:
        index = number(place, place + 2)
        length = number(place + 8, place + 16)
        step = length  # of the free space at the end
        if index > 0:
            step = 16 + -(-length // 8) * 8  # a header, and the text in units of 8 bytes
        place += step
        pieces += 1
        if not step or place > end or pieces > 10 * MAX_OBJECTS:
            raise HarmfulFileError("its texts are damaged")
    return pieces


def _check_hdf5(file: h5py.File, size: int) -> None:
    """Refuse links, and arrays that are elsewhere, not there, or not of numbers.

    Args:
        file: the file.
        size: its size in bytes. All arrays together must find room in it.
    """
    root = h5g.open(file.id, b"/")
    waiting: list[tuple[str, Any]] = [("/", root)]
    seen = {h5o.get_info(root).addr}
    most_texts = 0
    while waiting:
        where, item = waiting.pop()
        most_texts = max(most_texts, _check_attributes(item, where))
        if isinstance(item, h5d.DatasetID):
            size -= _check_dataset(item, where)
            if size < 0:
                raise HarmfulFileError("its arrays claim more bytes than the file has")
        elif isinstance(item, h5g.GroupID):
            waiting += _open_members(item, where, seen)
        else:
            raise HarmfulFileError(f"{where} is neither a group nor an array")
    # Texts of variable length are kept outside the arrays, and any number of them may be the same
    # bytes of the file.
    if most_texts * size > MAX_TEXTS:
        raise HarmfulFileError(
            "its texts claim more bytes than are plausible; h5repack makes the file smaller"
        )


def _open_members(group: h5g.GroupID, where: str, seen: set[Any]) -> list[tuple[str, Any]]:
    """Open what is in a group, note the addresses, and give names and members."""
    members: list[tuple[str, Any]] = []
    for name in group:
        inside = f"{where.rstrip('/')}/{name.decode(errors='backslashreplace')}"
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            raise HarmfulFileError(f"{inside} is a link to somewhere else")
        member = h5o.open(group, name)
        address = h5o.get_info(member).addr
        if address in seen:
            raise HarmfulFileError(f"{inside} is in the file twice")
        seen.add(address)
        if len(seen) > MAX_OBJECTS:
            raise HarmfulFileError(f"it has more than {MAX_OBJECTS:,} groups and arrays")
        members.append((inside, member))
    return members


def _check_attributes(item: Any, where: str) -> int:
    """Check the attributes of a group or array.

    Returns:
        The largest number of texts of variable length in one of them.
    """
    most_texts = 0
    for index in range(h5a.get_num_attrs(item)):
        attribute = h5a.open(item, index=index)
        kind, space = attribute.get_type(), attribute.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            raise HarmfulFileError(
                f"{where} has an attribute without a value, as Keras does not write"
            )
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
    kind, space = dataset.get_type(), dataset.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        raise HarmfulFileError(f"{where} is an array without a value, as Keras does not write")
    is_text = kind.get_class() == h5t.STRING and space.get_simple_extent_type() == h5s.SCALAR
    if not _is_number(kind) and not (is_text and where.startswith(TEXTS_BELOW)):
        raise HarmfulFileError(f"{where} is not an array of numbers")
    creation = dataset.get_create_plist()
    if creation.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS) or creation.get_external_count():
        raise HarmfulFileError(
            f"{where} is chunked, compressed, virtual or kept in another file, as Keras does not do"
        )
    size: int = space.get_simple_extent_npoints() * kind.get_size()
    if size > dataset.get_storage_size():
        raise HarmfulFileError(
            f"{where} claims {size:,} bytes, of which {dataset.get_storage_size():,} are there"
        )
    return size


def _is_number(kind: h5t.TypeID) -> bool:
    if kind.get_class() == h5t.OPAQUE:  # HDF5 has no bfloat16, so h5py writes it as two bytes
        return bool(kind.get_size() == 2)
    return kind.get_class() in NUMBERS and kind.get_size() <= 8 and kind.dtype.kind in "fiub"
