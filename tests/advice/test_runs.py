"""The advice about runs, and about what they need of a machine, followed."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import pytest
from advice_texts import refused, said
from measuring import measure

import vggnorm
from vggnorm.errors import OutputError
from vggnorm.files.means_npy import save_means
from vggnorm.network import memory, surroundings
from vggnorm.network.surroundings import require_ready
from vggnorm.run import choosing, output, ray
from vggnorm.run.engine import Block, Pending, Submit, Worker
from vggnorm.run.options import Say
from vggnorm.run.output import means_output
from vggnorm.run.ray import Ray

Chain = Callable[..., Any]
OPTIONS: dict[str, Any] = {"size": 16, "preprocessing": "caffe", "batch_size": 1}


@pytest.fixture
def model(make_chain: Chain) -> Any:
    return make_chain((3,))


# Memory and processors


def test_a_batch_that_fits_into_memory(
    model: Any, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"size": 64, "preprocessing": "caffe"}
    wanted = memory._needed(model, 64, (64, 64))  # noqa: SLF001
    monkeypatch.setattr(memory, "SAFE_REST", 0)
    with monkeypatch.context() as patched:
        patched.setattr(memory, "free_memory", lambda: wanted // 2)
        with refused(
            "use {}, with --fresh if compute-means has begun, or run the same command again when "
            "more memory is free"
        ) as caught:
            memory.require_memory(model, 64, (64, 64))
        fitting = int(caught.text.partition("--batch-size ")[2].partition(",")[0])
        assert memory.require_memory(model, fitting, (64, 64)) is None
        measure(model, photo_folder, **options, batch_size=fitting)
        patched.setattr(memory, "free_memory", lambda: wanted + 1)
        line = memory.require_memory(model, 64, (64, 64))
        assert line is not None
        assert said([line], "if this program is ended without a word, {}")
    measure(model, photo_folder, **options, batch_size=64)


def test_a_processor_without_units_for_bfloat16(
    model: Any, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "is_on_cpu", lambda _: True)
    monkeypatch.setattr(choosing, "lacks_bfloat16_units", lambda: True)
    lines: list[str] = []
    measure(model, photo_folder, **OPTIONS, say=lines.append, precision="bfloat16")
    assert said(lines, "use --precision float32, with --fresh if a run has begun")
    del lines[:]
    measure(model, photo_folder, **OPTIONS, say=lines.append, precision="float32")
    assert not said(lines, "use --precision float32, with --fresh if a run has begun")


def test_a_gpu_that_cannot_be_used_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here Keras fails as with such a GPU, as long as it is not hidden."""
    ones = keras.ops.ones

    def on_the_gpu(*arguments: Any) -> Any:
        if os.environ.get("CUDA_VISIBLE_DEVICES") != "-1":
            raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")
        return ones(*arguments)

    monkeypatch.setattr(keras.ops, "ones", on_the_gpu)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with refused(
        "end other programs that use it, mend its driver and libraries, or set "
        "CUDA_VISIBLE_DEVICES=-1 to compute on the CPU"
    ):
        require_ready()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    require_ready()


def test_a_gpu_that_is_not_used_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_has_gpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    line = surroundings.unused_gpu_line((str(tmp_path),))
    assert line is not None
    assert said([line], "{}, or set CUDA_VISIBLE_DEVICES=-1 to hide the GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert surroundings.unused_gpu_line((str(tmp_path),)) is None


def test_the_settings_of_keras(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text("[1]")

    def start(**variables: str) -> list[str]:
        program = (
            "from vggnorm.errors import NetworkError\n"
            "from vggnorm.run.startup import import_keras\n"
            "try: import_keras(); print('started')\n"
            "except NetworkError as error: print(error)\n"
        )
        kept = {name: text for name, text in os.environ.items() if not name.startswith("KERAS")}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=kept | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    (tmp_path / "empty").mkdir()
    spoilt, empty = str(tmp_path), str(tmp_path / "empty")
    assert said(
        start(KERAS_HOME=spoilt), "mend or unset them, or set KERAS_HOME to an empty folder"
    )
    assert said(start(KERAS_HOME=empty, KERAS_BACKEND="theano"), "set KERAS_BACKEND=tensorflow")
    assert start(KERAS_HOME=empty, KERAS_BACKEND="tensorflow") == ["started"]


# Runs that end early, and go on


def test_a_run_that_is_stopped_goes_on(model: Any, photo_folder: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "checkpoint": tmp_path / "checkpoint"}
    calls = iter(range(100))
    with refused("{} keeps them: {}"):
        measure(model, photo_folder, **options, stop=lambda: next(calls) > 2)
    lines: list[str] = []
    assert measure(model, photo_folder, **options, say=lines.append).image_count == 9
    assert any("goes on after" in line for line in lines)


def test_a_run_goes_on_from_what_could_be_kept(
    model: Any, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**OPTIONS, "checkpoint": tmp_path / "checkpoint", "checkpoint_every": 0}
    calls, saves = iter(range(100)), iter(range(100))

    def save_once(*arguments: Any, **named: Any) -> None:
        if next(saves):
            raise OutputError("the disk is full")
        save_means(*arguments, **named)

    with monkeypatch.context() as patched, refused("{} keeps {} of them: {} from there"):
        patched.setattr("vggnorm.run.checkpoint.save_means", save_once)
        measure(model, photo_folder, **options, stop=lambda: next(calls) > 2)
    assert measure(model, photo_folder, **options).image_count == 9


def test_a_result_that_could_not_be_saved(
    model: Any, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OutputError("the disk is full")

    def run() -> None:
        with means_output(tmp_path / "means.npy") as made:
            kept = made.checkpoint()
            means = measure(model, photo_folder, **OPTIONS, checkpoint=kept.path)
            made.save(means)

    with (
        monkeypatch.context() as patched,
        refused(
            "when this is mended, a run with the same options and this output name, without "
            "--fresh, goes on from there"
        ),
    ):
        patched.setattr(output, "save_means", fail)
        run()
    run()
    assert vggnorm.load_means(tmp_path / "means.npy").image_count == 9


# Parts and engines


def test_parts_are_measured_completely(model: Any, photo_folder: Path) -> None:
    with refused("leave out the limit, the tolerance and auto"):
        measure(model, photo_folder, **OPTIONS, shard=(1, 2), limit=3)
    measure(model, photo_folder, **OPTIONS, shard=(1, 2))


def test_a_part_is_cut_for_the_batches_of_the_run(model: Any, photo_folder: Path) -> None:
    photos = vggnorm.find_photos(photo_folder).shuffled(0)
    with refused("cut it with shard(..., batch_size={})"):
        measure(model, photos.shard(1, 2, batch_size=4), **OPTIONS)
    measure(model, photos.shard(1, 2, batch_size=1), **OPTIONS)


@dataclass
class Here:
    """An engine that measures blocks in this process, with the network that its workers have."""

    arrived: Any

    def __str__(self) -> str:
        return "here"

    @contextmanager
    def workers(self, job: Any, say: Say) -> Iterator[Submit]:  # noqa: ARG002
        worker = Worker(replace(job, model=self.arrived))

        def submit(block: Block) -> Pending:
            return lambda _seconds: worker.measure(block)

        yield submit


def test_all_photos_are_measured_with_an_engine(model: Any, photo_folder: Path) -> None:
    with refused("leave out the part and auto"):
        measure(model, photo_folder, **OPTIONS, shard=(1, 2), engine=Here(model))
    measure(model, photo_folder, **OPTIONS, engine=Here(model))


def test_a_network_that_changes_on_the_way_is_measured_without_an_engine(
    model: Any, make_chain: Chain, photo_folder: Path
) -> None:
    with refused("measure it without an engine"):
        measure(model, photo_folder, **OPTIONS, engine=Here(make_chain((3,), seed=1)))
    measure(model, photo_folder, **OPTIONS)


def test_workers_see_the_photos(model: Any, photo_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "photos"
    elsewhere.symlink_to(photo_folder)
    photos = vggnorm.find_photos(elsewhere)

    class Apart(Here):
        @contextmanager
        def workers(self, job: Any, say: Say) -> Iterator[Submit]:
            elsewhere.unlink()
            with super().workers(job, say) as submit:
                yield submit

    with refused("every node must see the photos under this path"):
        measure(model, photos, **OPTIONS, engine=Apart(model))
    elsewhere.symlink_to(photo_folder)
    measure(model, photos, **OPTIONS, engine=Here(model))


def test_the_gpus_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: object())  # as if Ray were installed
    with refused("it must be a whole number, or between 0 and 1"):
        Ray(worker_gpus=1.5)
    for gpus in 0.5, 2:
        Ray(worker_gpus=gpus)


def test_a_cluster_is_started_where_it_was_looked_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with refused(
            "start it with ray start --head, set RAY_ADDRESS to where it is, or unset it to use "
            "this machine alone"
        ):
            ray._require_listener(address)  # noqa: SLF001
        server.listen()
        ray._require_listener(address)  # noqa: SLF001
