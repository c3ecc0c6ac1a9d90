"""How many processor cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # where Linux has the groups that limit processes
OWN_GROUPS = Path("/proc/self/cgroup")


def core_count() -> int:
    """Count the cores that this process may use; the machine may have more."""
    granted = _core_quota()
    return _assigned_cores() if granted is None else min(granted, _assigned_cores())


def core_limit() -> int | None:
    """Give `core_count`, or None where the time of the processor is not limited.

    Other programs know to which cores a process is tied, but not how much of their time it gets.
    """
    return None if _core_quota() is None else core_count()


def _assigned_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows lack it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _core_quota() -> int | None:
    """Give how many cores' time a container grants (`docker run --cpus 2`), rounded up."""
    quotas = [_quota_of(group) for group in _own_groups()]
    known = [quota for quota in quotas if quota is not None]
    return max(1, math.ceil(min(known))) if known else None


def _own_groups() -> Iterator[Path]:
    """Give the folders of the groups that this process is in, each with those around it."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2, which has one tree for all
            tree = CGROUPS
        elif "cpu" in controllers.split(","):  # version 1, which has a tree for each controller
            tree = CGROUPS / controllers
        else:
            continue
        own = tree / path.lstrip("/")
        yield own
        yield from own.parents


def _quota_of(group: Path) -> float | None:
    """Read a group's own quota, in cores; None if it has none.

    In version 2, `200000 100000` is the time of two cores, and `max 100000` is no limit. Version 1
    has the two numbers in files of their own, and -1 for no limit.
    """
    try:
        if (group / "cpu.max").exists():
            granted, period = (group / "cpu.max").read_text().split()
        else:
            granted = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        quota = int(granted) / int(period)
    except (OSError, ValueError):
        return None
    return quota if quota > 0 else None
