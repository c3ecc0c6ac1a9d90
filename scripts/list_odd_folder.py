"""Measure how long it takes to list a folder of many small photos, with odd files among them.

    python scripts/list_odd_folder.py --photos 100000

A hundred folders of small JPEGs are made in a temporary folder, with ten files of each of twenty
odd kinds among them. Then the folder is listed, shuffled and digested, and all photos are decoded.
The seconds, the peak memory, and all that is said are printed.
"""

import io
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
from PIL import Image

from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader
from vggnorm.photos.skipped import SkippedPhoto

FOLDERS = 100
OF_EACH_KIND = 10

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def make_image(kind: str, **options: object) -> bytes:
    """Write a small image of a kind, such as `JPEG`."""
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((32, 32)).save(out, kind, **options)
    return out.getvalue()


def odd_files(photo: bytes) -> list[tuple[str, bytes]]:
    """Give the ending and the content of a file of each odd kind."""
    progressive = make_image("JPEG", progressive=True)
    return [
        # Photos, all the same.
        (".jfif", photo),
        (".JPG", photo),
        ("", photo),
        (".jpg_large", photo),
        (".avif", make_image("AVIF")),
        ("-without-end.jpg", photo[:-2]),
        # Skipped, with a reason.
        ("-half.jpg", photo[: -len(photo) // 4]),
        ("-lacks-a-scan.jpg", progressive[: progressive.rindex(b"\xff\xda")]),
        ("-page.jpg", b"<!DOCTYPE html><html>404 Not Found</html>"),
        ("-pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n"),
        ("-empty.jpg", b""),
        ("-zeros.jpg", bytes(10_000)),
        ("-phone.jpg", HEIC),
        ("-video.jpg", b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(100)),
        # Left out when the folder is listed.
        (".HEIC", HEIC),
        (".txt", b"0 0.5 0.5 0.1 0.1\n"),
        (".jpg.json", b'{"title": "photo"}'),
        (".mp4", b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(100)),
        ("-page.jpg_large", b"<!DOCTYPE html><html>404 Not Found</html>"),
        ("-readme", b"These are photos.\n"),
    ]


def make_folder(folder: Path, count: int) -> None:
    """Write the photos and the odd files, each kind in other folders."""
    photo = make_image("JPEG")
    places = [folder / f"{number:03}" for number in range(FOLDERS)]
    for place in places:
        place.mkdir()
    for number in range(count):
        (places[number % FOLDERS] / f"{number:012}.jpg").write_bytes(photo)
    for kind, (ending, content) in enumerate(odd_files(photo)):
        for number in range(OF_EACH_KIND):
            place = places[(kind * OF_EACH_KIND + number) % FOLDERS]
            (place / f"odd{kind:02}{number:02}{ending}").write_bytes(content)


def list_photos(folder: Path) -> PhotoList:
    """List, shuffle and digest the photos, and print what it takes and what is said."""
    begun = time.perf_counter()
    photos = find_photos(folder)
    found = time.perf_counter()
    print(f"listed {len(photos.names):,} photos in {found - begun:.2f} s, peak {peak():.0f} MB")
    photos = photos.shuffled(0)
    photos.sha256()
    print(f"shuffled and digested in {time.perf_counter() - found:.2f} s, peak {peak():.0f} MB")
    for line in photos.describe():
        print(f"    {line}")
    return photos


def decode(photos: PhotoList) -> None:
    """Decode all photos, and print what it takes, and what is said of those that are skipped."""
    begun = time.perf_counter()
    reader = PhotoReader(photos, Geometry(32))
    used, skipped = 0, list[SkippedPhoto]()
    for batch in reader.batches(32):
        used += batch.taken.used
        skipped += batch.taken.skipped
    seconds = time.perf_counter() - begun
    print(f"decoded {used:,} photos in {seconds:.1f} s, peak {peak():.0f} MB")
    print(f"    {reader.noticed.without_end} lacked the mark of the end, but no pixels")
    for reason, count in Counter(photo.reason for photo in skipped).most_common():
        print(f"    {count} skipped: {reason}")


def peak() -> float:
    """Give the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command()
@click.option("--photos", "count", default=100_000, help="Number of plain photos.")
def main(*, count: int) -> None:
    """Measure how long a folder of many small photos takes to list."""
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        make_folder(Path(name), count)
        print(f"made in {time.perf_counter() - begun:.1f} s, peak {peak():.0f} MB")
        decode(list_photos(Path(name)))


if __name__ == "__main__":
    main()
