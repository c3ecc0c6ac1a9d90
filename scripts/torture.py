#!/usr/bin/env python3
"""Kill compute-means at random moments, and compare the result with an undisturbed run's.

Usage:
    python scripts/torture.py [--kills 100] [--seed 0]

The program makes a small network and many small photos in a temporary folder. It kills each run
with SIGKILL or SIGTERM at a random moment and starts it again with the same command, until the run
reaches its end. Then means.npy must equal that of the undisturbed run, byte for byte, and no other
file may be left. If not, the exit status is 1.
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
INTERVALS = ("0", "0.2")  # seconds between checkpoints; 0 saves one after every batch


@click.command(context_settings={"show_default": True})
@click.option(
    "--kills",
    type=click.IntRange(min=1),
    default=100,
    help="Number of kills, over all runs.",
)
@click.option(
    "--photos", type=click.IntRange(min=1), default=4000, help="Number of photos of a run."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    help="Seed of the moments, the signals, the network and the photos.",
)
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


def torture(
    folder: Path, expected: bytes, seconds: float, chance: random.Random, kills: int
) -> Counter[str]:
    """Bring one run to its end through at most `kills` kills; count them by kind."""
    killed = Counter[str]()
    output = folder / "means.npy"
    while not output.exists():
        process = measure(folder, output.name, chance.choice(INTERVALS))
        ending = chance.choice((signal.SIGKILL, signal.SIGTERM))
        goes_on = (folder / "means.npy.checkpoint").exists()
        try:
            _, said = process.communicate(
                timeout=chance.uniform(0, seconds) if killed.total() < kills else None
            )
        except subprocess.TimeoutExpired:
            process.send_signal(ending)
            _, said = process.communicate()
            if process.returncode:
                killed[f"{ending.name}{', going on' if goes_on else ''}"] += 1
                if process.returncode not in (-ending, 128 + ending):
                    raise click.ClickException(
                        f"ended with {process.returncode} by {ending.name}:\n{said}"
                    ) from None
        else:
            if process.returncode:
                raise click.ClickException(f"failed with {process.returncode}:\n{said}")
    if output.read_bytes() != expected:
        raise click.ClickException(
            f"{output.name} differs from the undisturbed run's after {killed.total()} kills"
        )
    expected_names = {"photos", "small.keras", "undisturbed.npy", output.name}
    leftovers = {path.name for path in folder.iterdir()} - expected_names
    # A run that is killed after it wrote the result may leave files. The next run to this output
    # removes them.
    if not killed and leftovers:
        raise click.ClickException(f"left behind: {', '.join(sorted(leftovers))}")
    for name in (*leftovers, output.name):
        (folder / name).unlink()
    return killed


def measure(folder: Path, output: str, interval: str) -> "subprocess.Popen[str]":
    """Start compute-means."""
    options = ["--data", "photos", "--network", "small.keras", "--preprocessing", "none"]
    options += ["--batch-size", str(BATCH_SIZE), "--precision", "bfloat16"]
    options += ["--checkpoint-every", interval, "-o", output]
    return subprocess.Popen(
        [sys.executable, "-m", "vggnorm", "compute-means", *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_photos(folder: Path, count: int, seed: int) -> None:
    """Save `count` photos of noise, and an empty file."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    noise = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(
            folder / f"{index}.png"
        )
    (folder / "empty.png").touch()


def make_network(path: Path, seed: int) -> None:
    """Save a network of two convolutions with random weights."""
    from vggnorm.run.startup import import_keras

    import_keras()
    import keras

    keras.utils.set_random_seed(seed)
    photos = keras.Input((SIDE, SIDE, 3))
    activations = keras.layers.Conv2D(8, 3, activation="relu", name="conv1")(photos)
    activations = keras.layers.Conv2D(8, 3, activation="relu", name="conv2")(activations)
    keras.Model(photos, activations, name="small").save(path)


if __name__ == "__main__":
    main()
