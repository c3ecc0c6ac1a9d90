"""What a file of weights holds: as lines for a terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from vggnorm.report.printable import join_lines, printable

Shape = tuple[int, ...]

ROW = "{:<{width}}  {}"


def format_weights(facts: Mapping[str, Any]) -> str:
    """Write what a file holds as lines for a terminal.

    Args:
        facts: what `vggnorm.cli.inspect` has found; see docs/files.md.
    """
    lines = [f"container   {facts['container']}"]
    if facts["layout"] is not None:
        lines.append(f"layout      {facts['layout']}, {facts['network']}")
    if facts["found_in"]:
        lines.append(f"found in    {printable(facts['found_in'])}")
    lines.append(f"convention  {_say_convention(facts)}")
    lines.append(f"numbers     {', '.join(facts['dtypes'])}")
    if facts["not_read"]:
        lines.append(f"not read    {', '.join(map(printable, facts['not_read']))}")
    if not facts["layers"]:
        return join_lines([*lines, "", "no weights"])
    width = max(len(printable(name)) for name in facts["layers"])
    lines += ["", ROW.format("layer", "shapes", width=width)]
    for name, shapes in facts["layers"].items():
        lines.append(ROW.format(printable(name), _name_shapes(shapes), width=width))
    return join_lines(lines)


def _say_convention(facts: Mapping[str, Any]) -> str:
    if facts["convention"] is None:
        return "not known: nothing in the file says how the network takes photos"
    return f"{facts['convention']}, according to {facts['convention_source']}"


def _name_shapes(shapes: Sequence[Shape]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes)
