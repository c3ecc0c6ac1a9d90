#!/usr/bin/env python3
"""Damage files of every kind that vggnorm reads, and see that each is read or refused, whatever is in it.

Usage:
    python scripts/fuzz.py --cases 1000 [--seed 0] [--keep FOLDER] [FILE ...]

It makes files to damage itself, and takes those given, too. A case fails that ends in anything but success or a
VggnormError, takes longer than ten seconds, or more than two gigabytes. Exit status 1 if one does.
"""

import io
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

SECONDS = 10
BYTES = 2 << 30
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
VALUES: tuple[Any, ...] = (None, True, 0, -1, 1 << 31, 1 << 62, 1.5, float("nan"), "", "relu", "Lambda", [], {}, [[[]]])
KINDS = {".jpg": "JPEG", ".png": "PNG", ".npy": "means", ".h5": "model .h5", ".keras": "model .keras"}
KINDS |= {".weights.h5": "weights", ".json": "annotations", ".norm.h5": "means .h5"}


# Damage


def flip(content: bytearray, chance: random.Random) -> None:
    """Change some bytes."""
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] = chance.randrange(256)


def cut(content: bytearray, chance: random.Random) -> None:
    """Lose the end, or a piece in the middle."""
    start = chance.randrange(len(content))
    del content[start : chance.choice((len(content), start + chance.randrange(1, 64)))]


def splice(content: bytearray, chance: random.Random) -> None:
    """Copy a piece to another place, over what is there or between."""
    start, place, length = chance.randrange(len(content)), chance.randrange(len(content)), chance.randrange(1, 256)
    piece = content[start : start + length]
    content[place : place + chance.choice((0, len(piece)))] = piece


def overwrite(content: bytearray, chance: random.Random) -> None:
    """Put a suspicious number where a length or an address may be."""
    width, place = chance.choice((1, 2, 4, 8)), chance.randrange(len(content))
    number = chance.choice(NUMBERS) & (1 << 8 * width) - 1
    content[place : place + width] = number.to_bytes(width, chance.choice(("little", "big")))


def renumber(content: bytearray, chance: random.Random) -> None:
    """Change a number, or a letter of a type, that stands in the file as text, and keep the length."""
    found = list(re.finditer(rb"\d+|[<>|=][a-zA-Z]\d", content))
    if found:
        start, end = chance.choice(found).span()
        content[start:end] = bytes(chance.choice(b"0123456789-OUVSf") for _ in range(end - start))


def change_json(text: str, chance: random.Random) -> str:
    """Change one value of a JSON text, which stays one."""
    whole = [json.loads(text)]
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in entries:
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(whole)
    holder, key = chance.choice(places)
    if chance.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif chance.random() < 0.3:
        source, other = chance.choice(places)
        holder[key] = json.loads(json.dumps(source[other])) if isinstance(source, dict) and other in source else None
    else:
        holder[key] = chance.choice(VALUES)
    return json.dumps(whole[0])


def change_inside(suffix: str, content: bytearray, chance: random.Random) -> bytes:
    """Change what is inside a well-formed file: a JSON text in it, or a file in an archive."""
    import h5py

    if suffix == ".json":
        return change_json(content.decode(), chance).encode()
    if suffix in (".h5", ".norm.h5"):
        buffer = io.BytesIO(content)
        with h5py.File(buffer, "r+") as file:
            name = "vggnorm" if suffix == ".norm.h5" and chance.random() < 0.5 else "model_config"
            file.attrs[name] = change_json(file.attrs[name], chance)
        return buffer.getvalue()
    if suffix == ".keras":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if chance.random() < 0.7:
            members["config.json"] = change_json(members["config.json"].decode(), chance).encode()
        else:
            weights = bytearray(members["model.weights.h5"])
            chance.choice(DAMAGE)(weights, chance)
            members["model.weights.h5"] = bytes(weights)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, inner in members.items():
                archive.writestr(name, inner)
        return buffer.getvalue()
    renumber(content, chance)
    return bytes(content)


DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, splice, overwrite, renumber)


def damaged(suffix: str, content: bytes, seed: str) -> bytes:
    """Damage a file in one to three ways, the same for the same seed."""
    chance, changed = random.Random(seed), bytearray(content)
    if chance.random() < 0.4:
        return change_inside(suffix, changed, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if changed:
            chance.choice(DAMAGE)(changed, chance)
    return bytes(changed)


# Files to damage, and what reads them


def make_corpus(folder: Path) -> list[Path]:
    """Write one small file of each kind."""
    import keras
    import numpy as np
    from PIL import Image

    import vggnorm
    from vggnorm.means import save_means

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
    listed |= {"categories": [{"id": 7, "name": "person"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 7}]}
    (folder / "annotations.json").write_text(json.dumps(listed))
    return [folder / "photos" / "photo.jpg", *(path for path in folder.iterdir() if path.is_file())]


def suffix_of(path: Path) -> str:
    """Tell by its name what kind of file it is."""
    endings = [ending for ending in sorted(KINDS, key=len, reverse=True) if path.name.endswith(ending)]
    if not endings:
        raise click.ClickException(f"{path}: is of no kind that is read; the names may end in {' '.join(KINDS)}")
    return endings[0]


def read(path: Path, suffix: str, tiny: Any) -> None:
    """Read a file as vggnorm does."""
    from vggnorm import network
    from vggnorm.coco import list_photos
    from vggnorm.geometry import Geometry
    from vggnorm.h5file import read_means
    from vggnorm.images import decode_photo
    from vggnorm.means import load_means

    if suffix in (".jpg", ".png"):
        decode_photo(path, Geometry(16))
    elif suffix == ".npy":
        load_means(path)
    elif suffix == ".norm.h5":
        read_means(path)
    elif suffix == ".json":
        list_photos(path, ["person"])
    elif suffix == ".weights.h5":
        network._load_weights(tiny, path)
    else:
        network.load_network(str(path))


def work(channel: Connection, corpus: dict[str, tuple[str, bytes]]) -> None:
    """Read damaged files, one after the other, and say how each ended."""
    from vggnorm.errors import VggnormError
    from vggnorm.network import load_network

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        tiny = None
        for name, (suffix, content) in corpus.items():  # what is imported and allocated once is not the files' doing
            if suffix == ".h5":
                (Path(folder) / name).write_bytes(content)
                tiny = tiny or load_network(str(Path(folder) / name))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
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
            except BaseException as error:  # every other outcome is what is looked for
                channel.send(f"{type(error).__name__}: {str(error)[:200]}")


class Worker:
    """A process that reads damaged files; another one takes its place when it dies or hangs."""

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
        """Damage and read one file; tell `success`, `refused`, or what went wrong."""
        self._channel.send((name, seed))
        seconds = SECONDS + 180 * self._is_new  # Keras takes its time to start
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
@click.option("--cases", type=click.IntRange(min=1), default=1000, show_default=True, help="How many files to damage.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other damage.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files that fail.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(cases: int, seed: int, keep: Path | None, files: tuple[Path, ...]) -> None:
    """Damage files of every kind that vggnorm reads, and FILES; see that each is read or refused."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [*make_corpus(Path(folder)), *files]
        corpus = {f"{index}{suffix_of(path)}": (suffix_of(path), path.read_bytes()) for index, path in enumerate(paths)}
    counts: Counter[tuple[str, str]] = Counter()
    worker = Worker(corpus)
    for case in range(cases):
        name = list(corpus)[case % len(corpus)]
        suffix, content = corpus[name]
        outcome = worker.outcome(name, f"{seed} {case}")
        counts[suffix, outcome if outcome in ("success", "refused") else "failed"] += 1
        if outcome not in ("success", "refused"):
            click.echo(f"case {case}, {KINDS[suffix]}: {outcome}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{case}{suffix}").write_bytes(damaged(suffix, content, f"{seed} {case}"))
    worker.stop()
    click.echo(f"{'':14}{'cases':>8}{'success':>9}{'refused':>9}{'failed':>8}")
    for suffix, kind in KINDS.items():
        numbers = [counts[suffix, outcome] for outcome in ("success", "refused", "failed")]
        click.echo(f"{kind:14}{sum(numbers):8}{numbers[0]:9}{numbers[1]:9}{numbers[2]:8}")
    if any(outcome == "failed" for _, outcome in counts):
        sys.exit(1)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
