"""Run a program and tell what it took: time, processor time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import click

VGGNORM = (sys.executable, "-m", "vggnorm")


@dataclass(frozen=True)
class Cost:
    """What a process took.

    Attributes:
        seconds: from its start to its end.
        cpu: seconds of processor time, over all cores.
        memory: its peak, in MB.
        output: what it wrote to stdout.
    """

    seconds: float
    cpu: float
    memory: float
    output: str


def run_process(command: Sequence[str]) -> Cost:
    """Run a program to its end.

    On Linux, the peak memory of a process starts with that of its parent. So this process must stay
    small, and never imports TensorFlow.

    Raises:
        click.ClickException: the program failed.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed; its message is above")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu, usage.ru_maxrss / 1024, output)
