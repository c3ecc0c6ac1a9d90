"""How many processor cores this process may use."""

import os


def core_count() -> int:
    """Count the cores that this process may use; the machine may have more."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows lack it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
