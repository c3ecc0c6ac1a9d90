"""A run that was stopped goes on from its own checkpoint, and gives the same bits in the end."""

import contextlib
import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from measuring import measure

from vggnorm.errors import MeansError, NetworkError, OutputError, PhotoError, StoppedError
from vggnorm.files.formats import load_means
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos import reader
from vggnorm.photos.decode import decode_within
from vggnorm.photos.finding import find_photos
from vggnorm.photos.reader import Batch, PhotoReader
from vggnorm.run import checkpoint as checkpoint_module
from vggnorm.run import choosing
from vggnorm.run.checkpoint import Checkpoint, Keeper

MakeChain = Callable[..., Any]
OPTIONS: dict[str, Any] = {"size": 40, "batch_size": 2}


@pytest.fixture(scope="module")
def model(make_chain: MakeChain) -> Any:
    return make_chain((4, 5, 3))


@pytest.fixture
def spoilt_folder(photo_folder: Path, tmp_path: Path) -> Path:
    """Return a folder of nine photos and four empty files, spread over the random order."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for path in photo_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in "a.jpg", "b.jpg", "c.jpg", "d.jpg":
        (folder / name).touch()
    return folder


def saved(means: FilterMeans, folder: Path) -> bytes:
    """Save the means, and return the bytes of the file."""
    save_means(means, folder / "saved.npy", force=True)
    return (folder / "saved.npy").read_bytes()


def stopping_after(batches: int) -> Callable[[], bool]:
    asked = iter(range(1000))
    return lambda: next(asked) >= batches


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 7},
        {"precision": "bfloat16", "control": 6},
        {"precision": "bfloat16", "control": 6, "shard": (2, 3)},
        {"batch_size": 32},
    ],
    ids=str,
)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_run_that_is_stopped_again_and_again_gives_the_same_file(
    stride: int, options: dict[str, Any], model: Any, spoilt_folder: Path, tmp_path: Path
) -> None:
    options = {**OPTIONS, **options}
    whole = saved(measure(model, spoilt_folder, **options), tmp_path)
    kept = tmp_path / "means.npy.checkpoint"
    for stops in range(20):
        said: list[str] = []
        try:
            means = measure(
                model,
                spoilt_folder,
                **options,
                checkpoint=kept,
                stop=stopping_after(stride),
                say=said.append,
            )
        except StoppedError:
            continue
        finally:
            if stops:
                (line,) = said
                assert line.startswith(f"{kept}: goes on after ")
        break
    assert saved(means, tmp_path) == whole
    assert stops > 0 or options["batch_size"] == 32 or "shard" in options


def test_what_was_done_is_not_done_again(model: Any, photo_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with pytest.raises(
        StoppedError,
        match=rf"stopped after 4 of 9 photos; {kept} keeps them: the same again, without --fresh, ",
    ):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept, stop=stopping_after(2))
    means = load_means(kept)  # it is a file of means like any other
    assert means.image_count == 4
    first = measure(model, photo_folder, **OPTIONS, limit=4)
    np.testing.assert_array_equal(means.mean["conv2"], first.mean["conv2"])
    told: list[int] = []
    said: list[str] = []
    measure(
        model,
        photo_folder,
        **OPTIONS,
        checkpoint=kept,
        progress=lambda done, *_: told.append(done),
        say=said.append,
    )
    assert told == [4, 6, 8, 9]
    assert said == [f"{kept}: goes on after 4 of 9 photos"]
    told.clear()
    finished = measure(
        model, photo_folder, **OPTIONS, checkpoint=kept, progress=lambda done, *_: told.append(done)
    )
    assert told == [9]  # everything is done
    assert finished.image_count == 9


def test_fresh_starts_over(model: Any, photo_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with pytest.raises(StoppedError):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept, stop=stopping_after(2))
    told: list[int] = []
    said: list[str] = []
    measure(
        model,
        photo_folder,
        **OPTIONS,
        checkpoint=kept,
        fresh=True,
        progress=lambda done, *_: told.append(done),
        say=said.append,
    )
    assert told == [0, 2, 4, 6, 8, 9]
    assert said == []


def test_stopping_before_the_first_batch_writes_nothing(
    model: Any, photo_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError, match="stopped after 0 of 9 photos; nothing was written"):
        measure(model, photo_folder, **OPTIONS, checkpoint=tmp_path / "kept", stop=lambda: True)
    with pytest.raises(StoppedError, match="stopped after 2 of 9 photos; nothing was written"):
        measure(model, photo_folder, **OPTIONS, stop=stopping_after(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt, KeyboardInterrupt),
        (MemoryError, NetworkError),
        (ZeroDivisionError, ZeroDivisionError),
    ],
)
def test_whatever_ends_the_run_what_was_measured_is_kept(
    error: type[BaseException],
    expected: type[BaseException],
    model: Any,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = saved(measure(model, photo_folder, **OPTIONS), tmp_path)
    predict = keras.Model.predict_on_batch
    calls = iter(range(1000))

    def break_off(measuring: keras.Model, pixels: Any) -> Any:
        if next(calls) == 3:
            raise error
        return predict(measuring, pixels)

    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "predict_on_batch", break_off)
        with pytest.raises(expected):
            measure(model, photo_folder, **OPTIONS, checkpoint=tmp_path / "kept")
    assert load_means(tmp_path / "kept").image_count == 6
    assert (
        saved(measure(model, photo_folder, **OPTIONS, checkpoint=tmp_path / "kept"), tmp_path)
        == whole
    )


def test_a_folder_that_goes_away_leaves_the_checkpoint(
    model: Any, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(40):
        (folder / f"{index}.jpg").write_bytes((photo_folder / "0.jpg").read_bytes())
    batches = PhotoReader.batches

    def unmount(*arguments: Any) -> Iterator[Batch]:
        for number, batch in enumerate(batches(*arguments)):
            if number == 1:
                folder.rename(tmp_path / "elsewhere")
            yield batch

    monkeypatch.setattr(PhotoReader, "batches", unmount)
    with pytest.raises(PhotoError, match="photos: is gone, or another one is in its place"):
        measure(model, folder, **OPTIONS, checkpoint=tmp_path / "kept")
    assert 4 <= load_means(tmp_path / "kept").image_count < 40
    assert load_means(tmp_path / "kept").skipped == ()


def test_it_is_written_when_it_is_time(
    some_means: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "kept"
    keeper = Keeper(Checkpoint(path, every=60), pytest.fail)
    for seconds, there in ((59, False), (1, True), (59, False), (1, True)):
        now += seconds
        path.unlink(missing_ok=True)
        keeper.save_if_due(replace(some_means))
        assert path.exists() == there, now


# Checkpoints of other runs


@pytest.fixture
def kept(model: Any, photo_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "means.npy.checkpoint"
    with pytest.raises(StoppedError):
        measure(model, photo_folder, **OPTIONS, checkpoint=path, stop=stopping_after(2))
    return path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 48}, "size 40 and 48"),
        ({"batch_size": 4}, "batch_size 2 and 4"),
        ({"fit": "stretch"}, "fit crop and stretch"),
        ({"seed": 1}, "seed 0 and 1"),
        ({"limit": 5}, "limit None and 5"),
        ({"tolerance": 0.1}, "tolerance None and 0.1"),
        ({"shard": (1, 2)}, r"shard None and \(1, 2\)"),
        ({"precision": "bfloat16"}, "precision float32 and bfloat16, control 0 and 64"),
    ],
)
def test_another_recipe_is_refused(
    options: dict[str, Any], text: str, model: Any, photo_folder: Path, kept: Path
) -> None:
    before = kept.read_bytes()
    expected = rf"means\.npy\.checkpoint: does not go with this run: {text} \(there and here\); "
    expected += ".*--fresh to start over"
    with pytest.raises(MeansError, match=expected):
        measure(model, photo_folder, **{**OPTIONS, **options}, checkpoint=kept)
    assert kept.read_bytes() == before


def test_one_of_an_earlier_version_is_refused(model: Any, photo_folder: Path, kept: Path) -> None:
    means = load_means(kept)
    of_old = replace(means.recipe, numerics=2, batches_per_block=None)
    save_means(replace(means, recipe=of_old), kept, force=True)
    expected = r"this run: numerics 2 and 3, batches_per_block None and 8 \(there and here\); .*"
    with pytest.raises(MeansError, match=expected + "--fresh to start over"):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept)


def test_other_weights_are_refused(make_chain: MakeChain, photo_folder: Path, kept: Path) -> None:
    with pytest.raises(
        MeansError, match=r"weights_sha256 [0-9a-f]{12}… and [0-9a-f]{12}… \(there and here\)"
    ):
        measure(make_chain((4, 5, 3), seed=1), photo_folder, **OPTIONS, checkpoint=kept)


def test_other_photos_are_refused(
    model: Any, photo_folder: Path, kept: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photo_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    measure(model, folder, **OPTIONS, checkpoint=tmp_path / "other")  # the folder does not matter
    kept.write_bytes((tmp_path / "other").read_bytes())
    measure(model, folder, **OPTIONS, checkpoint=kept)
    (folder / "8.jpg").write_bytes(b"longer" * 10_000)
    with pytest.raises(
        MeansError, match="this run: listed_sha256 [0-9a-f]{12}… and [0-9a-f]{12}… "
    ):
        measure(model, folder, **OPTIONS, checkpoint=kept)
    (folder / "8.jpg").unlink()
    with pytest.raises(MeansError, match="this run: listed 9 and 8, listed_sha256 "):
        measure(model, folder, **OPTIONS, checkpoint=kept)


def test_a_damaged_one_is_refused(model: Any, photo_folder: Path, kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(
        MeansError, match=r"means\.npy\.checkpoint: is damaged.*, or --fresh to start over"
    ):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept)
    assert measure(model, photo_folder, **OPTIONS, checkpoint=kept, fresh=True).image_count == 9


@pytest.mark.parametrize("rates", [(80, 10), (9, 10)])
def test_auto_does_not_decide_again(
    rates: tuple[float, float],
    model: Any,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(*found: float) -> None:
        told = iter(found)
        monkeypatch.setattr(choosing, "photos_per_second", lambda *_: next(told))

    auto = {**OPTIONS, "precision": "auto", "control": 2}
    find(*rates)
    whole = saved(measure(model, photo_folder, **auto), tmp_path)
    find(*rates)
    with pytest.raises(StoppedError):
        measure(model, photo_folder, **auto, checkpoint=tmp_path / "kept", stop=stopping_after(2))
    find()  # a call would be an error
    assert (
        saved(measure(model, photo_folder, **auto, checkpoint=tmp_path / "kept"), tmp_path) == whole
    )


# Trouble with writing


def test_one_that_cannot_be_written_is_said_once_and_the_run_goes_on(
    model: Any, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = saved(measure(model, photo_folder, **OPTIONS), tmp_path)

    def fail(_: FilterMeans, path: Path, **__: Any) -> None:
        raise OutputError(f"{path}: could not be written: Disk quota exceeded")

    monkeypatch.setattr(checkpoint_module, "save_means", fail)
    said: list[str] = []
    kept = tmp_path / "kept"
    means = measure(
        model, photo_folder, **OPTIONS, checkpoint=kept, checkpoint_every=0, say=said.append
    )
    (line,) = said
    assert line.startswith(f"{kept}: could not be written: Disk quota exceeded; the run goes on")
    assert saved(means, tmp_path) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        mounted = (
            os.geteuid() == 0
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_keeps_the_earlier_one(
    model: Any, photo_folder: Path, small_disk: Path
) -> None:
    kept = small_disk / "kept"
    with pytest.raises(StoppedError):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept, stop=stopping_after(2))
    before = kept.read_bytes()
    fill(small_disk / "filling")
    said: list[str] = []
    measure(model, photo_folder, **OPTIONS, checkpoint=kept, checkpoint_every=0, say=said.append)
    assert len(said) == 2  # where it goes on from, and that it cannot be written
    assert "No space left on device; the run goes on" in said[1]
    assert kept.read_bytes() == before
    assert {path.name for path in small_disk.iterdir()} == {"kept", "filling"}


def test_a_disk_that_becomes_read_only_keeps_the_earlier_one(
    model: Any, photo_folder: Path, small_disk: Path
) -> None:
    kept = small_disk / "kept"
    with pytest.raises(StoppedError):
        measure(model, photo_folder, **OPTIONS, checkpoint=kept, stop=stopping_after(2))
    before = kept.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    said: list[str] = []
    measure(model, photo_folder, **OPTIONS, checkpoint=kept, say=said.append)
    assert "Read-only file system; the run goes on" in said[1]
    assert kept.read_bytes() == before


def fill(path: Path) -> None:
    with io.FileIO(path, "w") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_photos_are_listed_before_they_are_shuffled(photo_folder: Path) -> None:
    assert find_photos(photo_folder).sha256() != find_photos(photo_folder).shuffled(1).sha256()


def test_a_run_that_gets_no_memory_goes_on_to_the_same_bits(
    model: Any, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = saved(measure(model, photo_folder, **OPTIONS), tmp_path)
    kept = tmp_path / "means.npy.checkpoint"
    started = iter(range(1000))

    def decode_some(*arguments: Any) -> Any:
        if next(started) >= 5:
            raise MemoryError
        return decode_within(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(reader, "decode_within", decode_some)
        with pytest.raises(
            PhotoError, match="there is not enough memory to decode it; give fewer --threads"
        ):
            measure(model, photo_folder, **OPTIONS, checkpoint=kept, threads=1)
    assert 0 < load_means(kept).image_count < 9
    assert load_means(kept).skipped == ()
    assert saved(measure(model, photo_folder, **OPTIONS, checkpoint=kept), tmp_path) == whole
