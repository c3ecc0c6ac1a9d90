"""Which photos a COCO annotation file lists.

The file is read as a stream. COCO's own files have up to half a gigabyte, nearly all of it outlines
of objects, which are not needed here.
"""

import difflib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import ijson

from vggnorm.errors import PhotoError
from vggnorm.photos.addresses import Location
from vggnorm.photos.encodings import as_utf8
from vggnorm.photos.kinds import HEADER, foreign_kind
from vggnorm.photos.stored_file import stat_file

Entry = dict[str, Any]  # field -> value

CHUNK = 1 << 18  # bytes read at a time

# The fields that are kept of each entry.
FIELDS = frozenset(
    {"id", "file_name", "coco_url", "width", "height", "image_id", "category_id", "name"}
)

# What a damaged file of JSON is told to be.
JSON_MAY_BE = frozenset({"JSON text", "text"})

# Events of the parser.
STARTS = frozenset({"start_map", "start_array"})
ENDS = frozenset({"end_map", "end_array"})

# Depths inside the file: the file itself, one of its lists, one entry of a list.
FILE, LIST, ENTRY = 1, 2, 3


@dataclass(frozen=True)
class ListedPhoto:
    """A photo as the annotation file lists it; the size is None if the file does not say it."""

    file_name: str
    width: int | None
    height: int | None


class Listed(NamedTuple):
    """What an annotation file lists.

    Attributes:
        photos: sorted by file name.
        remarks: lines that say what of the file could not be used.
    """

    photos: list[ListedPhoto]
    remarks: list[str]


def list_photos(annotations: Location, categories: Sequence[str] = ()) -> list[ListedPhoto]:
    """List the photos of an annotation file, sorted by file name: see `read_listing`."""
    return read_listing(annotations, categories).photos


def read_listing(annotations: Location, categories: Sequence[str] = ()) -> Listed:
    """List the photos of an annotation file.

    Without categories, the file needs to have nothing but file names, or the field `coco_url` in
    their place, as LVIS has it. With categories, the ids of its images must be unique, and every
    annotation must name an image and a category.

    Args:
        annotations: a COCO file: instances, captions, keypoints, panoptic or image info.
        categories: names of categories, such as `person`; only photos that show any of them are
            listed.

    Raises:
        PhotoError: the file cannot be read, is damaged, or is not an annotation file; a category is
            unknown; or no photo is left.
    """
    advice = "; give an instances or captions file"
    if categories:
        advice = "; give COCO's instances file"
    with _explaining_damage(annotations, advice):
        listing = _Listing.of(annotations, with_categories=bool(categories))
        if categories:
            _check_categories(listing, annotations, categories)
        entries, unlisted = listing.showing(categories) if categories else (listing.images, [])
        photos = {}
        for entry in entries:
            photo = _listed(entry)
            photos[photo.file_name] = photo
    remarks = [_describe_unlisted(unlisted, annotations)] if unlisted else []
    if not photos:
        which = f" that show {', '.join(categories)}" if categories else ""
        raise PhotoError("; ".join([f"{annotations}: lists no photos{which}", *remarks]))
    return Listed([photos[name] for name in sorted(photos)], remarks)


@dataclass
class _Listing:
    """What is kept of an annotation file.

    Attributes:
        images: the entries of the list of images.
        categories: the entries of the list of categories.
        shown: id of a category -> ids of the images that show it.
    """

    images: list[Entry] = field(default_factory=list)
    categories: list[Entry] = field(default_factory=list)
    shown: dict[Any, set[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, annotations: Location, *, with_categories: bool) -> "_Listing":
        listing = cls()
        wanted = {"images"}
        if with_categories:
            wanted |= {"annotations", "categories"}
        with stat_file(annotations).open(CHUNK) as file:
            for section, entry in _entries(as_utf8(file), wanted):
                if section == "images":
                    if entry.get("file_name") is None and "coco_url" in entry:
                        entry["file_name"] = entry["coco_url"]
                    listing.images.append(entry)
                elif section == "categories":
                    listing.categories.append(entry)
                else:
                    # A captions file has no ids of categories. It is refused later.
                    listing.shown.setdefault(entry.get("category_id"), set()).add(entry["image_id"])
        return listing

    def showing(self, categories: Sequence[str]) -> tuple[list[Entry], list[Any]]:
        """Give the entries of the images that show any of the categories, and ids without entry."""
        images = _by_id(self.images, "file_name")
        names = _by_id(self.categories, "name")
        ids_are_texts = isinstance(next(iter(names)), str)
        for number in self.shown:
            if number is None or isinstance(number, str) != ids_are_texts:
                raise ValueError(f"an annotation's category_id is {number!r}")
        chosen: set[Any] = set()
        for number, entry in names.items():
            if entry["name"] in categories:
                chosen |= self.shown.get(number, set())
        if None in chosen:
            raise TypeError("an annotation's image_id is None")
        entries = [images[image] for image in chosen if image in images]
        return entries, [image for image in chosen if image not in images]


def _entries(file: BinaryIO, wanted: AbstractSet[str]) -> Iterator[tuple[str, Entry]]:
    """Read the entries of the wanted lists, each as the list's name and the entry's `FIELDS`.

    A field that holds a list or an object is given as None.
    """
    depth, section, key = 0, "", ""
    entry: Entry = {}
    seen: set[str] = set()
    for event, value in ijson.basic_parse(file, use_float=True, buf_size=CHUNK):
        if depth > ENTRY and event == "number":  # an outline: nearly all of the file
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
        elif depth == FILE and event == "map_key":
            section = _require_new(value, seen)
        elif depth == ENTRY and event not in STARTS:
            key = value if event == "map_key" else key
            _keep_field(entry, key, None if event == "map_key" else value)


def _keep_field(entry: Entry, key: str, value: object) -> None:
    if key in FIELDS:
        entry[key] = value


def _require_kind(event: str, depth: int, section: str | None) -> None:
    """Refuse a file that does not hold wanted lists of objects.

    Args:
        event: what the parser has met.
        depth: how deep inside the file this is. If a list or an object starts, the depth of its
            content.
        section: the name of the wanted list, or None outside of those.
    """
    if event in ENDS or event == "map_key":
        return
    place = depth - 1 if event in STARTS else depth  # the depth at which this stands
    if place == 0 and event != "start_map":
        raise TypeError("it is not a JSON object")
    if section is None:
        return
    if place == FILE and event != "start_array":
        raise TypeError(f"{section} is not a list")
    if place == LIST and event != "start_map":
        raise TypeError(f"an entry of {section} is not a JSON object")


def _require_new(section: str, seen: set[str]) -> str:
    """Refuse a list whose name was seen before."""
    if section in seen:
        raise ValueError(f"it has {section[:40]!r} twice")
    seen.add(section)
    return section


def _by_id(entries: Sequence[Entry], what: str) -> dict[Any, Entry]:
    """Map ids to entries.

    Args:
        entries: images or categories.
        what: the field that names an entry.

    Raises:
        TypeError: an entry has no id.
        ValueError: two entries of different names have the same id.
    """
    found: dict[Any, Entry] = {}
    for entry in entries:
        number = entry["id"]
        if number is None:
            raise TypeError(f"the id of {entry[what]!r} is None")
        other = found.setdefault(number, entry)
        if other[what] != entry[what]:
            raise ValueError(f"{other[what]!r} and {entry[what]!r} have the same id {number!r}")
    return found


def _check_categories(listing: _Listing, annotations: Location, categories: Sequence[str]) -> None:
    """Refuse a category that the file does not have."""
    if not listing.categories:
        raise PhotoError(
            f"{annotations}: has no categories; to choose by category, give COCO's instances file"
        )
    if set(listing.shown) == {None}:
        raise PhotoError(
            f"{annotations}: no annotation has a category_id; to choose by category, give COCO's "
            "instances file"
        )
    names = [str(entry["name"]) for entry in listing.categories]
    for category in categories:
        if category not in names:
            near = difflib.get_close_matches(category, sorted(set(names)), cutoff=0.5)
            hint = f"there are {', '.join(names)}"
            if near:
                hint = f"did you mean {' or '.join(near)}?"
            raise PhotoError(f"{annotations}: has no category {category!r}; {hint}")


def _listed(entry: Entry) -> ListedPhoto:
    name = entry["file_name"]
    if not isinstance(name, str):
        raise TypeError(f"file_name is {name!r}")
    return ListedPhoto(name, entry.get("width"), entry.get("height"))


def _describe_unlisted(images: Sequence[Any], annotations: Location) -> str:
    """Say that annotations of the wanted categories name images that are not listed."""
    what = "1 image that is" if len(images) == 1 else f"{len(images)} images that are"
    example = min(images, key=repr)
    return f"the annotations in {annotations} name {what} not listed there, such as {example!r}"


@contextmanager
def _explaining_damage(annotations: Location, advice: str) -> Iterator[None]:
    """Say in one line what is wrong with the file, and which file to give."""
    try:
        yield
    except OSError as error:
        raise PhotoError(f"{annotations}: cannot be read: {error.strerror}") from error
    except (ijson.JSONError, KeyError, TypeError, ValueError) as error:
        raise PhotoError(
            f"{annotations}: is not a COCO annotation file, or is damaged "
            f"({_say_damage(error, annotations)}){advice}"
        ) from error


def _say_damage(error: Exception, annotations: Location) -> str:
    """Say what the file is if it is none of JSON, and else what is wrong with it."""
    if isinstance(error, ijson.JSONError):
        with stat_file(annotations).open(HEADER) as file:
            kind = foreign_kind(file.read(HEADER))
        if kind is not None and kind.noun not in JSON_MAY_BE:
            return f"it is {kind.noun}"
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    """Give the first line of an error's text.

    The parser may give its text as bytes. Its other lines show the place in the file.
    """
    text: object = str(error)
    if isinstance(error, ijson.JSONError) and error.args:
        text = error.args[0]
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return str(text).strip().partition("\n")[0].rstrip()
