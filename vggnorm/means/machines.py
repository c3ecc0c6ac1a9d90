"""The machines that means were measured on, as one line of text."""

from collections.abc import Iterable

SEPARATOR = "; "  # between machines, of a run that went on elsewhere and of parts added up


def join_machines(machines: Iterable[str]) -> str:
    """Name each machine once, in the order given. Files of version 0.1.0 name none."""
    names = [name for line in machines for name in line.split(SEPARATOR) if name]
    return SEPARATOR.join(dict.fromkeys(names))
