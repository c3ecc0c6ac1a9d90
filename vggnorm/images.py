"""From a folder of photos to batches of RGB pixels. Knows nothing of networks."""

import errno
import hashlib
import os
import random
import stat
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vggnorm.budget import PixelBudget
from vggnorm.coco import list_photos
from vggnorm.errors import PhotoError
from vggnorm.geometry import CROP_SHARE, Geometry
from vggnorm.machine import core_count
from vggnorm.means import SkippedPhoto
from vggnorm.modes import read_samples, to_rgb, why_no_image
from vggnorm.profiles import embedded_profile, to_srgb

Pixels = NDArray[np.uint8]
Look = tuple[int, int]  # size of a file in bytes, and the time of its last change in nanoseconds
Hold = Callable[[int], object]  # is told how many pixels are about to be decoded, and may wait until there is room

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Folders in which COCO keeps no photos but pictures of the classes of pixels, as shell patterns in lower case.
MASK_FOLDERS = ("annotations", "stuffthingmaps*", "panoptic_*", "pixelmaps_*", "*_pixelmaps")
LINES_SHOWN = 5  # folders that are named, of those that photos came from and of those that were left out
# Named one by one, so that a PostScript file called .jpg does not start an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 100_000_000  # ten thousand by ten thousand: more is no photo, and takes 300 MB and more a thread

MAX_AHEAD = 256  # photos; half of how many are decoded ahead at most, however large a batch is

REDUCED = 4  # see _draft

# A photo that cannot be decoded, or may not be read, is left out. These are no faults of a photo: they end the run.
SYSTEM_ERRORS = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENODEV, errno.ESTALE}
)
OUT_OF_MEMORY = "out of memory"  # what Pillow says where a decoder of its own gets none

TURNS = {  # EXIF orientation -> what makes the photo upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.init()  # Pillow loads its decoders on first use, for which threads must not race

# Blocks that are larger than glibc keeps for itself (32 MB) go back to the system when a photo is freed. Otherwise each
# thread would keep the memory of the largest photo that it has decoded.
Image.core.set_block_size(64 * 1024 * 1024)  # type: ignore[attr-defined]  # documented, and not exported


# Finding photos


@dataclass(frozen=True)
class PhotoList:
    """Photos of one folder, in the order in which they are to be taken.

    Attributes:
        folder: where they are.
        names: their paths below `folder`, with forward slashes.
        annotations: the file that lists them, if any.
        categories: what they had to show; empty if anything.
        missing: how many more photos the annotation file lists, and the folder lacks.
        left_out: folders of COCO's masks that were not searched, below `folder` -> how many images each holds.
        other_endings: endings of the files that were taken for no images -> how many files have each.
        looks: name -> the size and the time of the last change of each file when it was found; None if nobody may look.
    """

    folder: Path
    names: tuple[str, ...]
    annotations: Path | None = None
    categories: tuple[str, ...] = ()
    missing: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    other_endings: Mapping[str, int] = field(default_factory=dict, hash=False)
    looks: Mapping[str, "Look | None"] = field(default_factory=dict, compare=False)

    @property
    def folders(self) -> dict[str, int]:
        """The folders that the photos are in, below `folder`, `.` for itself -> how many photos each holds."""
        counts = Counter(name.rpartition("/")[0] or "." for name in self.names)
        return dict(sorted(counts.items()))

    def describe(self) -> list[str]:
        """Say in lines where the photos are, what was left out, and what is missing."""
        lines = _few([f"{_count(count, 'photo')} in {self.folder / name}" for name, count in self.folders.items()])
        lines += _few([_left_out_line(self.folder / name, count) for name, count in self.left_out.items()])
        if self.other_endings:
            endings = [f"{count} {ending or 'without ending'}" for ending, count in self.other_endings.items()]
            more = ", …" if len(endings) > LINES_SHOWN else ""
            lines.append(
                f"left out {_count(sum(self.other_endings.values()), 'file')} in {self.folder}, not named as images: "
                f"{', '.join(endings[:LINES_SHOWN])}{more}"
            )
        if self.missing:
            verb = "is" if self.missing == 1 else "are"
            lines.append(f"{_count(self.missing, 'photo')} listed in {self.annotations} {verb} not in {self.folder}")
        return lines

    def shuffled(self, seed: int) -> "PhotoList":
        """Give the same photos in a seeded random order: the first of them are a fair sample of all."""
        names = list(self.names)
        random.Random(seed).shuffle(names)
        return replace(self, names=tuple(names))

    def shard(self, number: int, count: int) -> "PhotoList":
        """Give one of `count` parts of the list, counted from 1: every `count`-th photo, so that each is a fair sample.

        Raises:
            ValueError: there is no such part.
            PhotoError: there are fewer photos than parts.
        """
        if not 1 <= number <= count:
            raise ValueError(f"shard is {number}/{count}; it must be one of 1/{count} to {count}/{count}")
        if len(self.names) < count:
            raise PhotoError(f"{self.folder}: holds {len(self.names)} photos; make no more parts of them than that")
        return replace(self, names=self.names[number - 1 :: count])

    def sha256(self) -> str:
        """Identify the list: SHA-256 over each photo's name, a zero byte, its size in bytes as text, a zero byte.

        It notices another folder, and one that was added to or changed, at the cost of one look at each file.
        """
        digest = hashlib.sha256()
        for name in self.names:
            found = self.look(name)
            size = "unknown" if found is None else str(found[0])  # why it is unknown is told when its turn comes
            digest.update(os.fsencode(name) + b"\0" + size.encode() + b"\0")
        return digest.hexdigest()

    def looked_at(self) -> "PhotoList":
        """Look at each file, so that one that changes from now on is noticed."""
        return replace(self, looks={name: _look(self.folder / name) for name in self.names})

    def look(self, name: str) -> "Look | None":
        """Give the size and the time of the last change that a file had when it was found, or has now."""
        return self.looks[name] if name in self.looks else _look(self.folder / name)


def find_photos(
    data: str | Path, *, annotations: str | Path | None = None, categories: Sequence[str] = ()
) -> PhotoList:
    """Find the photos of a folder, sorted by name.

    Args:
        data: a COCO root, one of its image folders, or any tree of images. Searched recursively; links to folders are
            followed, hidden files and folders left out. So are the folders in it whose names are those of COCO's masks
            (`annotations`, `stuffthingmaps*`, `panoptic_*`, `pixelmaps_*`, `*_pixelmaps`), which are pictures and no
            photos; the result counts what is in them. Such a folder is searched if it is itself given as `data`.
        annotations: a COCO instances or captions file; only the photos it lists are taken.
        categories: names of COCO categories; only photos that show any of them are taken. Needs `annotations`.

    Raises:
        PhotoError: the folder is missing or holds no image, the annotation file is unusable, a category is unknown.
    """
    folder = Path(data)
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be read: {error.strerror}") from error
    if not is_folder:
        raise PhotoError(f"{folder}: is no folder; give a folder of photos")
    photos = _search(folder)
    if not photos.names:
        raise PhotoError(
            f"{folder}: holds no images ({' '.join(sorted(EXTENSIONS))}); give a folder of photos"
            + "".join(f"; {line}" for line in photos.describe())
        )
    if annotations is None:
        if categories:
            raise PhotoError("categories are known from an annotation file only; give that with --annotations")
        return photos.looked_at()
    annotations = Path(annotations)
    listed = [photo.file_name for photo in list_photos(annotations, categories)]
    chosen, missing = _match(listed, photos.names, annotations)
    if not chosen:
        raise PhotoError(f"{folder}: holds none of the {missing} photos listed in {annotations}; do they match?")
    chosen_photos = replace(photos, names=tuple(chosen), annotations=annotations, categories=tuple(categories))
    return replace(chosen_photos, missing=missing).looked_at()


def _match(listed: Sequence[str], found: Sequence[str], annotations: Path) -> tuple[list[str], int]:
    """Find the photos listed among those found; give them in the order found, and the number of those missing.

    A list may give names, or paths from another folder than the one that is searched. So the longest end that a listed
    path shares with a found one decides, down to the name alone. Every listed photo needs a file of its own: where two
    come down to one file, one of them is missing.

    Args:
        listed: names or paths, each once; a backslash separates folders where no file is named with it.
        found: paths with forward slashes.
        annotations: the file that lists them, for messages.
    """
    by_end: dict[str, list[str]] = {}
    for path in found:
        for end in _ends(path, len(path)):
            by_end.setdefault(end, []).append(path)
    chosen, longest = set(), max(map(len, found))
    for entry in listed:
        ends = chain(_ends(entry, longest), _ends(entry.replace("\\", "/"), longest))
        matches = next((by_end[end] for end in ends if end in by_end), [])
        if len(matches) > 1:
            raise PhotoError(
                f"{annotations}: {entry} may be {' or '.join(matches[:3])}; give one folder of photos that has it once"
            )
        chosen.update(matches)
    return [path for path in found if path in chosen], len(listed) - len(chosen)


def _ends(path: str, longest: int) -> Iterator[str]:
    """Give the ends of a path, the longest one first and the name last; none of more than so many characters."""
    start = 0
    while True:
        if len(path) - start <= longest:
            yield path[start:]
        slash = path.find("/", start)
        if slash < 0:
            return
        start = slash + 1


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _few(lines: list[str]) -> list[str]:
    """Give the first of many lines, and how many there are more."""
    if len(lines) <= LINES_SHOWN:
        return lines
    return [*lines[:LINES_SHOWN], f"… and {len(lines) - LINES_SHOWN} more such folders"]


def _left_out_line(folder: Path, count: int) -> str:
    images = _count(count, "image")
    return f"left out {images} in {folder}: it is named as COCO's masks are; give it as the data to take them"


def _search(folder: Path) -> PhotoList:
    """Find all photos of a folder, and count what else is there."""
    names, left_out, endings = [], {}, Counter[str]()
    for parent, folders, files in _walk(folder):
        for name in [name for name in folders if _holds_masks(name)]:
            folders.remove(name)
            masks = Path(parent, name)
            if count := sum(_is_image(file) for _, _, inside in _walk(masks) for file in inside):
                left_out[masks.relative_to(folder).as_posix()] = count
        for name in files:
            if _is_image(name):
                names.append(Path(parent, name).relative_to(folder).as_posix())
            else:
                endings[Path(name).suffix.lower()] += 1
    return PhotoList(folder, tuple(sorted(names)), left_out=left_out, other_endings=dict(endings.most_common()))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _holds_masks(folder_name: str) -> bool:
    return any(fnmatchcase(folder_name.lower(), pattern) for pattern in MASK_FOLDERS)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through all that is not hidden, as `os.walk` does; each folder comes once, by whatever links it is reached.

    A folder that is removed from the list of folders is not walked through.
    """

    def refuse(error: OSError) -> NoReturn:
        raise PhotoError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        try:
            status = Path(parent).stat()
        except OSError as error:  # it has gone since it was listed
            refuse(error)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back to where we were
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, [name for name in files if not name.startswith(".")]


# Decoding photos


@dataclass(frozen=True, eq=False)
class Decoded:
    """One photo, decoded.

    Attributes:
        pixels: `(height, width, 3)`, RGB 0..255.
        has_profile: whether it carries a colour profile other than sRGB.
    """

    pixels: Pixels
    has_profile: bool


def decode_photo(path: Path, geometry: Geometry) -> Pixels:
    """Read one photo: upright by its EXIF orientation, RGB, resized; the first frame of an animation.

    Greyscale, palettes and CMYK become RGB; 16 bits a channel are scaled to 8; transparent parts become white.

    Returns:
        `(height, width, 3)`, RGB 0..255.

    Raises:
        PhotoError: the file is unreadable, damaged, truncated, too large or no photo. The text is the reason alone,
            without the path.
        MemoryError, OSError: the system failed, of which the photo may know nothing.
    """
    return _decode(path, geometry, _hold_nothing).pixels


def _decode_within(budget: PixelBudget, path: Path, geometry: Geometry) -> Decoded:
    """Read one photo, as `decode_photo` does, and keep its pixels in the budget until they are freed."""
    with ExitStack() as held:
        return _decode(path, geometry, lambda pixels: held.enter_context(budget.holding(pixels)))


def _decode(path: Path, geometry: Geometry, hold: Hold) -> Decoded:
    image, has_profile = _load(path, geometry, hold)
    return Decoded(np.asarray(_resize(image, geometry)), has_profile)


def load_photo(path: Path, geometry: Geometry) -> Image.Image:
    """Read a photo, upright and in RGB, as large as it is or as the geometry has use for.

    Raises:
        PhotoError, MemoryError, OSError: as `decode_photo` has it.
    """
    return _load(path, geometry, _hold_nothing)[0]


def _load(path: Path, geometry: Geometry, hold: Hold) -> tuple[Image.Image, bool]:
    """Give a photo upright and in RGB, and whether it carries a colour profile other than sRGB."""
    _require_file(path)
    with _decoding(path):
        size = webp_size(path)
        if size is not None:  # Pillow takes memory for all of a WebP when it opens it
            _check_pixels(*size)
            hold(size[0] * size[1])
        with Image.open(path, formats=FORMATS) as image:
            full_size = image.size
            _check_pixels(*full_size)
            samples = read_samples(image)
            _draft(image, geometry)
            if size is None:
                hold(_pixels_to_decode(image, full_size))
            image.load()
            profile = embedded_profile(image)
            pixels = to_rgb(image, samples)
            if profile is not None and geometry.color_profiles == "convert":
                pixels = to_srgb(pixels, image, profile)
            return _turn_upright(pixels, image), profile is not None


def _pixels_to_decode(image: Image.Image, full_size: tuple[int, int]) -> int:
    """Count the pixels that decoding takes memory for: a progressive JPEG takes it for all, however it is reduced."""
    width, height = full_size if image.info.get("progressive") else image.size
    return width * height


def _hold_nothing(_: int) -> None:
    pass


def _require_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        _raise_of_system(error)
        raise PhotoError(f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise PhotoError("is no regular file")
    if not status.st_size:
        raise PhotoError("is empty")


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn what a photo makes Pillow raise into a `PhotoError`, and let the system's errors pass."""
    try:
        yield
    except (PhotoError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise PhotoError(why_no_image(path)) from error
    except Exception as error:  # what a damaged file makes Pillow raise cannot be foreseen
        if isinstance(error, OSError) and error.errno is not None:
            _raise_of_system(error)
            raise PhotoError(f"cannot be read: {error.strerror}") from error
        if isinstance(error, OSError) and OUT_OF_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise PhotoError(f"cannot be decoded: {error}") from error


def _raise_of_system(error: OSError) -> None:
    """Raise the error again if it is the system's: the photo may be a good one, and must not be left out for it."""
    if error.errno in SYSTEM_ERRORS:
        raise error


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PhotoError(f"is too large: {width} x {height} pixels, of at most {MAX_PIXELS:,}")


def webp_size(path: Path) -> tuple[int, int] | None:
    """Read the width and height of a WebP file from its header, without decoding it; None if it is none.

    The layout is that of RFC 9649, "WebP Image Format", sections 2.5 to 2.7.
    """
    with path.open("rb") as file:
        header = file.read(30)
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP" or len(header) < 30:
        return None
    kind = header[12:16]
    if kind == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF


def _draft(image: Image.Image, geometry: Geometry) -> None:
    """Have a JPEG that is far too large decoded at a half, a quarter or an eighth of its size, which is quicker.

    It stays at least `REDUCED` times as large as what is made of it. So the means change by less than 0.1 % in the
    median filter and 2 % in 99 of 100, measured on 100 COCO photos made 48 x 48; with twice as large, 0.4 % and 3 %.
    """
    if geometry.interpolation == "nearest":  # takes single pixels, which must be the photo's own
        return
    share = CROP_SHARE if geometry.fit == "crop" else 1.0
    reduction = int(share * min(image.size) / max(geometry.height, geometry.width) / REDUCED)
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))


def _turn_upright(image: Image.Image, source: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also writes the other EXIF data anew, and fails where those are damaged.
    try:
        turn = TURNS.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data say nothing about the pixels, which are there
        return image
    return image if turn is None else image.transpose(turn)


def _resize(image: Image.Image, geometry: Geometry) -> Image.Image:
    box = None
    if geometry.fit == "crop":
        scale = CROP_SHARE * min(image.width / geometry.width, image.height / geometry.height)
        width, height = scale * geometry.width, scale * geometry.height
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (left, top, left + width, top + height)
    filter_ = Image.Resampling[geometry.interpolation.upper()]
    return image.resize((geometry.width, geometry.height), filter_, box=box)


# Reading photos in batches


@dataclass(frozen=True)
class Taken:
    """What became of the photos taken so far.

    The two digests do not depend on the order, and those of disjoint parts add up. Digests that are sums can be forged;
    they are here against mix-ups.

    Attributes:
        used: how many were given out.
        skipped: those that could not be used, and why.
        names_sha256: of the names of all: see `sum_sha256`.
        photos_sha256: of those used: see `sum_sha256`; over name, zero byte and pixels of each.
    """

    used: int = 0
    skipped: tuple[SkippedPhoto, ...] = ()
    names_sha256: str = "0" * 64
    photos_sha256: str = "0" * 64

    @property
    def count(self) -> int:
        """How many photos are done with, used or not."""
        return self.used + len(self.skipped)


NOTHING_TAKEN = Taken()


@dataclass(frozen=True, eq=False)
class Batch:
    """Some photos, decoded.

    Attributes:
        pixels: `(photos, height, width, 3)`, RGB 0..255.
        positions: `(photos,)`, where they stand in the list.
        taken: what became of all photos so far, up to the last of these.
    """

    pixels: Pixels
    positions: NDArray[np.intp]
    taken: Taken


def sum_sha256(digests: Iterable[bytes | str]) -> str:
    """Add up digests modulo 2**256, as 64 hexadecimal digits.

    Args:
        digests: SHA-256, as bytes or hexadecimal digits.
    """
    numbers = (int(digest, 16) if isinstance(digest, str) else int.from_bytes(digest) for digest in digests)
    return f"{sum(numbers) % 2**256:064x}"


def names_sha256(names: Iterable[str]) -> str:
    """Identify a set of photos by their paths below the folder: the sum of SHA-256 over each path."""
    return sum_sha256(hashlib.sha256(os.fsencode(name)).digest() for name in names)


class PhotoReader:
    """Decodes photos in threads, ahead of the one who asks for them.

    Attributes:
        profile_count: how many of the photos given out carry a colour profile other than sRGB.
    """

    def __init__(
        self,
        photos: PhotoList,
        geometry: Geometry,
        *,
        limit: int | None = None,
        strict: bool = False,
        threads: int | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            photos: what to read, in its order.
            geometry: what to make of each photo.
            limit: stop after so many usable photos.
            strict: whether a photo that cannot be used is an error.
            threads: how many photos to decode at a time; by default one for each core.

        Raises:
            ValueError: `limit` or `threads` is below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        self._photos = photos
        self._geometry = geometry
        self._wanted = len(photos.names) if limit is None else limit
        self._strict = strict
        self._threads = threads or core_count()
        self.profile_count = 0
        self._budget = PixelBudget(MAX_PIXELS)
        self._place = _identity(photos.folder)
        self._listed = {photos.folder / name: photos.look(name) for name in photos.names}

    def total(self, taken: Taken) -> int:
        """How many there are to be done, as far as can be told: one that is skipped does not count for the limit."""
        return min(len(self._photos.names), self._wanted + len(taken.skipped))

    def batches(self, batch_size: int, after: Taken = NOTHING_TAKEN) -> Generator[Batch, None, None]:
        """Give the photos in batches; the last may be short, or empty if the last photos cannot be used.

        Args:
            batch_size: how many photos to give at a time.
            after: what was taken before; reading goes on behind it, and gives the same batches as without the pause.

        Raises:
            PhotoError: a photo cannot be used, and `strict` was asked for; the folder has gone; or the system failed.
            ValueError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        taken, photos, skipped = after, list[_Photo](), list[SkippedPhoto]()
        for name, decoded in self._decode_ahead(after.count, 2 * min(batch_size, MAX_AHEAD)):
            if taken.used == self._wanted:
                return
            try:
                photos.append(decoded.result())
            except PhotoError as error:
                skipped.append(self._skip(name, error))
            except _ChangedError as error:
                self._require_same_folder()
                raise PhotoError(
                    f"{self._photos.folder / name}: {error} since the photos were listed; put it back as it was and "
                    "run the same again, or start over without the checkpoint"
                ) from error
            except (MemoryError, OSError) as error:
                raise self._system_failure(name, error) from error
            if len(photos) == min(batch_size, self._wanted - taken.used):
                taken = _add(taken, photos, skipped)
                yield self._batch(photos, taken)
                photos, skipped = [], []
        if photos or skipped:
            yield self._batch(photos, _add(taken, photos, skipped))

    def _decode_ahead(self, start: int, ahead: int) -> Iterator[tuple[str, "Future[_Photo]"]]:
        """Give every photo from `start` on, decoded or to be; at most `ahead` are decoded or waiting at a time."""
        photos = iter(range(start, len(self._photos.names)))
        waiting: deque[tuple[str, Future[_Photo]]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        try:
            while True:
                for position in islice(photos, ahead - len(waiting)):
                    waiting.append((self._photos.names[position], pool.submit(self._decode, position)))
                if not waiting:
                    return
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, position: int) -> "_Photo":
        name = self._photos.names[position]
        path = self._photos.folder / name
        try:
            decoded = _decode_within(self._budget, path, self._geometry)
        finally:
            self._require_as_listed(path)  # whatever came of it
        digest = hashlib.sha256(os.fsencode(name) + b"\0")
        digest.update(decoded.pixels.data.cast("B"))  # as it lies in memory
        return _Photo(name, position, decoded.pixels, digest.digest(), decoded.has_profile)

    def _require_as_listed(self, path: Path) -> None:
        listed, now = self._listed[path], _look(path)
        if listed is not None and now != listed:
            raise _ChangedError("is gone" if now is None else "has changed")

    def _batch(self, photos: Sequence["_Photo"], taken: Taken) -> Batch:
        pixels = np.empty((len(photos), self._geometry.height, self._geometry.width, 3), np.uint8)
        for index, photo in enumerate(photos):
            pixels[index] = photo.pixels
        self.profile_count += sum(photo.has_profile for photo in photos)
        return Batch(pixels, np.array([photo.position for photo in photos], np.intp), taken)

    def _system_failure(self, name: str, error: MemoryError | OSError) -> PhotoError:
        if isinstance(error, MemoryError):
            what, advice = "there is not enough memory to decode it", "give fewer --threads and run the same again"
        else:
            what, advice = f"cannot be read: {error.strerror}", "mend that and run the same again"
        return PhotoError(f"{self._photos.folder / name}: {what}; {advice}, which goes on from the checkpoint if any")

    def _skip(self, name: str, error: PhotoError) -> SkippedPhoto:
        if self._strict:
            raise PhotoError(f"{self._photos.folder / name}: {error}; without --strict it is left out") from error
        self._require_same_folder()
        return SkippedPhoto(name, str(error))

    def _require_same_folder(self) -> None:
        if _identity(self._photos.folder) != self._place:  # all photos that are left would be skipped, one by one
            raise PhotoError(f"{self._photos.folder}: is no longer the folder that it was; is its disk still there?")


@dataclass(frozen=True, eq=False)
class _Photo:
    name: str
    position: int
    pixels: Pixels
    sha256: bytes  # over name, zero byte and pixels
    has_profile: bool  # whether it carries a colour profile other than sRGB


class _ChangedError(Exception):
    """A photo is not as it was when the photos were listed; the text says how."""


def _add(taken: Taken, photos: Sequence[_Photo], skipped: Sequence[SkippedPhoto]) -> Taken:
    names = [photo.name for photo in photos] + [photo.photo for photo in skipped]
    return Taken(
        used=taken.used + len(photos),
        skipped=(*taken.skipped, *skipped),
        names_sha256=sum_sha256([taken.names_sha256, names_sha256(names)]),
        photos_sha256=sum_sha256([taken.photos_sha256, *(photo.sha256 for photo in photos)]),
    )


def _look(path: Path) -> Look | None:
    """Give the size of a file and the time of its last change; None if there is none, or nobody may look."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tell a folder from another one that has taken its place, as when a disk is unmounted; None if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
