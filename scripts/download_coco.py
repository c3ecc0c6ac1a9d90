#!/usr/bin/env python3
"""Download the COCO photos that an annotation file lists, into COCO's own folders.

Usage:
    python scripts/download_coco.py FOLDER --limit 1000
    python scripts/download_coco.py FOLDER --split train2017 --category cat --category dog

The photos go to FOLDER/val2017/000000000139.jpg and so on, the annotations to
FOLDER/annotations/instances_val2017.json, ready for `vggnorm compute-means --data FOLDER`. If a
download stops, run the same command again.
"""

import contextlib
import io
import os
import random
import signal
import sys
import zipfile
import zlib
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path, PurePosixPath, PureWindowsPath
from shutil import copyfileobj
from threading import Event
from typing import NoReturn
from urllib.parse import quote, urlsplit

import click
from fetching import FetchError, PassingError, download_zip, stream, try_again
from PIL import Image
from tqdm import tqdm

from vggnorm.disk import replacing
from vggnorm.errors import OutputError, PhotoError, VggnormError
from vggnorm.photos.coco import ListedPhoto, list_photos
from vggnorm.report.printable import echo, printable

BASE_URL = "http://images.cocodataset.org"
ZIP_NAME = "annotations_trainval2017.zip"
SPLITS = ("val2017", "train2017")

LARGEST_PHOTO = 32 << 20  # bytes; COCO's largest is under one MiB
GIVE_UP_AFTER = 8  # photos in a row that failed on every try: the server or the network is down
LONGEST_NAME = 200  # bytes; file systems allow 255, and the temporary name is longer
NAMED_FAILURES = 5

# --- The annotation file ---


def find_annotations(folder: Path, split: str, base_url: str) -> Path:
    """Return the annotation file in `folder`; if it is not there, take it out of COCO's zip.

    A zip that the user put there stays. A zip that this function downloads is removed at the end.
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
        part.unlink()  # the next run must not go on with it
        raise
    part.unlink()
    return path


def extract_annotations(archive: Path, path: Path) -> None:
    """Write the member of COCO's zip that has the name of `path` to `path`."""
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
        raise PhotoError(
            f"{archive}: does not hold {member}; give its file with --annotations"
        ) from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PhotoError(
            f"{archive}: cannot be unpacked ({error}); remove it and run the same command again"
        ) from error


def require_plain_names(photos: Sequence[ListedPhoto], path: Path) -> None:
    """Refuse names that would lead out of the folder: the annotation file is not trusted."""
    for photo in photos:
        if not is_plain(photo.file_name):
            raise PhotoError(
                f"{path}: {photo.file_name!r:.80} is not a plain file name; the annotation file is "
                "damaged or hostile"
            )


def is_plain(name: str) -> bool:
    """Return whether `name` is a visible file in its folder, on any system."""
    single = name == PurePosixPath(name).name == PureWindowsPath(name).name
    plain = single and name != "" and name.isprintable() and not name.startswith(".")
    return plain and len(name.encode()) <= LONGEST_NAME


def pick_photos(photos: Sequence[ListedPhoto], limit: int | None, seed: int) -> list[ListedPhoto]:
    """Return `limit` of the sorted `photos` in random order; a larger limit keeps them."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:limit]


# --- The photos ---


def fetch_photo(photo: ListedPhoto, url: str) -> bytes:
    """Fetch a photo into memory, so that only whole photos are written."""
    content = bytearray()
    with contextlib.closing(stream(url)) as pieces:
        for piece in pieces:
            content += piece.content
            if len(content) > LARGEST_PHOTO:
                raise FetchError(
                    f"{url}: larger than {LARGEST_PHOTO >> 20} MiB, so not a COCO photo"
                )
    check_photo(photo, bytes(content), url)
    return bytes(content)


def check_photo(photo: ListedPhoto, content: bytes, url: str) -> None:
    """Refuse a file that is not a photo, or not of the size that the annotation file gives."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FetchError(f"{url}: not a JPEG or PNG photo") from error
    if photo.width not in (None, width) or photo.height not in (None, height):
        raise FetchError(
            f"{url}: {width} x {height} pixels; the annotation file says {photo.width} x "
            f"{photo.height}"
        )


def is_there(path: Path) -> bool:
    """Return whether a photo is there; only whole photos get their final name."""
    return path.is_file() and path.stat().st_size > 0


def fetch_photos(
    photos: Sequence[ListedPhoto], url: str, workers: int, stop: Event
) -> Generator[tuple[ListedPhoto, Future[bytes]], None, None]:
    """Fetch `photos` from the folder `url` in parallel; yield each when it came or failed."""

    def fetch(photo: ListedPhoto) -> bytes:
        address = f"{url}/{quote(photo.file_name)}"
        return try_again(lambda: fetch_photo(photo, address), stop)

    executor = ThreadPoolExecutor(workers)
    running: dict[Future[bytes], ListedPhoto] = {}
    try:
        for photo in photos:
            running[executor.submit(fetch, photo)] = photo
            if len(running) >= 2 * workers:  # limits the photos that wait in memory
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future
        for future in as_completed(running):
            yield running[future], future
    finally:
        stop.set()
        # Do not wait: a request that stalls would take TIMEOUT seconds.
        executor.shutdown(wait=False, cancel_futures=True)


def download_photos(
    photos: Sequence[ListedPhoto], folder: Path, url: str, workers: int
) -> list[str]:
    """Fetch `photos` from the folder `url` into `folder`; return a text for each that failed.

    Only the calling thread writes. An interrupt therefore finds at most one temporary file, and
    removes it.

    Raises:
        PhotoError: several photos in a row failed on every try.
        OutputError: the folder cannot be written.
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
    """Make a folder if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error


# --- The command ---


def download(photos: Sequence[ListedPhoto], folder: Path, url: str, workers: int) -> None:
    """Download those of `photos` that are missing, and print how many came."""
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
            f"{len(failures)} of {len(photos)} photos failed; run the same command again to fetch "
            "the rest"
        )


def exit_interrupted() -> NoReturn:
    """End the process now; its threads may stall for TIMEOUT, and have no file open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    echo("Interrupted; run the same command again to go on", err=True)
    sys.stdout.flush()
    os._exit(130)


def check_base_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Accept web addresses only, and remove a slash at the end."""
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
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default=SPLITS[0],
    show_default=True,
    help="The part of COCO.",
)
@click.option(
    "--annotations",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Annotation file that lists the photos.  [default: the one in FOLDER/annotations, or else "
    "COCO's own, which comes in a zip of 241 MB]",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    help="Take only photos that show this category. Repeat the option for more categories.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Take at most this many photos, at random. A larger limit keeps them.  [default: all]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random order.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Number of downloads at the same time.",
)
@click.option(
    "--base-url",
    default=BASE_URL,
    show_default=True,
    callback=check_base_url,
    help="Address of COCO or a mirror.",
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
    """Download the COCO photos that an annotation file lists into FOLDER.

    Photos that are already there are not downloaded again, so you can repeat the command after it
    stopped.
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
