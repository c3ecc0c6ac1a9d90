"""What opening and converting a large file of weights takes: time, memory, and that of a copy.

`benchmark.py files` calls this.
"""

import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from processes import VGGNORM, run_process
from safetensors.numpy import save_file

from vggnorm import vgg

NETWORK = "vgg19"

# What is run on the file: the arguments of vggnorm, with OUT for the folder of the outputs.
COMMANDS = {
    "inspect": ("inspect", "FILE"),
    "convert to .safetensors, same layout": ("convert", "FILE", "-o", "OUT/same.safetensors"),
    "convert to .safetensors, Keras's axes": (
        *("convert", "FILE", "-o", "OUT/keras.safetensors", "--layout", "keras"),
    ),
    "convert to .npz, Keras's axes": (
        *("convert", "FILE", "-o", "OUT/keras.npz", "--layout", "keras"),
    ),
    "convert to .mat": ("convert", "FILE", "-o", "OUT/vgg.mat"),
    "convert to .h5": ("convert", "FILE", "-o", "OUT/vgg.h5"),
    "convert to .pth, same layout": ("convert", "FILE", "-o", "OUT/vgg.pth"),
}


def report_files(folder: Path) -> str:
    """Make VGG19 with its dense layers, of random weights, and measure what is done with the file.

    Args:
        folder: where the files are made; they take 4 GB.

    Returns:
        A table. The size of the file and the time of a plain copy are its units.
    """
    file = folder / "vgg19.safetensors"
    run_process((sys.executable, __file__, str(file)))  # this process must stay small
    size = file.stat().st_size / 1e6
    copied = _time_copy(file, folder / "copy")
    nothing = run_process((*VGGNORM, "--version"))
    lines = [
        f"A file of {size:.0f} MB; a copy of it takes {copied:.1f} s; vggnorm itself, "
        f"{nothing.seconds:.1f} s and {nothing.memory:.0f} MB.",
        "",
        "| | s | times a copy | peak memory, MB | of the file's size |",
        "|---|---|---|---|---|",
    ]
    for name, arguments in COMMANDS.items():
        if ".pth" in name and find_spec("torch") is None:
            continue
        is_conversion = arguments[0] == "convert"
        options = ("--with-classifier", "--preprocessing", "torch") if is_conversion else ()
        places = {"FILE": str(file), "OUT": str(folder)}
        filled = (_filled(argument, places) for argument in arguments)
        cost = run_process((*VGGNORM, *filled, *options))
        lines.append(
            f"| {name} | {cost.seconds:.1f} | {cost.seconds / copied:.1f} | {cost.memory:.0f} | "
            f"{(cost.memory - nothing.memory) / size:.2f} |"
        )
    return "\n".join(lines)


def make_file(path: Path) -> None:
    """Write VGG19 with its dense layers, in torchvision's layout, of random weights."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    channels = vgg.COLOURS
    slot = 0
    for place in vgg.places_of(NETWORK):
        filters = vgg.BLOCK_FILTERS[place[0] - 1]
        _add_layer(arrays, f"features.{slot}", (filters, channels, 3, 3), random)
        channels = filters
        slot += 3 if vgg.ends_block(place, NETWORK) else 2
    channels = vgg.FLAT
    for name, units in (("0", vgg.DENSE_UNITS), ("3", vgg.DENSE_UNITS), ("6", vgg.CLASSES)):
        _add_layer(arrays, f"classifier.{name}", (units, channels), random)
        channels = units
    save_file(arrays, path)


def _add_layer(
    arrays: dict[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    random: np.random.Generator,
) -> None:
    arrays[f"{name}.weight"] = random.standard_normal(shape, dtype=np.float32)
    arrays[f"{name}.bias"] = random.standard_normal(shape[:1], dtype=np.float32)


def _time_copy(file: Path, copy: Path) -> float:
    start = time.perf_counter()
    shutil.copyfile(file, copy)
    with copy.open("r+b") as written:
        os.fsync(written.fileno())
    return time.perf_counter() - start


def _filled(argument: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        argument = argument.replace(name, place)
    return argument


if __name__ == "__main__":
    make_file(Path(sys.argv[1]))
