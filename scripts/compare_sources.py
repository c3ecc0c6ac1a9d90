#!/usr/bin/env python3
"""Measure the same photos from a folder, from archives, over HTTP and from a bucket, and compare.

Usage:
    python scripts/compare_sources.py FOLDER OF PHOTOS --weights vgg16_imagenet.h5
    python scripts/compare_sources.py --many 100000

VGG16 runs over the photos of each source. It fails unless all means are equal to the last bit and
all digests are equal. It prints how many photos a second were measured, how many were read and
decoded alone, and what that took of the processors. The sources take turns. The servers run in
processes of their own, on this machine. It needs `pip install '.[http,s3]' 'moto[server]'`.

With --many, it makes a zip of tiny photos instead, and prints the seconds and the memory that
finding, shuffling and digesting them takes.
"""

import io
import multiprocessing
import os
import resource
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
from photo_server import serving
from PIL import Image

from vggnorm.photos.blocks import BATCH_SIZE
from vggnorm.photos.finding import find_photos
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.photo_list import PhotoList
from vggnorm.photos.reader import PhotoReader

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}

Serve = Callable[[Connection, Path, float], None]


# Archives and servers


def write_archives(folder: Path, into: Path) -> None:
    """Write `stored.zip`, `deflated.zip` and `photos.tar` of a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for name, method in ("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(into / name, "w", method) as archive:
            for path in paths:
                archive.write(path, path.relative_to(folder))
    with tarfile.open(into / "photos.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.relative_to(folder))


def serve_http(tell: Connection, into: Path, latency: float) -> None:
    """Serve the archives by ranges, until the other end is closed."""
    with serving() as served:
        served.latency = latency
        served.files = {f"/{path.name}": path.read_bytes() for path in into.iterdir()}
        tell.send(served.url)
        tell.poll(None)


def serve_bucket(tell: Connection, _into: Path, _latency: float) -> None:
    """Serve buckets, until the other end is closed."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    tell.send(f"http://{host}:{port}")
    tell.poll(None)
    server.stop()


@contextmanager
def server_process(serve: Serve, into: Path, latency: float) -> Iterator[str]:
    """Run a server in a process of its own, and give its address."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(there, into, latency))
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join()


def fill_bucket(folder: Path, endpoint: str) -> str:
    """Copy a folder into a bucket, and give the address of the copy."""
    import s3fs

    os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint)
    bucket = s3fs.S3FileSystem(use_listings_cache=False)
    bucket.mkdir("photos")
    bucket.put(f"{folder}/", "photos/coco/", recursive=True)
    return "s3://photos/coco/"


# Measuring


def compare(folder: Path, weights: str, size: int, rounds: int, latency: float) -> None:
    """Run VGG16 over a folder, its archives, an HTTP server and a bucket, and print a table."""
    from vggnorm.network.storage import load_network

    with ExitStack() as stack:
        into = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(into / "cache")
        write_archives(folder, into)
        url = stack.enter_context(server_process(serve_http, into, latency))
        endpoint = stack.enter_context(server_process(serve_bucket, into, latency))
        named = {
            "folder": str(folder),
            "zip, stored": str(into / "stored.zip"),
            "zip, deflated": str(into / "deflated.zip"),
            "tar": str(into / "photos.tar"),
            f"zip over HTTP, {1000 * latency:.0f} ms": f"{url}/stored.zip",
            f"tar over HTTP, {1000 * latency:.0f} ms": f"{url}/photos.tar",
            "bucket": fill_bucket(folder, endpoint),
        }
        runs = [Runs(name, data) for name, data in named.items()]
        measure_in_turns(runs, load_network("vgg16", weights), Geometry(size), rounds)
    print("\n".join(format_table(runs)))
    print("All means are equal to the last bit, and all digests are equal.")


@dataclass
class Runs:
    """What runs over one source took: a figure a round.

    Attributes:
        name: of the source.
        data: where it is.
        finding: seconds to find the photos.
        reading: seconds to read and decode all of them.
        processing: seconds of processors for that, without those of a server.
        measuring: seconds of a whole run.
        count: how many photos there are.
    """

    name: str
    data: str
    finding: list[float] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    processing: list[float] = field(default_factory=list)
    measuring: list[float] = field(default_factory=list)
    count: int = 0


def measure_in_turns(runs: Sequence[Runs], model: Any, geometry: Geometry, rounds: int) -> None:
    """Run over all sources, several times; refuse one whose means or digests differ."""
    from vggnorm.measure import compute_means

    expected = compute_means(model, runs[0].data, geometry=geometry)  # also warms up
    for number in range(rounds):
        first = number % len(runs)  # each round begins with another one
        for run in (*runs[first:], *runs[:first]):
            photos = run_once(run, geometry)
            start = time.perf_counter()
            means = compute_means(model, photos, geometry=geometry)
            run.measuring.append(time.perf_counter() - start)
            require_equal(run.name, means, expected)
            run.count = means.image_count


def run_once(run: Runs, geometry: Geometry) -> PhotoList:
    """Find the photos of a source, and read and decode them all."""
    start = time.perf_counter()
    photos = find_photos(run.data).shuffled(0)
    run.finding.append(time.perf_counter() - start)
    start, processed = time.perf_counter(), time.process_time()
    for _ in PhotoReader(photos, geometry).batches(BATCH_SIZE):
        pass
    run.reading.append(time.perf_counter() - start)
    run.processing.append(time.process_time() - processed)
    return photos


def format_table(runs: Sequence[Runs]) -> Iterator[str]:
    """Give the lines of a table in Markdown, with the best round of each figure."""
    yield f"{runs[0].count} photos, {len(runs[0].reading)} rounds"
    yield ""
    yield (
        "| photos in | found in, s | decoded, photos/s | processor, ms a photo | "
        "measured, photos/s | of the folder's |"
    )
    yield "|---|---|---|---|---|---|"
    for run in runs:
        count, measured = run.count, run.count / min(run.measuring)
        of_folder = min(runs[0].measuring) / min(run.measuring)
        yield (
            f"| {run.name} | {min(run.finding):.2f} | {count / min(run.reading):.0f} | "
            f"{1000 * min(run.processing) / count:.1f} | {measured:.1f} | {of_folder:.2f} |"
        )


def require_equal(name: str, means: Any, expected: Any) -> None:
    """Refuse means that are not those of the folder."""
    for layer, mean in expected.mean.items():
        if not np.array_equal(means.mean[layer], mean):
            raise click.ClickException(f"{name}: the means of {layer} differ from the folder's")
    for digest in "listed_sha256", "taken_sha256", "photos_sha256":
        if getattr(means.recipe, digest) != getattr(expected.recipe, digest):
            raise click.ClickException(f"{name}: {digest} differs from the folder's")


def measure_many(count: int) -> None:
    """Find, shuffle and digest tiny photos in one zip, and print what it takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.zip"
        out = io.BytesIO()
        Image.new("RGB", (2, 2), (120, 60, 30)).save(out, "PNG")
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                archive.writestr(f"val2017/{number:012}.png", out.getvalue())
        print(f"{count} photos in a zip of {path.stat().st_size / 1e6:.0f} MB")
        print(f"before: {peak():.0f} MB")
        start = time.perf_counter()
        photos = find_photos(path)
        found = time.perf_counter()
        print(f"found in {found - start:.2f} s, peak {peak():.0f} MB")
        photos = photos.shuffled(0)
        shuffled = time.perf_counter()
        print(f"shuffled in {shuffled - found:.2f} s, peak {peak():.0f} MB")
        photos.sha256()
        print(f"digested in {time.perf_counter() - shuffled:.2f} s, peak {peak():.0f} MB")


def peak() -> float:
    """Give the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command()
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--weights", default="imagenet", help="Weights of VGG16.")
@click.option("--size", default=64, help="Side of the photos.")
@click.option("--rounds", default=3, help="Of each figure, the best of so many is taken.")
@click.option("--latency", default=0.03, help="Seconds that the HTTP server waits.")
@click.option("--many", type=click.IntRange(min=1), help="Measure so many tiny photos instead.")
def main(
    *, folder: Path | None, weights: str, size: int, rounds: int, latency: float, many: int | None
) -> None:
    """Measure the photos of FOLDER from several sources, and compare."""
    if many is not None:
        measure_many(many)
    elif folder is not None:
        compare(folder, weights, size, rounds, latency)
    else:
        raise click.UsageError("give a folder, or --many")


if __name__ == "__main__":
    main()
