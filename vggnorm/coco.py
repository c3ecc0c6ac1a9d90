"""Which photos a COCO annotation file lists.

The file is read as a stream: COCO's own has half a gigabyte, nearly all of it outlines of things, of which nothing is
kept here.
"""

import codecs
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from vggnorm.errors import PhotoError
from vggnorm.untrusted import require_regular_file

CHUNK = 1 << 18  # bytes read at a time
FIELDS = frozenset({"id", "file_name", "width", "height", "image_id", "category_id", "name"})  # all that is kept
STARTS = frozenset({"start_map", "start_array"})
ENDS = frozenset({"end_map", "end_array"})
# How deep inside the file something is: the file itself, one of its lists, one entry of that list.
FILE, LIST, ENTRY = 1, 2, 3


@dataclass(frozen=True)
class ListedPhoto:
    """A photo as the annotation file lists it; None where that says nothing."""

    file_name: str
    width: int | None
    height: int | None


def list_photos(annotations: Path, categories: Sequence[str] = ()) -> list[ListedPhoto]:
    """List the photos of an annotation file, or those that show any of the categories, by file name.

    Without categories, only the file names are needed, and nothing else is asked of the file. With categories, its
    image ids must tell the photos apart, and every annotation must name a photo and a category.

    Args:
        annotations: a COCO instances or captions file.
        categories: names of categories, as in `person`.

    Raises:
        PhotoError: the file cannot be read or is none of COCO's, a category is unknown, its ids name two photos, or no
            photo is left.
    """
    with _damage_told(annotations):
        listing = _Listing.of(annotations, with_categories=bool(categories))
    if categories:
        _check_categories(listing.categories, annotations, categories)
        with _damage_told(annotations):
            entries = listing.showing(categories)
    else:
        entries = listing.images
    with _damage_told(annotations):
        photos = {entry["file_name"]: _listed(entry) for entry in entries}
    if not photos:
        raise PhotoError(
            f"{annotations}: lists no photos" + (f" that show {', '.join(categories)}" if categories else "")
        )
    return [photos[name] for name in sorted(photos)]


@dataclass
class _Listing:
    """What is kept of an annotation file.

    Attributes:
        images: the entries of its images.
        categories: the entries of its categories.
        shown: category id -> ids of the images that show it.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    shown: dict[Any, set[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, annotations: Path, *, with_categories: bool) -> "_Listing":
        listing = cls()
        wanted = frozenset({"images", "annotations", "categories"} if with_categories else {"images"})
        require_regular_file(annotations)
        with annotations.open("rb") as file:
            _skip_byte_order_mark(file)
            for section, entry in _entries(file, wanted):
                if section == "images":
                    listing.images.append(entry)
                elif section == "categories":
                    listing.categories.append(entry)
                else:
                    # A captions file has no category ids; it is refused for its lack of categories.
                    listing.shown.setdefault(entry.get("category_id"), set()).add(entry["image_id"])
        return listing

    def showing(self, categories: Sequence[str]) -> list[dict[str, Any]]:
        """Give the entries of the images that show any of the categories."""
        images, names = _by_id(self.images, "file_name"), _by_id(self.categories, "name")
        for number in self.shown:
            if isinstance(number, str) != isinstance(next(iter(names)), str) or number is None:
                raise ValueError(f"an annotation's category_id is {number!r}")
        chosen = {
            image
            for number, entry in names.items()
            if entry["name"] in categories
            for image in self.shown.get(number, ())
        }
        return [images[image] for image in chosen]


def _entries(file: BinaryIO, wanted: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the entries of the wanted lists, each as the list's name and those of `FIELDS` that are plain values.

    A field that holds a list or an object is given as None.
    """
    depth, section, key = 0, "", ""
    entry: dict[str, Any] = {}
    seen: set[str] = set()
    for event, value in ijson.basic_parse(file, use_float=True, buf_size=CHUNK):
        if depth > ENTRY and event == "number":  # nearly all of the file
            continue
        if event in STARTS:
            depth += 1
            entry = {} if depth == ENTRY else entry
        if depth <= ENTRY:
            _require_kind(event, depth, section if section in wanted else None)
        if event in ENDS:
            if depth == ENTRY and section in wanted:
                yield section, entry
            depth -= 1
        elif event == "map_key" and depth == FILE:
            section = _require_new(value, seen)
        elif depth == ENTRY:
            key = value if event == "map_key" else key
            if key in FIELDS:
                entry[key] = None if event in STARTS or event == "map_key" else value


def _require_kind(event: str, depth: int, section: str | None) -> None:
    """Refuse a file that is no object, a wanted list that is none, and an entry of it that is no object.

    Args:
        event: what the parser has met.
        depth: how deep inside the file it is; that of its inside where something starts.
        section: the name of the wanted list, or None outside of those.
    """
    if event in ENDS or event == "map_key":
        return
    starts = event if event in STARTS else None
    outside = depth - 1 if starts else depth
    if outside == 0 and starts != "start_map":
        raise TypeError("it is no JSON object")
    if outside == FILE and section is not None and starts != "start_array":
        raise TypeError(f"{section} is no list")
    if outside == LIST and section is not None and starts != "start_map":
        raise TypeError(f"{section} holds what is no JSON object")


def _require_new(section: str, seen: set[str]) -> str:
    if section in seen:
        raise ValueError(f"it has {section[:40]!r} twice")
    seen.add(section)
    return section


def _by_id(entries: Sequence[dict[str, Any]], what: str) -> dict[Any, dict[str, Any]]:
    """Find entries by their ids, which must tell them apart.

    Raises:
        ValueError: two entries of different names have one id.
    """
    found: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        number = entry["id"]
        if number is None:
            raise TypeError(f"the id of {entry[what]!r} is None")
        other = found.setdefault(number, entry)
        if other[what] != entry[what]:
            raise ValueError(f"id {number!r} is that of {other[what]!r} and of {entry[what]!r}")
    return found


def _check_categories(entries: Sequence[dict[str, Any]], annotations: Path, categories: Sequence[str]) -> None:
    """Refuse a category that the file does not have."""
    if not entries:
        raise PhotoError(f"{annotations}: has no categories; to choose by category, give COCO's instances file")
    with _damage_told(annotations):
        names = [str(entry["name"]) for entry in entries]
    for category in categories:
        if category not in names:
            near = difflib.get_close_matches(category, sorted(set(names)), cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
            raise PhotoError(f"{annotations}: has no category {category!r}; {hint}")


def _listed(entry: dict[str, Any]) -> ListedPhoto:
    name = entry["file_name"]
    if not isinstance(name, str):
        raise TypeError(f"file_name is {name!r}")
    return ListedPhoto(name, entry.get("width"), entry.get("height"))


def _skip_byte_order_mark(file: BinaryIO) -> None:
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)


@contextmanager
def _damage_told(annotations: Path) -> Iterator[None]:
    """Tell in one line what is wrong with the file."""
    try:
        yield
    except OSError as error:
        raise PhotoError(f"{annotations}: cannot be read: {error.strerror}") from error
    except (ijson.JSONError, KeyError, TypeError, ValueError) as error:
        raise PhotoError(
            f"{annotations}: is no COCO annotation file, or a damaged one ({type(error).__name__}: {_reason(error)}); "
            "give an instances or captions file"
        ) from error


def _reason(error: Exception) -> str:
    """Give the first line of what an error says; the parser goes on with the place in the file, which may be bytes."""
    said = error.args[0] if isinstance(error, ijson.JSONError) and error.args else str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return text.strip().partition("\n")[0].rstrip()
