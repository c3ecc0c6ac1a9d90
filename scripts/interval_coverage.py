#!/usr/bin/env python3
"""Simulate how often the 95 % intervals cover the true means, plain and corrected for skewness.

Usage:
    python scripts/interval_coverage.py [--data FOLDER --weights FILE]

With --data, VGG16 measures the photos of the folder, and samples are drawn from them with
replacement: the means over all of them are then the true ones. Without, there are only the
populations that a formula gives. The tables in docs/intervals.md come from this program.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from engine_benchmark import make_recipe
from numpy.typing import NDArray

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.intervals import CONFIDENCE_95, confidence_intervals
from vggnorm.means.moments import Float64, Moments, PerLayer, std_deviation
from vggnorm.promise import check_means, promise_of
from vggnorm.report.printable import echo
from vggnorm.rule import scale_from_mean
from vggnorm.verdicts.verification import ActivationsCheck, PhotosUsed

FEW = (6, 8, 10, 12, 15)  # photos, around the number from which intervals are corrected
COUNTS = (20, 50, 100, 200, 500)  # photos
FILTERS = 20_000  # of a simulated population, each with a sample of its own
BATCH_SIZE = 8  # photos between two looks at the tolerance; fewer than by default, so more looks
LOOKS_FROM = 100  # photos, as `vggnorm.run.loop.TOLERANCE_PHOTOS`
AT_ONCE = 100  # photos that are drawn at a time, for the memory that they take
TOLERANCES = (0.3, 0.2, 0.1)

# When looks are taken: what to call it -> photos in a batch, and how many times as many photos as
# at the last look there must be.
LOOKS = {
    "after 8 photos each": (8, 1.0),
    "after 32 photos each": (32, 1.0),
    "at 100, 150, 225, … photos": (1, 1.5),
    "at 100, 200, 400, … photos": (1, 2.0),
}
SPLITS = ((16, 24), (50, 50), (90, 10), (95, 5))  # photos measured, and others to verify on

Draw = Callable[[int], dict[str, Float64]]


@dataclass(frozen=True)
class Population:
    """What samples are drawn from.

    Attributes:
        draw: gives a sample of so many photos: layer name -> `(photos, filters)`.
        mean: the true means: layer name -> `(filters,)`.
    """

    draw: Draw
    mean: PerLayer


def simulated(random: np.random.Generator) -> dict[str, Population]:
    """Give the populations of formulas, by name."""

    def lognormal(size: tuple[int, int]) -> Float64:
        return random.lognormal(size=size)

    def firing(share: float) -> Callable[[tuple[int, int]], Float64]:
        return lambda size: random.exponential(size=size) * (random.random(size) < share)

    kinds: dict[str, tuple[Callable[[tuple[int, int]], Float64], float]] = {
        "normal": (lambda size: random.normal(1, 1, size), 1.0),
        "lognormal": (lognormal, math.exp(0.5)),
        "exponential, half of it 0": (firing(0.5), 0.5),
        "exponential, 90 % of it 0": (firing(0.1), 0.1),
    }
    return {
        name: Population(_drawing(name, draw), {name: np.full(FILTERS, mean)})
        for name, (draw, mean) in kinds.items()
    }


def _drawing(name: str, draw: Callable[[tuple[int, int]], Float64]) -> Draw:
    return lambda count: {name: draw((count, FILTERS))}


def resampled(per_photo: Mapping[str, Float64], random: np.random.Generator) -> Population:
    """Give the population of photos that were measured, without the filters that never fire."""
    fires = {layer: values.any(axis=0) for layer, values in per_photo.items()}
    values = {layer: array[:, fires[layer]] for layer, array in per_photo.items()}
    photos = len(next(iter(values.values())))

    def draw(count: int) -> dict[str, Float64]:
        chosen = random.integers(photos, size=count)
        return {layer: array[chosen] for layer, array in values.items()}

    return Population(draw, {layer: array.mean(axis=0) for layer, array in values.items()})


def measure(folder: Path, weights: str) -> dict[str, Float64]:
    """Measure each photo with VGG16: layer name -> `(photos, filters)`."""
    from vggnorm.network.graph import read_graph
    from vggnorm.network.instruments import measuring_model
    from vggnorm.network.precision import exact_float32, run_batch
    from vggnorm.network.storage import load_network
    from vggnorm.photos.finding import find_photos
    from vggnorm.photos.geometry import Geometry
    from vggnorm.photos.reader import PhotoReader

    measuring = measuring_model(read_graph(load_network("vgg16", weights)), size=(224, 224))
    found: list[Mapping[str, NDArray[np.floating]]] = []
    with exact_float32():
        for batch in PhotoReader(find_photos(folder), Geometry(224)).batches(BATCH_SIZE):
            found.append(run_batch(measuring, batch.pixels))
            echo(f"measured {sum(len(means['block1_conv1']) for means in found)} photos", err=True)
    return {
        layer: np.concatenate([means[layer] for means in found]).astype(np.float64)
        for layer in found[0]
    }


def covered(population: Population, moments: Moments) -> dict[str, NDArray[np.bool_]]:
    """Tell which intervals cover the true means: layer name -> `(filters,)`."""
    spread = std_deviation(moments.squared_deviation, moments.count)
    root = math.sqrt(moments.count)
    interval = confidence_intervals(
        moments, {layer: values / root for layer, values in spread.items()}
    )
    result = {}
    for layer, mean in moments.mean.items():
        off = mean - population.mean[layer]
        # Means that differ by rounding alone are equal.
        rounding = 1e-12 * np.abs(population.mean[layer])
        is_above = off >= -interval.above[layer] - rounding
        result[layer] = is_above & (off <= interval.below[layer] + rounding)
    return result


def coverage(population: Population, count: int, samples: int) -> dict[str, tuple[float, float]]:
    """Give the shares covered by plain and by corrected intervals: layer name -> both."""
    shares = {layer: np.zeros(2) for layer in population.mean}
    for _ in range(samples):
        corrected = measured(population, count)
        plain = replace(corrected, cubed_deviation=None)
        for column, moments in enumerate((plain, corrected)):
            for layer, values in covered(population, moments).items():
                shares[layer][column] += values.mean() / samples
    return {layer: (float(plain), float(both)) for layer, (plain, both) in shares.items()}


def measured(population: Population, count: int) -> Moments:
    """Give the moments of so many photos."""
    moments = Moments.of_none({layer: len(mean) for layer, mean in population.mean.items()})
    while moments.count < count:
        moments += Moments.of(population.draw(min(AT_ONCE, count - moments.count)))
    return moments


def growing(
    population: Population, batch_size: int = BATCH_SIZE, factor: float = 1
) -> Iterator[Moments]:
    """Give the moments of a run whenever a look is taken.

    Args:
        population: what photos are drawn from.
        batch_size: how many photos are drawn at a time.
        factor: from one look to the next, the photos become so many times as many.
    """
    moments = measured(population, (LOOKS_FROM - 1) // batch_size * batch_size)
    wanted: float = LOOKS_FROM
    while True:
        moments += Moments.of(population.draw(batch_size))
        if moments.count >= wanted:
            yield moments
            wanted = moments.count * factor


@dataclass(frozen=True)
class Stopped:
    """How runs ended that stopped early.

    Attributes:
        photos: the mean number of photos at which they stopped.
        covered: the share of intervals that cover the true mean then.
        within: the share of means that are within the tolerance of the true one.
    """

    photos: float
    covered: float
    within: float


def stop_alone(
    population: Population, tolerance: float, batch_size: int = BATCH_SIZE, factor: float = 1
) -> Stopped:
    """Have every filter stop on its own, as a network of a single filter would.

    Looks are taken as by `growing`.
    """
    (name, mean), *_ = population.mean.items()
    stopped, hits, within = np.zeros((3, len(mean)))
    for moments in growing(population, batch_size, factor):
        spread = std_deviation(moments.squared_deviation, moments.count)[name]
        std_error = {name: spread / math.sqrt(moments.count)}
        side = confidence_intervals(moments, std_error).longer[name]
        now = (stopped == 0) & (side <= tolerance * moments.mean[name])
        stopped[now] = moments.count
        hits[now] = covered(population, moments)[name][now]
        within[now] = (np.abs(moments.mean[name] - mean) <= tolerance * mean)[now]
        if stopped.all():
            break
    return Stopped(float(stopped.mean()), float(hits.mean()), float(within.mean()))


def stop_together(population: Population, tolerance: float, runs: int) -> Stopped:
    """Have all filters of a network stop when most are known well enough, as a run does."""
    recipe = make_recipe()
    photos, hits, within = [], [], []
    for _ in range(runs):
        for moments in growing(population):
            uncertainty = FilterMeans(moments, recipe).uncertainty
            if uncertainty is not None and uncertainty <= tolerance:
                break
        photos.append(moments.count)
        hits.append(np.concatenate(list(covered(population, moments).values())).mean())
        off = [np.abs(mean - population.mean[layer]) for layer, mean in moments.mean.items()]
        true = np.concatenate(list(population.mean.values()))
        within.append((np.concatenate(off) <= tolerance * true).mean())
    return Stopped(float(np.mean(photos)), float(np.mean(hits)), float(np.mean(within)))


def split(
    per_photo: Mapping[str, Float64], measured: int, others: int, random: np.random.Generator
) -> tuple[float, float]:
    """Verify means over some photos on others.

    Returns:
        How far the worst layer's median filter is off, in intervals, and the share of means that
        agree.
    """
    order = random.permutation(len(next(iter(per_photo.values()))))
    first, second = order[:measured], order[measured : measured + others]
    means = FilterMeans(
        Moments.of({layer: values[first] for layer, values in per_photo.items()}), make_recipe()
    )
    here = Moments.of({layer: values[second] for layer, values in per_photo.items()})
    units = {layer: scale_from_mean(mean) for layer, mean in means.mean.items()}
    nothing = dict.fromkeys(per_photo, 0.0)
    check = check_means(
        here.relative_to(units),
        promise_of(means),
        PhotosUsed.OTHER,
        ActivationsCheck(nothing, nothing),
    )
    return check.layer_reach[check.worst_layer], (check.agreeing or 0) / check.firing


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{share:.1%}".replace("%", "")


def print_row(*cells: object) -> None:
    """Print a row of a table."""
    echo(f"| {' | '.join(map(str, cells))} |")


def print_header(*cells: object) -> None:
    """Print the first two rows of a table."""
    print_row(*cells)
    echo("|" + "---|" * len(cells))


def print_coverage(populations: Mapping[str, Population], samples: int) -> None:
    """Print how often intervals cover, plain and corrected."""
    print_header("population", *(f"n = {count}" for count in COUNTS))
    for name, population in populations.items():
        is_simulated = name in population.mean
        repeated = 1 if is_simulated else samples
        columns = [coverage(population, count, repeated) for count in COUNTS]
        for layer in population.mean:
            print_row(layer, *(" → ".join(map(percent, column[layer])) for column in columns))


def print_few(populations: Mapping[str, Population]) -> None:
    """Print what the correction does to samples of few photos, to which it is not applied."""
    print_header("population", *(f"n = {count}" for count in FEW))
    for name, population in populations.items():
        cells = []
        for count in FEW:
            moments = measured(population, count)
            spread = std_deviation(moments.squared_deviation, count)[name]
            std_error = {name: spread / math.sqrt(count)}
            interval = confidence_intervals(moments, std_error, corrected_from=3)
            off = moments.mean[name] - population.mean[name]
            covers = (off <= interval.below[name]) & (off >= -interval.above[name])
            plain = np.abs(off) <= CONFIDENCE_95 * std_error[name]
            length = (interval.below[name] + interval.above[name]).mean()
            longer = length / (2 * CONFIDENCE_95 * std_error[name].mean())
            cells.append(f"{percent(plain.mean())} → {percent(covers.mean())}, {longer:.2f}")
        print_row(name, *cells)


def print_stopping(populations: Mapping[str, Population], runs: int) -> None:
    """Print how often intervals cover at the end of runs that stop early, and otherwise."""
    print_header(
        "population",
        "tolerance",
        "photos",
        "covered",
        "covered by as many photos",
        "within the tolerance",
    )
    for name, population in populations.items():
        is_simulated = name in population.mean
        repeated = 1 if is_simulated else runs
        for tolerance in TOLERANCES:
            if is_simulated:
                stopped = stop_alone(population, tolerance)
            else:
                stopped = stop_together(population, tolerance, runs)
            fixed = coverage(population, round(stopped.photos), repeated)
            weights = [len(mean) for mean in population.mean.values()]
            expected = np.average([both for _, both in fixed.values()], weights=weights)
            shares = stopped.covered, float(expected), stopped.within
            print_row(name, tolerance, round(stopped.photos), *map(percent, shares))


def print_looks(population: Population, runs: int) -> None:
    """Print what it changes for filters on their own when looks are taken."""
    print_header("looks", "photos", "covered", "covered by as many photos", "within the tolerance")
    for name, (batch_size, factor) in LOOKS.items():
        stopped = [stop_alone(population, 0.2, batch_size, factor) for _ in range(runs)]
        photos = np.mean([one.photos for one in stopped])
        (fixed,) = coverage(population, round(photos), runs).values()
        shares = (
            np.mean([one.covered for one in stopped]),
            fixed[1],
            np.mean([one.within for one in stopped]),
        )
        print_row(name, round(photos), *(percent(float(share)) for share in shares))


def print_splits(
    per_photo: Mapping[str, Float64], samples: int, random: np.random.Generator
) -> None:
    """Print how far off verify finds the means of some photos on others."""
    print_header(
        "measured", "others", "worst layer: median", "99 %", "largest", "agreeing: median", "least"
    )
    for measured, others in SPLITS:
        results = [split(per_photo, measured, others, random) for _ in range(samples)]
        reach, agreeing = np.array(results).T
        figures = np.median(reach), np.quantile(reach, 0.99), reach.max()
        print_row(
            measured,
            others,
            *(f"{value:.2f}" for value in figures),
            percent(float(np.median(agreeing))),
            percent(float(agreeing.min())),
        )


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of photos to resample.")
@click.option("--weights", default="imagenet", help="As for vggnorm compute-means.")
@click.option("--samples", default=400, help="Samples of the photos for each table.")
@click.option("--seed", default=0, help="Seed of all samples.")
def main(data: Path | None, weights: str, samples: int, seed: int) -> None:
    """Print the tables of docs/intervals.md."""
    random = np.random.default_rng(seed)
    populations = simulated(random)
    per_photo = None if data is None else measure(data, weights)
    if per_photo is not None:
        populations["VGG16"] = resampled(per_photo, random)
    echo(
        "Few photos: plain → corrected, in percent, and the ratio of their lengths",
        "",
    )
    print_few(simulated(np.random.default_rng(seed)))
    echo("", "Share of 95 % intervals that cover the true mean, in percent: plain → corrected", "")
    print_coverage(populations, samples)
    echo("", "The same where runs stop early, with a look at the data after each batch", "")
    print_stopping(populations, samples // 4)
    echo("", "Lognormal filters on their own, with the tolerance 0.2", "")
    print_looks(simulated(np.random.default_rng(seed))["lognormal"], max(samples // 40, 1))
    if per_photo is not None:
        echo("", "verify on other photos than those measured", "")
        print_splits(per_photo, samples, random)


if __name__ == "__main__":
    main()
