"""Looking into files whose names do not tell whether they are photos."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from vggnorm.errors import PhotoError
from vggnorm.photos.formats import ENDINGS, FORMATS
from vggnorm.photos.kinds import HEADER, image_format
from vggnorm.photos.source import ChangedError, Source
from vggnorm.photos.system_errors import SYSTEM_ERRORS

AT_A_TIME = 32  # files on another machine

# Endings of formats that are not read here. Phones and web servers give them to other formats, too.
UNREAD_ENDINGS = frozenset(
    ending for name, endings in ENDINGS.items() if name not in FORMATS for ending in endings
)


def is_doubtful(ending: str) -> bool:
    """Tell whether a file's ending leaves open whether it is a photo that can be read.

    Args:
        ending: as `vggnorm.photos.formats.ending_of` gives it.
    """
    return not ending or ending in UNREAD_ENDINGS


def begin_as_photos(source: Source, names: Sequence[str]) -> Iterable[bool]:
    """Tell which files begin as photos of the formats that are read here.

    A file that may not be read counts as one: it is skipped later, and the reason is said then.

    Args:
        source: where they are.
        names: the files.

    Raises:
        PhotoError: the system or a server fails.
    """
    if not source.is_remote:
        return [_begins_as_photo(source, name) for name in names]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(lambda name: _begins_as_photo(source, name), names))


def _begins_as_photo(source: Source, name: str) -> bool:
    try:
        return image_format(source.start_of(name, HEADER)) in FORMATS
    except PhotoError:  # its place in the archive is damaged
        return False
    except PermissionError:
        return True
    except ChangedError as error:
        raise PhotoError(f"{source.locate(name)}: {error} since the photos were listed") from error
    except OSError as error:
        if error.errno in SYSTEM_ERRORS:
            reason = f"cannot be read: {error.strerror}"
            raise PhotoError(f"{source.locate(name)}: {reason}") from error
        return False  # it is a pipe, or a link to nothing
