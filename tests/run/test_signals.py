"""Signals end a run with 128 + n after it saved its work; SIGKILL loses one interval at most."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vggnorm.files.formats import load_means
from vggnorm.run import signals

PHOTOS = 3000
NUMBERS = {"SIGINT": 2, "SIGTERM": 15, "SIGHUP": 1}


@pytest.fixture(scope="module")
def many_photos(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for index in range(PHOTOS):
        (folder / f"{index}.jpg").symlink_to(photo_folder / f"{index % 9}.jpg")
    return folder


@pytest.fixture(scope="module")
def chain_file(make_chain: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "chain.keras"
    make_chain((8, 8, 8, 8)).save(path)
    return path


@pytest.fixture
def start(
    many_photos: Path, chain_file: Path, tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Start compute-means in a folder of its own, with lines of progress every 0.05 seconds."""

    def start(*options: str, before: str = "", output: str = "means.npy") -> subprocess.Popen[str]:
        # The tests may run with SIGINT ignored, as shells do for jobs in the background.
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        program += (
            "import vggnorm.run.progress; vggnorm.run.progress.SECONDS_BETWEEN_LINES = 0.05\n"
        )
        program += f"{before}\nfrom vggnorm.cli import main; main(prog_name='vggnorm')"
        arguments = [
            "compute-means",
            "--data",
            many_photos,
            "--network",
            chain_file,
            "--preprocessing",
            "none",
        ]
        arguments += ["--size", "96", "--batch-size", "4", "-o", output, *options]
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    return start


def wait_for_progress(process: subprocess.Popen[str], least: int = 1) -> int:
    """Wait until at least so many photos are done; return how many are."""
    assert process.stderr is not None
    for line in process.stderr:
        count = re.match(r"(\d+)/\d+ photos, ", line)
        if count and int(count[1]) >= least:
            return int(count[1])
    pytest.fail("ended without progress")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_signal_saves_and_says_how_to_go_on(
    name: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    process = start()
    wait_for_progress(process)
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + NUMBERS[name]
    assert stdout == ""
    assert "Traceback" not in stderr
    last = stderr.splitlines()[-1]
    done = load_means(tmp_path / "means.npy.checkpoint").image_count
    assert 0 < done < PHOTOS
    assert last == (
        f"Interrupted: stopped after {done} of {PHOTOS} photos; means.npy.checkpoint keeps them: "
        "the same again, "
        "without --fresh, goes on"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["means.npy.checkpoint"]


def test_a_second_signal_ends_at_once(start: Callable[..., Any]) -> None:
    # The network never comes back from its first batch.
    before = (
        "import keras, threading\n"
        "def hang(*_): print('hangs', flush=True); threading.Event().wait()\n"
        "keras.Model.predict_on_batch = hang"
    )
    process = start(before=before)
    assert process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("name", NUMBERS)
def test_before_the_first_photo_there_is_nothing_to_save(
    name: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    before = (
        "import time, vggnorm.run.startup\n"
        "def wait(): print('waiting', flush=True); time.sleep(60)\n"
        "vggnorm.run.startup.import_keras = wait"
    )
    process = start(before=before)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (128 + NUMBERS[name], "")
    found, told = stderr.splitlines()  # it first says where the photos are
    assert found.startswith("3000 photos in ")
    assert told == "Interrupted; nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_what_was_to_be_ignored_stays_ignored(start: Callable[..., Any]) -> None:
    # As `nohup` does.
    process = start(before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    done = wait_for_progress(process)
    process.send_signal(signal.SIGHUP)
    wait_for_progress(process, done + 200)  # fifty batches
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + 15


def test_a_second_run_to_the_same_output_is_refused(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    first = start("--checkpoint-every", "0")
    wait_for_progress(first)
    second = start("--checkpoint-every", "0")
    stdout, stderr = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (1, "")
    assert stderr.startswith(f"Error: means.npy: is being made by process {first.pid} on ")
    first.kill()
    first.communicate()
    assert (tmp_path / "means.npy.lock").exists()
    third = start("--limit", "4", "--fresh")
    third.communicate(timeout=60)
    assert third.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["means.npy"]


def test_a_result_that_cannot_be_written_leaves_the_checkpoint(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    before = (
        "import vggnorm.files.means_npy as files\n"
        "from vggnorm.errors import OutputError\n"
        "save = files.save_means\n"
        "def fail(means, path, **options):\n"
        "    if path.name != 'means.npy':\n"
        "        return save(means, path, **options)\n"
        "    raise OutputError(f'{path}: could not be written: Disk quota exceeded')\n"
        "files.save_means = fail"
    )
    process = start("--limit", "8", before=before)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines()[-1] == (
        "Error: means.npy: could not be written: Disk quota exceeded; means.npy.checkpoint keeps 8 "
        "of 8 photos; "
        "when this is mended, a run with the same options and this output name, without --fresh, "
        "goes on from there"
    )
    process = start("--limit", "8")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "means.npy.checkpoint: goes on after 8 of 8 photos" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["means.npy"]


def test_handlers_that_a_library_sets_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_torture() -> None:
    script = Path(__file__).parents[2] / "scripts" / "torture.py"
    done = subprocess.run(
        [sys.executable, script, "--kills", "2", "--photos", "600", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 kills, " in done.stdout
