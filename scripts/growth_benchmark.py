"""How time and memory grow with the number of photos.

When you run this file, it writes the tiny network, so that the process that measures need not
import TensorFlow.
"""

import sys
from pathlib import Path

import click
from processes import VGGNORM, run_process
from timed_folder import repeat_photos

COUNTS = (10, 100, 1_000, 10_000)
MOST_OF_VGG16 = 1_000  # photos; more would take hours on a small machine


def report_growth(photos: Path, weights: str, folder: Path) -> str:
    """Run `vggnorm compute-means` over more and more photos, and return a table.

    Args:
        photos: a folder of photos, which are repeated.
        weights: VGG16's file of weights.
        folder: an empty folder, for what is made.
    """
    tiny = folder / "tiny.keras"
    run_process((sys.executable, __file__, str(tiny)))
    networks: dict[str, tuple[tuple[str, ...], int]] = {
        "VGG16, 224 pixels": (("--weights", weights), MOST_OF_VGG16),
        "a tiny network, 64 pixels": (
            ("--network", str(tiny), "--preprocessing", "none", "--size", "64"),
            COUNTS[-1],
        ),
    }
    folders = {
        count: str(repeat_photos(photos, count, folder / f"photos{count}")) for count in COUNTS
    }
    lines = [
        "| network | photos | s | ms a photo | processor time, s | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, (options, most) in networks.items():
        for count in COUNTS:
            if count > most:
                continue
            means = str(folder / "means.npy")
            cost = run_process(
                (
                    *VGGNORM,
                    "compute-means",
                    "--data",
                    folders[count],
                    *options,
                    "--force",
                    "-o",
                    means,
                )
            )
            lines.append(
                f"| {name} | {count:,} | {cost.seconds:.1f} | {1e3 * cost.seconds / count:.1f} | "
                f"{cost.cpu:.1f} | {cost.memory:.0f} |"
            )
            click.echo(f"{name}: {count} photos: {cost.seconds:.1f} s", err=True)
    return "\n".join(lines)


def write_tiny_network(path: str) -> None:
    """Write a network of three small convolutions with random weights."""
    from vggnorm.run.startup import import_keras

    import_keras()
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, 3))])
    for filters in (8, 16, 32):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.save(path)


if __name__ == "__main__":
    write_tiny_network(sys.argv[1])
