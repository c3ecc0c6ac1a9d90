"""Which photos a COCO annotation file lists, through pycocotools."""

import contextlib
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggnorm.errors import PhotoError
from vggnorm.untrusted import require_regular_file


@dataclass(frozen=True)
class ListedPhoto:
    """A photo as the annotation file lists it; None where that says nothing."""

    file_name: str
    width: int | None
    height: int | None


def list_photos(annotations: Path, categories: Sequence[str] = ()) -> list[ListedPhoto]:
    """List the photos of an annotation file, or those that show any of the categories, by file name.

    Args:
        annotations: a COCO instances or captions file.
        categories: names of categories, as in `person`.

    Raises:
        PhotoError: the file cannot be read or is none of COCO's, a category is unknown, or no photo is left.
    """
    coco = _load(annotations)
    try:
        entries = [coco.imgs[image] for image in _images(coco, annotations, categories)]
        photos = {entry["file_name"]: _listed(entry) for entry in entries}
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(annotations, error) from error
    if not photos:
        raise PhotoError(
            f"{annotations}: lists no photos" + (f" that show {', '.join(categories)}" if categories else "")
        )
    return [photos[name] for name in sorted(photos)]


def _load(annotations: Path) -> Any:
    from pycocotools.coco import COCO  # noqa: PLC0415  a tenth of a second, for those who ask for it

    try:
        require_regular_file(annotations)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            return COCO(annotations)
    except OSError as error:
        raise PhotoError(f"{annotations}: cannot be read: {error.strerror}") from error
    except (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(annotations, error) from error


def _images(coco: Any, annotations: Path, categories: Sequence[str]) -> set[int]:
    """Give the ids of the images that show any of the categories; pycocotools' own getImgIds wants all of them."""
    if not categories:
        return set(coco.imgs)
    names = {number: str(category["name"]) for number, category in coco.cats.items()}
    if not names:
        raise PhotoError(f"{annotations}: has no categories; to choose by category, give COCO's instances file")
    for category in categories:
        if category not in names.values():
            near = difflib.get_close_matches(category, sorted(set(names.values())), cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names.values())}"
            raise PhotoError(f"{annotations}: has no category {category!r}; {hint}")
    return {image for number, name in names.items() if name in categories for image in coco.catToImgs.get(number, ())}


def _listed(entry: dict[str, Any]) -> ListedPhoto:
    name = entry["file_name"]
    if not isinstance(name, str):
        raise TypeError(f"file_name is {name!r}")
    return ListedPhoto(name, entry.get("width"), entry.get("height"))


def _damaged(annotations: Path, error: Exception) -> PhotoError:
    return PhotoError(
        f"{annotations}: is no COCO annotation file, or a damaged one ({type(error).__name__}: {error}); "
        "give an instances or captions file"
    )
