"""The benchmark: its arithmetic by hand, and the numbers of its contestants."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark
import benchmark_report
import contestants
import engine_benchmark
import numpy as np
import pytest
from click.testing import CliRunner
from contestants import BASELINE, CONTESTANTS, EXACT, FAST, Clock, Figures, Job
from photo_files import decode_file
from reference import IMAGENET_BGR, filter_means, reference_layers

from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry
from vggnorm.photos.reader import PhotoReader
from vggnorm.run.engine import Block

SCRIPTS = Path(benchmark.__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"


def test_what_stands_in_for_vgg16_gives_sums_of_its_size() -> None:
    photos = engine_benchmark.make_photos(256)
    measured = engine_benchmark.StandIn().measure(Block(photos, limit=256, in_both=0))
    assert [sums.taken.used for sums in measured.sums] == [32] * 8
    for sums in measured.sums:
        assert sums.measured.count == 32
        assert sum(map(len, sums.measured.mean.values())) == 4224


def test_the_rate_is_that_of_the_photos_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 40.0, 42.0, 46.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    clock = Clock()
    # A call with 0 is not recorded. The first 64 photos, with their slow start, do not count.
    for done in (0, 32, 64):
        clock(done)
    assert np.isnan(clock.rate)
    for done in (80, 112):  # 48 photos in 6 s
        clock(done)
    assert clock.rate == 8


def test_ratios_are_those_of_each_round() -> None:
    def rounds(*rates: float) -> list[Figures]:
        return [Figures(rate, 5.0, 3.0, whole=9.0, memory=100.0) for rate in rates]

    found = {EXACT: rounds(9, 4, 6), "convolutions alone, float32": rounds(10, 8, 6)}
    assert benchmark_report.median_ratio(found, *found) == 0.9  # of 0.9, 0.5 and 1
    assert np.isnan(benchmark_report.median_ratio(found, EXACT, BASELINE))
    assert (
        benchmark_report.format_table(found)
        .splitlines()[3]
        .endswith("| 8.0 |  |  | 9.0 | 5.0 | 3.0 | 100 |")
    )
    found[BASELINE] = rounds(3, 2, 2)  # ratios 3, 2 and 3
    row = benchmark_report.format_table(found).splitlines()[2]
    assert row == "| vggnorm, float32 | 6.0 | 0.90 | 3.00 | 9.0 | 5.0 | 3.0 | 100 |"


@pytest.fixture
def job(photo_folder: Path, make_chain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Job:
    chain = make_chain((6, 5))
    monkeypatch.setattr(contestants, "plain_network", lambda _: chain)
    return Job("", str(photo_folder), "", "", size=32, batch_size=4)


@pytest.fixture
def expected(job: Job) -> dict[str, np.ndarray]:
    photos = [decode_file(Path(path), Geometry(32)) for path in contestants.paths(job)]
    return filter_means(photos, reference_layers(contestants.plain_network(job)))


def test_the_plain_model_takes_the_means(job: Job, expected: dict[str, np.ndarray]) -> None:
    photos = np.concatenate(list(contestants.batches(job)))
    found = contestants.plain_means(job).predict(photos, verbose=0)
    for values, mean in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(values.mean(axis=0), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_ceiling_has_the_same_convolutions(precision: Any, job: Job) -> None:
    photos = np.concatenate(list(contestants.batches(job)))
    original = contestants.plain_network(job)
    alone = contestants.convolutions_alone(job, precision)
    found = alone.predict(photos, verbose=0).astype(np.float32)
    pixels = photos[..., ::-1] - IMAGENET_BGR
    expected = np.asarray(original(pixels.astype(np.float32))).max(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4 if precision == "float32" else 0.03)
    convolutions = alone.get_layer(original.name).layers
    assert [type(layer) for layer in convolutions] == [type(layer) for layer in original.layers]
    assert {layer.compute_dtype for layer in convolutions if layer.weights} == {precision}


def test_the_network_of_pytorch_is_the_same(random_vgg16: Path) -> None:
    torch = pytest.importorskip("torch")
    job = Job(contestants.TORCH, "", str(random_vgg16), "")
    photos = np.random.default_rng(0).normal(0, 60, size=(2, 32, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        found = contestants.torch_network(job)(
            torch.from_numpy(photos.transpose(0, 3, 1, 2).copy())
        ).numpy()
    expected = np.asarray(contestants.plain_network(job)(photos))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if "vggnorm" not in name])
def test_every_contestant_runs_all_photos(name: str, job: Job, random_vgg16: Path) -> None:
    if name.startswith("PyTorch"):
        pytest.importorskip("torch")
    clock = Clock()
    CONTESTANTS[name](replace(job, weights=str(random_vgg16)), clock)
    assert clock.told[-1][1] >= 9


def test_what_starts_the_contestants_is_small() -> None:
    # The peak memory of a process starts with that of its parent. With TensorFlow in the parent,
    # all contestants would seem to use its memory.
    code = (
        "import sys, benchmark; benchmark.describe_machine(); print(*{'keras', 'tensorflow'} & "
        "set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SCRIPTS
    )
    assert not found.stdout.strip()


def test_vggnorm_measures_as_the_job_says_and_saves_the_means(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    reader = PhotoReader.__init__

    def spy(*arguments: Any, **options: Any) -> None:
        given.append(options["threads"])
        reader(*arguments, **options)

    monkeypatch.setattr(PhotoReader, "__init__", spy)
    clock = Clock()
    path = tmp_path / "means.npy"
    CONTESTANTS[FAST](replace(job, means=str(path), threads=1), clock)
    assert [done for _, done in clock.told] == [4, 8, 9]
    assert given == [1]
    recipe = load_means(path).recipe
    assert (recipe.precision, recipe.size) == ("bfloat16", 32)
    assert (recipe.batch_size, recipe.listed) == (4, 9)


def test_errors_are_relative_and_of_filters_that_fire(some_means: FilterMeans) -> None:
    # They are off by 1 %, 0, 0, not compared, and 5 %.
    means = {"conv1": np.array([1.01, 2.0]), "conv2": np.array([0.5, 1.0, 3.8])}
    fast = replace(some_means, measured=replace(some_means.measured, mean=means))
    text = benchmark_report.format_errors(some_means, fast)
    # The 99th percentile of 0, 0, 1 and 5 % is 0.97 of the way from the third to the fourth.
    assert text.endswith(
        "in the median filter 5.0e-03, in the 99th percentile 4.9e-02, at worst 5.0e-02."
    )


def test_a_run_with_a_short_last_batch_is_refused(
    photo_folder: Path, random_vgg16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "run", lambda _: pytest.fail("it ran"))
    result = CliRunner().invoke(
        benchmark.main, [str(photo_folder), "--weights", str(random_vgg16), "--count", "200"]
    )
    assert result.exit_code == 2
    assert "200 is not a multiple of 64" in result.output


def test_one_thing_changes_at_a_time() -> None:
    base = Job(EXACT, "photos", "weights", "means")
    jobs = benchmark.scaling_jobs(base, {9: "nine"}, (224, 320), (1,), (4,))
    photos, sizes, batches, threads = jobs.values()
    assert photos == {9: replace(base, folder="nine", size=64)}
    assert sizes == {224: base, 320: replace(base, size=320)}
    assert batches == {1: replace(base, size=128, batch_size=1)}
    assert threads == {4: replace(base, size=64, threads=4)}


def test_photos_repeat(photo_folder: Path, tmp_path: Path) -> None:
    folder = benchmark.repeat_photos(photo_folder, 20, tmp_path / "repeated")
    links = sorted(folder.iterdir())
    assert len(links) == 20
    assert links[0].resolve() == links[9].resolve() == links[18].resolve() != links[1].resolve()


def test_from_photos_to_table_and_bars(
    photo_folder: Path, random_vgg16: Path, tmp_path: Path
) -> None:
    arguments = [
        str(photo_folder),
        "--weights",
        str(random_vgg16),
        "--only",
        "decoding alone",
        "-o",
        str(tmp_path),
    ]
    result = CliRunner().invoke(benchmark.main, [*arguments, "--rounds", "1", "--count", "128"])
    assert result.exit_code == 0, result.output
    assert "| decoding alone | " in result.output
    assert (tmp_path / "benchmark.png").read_bytes().startswith(PNG)


def test_how_the_cost_grows_is_drawn(tmp_path: Path) -> None:
    figures = {
        100: Figures(20.0, 5.0, 3.0, 10.0, 900.0),
        1000: Figures(21.0, 5.0, 3.0, 55.0, 901.0),
    }
    found = {EXACT: {benchmark_report.PHOTOS: figures, "threads": figures}}
    benchmark_report.draw_scaling(
        found | {FAST: found[EXACT]}, "a machine", tmp_path / "scaling.png"
    )
    assert (tmp_path / "scaling.png").read_bytes().startswith(PNG)
