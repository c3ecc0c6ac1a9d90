"""A Ray cluster of several nodes on this machine, whose processes are all ended by their ids."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A variable that a node and all its processes have in their environment.
MARK = "VGGNORM_TEST_NODE"

# What the engine puts into the environment of its workers alone.
OF_WORKERS = "TF_FORCE_GPU_ALLOW_GROWTH=true"

DEADLINE = 120.0  # seconds, far more than anything takes that is waited for

NODE_OPTIONS = (
    "--node-ip-address=127.0.0.1",
    "--num-cpus=1",
    "--object-store-memory=80000000",  # bytes, nearly the least that Ray takes
    "--min-worker-port=0",  # any free port: two nodes of one machine would take the same ones
    "--max-worker-port=0",
    "--dashboard-agent-listen-port=0",
    "--disable-usage-stats",
    "--block",
)


def wait_for(what: str, check: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE
    while not check():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


class Cluster:
    """A head node and, while a test needs them, other nodes.

    Attributes:
        environment: of whatever is to join it.
        address: `host:port`.
    """

    def __init__(self, folder: Path) -> None:
        """Name the cluster, and start nothing.

        Args:
            folder: where Ray keeps its files and sockets, by a short name.
        """
        self._folder = folder
        self._name = secrets.token_hex(8)
        self.address = f"127.0.0.1:{_free_port()}"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",  # nobody else is to run code in it
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "SPT_NOENV": "1",  # Ray's processes are not to write their titles over MARK
            "TF_NUM_INTRAOP_THREADS": "1",  # as many as a worker's
        }

    @contextmanager
    def node(self, name: str, cwd: Path, *, head: bool = False, **changes: str) -> Iterator[None]:
        """Run a node as long as the block lasts.

        Args:
            name: what to call it.
            cwd: the working folder of its workers.
            head: whether it is the head node.
            changes: other variables of its environment.
        """
        role = [f"--address={self.address}"]
        if head:
            port = self.address.rpartition(":")[2]
            role = ["--head", f"--port={port}", f"--temp-dir={self._folder}"]
            role.append("--include-dashboard=false")
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *NODE_OPTIONS],
                cwd=cwd,
                env={**self.marked(name), **changes},
                stdout=output,
                stderr=output,
            )
        try:
            wait_for(f"node {name}, see {log}", lambda: b"Ray runtime started" in log.read_bytes())
            yield
        finally:
            self.kill_node(name)
            process.wait()

    def kill_node(self, name: str) -> None:
        """End all processes of a node at once, with SIGKILL."""
        while processes := self.processes(name):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def wait_for_worker(self, name: str) -> int:
        """Wait until a worker on a node measures a block, and give its id."""
        measuring: list[int] = []

        def find() -> bool:
            measuring[:] = self.measuring(name)
            return bool(measuring)

        wait_for(f"a worker on node {name}", find)
        return measuring[0]

    def measuring(self, name: str) -> list[int]:
        """List the workers on a node that measure a block at the moment."""
        return [process for process in self.workers(name) if _title(process) == "ray::measure"]

    def workers(self, name: str) -> list[int]:
        """List the workers on a node, whether they measure at the moment or not."""
        found = []
        for process in self.processes(name):
            is_worker = OF_WORKERS in _environment(process) and _title(process).startswith("ray::")
            if is_worker:
                found.append(process)
        return found

    def processes(self, name: str) -> list[int]:
        """List the processes of a node."""
        mark = f"{MARK}={self._mark(name)}"
        numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
        return [number for number in numbers if mark in _environment(number)]

    def marked(self, name: str) -> dict[str, str]:
        """Give an environment by which processes are found again as those of a node."""
        return {**self.environment, MARK: self._mark(name)}

    def _mark(self, name: str) -> str:
        return f"{self._name}-{name}"


def _title(process: int) -> str:
    return _read(process, "cmdline").rstrip("\0")


def _environment(process: int) -> list[str]:
    return _read(process, "environ").split("\0")


def _read(process: int, file: str) -> str:
    try:
        return Path(f"/proc/{process}/{file}").read_text(errors="replace")
    except OSError:  # it has ended, or is somebody else's
        return ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def cluster(cwd: Path) -> Iterator[Cluster]:
    """Run a cluster of one node, `head`, as long as the block lasts.

    Args:
        cwd: the working folder of the head node's workers.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # the names of sockets must be short
    found = Cluster(folder)
    try:
        with found.node("head", cwd, head=True):
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
