"""Ray as the engine: the processes of a Ray cluster measure blocks.

Ray runs a block again elsewhere when its worker or its node dies. A worker keeps the models that
measure from one block to the next; Ray uses its processes again, and nodes that join are given
blocks like all others. (A pool of actors would not grow.)
"""

import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import keras

from vggnorm.errors import EngineError, VggnormError
from vggnorm.means.recipe import NUMERICS
from vggnorm.photos.reader import RUN_AGAIN
from vggnorm.run import signals
from vggnorm.run.engine import Block, Job, Measured, Pending, Submit, Worker
from vggnorm.run.options import NO_RAY, Say
from vggnorm.version import __version__

# A photo that brings its decoder down ends one worker after another, and that must have an end.
RETRIES = 20

RELEASE = (__version__, NUMERICS)  # what every node must have

PATIENCE = 30.0  # seconds, after which the user is told that no worker has begun


@dataclass(frozen=True)
class Ray:
    """Measures on a Ray cluster.

    It joins the cluster that this process has joined or, if it has not, the cluster of the
    environment variable RAY_ADDRESS. Without either, it starts one on this machine, which ends with
    the run.

    Attributes:
        worker_cpus: how many cores each worker has. TensorFlow uses as many threads, and their
            number decides last bits.
        worker_gpus: how many GPUs each worker has. A fraction lets several workers share one.

    Raises:
        EngineError: Ray is not installed.
        ValueError: a value is out of range.
    """

    worker_cpus: int = 1
    worker_gpus: float = 0

    def __post_init__(self) -> None:
        if self.worker_cpus < 1:
            raise ValueError(f"worker_cpus is {self.worker_cpus}; it must be at least 1")
        if not (0 <= self.worker_gpus <= 1 or (self.worker_gpus > 1 and self.worker_gpus % 1 == 0)):
            raise ValueError(
                f"worker_gpus is {self.worker_gpus}; it must be a whole number, or between 0 and 1"
            )
        if find_spec("ray") is None:
            raise EngineError(NO_RAY)

    @contextmanager
    def workers(self, job: Job, say: Say) -> Iterator[Submit]:
        """Have workers for a job as long as the block lasts: see `Engine`."""
        import ray  # noqa: PLC0415  an extra

        job = replace(job, threads=job.threads or self.worker_cpus)
        measure = self._remote(_make_task())
        handed_out = set()
        with _cluster():
            sent = ray.put(job)
            reminder = self._remind_if_none_begins(say)

            def submit(block: Block) -> Pending:
                # In a list, the job is not unpickled anew for each block. The block is pickled
                # here, so that a node without vggnorm can say so.
                task = measure.remote(RELEASE, pickle.dumps(block), [sent])
                handed_out.add(task)

                def wait(seconds: float) -> Measured | None:
                    done, _ = ray.wait([task], timeout=seconds)
                    if not done:
                        return None
                    handed_out.remove(task)
                    return _result(task, block)

                return wait

            try:
                yield submit
            finally:
                reminder.cancel()
                for task in handed_out:
                    ray.cancel(task, force=True)

    def _remote(self, function: Callable[..., object]) -> Any:
        """Have Ray run a function in the processes of workers."""
        import ray  # noqa: PLC0415

        return ray.remote(
            num_cpus=self.worker_cpus,
            num_gpus=self.worker_gpus,
            max_retries=RETRIES,
            max_calls=0,  # otherwise a process that has a GPU ends after each block
            runtime_env={"env_vars": self._environment()},
        )(function)

    def _remind_if_none_begins(self, say: Say) -> threading.Timer:
        """Tell the user after a while if there is no machine for a worker."""
        import ray  # noqa: PLC0415

        first = self._remote(lambda: None).remote()

        def remind() -> None:
            if ray.wait([first], timeout=0)[0]:
                return
            there = ray.cluster_resources()
            say(
                f"no worker has begun after {PATIENCE:.0f} s: each takes {self.worker_cpus} CPUs "
                f"and {self.worker_gpus:g} GPUs, and the cluster has {there.get('CPU', 0):g} CPUs "
                f"and {there.get('GPU', 0):g} GPUs, which others may use; waiting"
            )

        reminder = threading.Timer(PATIENCE, remind)
        reminder.daemon = True
        reminder.start()
        return reminder

    def _environment(self) -> dict[str, str]:
        """Give the variables that TensorFlow and Keras read in a worker when they are imported."""
        settings = {
            "KERAS_BACKEND": keras.backend.backend(),
            "TF_NUM_INTRAOP_THREADS": str(self.worker_cpus),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # workers may share a GPU
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
        if onednn is not None:  # the same for all, because it decides the last bits
            settings["TF_ENABLE_ONEDNN_OPTS"] = onednn
        return settings


# In the process that adds up


@contextmanager
def _cluster() -> Iterator[None]:
    """Join a cluster or start one, as long as the block lasts."""
    import ray  # noqa: PLC0415

    if ray.is_initialized():  # by a program that uses the library
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    _require_listener(address)
    try:
        with signals.kept():  # Ray sets its own for SIGTERM, which ends the process at once
            ray.init(
                address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise EngineError(
            f"the Ray cluster {address} cannot be joined: {_one_line(error)}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse a `host:port` at which nothing listens: Ray itself would try again for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise EngineError(
            f"the Ray cluster {address} cannot be reached: {error}; start it with ray start "
            "--head, set RAY_ADDRESS to where it is, or unset it to use this machine alone"
        ) from error


def _result(task: Any, block: Block) -> Measured:
    """Give what a block that is done has given, or raise the error of its worker."""
    import ray  # noqa: PLC0415

    try:
        measured: Measured = pickle.loads(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise EngineError(
                f"{error.cause}; install vggnorm {__version__}, with all that it needs, on every "
                "node"
            ) from error
        if isinstance(error.cause, VggnormError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"Ray gave up on the block of photos that begins with {block.photos.names[0]}: "
            f"{_one_line(error)}; {RUN_AGAIN}"
        ) from error
    return measured


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# In the process of a worker


def _make_task() -> Callable[[tuple[str, int], bytes, list[Any]], bytes]:
    """Make the function that Ray runs.

    A function inside another one is sent as it is, while others are sent by name. So it runs on a
    node that has another vggnorm or none, and says so. It must use no name of this module.
    """

    def measure(release: tuple[str, int], block: bytes, sent: list[Any]) -> bytes:
        import socket  # noqa: PLC0415

        try:
            from vggnorm.version import __version__ as found  # noqa: PLC0415

            if found != release[0]:
                raise ImportError(f"has vggnorm {found} and not {release[0]}")  # noqa: TRY301
            from vggnorm.means.recipe import NUMERICS as numerics  # noqa: N811, PLC0415

            if numerics != release[1]:
                raise ImportError(  # noqa: TRY301
                    f"has the numerics {numerics} and not {release[1]} of vggnorm {found}"
                )
            from vggnorm.run.ray import measure_block  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(f"node {socket.gethostname()}: {error}") from error
        return measure_block(block, sent[0])

    return measure


def measure_block(block: bytes, job: Any) -> bytes:
    """Measure a block in the process of a worker.

    Args:
        block: a pickled `Block`.
        job: Ray's reference to the `Job`.

    Returns:
        A pickled `Measured`. Arrays that Ray itself sends are memory that ends with the cluster.

    Raises:
        VggnormError: see `Worker`. The text names the node.
    """
    try:
        return pickle.dumps(_worker_for(job).measure(pickle.loads(block)))
    except VggnormError as error:
        raise type(error)(f"node {socket.gethostname()}: {error}") from error


@lru_cache(maxsize=1)
def _worker_for(job: Any) -> Worker:
    """Build the models that measure, once in a process."""
    import ray  # noqa: PLC0415

    worker: Worker = ray.get(job).worker()
    return worker
