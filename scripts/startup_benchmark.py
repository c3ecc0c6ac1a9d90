"""How long the program takes to start, by part.

When you run this file, it measures a folder of photos with VGG16, and prints as JSON when each part
of the start was over.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

from processes import VGGNORM, run_process

# The parts of a run up to its second batch, in their order.
PARTS = (
    "Python and vggnorm",
    "listing the photos",
    "importing Keras and TensorFlow",
    "loading the network",
    "building the models that measure",
    "the first batch of 32",
    "the second batch of 32",
)
BATCHES = 2


def report_startup(folder: Path, weights: str, rounds: int) -> str:
    """Measure the start of the program some times, and return two tables of the medians.

    Args:
        folder: two batches of photos, or more.
        weights: VGG16's file of weights.
        rounds: how often to measure.
    """
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "vggnorm --help": (*VGGNORM, "--help"),
        "vggnorm inspect FILE OF WEIGHTS": (*VGGNORM, "inspect", weights),
    }
    whole: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    parts = []
    for _ in range(rounds):
        for name, command in commands.items():
            cost = run_process(command)
            whole[name].append((cost.seconds, cost.memory))
        started = str(time.time())
        said = run_process((sys.executable, __file__, str(folder), weights, started)).output
        parts.append(json.loads(said))
    lines = ["| command | s | peak memory, MB |", "|---|---|---|"]
    for name, costs in whole.items():
        seconds, memory = (statistics.median(values) for values in zip(*costs, strict=True))
        lines.append(f"| `{name}` | {seconds:.2f} | {memory:.0f} |")
    lines += ["", "| part of `compute-means` | s |", "|---|---|"]
    for index, part in enumerate(PARTS):
        seconds = statistics.median(found[index] for found in parts)
        lines.append(f"| {part} | {seconds:.2f} |")
    return "\n".join(lines)


def time_parts(folder: str, weights: str, started: float) -> list[float]:
    """Measure two batches, and tell how many seconds each part took.

    Args:
        folder: of photos.
        weights: VGG16's file of weights.
        started: when this process was started, in seconds since the epoch.
    """
    ends = [started]

    def end(*_: object) -> None:
        ends.append(time.time())

    import vggnorm

    end()
    photos = vggnorm.find_photos(folder).shuffled(0)
    end()
    from vggnorm.run.startup import import_keras

    import_keras()
    end()
    network = vggnorm.load_network("vgg16", weights)
    end()
    # The progress is told once before the first batch, and once after each.
    vggnorm.compute_means(
        network,
        photos,
        until=vggnorm.Until(limit=BATCHES * vggnorm.Compute.batch_size),
        watch=vggnorm.Watch(progress=end),
    )
    return [after - before for before, after in pairwise(ends)]


if __name__ == "__main__":
    print(json.dumps(time_parts(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
