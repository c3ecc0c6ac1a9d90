#!/usr/bin/env python3
"""Damage files of every kind that vggnorm reads, and check that each is read or refused.

Usage:
    python scripts/fuzz.py --cases 1000 [--seed 0] [--keep FOLDER] [FILE ...]

The program makes files to damage, and also takes those you give. A case fails if it ends in
anything but success or a VggnormError, takes longer than ten seconds, or needs more than two
gigabytes. The exit status is 1 if a case failed.
"""

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
from damage import damaged

SECONDS = 10
BYTES = 2 << 30
KINDS = {
    ".jpg": "JPEG",
    ".png": "PNG",
    ".npy": "means",
    ".h5": "model .h5",
    ".keras": "model .keras",
}
KINDS |= {".weights.h5": "weights", ".json": "annotations", ".norm.h5": "means .h5"}
KINDS |= {".zip": "photos .zip", ".tar": "photos .tar"}


# Files to damage, and their readers


def make_corpus(folder: Path) -> list[Path]:
    """Write one small file of each kind."""
    import keras
    import numpy as np
    from PIL import Image

    import vggnorm
    from vggnorm.files.means_npy import save_means

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    (folder / "photos").mkdir()
    noise.save(folder / "photos" / "photo.jpg", exif=exif)
    noise.save(folder / "photo.png")
    photo = keras.Input((8, 8, 3), name="photo")
    tensor = keras.layers.Conv2D(2, 3, activation="relu", name="conv")(photo)
    model = keras.Model(photo, keras.layers.MaxPooling2D(name="pool")(tensor), name="tiny")
    means = vggnorm.compute_means(model, folder / "photos", preprocessing="none")
    save_means(means, folder / "means.npy")
    model.save(folder / "model.h5")
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    vggnorm.save_network(model, folder / "model.norm.h5", means)
    listed = {"images": [{"id": 1, "file_name": "photo.jpg", "width": 32, "height": 24}]}
    listed |= {
        "categories": [{"id": 7, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7}],
    }
    (folder / "annotations.json").write_text(json.dumps(listed))
    shutil.make_archive(str(folder / "photos"), "zip", folder, "photos")
    shutil.make_archive(str(folder / "photos"), "tar", folder, "photos")
    return [folder / "photos" / "photo.jpg", *(path for path in folder.iterdir() if path.is_file())]


def suffix_of(path: Path) -> str:
    """Return the ending of a name that tells the kind of file."""
    endings = [
        ending for ending in sorted(KINDS, key=len, reverse=True) if path.name.endswith(ending)
    ]
    if not endings:
        raise click.ClickException(
            f"{path}: is not a kind of file that vggnorm reads; give names that end in "
            f"{' '.join(KINDS)}"
        )
    return endings[0]


def read(path: Path, suffix: str, tiny: Any) -> None:
    """Read a file as vggnorm does."""
    from vggnorm.files.formats import load_means
    from vggnorm.network.storage import load_network
    from vggnorm.network.weights import load_weights
    from vggnorm.photos.coco import list_photos
    from vggnorm.photos.decode import decode_photo
    from vggnorm.photos.finding import find_photos
    from vggnorm.photos.geometry import Geometry
    from vggnorm.photos.reader import PhotoReader

    if suffix in (".jpg", ".png"):
        with path.open("rb") as file:
            decode_photo(file, Geometry(16), path.name)
    elif suffix in (".npy", ".norm.h5"):
        load_means(path)
    elif suffix == ".json":
        list_photos(path, ["person"])
    elif suffix in (".zip", ".tar"):
        for _ in PhotoReader(find_photos(path), Geometry(16)).batches(8):
            pass
    elif suffix == ".weights.h5":
        load_weights(tiny, path)
    else:
        load_network(str(path))


def work(channel: Connection, corpus: dict[str, tuple[str, bytes]]) -> None:
    """Read one damaged file after another, and send how each case ended."""
    from vggnorm.errors import VggnormError
    from vggnorm.network.storage import load_network

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        # Load a network before the memory is limited: imports are not the fault of a damaged file.
        name, content = next(
            (name, content) for name, (suffix, content) in corpus.items() if suffix == ".h5"
        )
        (Path(folder) / name).write_bytes(content)
        tiny = load_network(str(Path(folder) / name))
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        size = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, resource.RLIM_INFINITY))
        while True:
            name, seed = channel.recv()
            suffix, content = corpus[name]
            path = Path(folder) / f"damaged{suffix}"
            path.write_bytes(damaged(suffix, content, seed))
            try:
                read(path, suffix, tiny)
                channel.send("success")
            except VggnormError:
                channel.send("refused")
            except BaseException as error:  # every other outcome is a failure
                channel.send(f"{type(error).__name__}: {str(error)[:200]}")


class Worker:
    """A process that reads damaged files; a new one replaces it when it dies or hangs."""

    def __init__(self, corpus: dict[str, tuple[str, bytes]]) -> None:
        """Start the first process."""
        self._corpus = corpus
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, inner = context.Pipe()
        self._process = context.Process(target=work, args=(inner, self._corpus), daemon=True)
        self._process.start()
        inner.close()
        self._is_new = True

    def outcome(self, name: str, seed: str) -> str:
        """Damage and read one file; return `success`, `refused`, or what went wrong."""
        self._channel.send((name, seed))
        seconds = SECONDS + 180 * self._is_new  # Keras is slow to start
        self._is_new = False
        try:
            if self._channel.poll(seconds):
                return str(self._channel.recv())
            trouble = f"took more than {SECONDS} s"
        except EOFError:
            self._process.join()
            trouble = f"the process died ({self._process.exitcode})"
        self.stop()
        self._start()
        return trouble

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._channel.close()


@click.command()
@click.option(
    "--cases",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of files to damage.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the damage.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to keep the files that fail.",
)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(cases: int, seed: int, keep: Path | None, files: tuple[Path, ...]) -> None:
    """Damage files of every kind that vggnorm reads, and FILES; see if each is read or refused."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [*make_corpus(Path(folder)), *files]
        corpus = {
            f"{index}{suffix_of(path)}": (suffix_of(path), path.read_bytes())
            for index, path in enumerate(paths)
        }
    counts = try_cases(corpus, cases, seed, keep)
    click.echo(f"{'':14}{'cases':>8}{'success':>9}{'refused':>9}{'failed':>8}")
    for suffix, kind in KINDS.items():
        numbers = [counts[suffix, outcome] for outcome in ("success", "refused", "failed")]
        click.echo(f"{kind:14}{sum(numbers):8}{numbers[0]:9}{numbers[1]:9}{numbers[2]:8}")
    if any(outcome == "failed" for _, outcome in counts):
        sys.exit(1)


def try_cases(
    corpus: dict[str, tuple[str, bytes]], cases: int, seed: int, keep: Path | None
) -> Counter[tuple[str, str]]:
    """Try all cases, and count them by kind of file and outcome."""
    counts: Counter[tuple[str, str]] = Counter()
    worker = Worker(corpus)
    for case in range(cases):
        name = list(corpus)[case % len(corpus)]
        suffix, content = corpus[name]
        outcome = worker.outcome(name, f"{seed} {case}")
        if outcome in ("success", "refused"):
            counts[suffix, outcome] += 1
            continue
        counts[suffix, "failed"] += 1
        click.echo(f"case {case}, {KINDS[suffix]}: {outcome}")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            kept = keep / f"{seed}-{case}{suffix}"
            kept.write_bytes(damaged(suffix, content, f"{seed} {case}"))
    worker.stop()
    return counts


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
