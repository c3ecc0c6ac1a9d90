"""Which of the photos that were found an annotation file means.

An annotation file is often written on another machine than the one that holds the photos. So the
two may spell a path in different ways: with backslashes, with ü as one character or as two, with
%20 for a space, with .JPG for .jpg, or as the address of a web server.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Location


def match_listed(
    listed: Sequence[str], found: Sequence[str], annotations: Location
) -> tuple[list[str], int]:
    """Find the listed photos among those found.

    An annotation file may list bare names, or paths that begin at another folder. So a listed path
    means the photo with which it shares the longest end, of whole parts, down to the name alone,
    however the two are spelled. Where that leaves several photos, it means the one that is spelled
    alike. Each listed photo needs a file of its own: where two of them mean one file, one is
    missing.

    Args:
        listed: names, paths or addresses, each once.
        found: paths with forward slashes, not empty.
        annotations: the annotation file, for messages.

    Returns:
        The listed photos, in the order in which they were found, and how many are missing.

    Raises:
        PhotoError: a listed path may mean several photos.
    """
    by_end: dict[str, list[str]] = {}
    longest = 0
    for path in found:
        plain = _plain(path)
        longest = max(longest, len(plain))
        for end in _ends(plain, len(plain)):
            by_end.setdefault(end, []).append(path)
    chosen = set()
    for entry in listed:
        end = next((end for end in _ends(_plain(entry), longest) if end in by_end), "")
        matches = _spelled_alike(entry, by_end.get(end, []), end.count("/") + 1)
        if len(matches) > 1:
            raise PhotoError(
                f"{annotations}: {entry} may be {' or '.join(matches[:3])}; give a folder that "
                "holds it once"
            )
        chosen.update(matches)
    in_order = [path for path in found if path in chosen]
    return in_order, len(listed) - len(chosen)


def _plain(path: str) -> str:
    """Spell a path in one way, whichever way it was written in.

    The case of letters counts, except in the ending: there are photos whose names differ in it.
    """
    if "://" in path:  # an address may have a query
        path = path.partition("?")[0].partition("#")[0]
    path = unquote(path, errors="surrogateescape").replace("\\", "/")
    path = unicodedata.normalize("NFC", path)
    start, dot, ending = path.rpartition(".")
    return path if "/" in ending else f"{start}{dot}{ending.lower()}"


def _spelled_alike(entry: str, paths: list[str], depth: int) -> list[str]:
    """Give those of several paths that are spelled as an entry is; all of them if none is.

    Args:
        entry: a listed path.
        paths: of photos that share its end, apart from the spelling.
        depth: how many parts the end has.
    """
    if len(paths) > 1:
        for spelling in (entry, entry.replace("\\", "/")):
            end = spelling.rsplit("/", depth)[-depth:]
            alike = [path for path in paths if path.rsplit("/", depth)[-depth:] == end]
            if alike:
                return alike
    return paths


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
