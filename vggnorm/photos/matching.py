"""Which of the photos that were found an annotation file means."""

from collections.abc import Iterator, Sequence
from itertools import chain

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Location


def match_listed(
    listed: Sequence[str], found: Sequence[str], annotations: Location
) -> tuple[list[str], int]:
    """Find the listed photos among those found.

    An annotation file may list bare names, or paths that begin at another folder. So a listed path
    means the photo with which it shares the longest end, of whole parts, down to the name alone.
    Each listed photo needs a file of its own: where two of them mean one file, one is missing.

    Args:
        listed: names or paths, each once. A backslash separates folders, unless a file that was
            found has it in its name.
        found: paths with forward slashes, not empty.
        annotations: the annotation file, for messages.

    Returns:
        The listed photos, in the order in which they were found, and how many are missing.

    Raises:
        PhotoError: a listed path may mean several photos.
    """
    by_end: dict[str, list[str]] = {}
    for path in found:
        for end in _ends(path, len(path)):
            by_end.setdefault(end, []).append(path)
    longest = max(len(path) for path in found)
    chosen = set()
    for entry in listed:
        ends = chain(_ends(entry, longest), _ends(entry.replace("\\", "/"), longest))
        matches = next((by_end[end] for end in ends if end in by_end), [])
        if len(matches) > 1:
            raise PhotoError(
                f"{annotations}: {entry} may be {' or '.join(matches[:3])}; give a folder that "
                "holds it once"
            )
        chosen.update(matches)
    in_order = [path for path in found if path in chosen]
    return in_order, len(listed) - len(chosen)


def _ends(path: str, longest: int) -> Iterator[str]:
    """Give the ends of a path from the longest one to the name, without those that are too long.

    Args:
        path: parts, separated by slashes.
        longest: how many characters an end may have.
    """
    start = 0
    while True:
        if len(path) - start <= longest:
            yield path[start:]
        slash = path.find("/", start)
        if slash < 0:
            return
        start = slash + 1
