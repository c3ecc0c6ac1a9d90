"""Batches that do not fit into memory are refused in one line, and the batch advised does fit."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means
from vggnorm.network import memory, precision
from vggnorm.network.failures import is_out_of_memory
from vggnorm.network.memory import free_memory, require_memory, smaller_batches
from vggnorm.network.room import activation_bytes
from vggnorm.photos.geometry import Geometry
from vggnorm.run.checkpoint import Checkpoint
from vggnorm.run.options import Compute, Watch

MakeChain = Callable[..., Any]
LIMITED_TO = 6_000_000_000  # bytes of address space; a process with TensorFlow takes two of them


def wide() -> Any:
    """Takes 2 * 64 * 64 * 256 * 4 bytes = 8.4 MB for a photo of 64 pixels: two maps at a time."""
    photo = keras.Input((None, None, 3))
    first = layers.Conv2D(256, 3, padding="same", activation="relu")(photo)
    return keras.Model(photo, layers.Conv2D(256, 1, activation="relu")(first), name="wide")


# What is free


def system(folder: Path, files: dict[str, str]) -> Path:
    """Make a folder with some of Linux's files about memory, and nothing else."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:  4000 kB\nSwapFree:  1000 kB\n"}
STAT = "anon 1\ninactive_file 300\ntotal_inactive_file 200\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 5000 * 1024),
        (
            {
                **MEMINFO,
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/step/memory.max": "10000\n",
                "sys/fs/cgroup/job/step/memory.current": "4000\n",
                "sys/fs/cgroup/job/step/memory.stat": STAT,
            },
            10000 - 4000 + 300,
        ),
        (
            {
                **MEMINFO,
                "proc/self/cgroup": "0::/job\n",
                "sys/fs/cgroup/job/memory.max": "max\n",
                "sys/fs/cgroup/job/memory.current": "4000\n",
            },
            5000 * 1024,
        ),
        (
            {
                "proc/self/cgroup": "0::/of/the/host\n",  # the container sees its own as the root
                "sys/fs/cgroup/memory.max": "7000\n",
                "sys/fs/cgroup/memory.current": "1000\n",
            },
            6000,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/x\n0::/\n",
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "9000\n",
                "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": "2000\n",
                "sys/fs/cgroup/memory/docker/x/memory.stat": STAT,
            },
            9000 - 2000 + 200,
        ),
    ],
)
def test_the_least_of_what_the_system_grants_is_free(
    files: dict[str, str], free: int | None, tmp_path: Path
) -> None:
    assert free_memory(system(tmp_path, files)) == free


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's address space")
def test_a_limit_of_the_address_space_counts() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "from vggnorm.network.memory import free_memory\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "print((6 << 30) - used - free_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert abs(int(done.stdout)) < 1 << 20  # of what the program took meanwhile


# What a batch takes


def test_a_layer_in_place_takes_no_memory_of_its_own() -> None:
    photo = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same")(photo)  # 256 numbers, behind 192
    normalized = layers.BatchNormalization()(first)
    network = keras.Model(photo, layers.ReLU()(normalized))
    shape = (1, 8, 8, 3)
    assert activation_bytes(network, shape) == 4 * (256 + 256)
    assert activation_bytes(network, shape, memory.IN_PLACE) == 4 * (192 + 256)
    both = layers.Concatenate()([first, layers.ReLU()(normalized)])  # `first` must be kept
    network = keras.Model(photo, both)
    assert activation_bytes(network, shape, memory.IN_PLACE) == 4 * (256 + 256 + 512)


def test_smaller_batches_are_powers_of_two() -> None:
    assert smaller_batches(1) == []
    assert smaller_batches(2) == [1]
    assert smaller_batches(9) == [8, 4, 2, 1]
    assert smaller_batches(8) == [4, 2, 1]


def test_a_batch_is_refused_only_where_it_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 64 * 2 * 64 * 64 * 256 * 4
    network = wide()

    def told(free: int | None, **options: Any) -> str | None:
        monkeypatch.setattr(memory, "free_memory", lambda: free)
        return require_memory(network, 64, (64, 64), **options)

    assert told(None) is None
    assert told(10 * needed) is None
    line = told(needed)
    assert line is not None
    assert "takes at least 0.5 GB of memory, and 0.5 GB are free; if this program is ended" in line
    with pytest.raises(NetworkError, match="64 photos of 64 x 64 pixels takes at least 0.5 GB"):
        told(needed - 1)
    assert told(needed - 1, in_bfloat16=True) is not None
    with pytest.raises(NetworkError, match="; use a smaller --size, with --fresh if"):
        told(1000)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's address space")
def test_the_batch_that_is_advised_fits(photo_folder: Path, tmp_path: Path) -> None:
    wide().save(tmp_path / "wide.keras")
    for index in range(600):  # as many as a batch holds, or it would be a smaller one
        name = f"{index}.jpg"
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes((photo_folder / f"{index % 9}.jpg").read_bytes())

    def run(batch_size: int) -> "subprocess.CompletedProcess[str]":
        program = (
            f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({LIMITED_TO},) * 2)\n"
            "from vggnorm.cli import main; main()"
        )
        command = [sys.executable, "-c", program, "compute-means", "--data", "photos"]
        options = ["--network", "wide.keras", "--preprocessing", "none", "--size", "64"]
        size = ["--batch-size", str(batch_size), "--limit", str(batch_size)]
        return subprocess.run(
            [*command, *options, *size],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    refused = run(600)
    assert refused.returncode == 1
    *_, line = refused.stderr.splitlines()
    found = re.match(
        r"Error: a batch of 600 photos of 64 x 64 pixels takes at least 5\.0 GB of memory, and "
        r"\d\.\d GB are free; use --batch-size (\d+), with --fresh if compute-means has begun, or "
        "run the same command again when more memory is free$",
        line,
    )
    assert found is not None, line
    done = run(int(found[1]))
    assert done.returncode == 0, done.stderr


# What backends raise while a batch is run


class ResourceExhaustedError(RuntimeError):
    """Has the name of TensorFlow's own class."""


SHORTAGES = [
    MemoryError(),
    MemoryError("Unable to allocate 1.15 GiB for an array with shape (2048, 224, 224, 3)"),
    ResourceExhaustedError("OOM when allocating tensor with shape[256,64,224,224] on device GPU:0"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes."),
    RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total)"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=[str(error)[:20] for error in SHORTAGES])
def test_a_shortage_of_memory_is_known_by_what_backends_say(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ValueError("memory"), AttributeError("out of memory")]
)
def test_other_errors_are_no_shortage(error: Exception) -> None:
    assert not is_out_of_memory(error)


class Small:
    """Stands in the place of `predict_on_batch` on a device that holds so many photos."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room = room
        self.error = error
        self.real = keras.Model.predict_on_batch
        self.tried: list[int] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def predict_on_batch(model: Any, pixels: Any) -> Any:
            self.tried.append(len(pixels))
            if len(pixels) > self.room:
                raise self.error
            return self.real(model, pixels)

        monkeypatch.setattr(keras.Model, "predict_on_batch", predict_on_batch)


@pytest.mark.parametrize("is_on_cpu", [True, False])
def test_a_smaller_batch_is_found_by_running_it(
    is_on_cpu: bool,
    make_chain: MakeChain,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Small(5, SHORTAGES[2])
    device.install(monkeypatch)
    monkeypatch.setattr(precision, "is_on_cpu", lambda _: is_on_cpu)

    def measure(batch_size: int) -> Any:
        compute = Compute(batch_size=batch_size)
        return compute_means(make_chain(), photo_folder, geometry=Geometry(32), compute=compute)

    with pytest.raises(NetworkError) as raised:
        measure(9)
    assert device.tried == ([9, 2] if is_on_cpu else [9, 8, 4])
    found = re.match(
        "there is not enough memory for a batch of 9 photos of 32 x 32 pixels; use --batch-size "
        r"(\d+), with --fresh if compute-means has begun, or run the same command again",
        str(raised.value),
    )
    assert found is not None
    assert int(found[1]) == (2 if is_on_cpu else 4)
    assert measure(int(found[1])).image_count == 9


def test_a_device_without_any_room_gets_another_advice(
    make_chain: MakeChain, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Small(0, SHORTAGES[0]).install(monkeypatch)
    with pytest.raises(NetworkError, match="16 photos of 32 x 32 pixels; use a smaller --size"):
        compute_means(make_chain(), photo_folder, geometry=Geometry(32))


def test_nothing_is_lost_when_memory_runs_short(
    make_chain: MakeChain, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, lines = make_chain(), list[str]()

    def measure(batch_size: int, *, fresh: bool = False) -> Any:
        return compute_means(
            network,
            photo_folder,
            geometry=Geometry(32),
            compute=Compute(batch_size=batch_size),
            checkpoint=Checkpoint(tmp_path / "kept", fresh=fresh),
            watch=Watch(say=lines.append),
        )

    expected = compute_means(
        network, photo_folder, geometry=Geometry(32), compute=Compute(batch_size=4)
    )
    device = Small(9, SHORTAGES[2])
    with monkeypatch.context() as patch:
        device.install(patch)
        device.room = 4

        def shrink(done: int, *_: Any) -> None:
            device.room = 1 if done else 4

        with pytest.raises(NetworkError, match="--batch-size 1, with --fresh if compute-means has"):
            compute_means(
                network,
                photo_folder,
                geometry=Geometry(32),
                compute=Compute(batch_size=4),
                checkpoint=Checkpoint(tmp_path / "kept"),
                watch=Watch(progress=shrink),
            )
    resumed = measure(4)  # the same command again, when more memory is free
    assert any("goes on after 4 of 9 photos" in line for line in lines)
    for layer, mean in expected.mean.items():
        np.testing.assert_array_equal(resumed.mean[layer], mean)
    assert measure(1, fresh=True).image_count == 9  # or the other advice
