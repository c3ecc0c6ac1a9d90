#!/usr/bin/env python3
"""Download COCO photos through their annotation file, into COCO's own layout.

Usage:
    python scripts/download_coco.py FOLDER --limit 1000
    python scripts/download_coco.py FOLDER --split train2017 --category cat --category dog

leaves FOLDER/val2017/000000000139.jpg ... and FOLDER/annotations/instances_val2017.json, for
`vggnorm compute-means --data FOLDER`. Run the same command again to go on where it stopped.
"""

import contextlib
import io
import os
import random
import signal
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath, PureWindowsPath
from shutil import copyfileobj
from threading import Event
from typing import NamedTuple, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import click
from PIL import Image
from tqdm import tqdm

from vggnorm.coco import ListedPhoto, list_photos
from vggnorm.errors import OutputError, PhotoError, VggnormError
from vggnorm.output import replacing
from vggnorm.printable import echo, printable

BASE_URL = "http://images.cocodataset.org"
ZIP_NAME = "annotations_trainval2017.zip"
SPLITS = ("val2017", "train2017")

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 1.0, 2.0)  # seconds before the second, third and fourth try
PIECE = 1 << 18  # bytes
LARGEST_PHOTO = 32 << 20  # bytes; COCO's largest is under one MiB
GIVE_UP_AFTER = 8  # photos in a row that failed on every try: the server or the line is down
LONGEST_NAME = 200  # bytes; file systems take 255, of which the temporary name needs some more
NAMED_FAILURES = 5

Answer = TypeVar("Answer")


class FetchError(PhotoError):
    """An address gave nothing that can be used, and would give the same again."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PassingError(FetchError):
    """An address gave nothing that can be used now; another try may do better."""


class Piece(NamedTuple):
    """Some bytes of a file on a server, their place in it, and its length where the server told."""

    place: int
    end: int | None
    content: bytes


# --- The network ---


@contextlib.contextmanager
def asking(url: str, start: int = 0) -> Iterator[HTTPResponse]:
    """Ask for `url` from byte `start` on, and turn what goes wrong in the block into a FetchError."""
    headers = {"User-Agent": "vggnorm"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            yield response
    except HTTPError as error:
        error.close()
        kind = PassingError if error.code >= 500 or error.code in {408, 429} else FetchError
        raise kind(f"{url}: {error.code} {error.reason}", error.code) from error
    except URLError as error:
        raise PassingError(f"{url}: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise PassingError(f"{url}: {error}") from error


def stream(url: str, start: int = 0) -> Generator[Piece, None, None]:
    """Give the file at `url` in pieces from byte `start` on, or from 0 where the server cannot do that.

    Raises:
        PassingError: the file did not come whole.
        FetchError: there is no such file, or a cut in it would not show.
    """
    with asking(url, start) as response:
        place = start if response.status == 206 else 0
        if response.length is None and not response.chunked:
            raise FetchError(f"{url}: the server does not tell the length, so a short file would not show")
        end = None if response.length is None else place + response.length
        while content := response.read(PIECE):
            yield Piece(place, end, content)
            place += len(content)
        if end is not None and place != end:
            raise PassingError(f"{url}: cut short, {place} of {end} bytes came")


def try_again(fetch: Callable[[], Answer], stop: Event) -> Answer:
    """Call `fetch`, again after each of `PAUSES` while its error may pass and `stop` is not set."""
    for pause in PAUSES:
        try:
            return fetch()
        except PassingError:
            if stop.wait(pause):
                raise
    return fetch()


# --- The annotation file ---


def find_annotations(folder: Path, split: str, base_url: str) -> Path:
    """Give the annotation file in `folder`, out of COCO's zip where it is not there yet.

    A zip that the user put there stays; one that is downloaded here goes when the file is out of it.
    """
    path = folder / "annotations" / f"instances_{split}.json"
    if path.is_file():
        return path
    make_folder(path.parent)
    kept = path.with_name(ZIP_NAME)
    if kept.is_file():
        extract_annotations(kept, path)
        return path
    part = path.with_name(f"{ZIP_NAME}.part")
    download_zip(f"{base_url}/annotations/{ZIP_NAME}", part)
    try:
        extract_annotations(part, path)
    except PhotoError:
        part.unlink()  # what is there is no good to go on from
        raise
    part.unlink()
    return path


def download_zip(url: str, part: Path) -> None:
    """Download COCO's zip to `part`, going on where an earlier run stopped."""
    if part.is_file() and zipfile.is_zipfile(part):
        return  # its directory is its end, so all of it is there
    try:
        try_again(lambda: append_rest(url, part), Event())
    except PassingError as error:
        raise PhotoError(f"{error}; run the same command again to go on") from error
    finally:
        if part.is_file() and part.stat().st_size == 0:
            part.unlink()


def append_rest(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`."""
    try:
        # An OSError in here is the disk's: stream turns the network's into a FetchError.
        with (
            part.open("ab") as out,
            contextlib.closing(stream(url, part.stat().st_size)) as pieces,
            tqdm(desc=ZIP_NAME, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for piece in pieces:
                if piece.place == 0:
                    out.truncate(0)
                out.write(piece.content)
                bar.total = piece.end
                bar.update(piece.place + len(piece.content) - bar.n)
    except OSError as error:
        raise OutputError(f"{part}: could not be written: {error.strerror or error}") from error
    except FetchError as error:
        if error.status != 416:
            raise
        part.unlink()  # longer than the file on the server: something else
        raise PassingError(str(error)) from error


def extract_annotations(archive: Path, path: Path) -> None:
    """Write the member of COCO's zip that is named like `path` to `path`."""
    member = f"annotations/{path.name}"
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(member) as source,
            replacing(path) as temporary,
            temporary.open("wb") as out,
        ):
            copyfileobj(source, out)
    except KeyError as error:
        raise PhotoError(f"{archive}: holds no {member}; give its file with --annotations") from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PhotoError(
            f"{archive}: cannot be unpacked ({error}); remove it and run the same command again"
        ) from error


def require_plain_names(photos: Sequence[ListedPhoto], path: Path) -> None:
    """Refuse names that would be written elsewhere than into the folder: the file that lists them is not trusted."""
    for photo in photos:
        if not is_plain(photo.file_name):
            raise PhotoError(
                f"{path}: {photo.file_name!r:.80} is not a plain file name; the annotation file is damaged or hostile"
            )


def is_plain(name: str) -> bool:
    """Tell whether `name` names a visible file in whatever folder it is put, on any system."""
    single = name == PurePosixPath(name).name == PureWindowsPath(name).name
    plain = single and name != "" and name.isprintable() and not name.startswith(".")
    return plain and len(name.encode()) <= LONGEST_NAME


def pick_photos(photos: Sequence[ListedPhoto], limit: int | None, seed: int) -> list[ListedPhoto]:
    """Give `limit` of the sorted `photos` in random order: the first ones of any larger pick, too."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:limit]


# --- The photos ---


def fetch_photo(photo: ListedPhoto, url: str) -> bytes:
    """Fetch a photo into memory, so that nothing but whole ones comes near the disk."""
    content = bytearray()
    with contextlib.closing(stream(url)) as pieces:
        for piece in pieces:
            content += piece.content
            if len(content) > LARGEST_PHOTO:
                raise FetchError(f"{url}: larger than {LARGEST_PHOTO >> 20} MiB, so not a photo of COCO's")
    check_photo(photo, bytes(content), url)
    return bytes(content)


def check_photo(photo: ListedPhoto, content: bytes, url: str) -> None:
    """Refuse what Pillow cannot identify, or has not the size that the annotation file gives."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FetchError(f"{url}: not a JPEG or PNG photo") from error
    if photo.width not in (None, width) or photo.height not in (None, height):
        raise FetchError(f"{url}: {width} x {height} pixels; the annotation file says {photo.width} x {photo.height}")


def is_there(path: Path) -> bool:
    """Tell whether a photo is there; only whole ones get their final name."""
    return path.is_file() and path.stat().st_size > 0


def fetch_photos(
    photos: Sequence[ListedPhoto], url: str, workers: int, stop: Event
) -> Generator[tuple[ListedPhoto, Future[bytes]], None, None]:
    """Fetch `photos` from the folder `url`, several at a time, and give each as it comes or fails."""

    def fetch(photo: ListedPhoto) -> bytes:
        address = f"{url}/{quote(photo.file_name)}"
        return try_again(lambda: fetch_photo(photo, address), stop)

    executor = ThreadPoolExecutor(workers)
    running: dict[Future[bytes], ListedPhoto] = {}
    try:
        for photo in photos:
            running[executor.submit(fetch, photo)] = photo
            if len(running) >= 2 * workers:  # bounds the photos that wait in memory for the disk
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future
        for future in as_completed(running):
            yield running[future], future
    finally:
        stop.set()
        executor.shutdown(wait=False, cancel_futures=True)  # a stalled one would hold us for TIMEOUT


def download_photos(photos: Sequence[ListedPhoto], folder: Path, url: str, workers: int) -> list[str]:
    """Write `photos`, fetched from the folder `url`, into `folder`; give a text for each that failed.

    Only the calling thread writes, so an interrupt finds at most one temporary file, and removes it.

    Raises:
        PhotoError: photo after photo failed on every try.
        OutputError: the folder cannot be written to.
    """
    failures: list[str] = []
    in_a_row = 0
    fetched = fetch_photos(photos, url, workers, Event())
    with contextlib.closing(fetched), tqdm(total=len(photos), unit="photo", disable=None) as bar:
        for photo, future in fetched:
            try:
                write_photo(folder / photo.file_name, future.result())
                in_a_row = 0
            except FetchError as error:
                failures.append(str(error))
                in_a_row = in_a_row + 1 if isinstance(error, PassingError) else 0
                if in_a_row == GIVE_UP_AFTER:
                    raise PhotoError(
                        f"{in_a_row} photos in a row failed, the last with {error}; "
                        "run the same command again to fetch the rest"
                    ) from error
            bar.update()
    return failures


def write_photo(path: Path, content: bytes) -> None:
    """Write a photo whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error


# --- The command ---


def download(photos: Sequence[ListedPhoto], folder: Path, url: str, workers: int) -> None:
    """Download what is missing of `photos`, and tell how it went."""
    make_folder(folder)
    missing = [photo for photo in photos if not is_there(folder / photo.file_name)]
    failures = download_photos(missing, folder, url, workers)
    echo(
        f"{folder}: {len(missing) - len(failures)} photos fetched, "
        f"{len(photos) - len(missing)} already there, {len(failures)} failed"
    )
    for failure in failures[:NAMED_FAILURES]:
        echo(f"Failed: {failure}", err=True)
    if len(failures) > NAMED_FAILURES:
        echo(f"and {len(failures) - NAMED_FAILURES} more", err=True)
    if failures:
        raise PhotoError(
            f"{len(failures)} of {len(photos)} photos failed; run the same command again to fetch the rest"
        )


def exit_interrupted() -> NoReturn:
    """End the process now: its worker threads may stall for TIMEOUT, and none of them has a file open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    echo("Interrupted; run the same command again to go on", err=True)
    sys.stdout.flush()
    os._exit(130)


def check_base_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Take web addresses only, without the closing slash."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{value!r} is not an http:// or https:// address")
    return value.rstrip("/")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--split", type=click.Choice(SPLITS), default=SPLITS[0], show_default=True, help="Which photos.")
@click.option(
    "--annotations",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Annotation file that lists the photos, read where it lies.  [default: the one in "
    "FOLDER/annotations, else COCO's own, downloaded in a zip of 241 MB]",
)
@click.option(
    "--category", "categories", multiple=True, help="Only photos that show this; repeat it for any of several."
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="At most this many, in random order; more keeps those.  [default: all]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random order.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at the same time.")
@click.option(
    "--base-url", default=BASE_URL, show_default=True, callback=check_base_url, help="Address of COCO or a mirror."
)
def main(
    *,
    folder: Path,
    split: str,
    annotations: Path | None,
    categories: tuple[str, ...],
    limit: int | None,
    seed: int,
    workers: int,
    base_url: str,
) -> None:
    """Download COCO photos through their annotation file into FOLDER, in COCO's own layout.

    Photos that are there already are not fetched again, so the same command goes on where it stopped.
    """
    try:
        path = annotations or find_annotations(folder, split, base_url)
        photos = list_photos(path, categories)
        require_plain_names(photos, path)
        photos = pick_photos(photos, limit, seed)
        download(photos, folder / split, f"{base_url}/{split}", workers)
    except VggnormError as error:
        raise click.ClickException(printable(error)) from error
    except KeyboardInterrupt:
        exit_interrupted()


if __name__ == "__main__":
    main()
