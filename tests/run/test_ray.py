"""Runs on a Ray cluster whose workers, nodes and driver are killed while they measure."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from photo_files import make_bytes, make_noise
from ray_cluster import Cluster, cluster, wait_for

from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.finding import find_photos
from vggnorm.version import __version__

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

PHOTOS = 400
OPTIONS = ("--network", "net.keras", "--preprocessing", "caffe", "--size", "32", "--strict")
BLOCKS = ("--batch-size", "1", "--checkpoint-every", "0")  # a block is 8 photos
# A shell that starts the tests in the background has them ignore SIGINT.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from vggnorm.cli import main; main()"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_chain: Callable[..., Any]) -> Path:
    """Return a folder with 400 photos and a network that takes some seconds for them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        content = make_bytes(make_noise(40, 40, seed=number), "PNG")
        (folder / "photos" / f"{number:03}.png").write_bytes(content)
    make_chain((64, 128, 128, 64)).save(folder / "net.keras")
    return folder


@pytest.fixture(scope="module")
def two_nodes(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster, one at a time, where several processes share the tests."""
    shared = tmp_path_factory.getbasetemp().parent
    with FileLock(shared / "ray.lock"), cluster(place) as found:
        yield found


class Run:
    """A run of compute-means in a process of its own."""

    def __init__(
        self,
        place: Path,
        output: str,
        environment: dict[str, str],
        *options: str,
        data: str = "photos",
        command: str = COMMAND,
    ) -> None:
        arguments = "compute-means", "--data", data, *OPTIONS, *BLOCKS, "-o", output, *options
        self.checkpoint = place / f"{output}.checkpoint"
        self.output = place / output
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, *, status: int = 0) -> str:
        """Wait for the end of the run, and give what it said."""
        _, said = self.process.communicate(timeout=300)
        assert self.process.returncode == status, said
        return said

    def wait_for_photos(self, more_than: int = 0) -> None:
        """Wait until more photos than these are measured and kept."""
        wait_for("photos to be measured", lambda: self.kept() > more_than)

    def kept(self) -> int:
        return load_means(self.checkpoint).image_count if self.checkpoint.exists() else 0


@contextmanager
def on_cluster(
    found: Cluster, place: Path, output: str, *options: str, **settings: str
) -> Iterator[Run]:
    """Run on a cluster. The driver is ended with the block, however the block ends."""
    environment = {**found.environment, "RAY_ADDRESS": found.address}
    run = Run(place, output, environment, "--engine", "ray", *options, **settings)
    with run.process:
        try:
            yield run
        finally:
            run.process.kill()


@pytest.fixture(scope="module")
def expected(place: Path, two_nodes: Cluster) -> FilterMeans:
    """Return what one process measures."""
    Run(place, "alone.npy", two_nodes.environment).end()
    means = load_means(place / "alone.npy")
    assert means.image_count == PHOTOS
    return means


def require_equal(output: Path, expected: FilterMeans) -> None:
    found = load_means(output)
    assert found.taken == expected.taken
    for layer in expected.mean:
        np.testing.assert_array_equal(found.mean[layer], expected.mean[layer])
        np.testing.assert_array_equal(
            found.squared_deviation[layer], expected.squared_deviation[layer]
        )


def test_a_run_survives_its_workers_and_nodes(
    place: Path, two_nodes: Cluster, expected: FilterMeans
) -> None:
    with (
        two_nodes.node("second", place),
        on_cluster(two_nodes, place, "killed.npy") as run,
    ):
        run.wait_for_photos()
        os.kill(two_nodes.wait_for_worker("head"), signal.SIGKILL)
        two_nodes.wait_for_worker("second")
        two_nodes.kill_node("second")
        with two_nodes.node("third", place):
            two_nodes.wait_for_worker("third")
            run.end()
    require_equal(run.output, expected)


def test_a_run_that_is_ended_goes_on(
    place: Path, two_nodes: Cluster, expected: FilterMeans
) -> None:
    with on_cluster(two_nodes, place, "ended.npy") as run:
        run.wait_for_photos()
        run.process.terminate()
        said = run.end(status=128 + signal.SIGTERM)
    kept = run.kept()
    assert f"stopped after {kept} of {PHOTOS} photos; " in said
    assert 0 < kept < PHOTOS
    wait_for("the measuring to end", lambda: not two_nodes.measuring("head"))

    with on_cluster(two_nodes, place, "ended.npy") as run:
        run.wait_for_photos(kept)
        run.process.kill()
        run.end(status=-signal.SIGKILL)
    wait_for("the measuring to end", lambda: not two_nodes.measuring("head"))

    kept = run.kept()
    last = place / "photos" / find_photos(place / "photos").shuffled(0).names[-1]
    with on_cluster(two_nodes, place, "ended.npy") as run:
        run.wait_for_photos(kept)
        last.rename(place / "removed.png")
        said = run.end(status=1)
    (place / "removed.png").rename(last)
    assert re.search(rf"Error: node \S+: {last}: is gone since the photos were listed", said)
    assert run.kept() > kept

    with on_cluster(two_nodes, place, "ended.npy") as run:
        assert f"goes on after {run.kept()} of {PHOTOS} photos" in run.end()
    require_equal(run.output, expected)


def test_a_block_that_kills_its_workers_ends_the_run(place: Path, two_nodes: Cluster) -> None:
    never_again = f"import vggnorm.run.ray as ray; ray.RETRIES = 0; {COMMAND}"
    with on_cluster(two_nodes, place, "deadly.npy", command=never_again) as run:
        run.wait_for_photos()
        os.kill(two_nodes.wait_for_worker("head"), signal.SIGKILL)
        said = run.end(status=1)
    assert re.search(r"Error: Ray gave up on the block of photos that begins with \d+\.png: ", said)
    assert run.kept() > 0


def test_a_node_without_the_photos_ends_the_run(
    place: Path, two_nodes: Cluster, tmp_path: Path
) -> None:
    here = "/proc/self/cwd/photos"  # another folder for workers in another working folder
    with (
        two_nodes.node("empty", tmp_path),
        on_cluster(two_nodes, place, "empty.npy", data=here) as run,
    ):
        said = run.end(status=1)
    assert re.search(rf"Error: node \S+: {here}: is not there; every node must see", said)


def test_a_node_with_another_version_ends_the_run(
    place: Path, two_nodes: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "vggnorm").mkdir()
    (tmp_path / "vggnorm" / "__init__.py").touch()
    (tmp_path / "vggnorm" / "version.py").write_text("__version__ = '0.0.1'")
    with (
        two_nodes.node("old", place, PYTHONPATH=str(tmp_path)),
        on_cluster(two_nodes, place, "old.npy") as run,
    ):
        said = run.end(status=1)
    assert re.search(
        rf"Error: node \S+: has vggnorm 0\.0\.1 and not {__version__}; install vggnorm", said
    )


def test_a_run_that_waits_for_a_machine_says_so_and_can_be_ended(
    place: Path, two_nodes: Cluster
) -> None:
    impatient = f"import vggnorm.run.ray as ray; ray.PATIENCE = 1.0; {COMMAND}"
    options = "--worker-cpus", "64"
    with on_cluster(two_nodes, place, "waiting.npy", *options, command=impatient) as run:
        assert run.process.stderr is not None
        lines = iter(run.process.stderr.readline, "")
        line = next(line for line in lines if line.startswith("no worker"))
        assert re.search(r"each takes 64 CPUs and 0 GPUs, and the cluster has \d CPUs and 0 ", line)
        run.process.send_signal(signal.SIGINT)
        assert f"stopped after 0 of {PHOTOS} photos; nothing was written" in run.end(status=130)


def test_without_an_address_a_cluster_starts_and_ends_with_the_run(
    place: Path, two_nodes: Cluster, expected: FilterMeans
) -> None:
    environment = two_nodes.marked("local")
    try:
        run = Run(place, "local.npy", environment, "--engine", "ray")
        two_nodes.wait_for_worker("local")
        run.end()
        wait_for("the cluster to end", lambda: not two_nodes.processes("local"))
    finally:
        two_nodes.kill_node("local")
    require_equal(run.output, expected)


def test_a_cluster_that_is_not_there(place: Path, two_nodes: Cluster) -> None:
    environment = {**two_nodes.environment, "RAY_ADDRESS": "127.0.0.1:1"}
    said = Run(place, "nowhere.npy", environment, "--engine", "ray").end(status=1)
    assert "Error: the Ray cluster 127.0.0.1:1 cannot be reached: " in said
