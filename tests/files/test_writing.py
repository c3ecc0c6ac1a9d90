"""Files of weights are written whole or not at all, and their means with them."""

import errno
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vgg_files import first_layers, first_weights, need_torch_for

from vggnorm import disk
from vggnorm.errors import MeansError, NetworkError, OutputError
from vggnorm.files import containers
from vggnorm.files.carried import means_path
from vggnorm.files.formats import open_weights
from vggnorm.files.saving import save_weights
from vggnorm.files.tensor import Array, of_array
from vggnorm.files.vgg_weights import VggWeights
from vggnorm.means.filter_means import FilterMeans

ENDINGS = [".safetensors", ".npz", ".pth", ".mat", ".h5"]
WITH_MEANS_BESIDE = [".npz", ".pth", ".mat"]

# How many files are written and renamed on trial before the first one that counts.
TRIALS = {ending: 2 if ending in WITH_MEANS_BESIDE else 1 for ending in ENDINGS}


class Killed(BaseException):
    """Ends a run as a signal does: nothing of the program catches it."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_bias(weights: VggWeights, bias: Array) -> VggWeights:
    kernel, _ = weights.layers["block1_conv2"]
    return replace(weights, layers={**weights.layers, "block1_conv2": [kernel, of_array(bias)]})


def fail_at(number: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """Let a function fail when it is called for that time, counted from 1."""
    calls = 0

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return function(*arguments, **options)

    return failing


# One file


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_that_are_not_finite_are_not_written(ending: str, tmp_path: Path) -> None:
    need_torch_for(ending)
    bias = first_layers()["block1_conv2/bias"]
    bias[3] = np.nan
    path = tmp_path / f"vgg{ending}"
    with pytest.raises(NetworkError, match=r"^[^\n]*: is not written: \S+ would hold numbers that"):
        save_weights(path, with_bias(first_weights(), bias))
    assert contents(tmp_path) == {}


def test_numbers_beyond_float16_are_not_written(tmp_path: Path) -> None:
    bias = first_layers()["block1_conv2/bias"]
    bias[3] = 70_000  # float16 ends at 65504
    said: list[str] = []
    weights = with_bias(first_weights(), bias)
    path = tmp_path / "vgg.safetensors"
    with pytest.raises(NetworkError, match="give another --dtype"):
        save_weights(path, weights, dtype="float16", say=said.append)
    assert any("float16 ends at 65504" in line and "block1_conv2" in line for line in said)
    assert contents(tmp_path) == {}
    save_weights(path, weights, dtype="bfloat16")  # as it says
    with open_weights(path) as file:
        assert float(file.arrays()["block1_conv2"][1][3]) == 70_144  # 137 * 2**9


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_exists_stays_as_it_is(ending: str, tmp_path: Path) -> None:
    need_torch_for(ending)
    path = tmp_path / f"vgg{ending}"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"exists already; give another name, or --force"):
        save_weights(path, first_weights())
    assert contents(tmp_path) == {path.name: b"mine"}
    save_weights(path, first_weights(), force=True)
    with open_weights(path) as file:
        assert list(file.layers)


@pytest.mark.parametrize("ending", WITH_MEANS_BESIDE)
def test_means_that_exist_stay_as_they_are(ending: str, tmp_path: Path) -> None:
    need_torch_for(ending)
    beside = tmp_path / f"vgg{ending}.means.npy"
    beside.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"\.means\.npy: exists already"):
        save_weights(tmp_path / f"vgg{ending}", first_weights())
    assert contents(tmp_path) == {beside.name: b"mine"}


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".mat"])
def test_a_file_that_does_not_read_back_is_not_kept(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {".safetensors": "write_safetensors", ".npz": "write_npz", ".mat": "write_mat"}[ending]
    write: Callable[..., None] = getattr(containers, name)

    def spoil(path: Path, arrays: dict[str, Array], *others: Any) -> None:
        spoiled = {name: array.copy() for name, array in arrays.items()}
        last = spoiled[list(spoiled)[-1]]
        last.flat[-1] = np.nextafter(last.flat[-1], np.float32(9))
        write(path, spoiled, *others)

    monkeypatch.setattr(containers, name, spoil)
    with pytest.raises(OutputError, match="does not read back as it was written"):
        save_weights(tmp_path / f"vgg{ending}", first_weights())
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["sync", "replace"])
def test_where_the_disk_is_full_nothing_is_left(
    name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_torch_for(ending)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    number = TRIALS[ending] + 1
    if name == "sync":
        monkeypatch.setattr(os, "fsync", fail_at(number, os.fsync, full))
    else:
        monkeypatch.setattr(Path, "replace", fail_at(number, Path.replace, full))
    path = tmp_path / f"vgg{ending}"
    with pytest.raises(OutputError, match=f"^{path}: could not be written: No space left"):
        save_weights(path, first_weights())
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("ending", ENDINGS)
def test_where_a_disk_fills_up_nothing_is_left(ending: str, tmp_path: Path) -> None:
    need_torch_for(ending)
    resource = pytest.importorskip("resource", reason="needs the limits of a Unix system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # bytes
    try:
        with pytest.raises(OutputError, match=rf"vgg{ending}: could not be written: .*File too"):
            save_weights(tmp_path / f"vgg{ending}", first_weights())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == {}
    gc.collect()  # a view of a buffer in the frames of the error would crash Python 3.12


# The means beside it


def two_networks(means: FilterMeans) -> tuple[VggWeights, VggWeights]:
    """Make two networks and their means, all of which differ."""
    moments = means.measured
    others = replace(means, measured=replace(moments, count=moments.count + 4))
    old, new = first_weights(seed=1), first_weights(seed=2)
    return replace(old, means=means), replace(new, means=others)


def fill_disk_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when a .npz or its means are written out for that time, from 1 on."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failing = fail_at(TRIALS[".npz"] + number, disk.sync, full)
    monkeypatch.setattr(disk, "sync", failing)
    monkeypatch.setattr("vggnorm.files.writing.sync", failing)


@pytest.mark.parametrize("number", [1, 2])
def test_where_the_disk_is_full_the_old_pair_stays(
    number: int, some_means: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two_networks(some_means)
    save_weights(tmp_path / "vgg.npz", old)
    before = contents(tmp_path)
    fill_disk_at(number, monkeypatch)
    with pytest.raises(OutputError, match="could not be written: No space left"):
        save_weights(tmp_path / "vgg.npz", new, force=True)
    assert contents(tmp_path) == before


def test_where_only_the_means_could_be_renamed_they_are_refused(
    some_means: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two_networks(some_means)
    save_weights(tmp_path / "vgg.npz", old)
    fill_disk_at(3, monkeypatch)
    with pytest.raises(OutputError, match="could not be written: No space left"):
        save_weights(tmp_path / "vgg.npz", new, force=True)
    with (
        pytest.raises(MeansError, match="holds the means of another file"),
        open_weights(tmp_path / "vgg.npz"),
    ):
        pass


def die_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run die at that step, counted from 1. A step renames a file or removes one."""
    steps = 0
    rename, remove = Path.replace, Path.unlink

    def count() -> None:
        nonlocal steps
        steps += 1
        if steps == number:
            raise Killed

    def counted_replace(self: Path, target: Path) -> None:
        if target.suffix != ".tmp":  # renamed on trial
            count()
        rename(self, target)

    def counted_unlink(self: Path, *, missing_ok: bool = False) -> None:
        if self.suffix != ".tmp":
            count()
        remove(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "replace", counted_replace)
    monkeypatch.setattr(Path, "unlink", counted_unlink)


@pytest.mark.parametrize("has_old", [False, True])
@pytest.mark.parametrize("has_means", [False, True])
@pytest.mark.parametrize("dies", [1, 2, 3])
def test_a_run_that_dies_leaves_no_weights_with_the_means_of_others(
    dies: int,
    has_means: bool,
    has_old: bool,
    some_means: FilterMeans,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = two_networks(some_means)
    if not has_means:
        new = replace(new, means=None)
    path = tmp_path / "vgg.npz"
    if has_old:
        save_weights(path, old)
    with monkeypatch.context() as patched:
        die_at(dies, patched)
        with suppress(Killed):
            save_weights(path, new, force=True)
    require_own_means_or_refusal(path, old, new)


def require_own_means_or_refusal(path: Path, old: VggWeights, new: VggWeights) -> None:
    if not path.exists():
        return
    try:
        with open_weights(path) as file:
            bias, means = file.arrays()["block1_conv1"][1], file.means
    except MeansError as error:
        assert "holds the means of another file" in str(error)  # noqa: PT017
        means_path(path).unlink()  # as it says
        with open_weights(path) as file:
            assert file.means is None
        return
    own = next(
        one for one in (old, new) if np.array_equal(bias, one.layers["block1_conv1"][1].read())
    )
    count = None if own.means is None else own.means.image_count
    assert (None if means is None else means.image_count) == count


def test_the_means_of_a_file_that_is_replaced_go(some_means: FilterMeans, tmp_path: Path) -> None:
    old, _ = two_networks(some_means)
    path = tmp_path / "vgg.npz"
    save_weights(path, old)
    assert means_path(path).exists()
    save_weights(path, first_weights(), force=True)
    assert list(contents(tmp_path)) == ["vgg.npz"]


def test_a_new_file_is_read_by_those_who_may_read_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour").touch()
    for ending in (".safetensors", ".npz", ".mat"):
        path = tmp_path / f"vgg{ending}"
        save_weights(path, first_weights())
        assert path.stat().st_mode == (tmp_path / "neighbour").stat().st_mode
