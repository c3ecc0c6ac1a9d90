"""The memory that a batch of photos takes, and what this process may have.

Where memory is short, TensorFlow on a CPU raises an error at best. It may also end the process
without a word, as Linux may. So a batch that cannot fit is refused before it is run.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import keras
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.network.kinds import IN_TRAINING, RECTIFIERS
from vggnorm.network.room import activation_bytes

# What these give may lie where their input was. A backend may compute them with the convolution
# before them, so they take no memory of their own.
IN_PLACE = frozenset({layers.BatchNormalization, *RECTIFIERS, *IN_TRAINING})

# Activations surely fit into this share of the free memory, after this rest is taken off.
# TensorFlow took, as address space, 1.6 times the activations of 16 to 64 photos of 224 pixels in
# VGG16, 2.0 times in a U-Net, and 0.4 GB more in InceptionV3.
SAFE_SHARE, SAFE_REST = 0.4, 1 << 29

Size = tuple[int, int]  # height and width, in pixels


def require_memory(
    model: keras.Model, batch_size: int, size: Size, *, in_bfloat16: bool = False
) -> str | None:
    """Refuse a batch that cannot fit into the memory of a CPU, and tell of one that may not fit.

    What a batch needs at least is compared with what is free. On a GPU, and where the system does
    not tell, nothing is refused.

    Args:
        model: a functional or sequential model of one input.
        batch_size: the number of photos in a batch.
        size: the height and width of the photos.
        in_bfloat16: whether the network is run in bfloat16, whose numbers take half the memory.

    Returns:
        A line for the user where the batch may not fit; None where it surely does.

    Raises:
        NetworkError: the memory does not suffice; the text has a batch size that does.
    """
    free = free_memory()
    if free is None or not is_on_cpu(model):
        return None
    needed = _needed(model, batch_size, size) // (2 if in_bfloat16 else 1)
    if needed <= _safe(free):
        return None
    advice = _advice(_fitting(model, batch_size, size, free))
    takes = (
        f"a batch of {_name(batch_size, size)} takes at least {needed / 1e9:.1f} GB of memory, and "
        f"{free / 1e9:.1f} GB are free"
    )
    if needed > free:
        raise NetworkError(f"{takes}; {advice}")
    return f"warning: {takes}; if this program is ended without a word, {advice}"


def shortage_text(batch_size: int, size: Size, fitting: int | None) -> str:
    """Say that there was no memory for a batch, and what to do.

    Args:
        batch_size: the number of photos in the batch.
        size: the height and width of the photos.
        fitting: a number of photos that does fit; None if not even one does.
    """
    batch = _name(batch_size, size)
    return f"there is not enough memory for a batch of {batch}; {_advice(fitting)}"


def _name(batch_size: int, size: Size) -> str:
    return f"{batch_size} photos of {size[0]} x {size[1]} pixels"


def _advice(fitting: int | None) -> str:
    smaller = "a smaller --size" if fitting is None else f"--batch-size {fitting}"
    return (
        f"use {smaller}, with --fresh if compute-means has begun, or run the same command again "
        "when more memory is free"
    )


def is_on_cpu(model: keras.Model) -> bool:
    """Tell whether a network's weights are in the memory of the CPU and not in that of a GPU."""
    return all("cpu" in str(weight.value.device).lower() for weight in model.weights)


def smaller_batches(batch_size: int) -> list[int]:
    """List the powers of two below a batch size, the largest first."""
    return [1 << power for power in reversed(range((batch_size - 1).bit_length()))]


def _needed(model: keras.Model, batch_size: int, size: Size) -> int:
    """Tell how many bytes a batch takes at least: its activations, as far as they live at once."""
    first, *rest = model.inputs[0].shape
    sides = iter(size)
    photo = [next(sides) if length is None else length for length in rest]
    return activation_bytes(model, (first or batch_size, *photo), in_place=IN_PLACE)


def _fitting(model: keras.Model, batch_size: int, size: Size, free: int) -> int | None:
    for smaller in smaller_batches(batch_size):
        if _needed(model, smaller, size) <= _safe(free):
            return smaller
    return None


def _safe(free: int) -> float:
    """Tell how many bytes of activations surely fit where so many bytes are free."""
    return SAFE_SHARE * free - SAFE_REST


def free_memory(system: Path = Path("/")) -> int | None:
    """Tell how many bytes this process may still take; None where the system does not tell.

    That is the least of what the machine has free, with swap, what the process's control group may
    still take (`docker run --memory`, a batch system), and what is left of its address space
    (`ulimit -v`).

    Args:
        system: where `/proc` and `/sys` are.
    """
    known = [
        _free_of_machine(system),
        *_free_of_group(system),
        _free_address_space(system),
    ]
    return min((free for free in known if free is not None), default=None)


def _free_of_machine(system: Path) -> int | None:
    fields = _fields(system / "proc/meminfo")  # in units of 1024 bytes
    if "MemAvailable:" not in fields:
        return None
    return 1024 * (fields["MemAvailable:"] + fields.get("SwapFree:", 0))


def _free_of_group(system: Path) -> Iterator[int]:
    """Give what each control group of the process may still take: in version 2, or in version 1."""
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, names = "", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = system / "sys/fs/cgroup" / root / name.lstrip("/")
        if not folder.is_dir():  # a container sees its own group as the root of all
            folder = system / "sys/fs/cgroup" / root
        limit, used = (_number(folder / each) for each in names[:2])
        if limit is not None and used is not None:
            # The cache of files counts as used, and makes room when it must.
            yield limit - used + _fields(folder / "memory.stat").get(names[2], 0)


def _free_address_space(system: Path) -> int | None:
    try:
        resource = import_module("resource")
    except ImportError:  # Windows has no such limit
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _fields(system / "proc/self/status").get("VmSize:")
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return int(limit) - 1024 * used


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or hidden from this process
        return []


def _fields(path: Path) -> dict[str, int]:
    """Read a file of names and numbers, one to a line."""
    pairs = (line.split()[:2] for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # `max` is no limit
