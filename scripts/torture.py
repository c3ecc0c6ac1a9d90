#!/usr/bin/env python3
"""Kill compute-means at random moments, again and again, and see whether the result is the undisturbed run's.

Usage:
    python scripts/torture.py [--kills 100] [--seed 0]

Makes a small network and many small photos in a temporary folder. Each run is killed with SIGKILL or SIGTERM at a
random moment, from its start to its end, and started again with the same command until it comes to its end; then
means.npy must be the undisturbed run's, byte for byte, and nothing else may be left. Exit status 1 if not.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

BATCH_SIZE = 2
SIDE = 32
INTERVALS = ("0", "0.2")  # seconds from one checkpoint to the next; 0: one after every batch


@click.command(context_settings={"show_default": True})
@click.option("--kills", type=click.IntRange(min=1), default=100, help="How many times to kill, over all runs.")
@click.option("--photos", type=click.IntRange(min=1), default=4000, help="How many photos a run measures.")
@click.option("--seed", type=int, default=0, help="Of the moments, the signals, and the network and photos.")
def main(*, kills: int, photos: int, seed: int) -> None:
    """Kill compute-means at random moments, and compare the result with an undisturbed run's."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", photos, seed)
        make_network(folder / "small.keras", seed)
        start = time.monotonic()
        process = measure(folder, "undisturbed.npy", INTERVALS[1])
        _, said = process.communicate()
        if process.returncode:
            raise click.ClickException(f"the undisturbed run failed:\n{said}")
        seconds = time.monotonic() - start
        expected = (folder / "undisturbed.npy").read_bytes()
        click.echo(f"an undisturbed run takes {seconds:.1f} s")
        killed, runs = Counter[str](), 0
        while killed.total() < kills:
            killed += torture(folder, expected, seconds, chance, kills - killed.total())
            runs += 1
            click.echo(f"{killed.total()} kills, {runs} runs ended as the undisturbed one did")
    click.echo(", ".join(f"{count} by {how}" for how, count in sorted(killed.items())))


def torture(folder: Path, expected: bytes, seconds: float, chance: random.Random, kills: int) -> Counter[str]:
    """Bring one run to its end through at most so many kills; tell how many there were of each kind."""
    killed = Counter[str]()
    output = folder / "means.npy"
    while not output.exists():
        process = measure(folder, output.name, chance.choice(INTERVALS))
        ending = chance.choice((signal.SIGKILL, signal.SIGTERM))
        goes_on = (folder / "means.npy.checkpoint").exists()
        try:
            _, said = process.communicate(timeout=chance.uniform(0, seconds) if killed.total() < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(ending)
            _, said = process.communicate()
            if process.returncode:
                killed[f"{ending.name}{', going on' if goes_on else ''}"] += 1
                if process.returncode not in (-ending, 128 + ending):
                    raise click.ClickException(f"ended with {process.returncode} by {ending.name}:\n{said}") from None
        else:
            if process.returncode:
                raise click.ClickException(f"failed with {process.returncode}:\n{said}")
    if output.read_bytes() != expected:
        raise click.ClickException(f"{output.name} is not the undisturbed run's after {killed.total()} kills")
    leftovers = {path.name for path in folder.iterdir()} - {"photos", "small.keras", "undisturbed.npy", output.name}
    # Killed between the result and the end, a run may leave what the next one to this output removes.
    if not killed and leftovers:
        raise click.ClickException(f"left behind: {', '.join(sorted(leftovers))}")
    for name in (*leftovers, output.name):
        (folder / name).unlink()
    return killed


def measure(folder: Path, output: str, interval: str) -> "subprocess.Popen[str]":
    """Start the command."""
    options = ["--data", "photos", "--network", "small.keras", "--preprocessing", "none", "-o", output]
    options += ["--batch-size", str(BATCH_SIZE), "--checkpoint-every", interval, "--precision", "bfloat16"]
    return subprocess.Popen(
        [sys.executable, "-m", "vggnorm", "compute-means", *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_photos(folder: Path, count: int, seed: int) -> None:
    """Save so many photos of noise, and one file that is none."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    noise = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "empty.png").touch()


def make_network(path: Path, seed: int) -> None:
    """Save a network of two convolutions with random weights."""
    from vggnorm.startup import import_keras

    import_keras()
    import keras

    keras.utils.set_random_seed(seed)
    photos = keras.Input((SIDE, SIDE, 3))
    activations = keras.layers.Conv2D(8, 3, activation="relu", name="conv1")(photos)
    activations = keras.layers.Conv2D(8, 3, activation="relu", name="conv2")(activations)
    keras.Model(photos, activations, name="small").save(path)


if __name__ == "__main__":
    main()
