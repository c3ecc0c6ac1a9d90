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
import ceilings
import contestants
import engine_benchmark
import growth_benchmark
import numpy as np
import pytest
import startup_benchmark
from ceilings import ONNX, TENSORFLOW, TORCH
from click import ClickException
from click.testing import CliRunner
from contestants import BASELINE, CONTESTANTS, EXACT, FAST
from photo_files import decode_file
from processes import run_process
from reference import IMAGENET_BGR, filter_means, reference_layers
from timed_folder import repeat_photos
from timed_jobs import Clock, Figures, Job, batches, paths

from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.photos.geometry import Geometry
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


def test_the_rates_are_those_of_the_photos_after_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times, cpu_times = iter([10.0, 40.0, 42.0, 46.0]), iter([20.0, 80.0, 83.0, 92.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(time, "process_time", lambda: next(cpu_times))
    clock = Clock()
    # A call with 0 is not recorded. The first 64 photos, with their slow start, do not count.
    for done in (0, 32, 64):
        clock(done)
    assert np.isnan(clock.rates()).all()
    for done in (80, 112):  # 48 photos in 6 s, and in 12 s of two cores
        clock(done)
    assert clock.rates() == (8, 4)


def rounds(*rates: float) -> list[Figures]:
    return [Figures(rate, rate / 2, first=5.0, whole=9.0, memory=100.0) for rate in rates]


def test_ratios_are_those_of_each_round_to_the_fastest() -> None:
    found = {EXACT: rounds(9, 4, 6), TENSORFLOW: rounds(10, 5, 6), TORCH: rounds(9, 8, 3)}
    assert benchmark_report.ratios(found, EXACT, (TENSORFLOW, TORCH)) == [0.9, 0.5, 1]
    assert benchmark_report.ratios(found, EXACT, (TENSORFLOW, ONNX)) == [0.9, 0.8, 1]
    assert benchmark_report.ratios(found, EXACT, (ONNX,)) == []


def test_the_table_has_medians_and_ranges() -> None:
    found = {EXACT: rounds(9, 4, 6), TENSORFLOW: rounds(10, 8, 6), BASELINE: rounds(3, 2, 2)}
    found[ONNX] = rounds(12, 8, 8)
    _, _, ours, alone, *_ = benchmark_report.format_table(found).splitlines()
    assert ours == (
        "| vggnorm, float32 | 6.0 (4.0 to 9.0) | 0.90 (0.50 to 1.00) | 0.75 (0.50 to 0.75) | 3.00 "
        "| 3.00 | 5.0 | 9.0 | 100 |"
    )
    assert alone.startswith("| convolutions alone, TensorFlow | 8.0 (6.0 to 10.0) |  |  | 3.33 ")


def test_one_round_has_no_range() -> None:
    assert benchmark_report.median_and_range([6.26], 1) == "6.3"


@pytest.fixture
def job(photo_folder: Path, make_chain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Job:
    chain = make_chain((6, 5))
    for module in ceilings, contestants:
        monkeypatch.setattr(module, "plain_network", lambda _: chain)
    return Job("", str(photo_folder), "", "", size=32, batch_size=4)


@pytest.fixture
def expected(job: Job) -> dict[str, np.ndarray]:
    photos = [decode_file(Path(path), Geometry(32)) for path in paths(job)]
    return filter_means(photos, reference_layers(ceilings.plain_network(job)))


def test_the_plain_model_takes_the_means(job: Job, expected: dict[str, np.ndarray]) -> None:
    photos = np.concatenate(list(batches(job)))
    found = contestants.plain_means(job).predict(photos, verbose=0)
    for values, mean in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(values.mean(axis=0), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_ceiling_has_the_same_convolutions(precision: Any, job: Job) -> None:
    photos = np.concatenate(list(batches(job)))
    original = ceilings.plain_network(job)
    alone = ceilings.convolutions_alone(job, precision)
    found = alone.predict(photos, verbose=0).astype(np.float32)
    pixels = photos[..., ::-1] - IMAGENET_BGR
    expected = np.asarray(original(pixels.astype(np.float32))).max(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4 if precision == "float32" else 0.03)
    convolutions = alone.get_layer(original.name).layers
    assert [type(layer) for layer in convolutions] == [type(layer) for layer in original.layers]
    assert {layer.compute_dtype for layer in convolutions if layer.weights} == {precision}


@pytest.fixture
def vgg_job(random_vgg16: Path) -> Job:
    return Job("", "", str(random_vgg16), "", size=32)


PHOTOS = np.random.default_rng(0).normal(0, 60, size=(2, 3, 32, 32)).astype(np.float32)


def test_photos_are_prepared_as_vgg_takes_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    expected = (pixels[..., ::-1] - IMAGENET_BGR).transpose(0, 3, 1, 2)
    # Numbers of float32 below 256 are 1.5e-5 apart.
    np.testing.assert_allclose(ceilings.channels_first(pixels), expected, rtol=0, atol=1.5e-5)


def test_the_network_of_pytorch_is_the_same(vgg_job: Job) -> None:
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        found = ceilings.torch_network(vgg_job)(torch.from_numpy(PHOTOS)).numpy()
    expected = np.asarray(ceilings.plain_network(vgg_job)(PHOTOS.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, rtol=1e-4)


def test_the_network_of_onnx_is_the_same(vgg_job: Job) -> None:
    pytest.importorskip("onnxruntime")
    (found,) = ceilings.onnx_session(vgg_job).run(None, {"photos": PHOTOS})
    network = ceilings.plain_network(vgg_job)
    expected = np.asarray(network(PHOTOS.transpose(0, 2, 3, 1))).max(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_onnx_model_has_the_layers_of_vgg16(vgg_job: Job) -> None:
    model = ceilings.onnx_model(vgg_job)
    pytest.importorskip("onnx").checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    blocks = [2, 2, 3, 3, 3]  # convolutions
    expected = [kind for count in blocks for kind in ["Conv", "Relu"] * count + ["MaxPool"]]
    assert kinds == [*expected, "ReduceMax"]


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if "vggnorm" not in name])
def test_every_contestant_runs_all_photos(name: str, job: Job, random_vgg16: Path) -> None:
    package = contestants.missing_package(name)
    if package is not None:
        pytest.skip(f"{package} is not installed")
    clock = Clock()
    CONTESTANTS[name](replace(job, weights=str(random_vgg16)), clock)
    assert clock.told[-1][-1] >= 9


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


def test_vggnorm_measures_as_the_job_says_and_saves_the_means(job: Job, tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "means.npy"
    CONTESTANTS[FAST](replace(job, means=str(path)), clock)
    assert [done for *_, done in clock.told] == [4, 8, 9]
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
    arguments = [str(photo_folder), "--weights", str(random_vgg16), "--count", "200"]
    result = CliRunner().invoke(benchmark.main, ["speed", *arguments])
    assert result.exit_code == 2
    assert "200 is not a multiple of 64" in result.output


def test_photos_repeat(photo_folder: Path, tmp_path: Path) -> None:
    folder = repeat_photos(photo_folder, 20, tmp_path / "repeated")
    links = sorted(folder.iterdir())
    assert len(links) == 20
    assert links[0].resolve() == links[9].resolve() == links[18].resolve() != links[1].resolve()


def test_a_process_is_measured_and_its_failure_is_an_error() -> None:
    busy = "s = bytearray(50_000_000)\nfor _ in range(2_000_000): pass\nprint('done')"
    cost = run_process((sys.executable, "-c", busy))
    assert cost.output == "done\n"
    assert cost.memory > 50
    assert cost.cpu > 0
    with pytest.raises(ClickException, match="failed"):
        run_process((sys.executable, "-c", "raise SystemExit(3)"))


def test_from_photos_to_table_and_bars(
    photo_folder: Path, random_vgg16: Path, tmp_path: Path
) -> None:
    arguments = [str(photo_folder), "--weights", str(random_vgg16), "--only", "decoding alone"]
    arguments += ["--rounds", "1", "--count", "128", "-o", str(tmp_path)]
    result = CliRunner().invoke(benchmark.main, ["speed", *arguments])
    assert result.exit_code == 0, result.output
    assert "| decoding alone | " in result.output
    assert (tmp_path / "benchmark.png").read_bytes().startswith(PNG)


def test_what_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(contestants.PACKAGES, ONNX, "a_package_that_is_not_there")
    jobs = benchmark.make_jobs(tmp_path, "weights", tmp_path, (ONNX, EXACT))
    assert [job.contestant for job in jobs] == [EXACT]
    assert "a_package_that_is_not_there is not installed" in capsys.readouterr().err


def test_the_cost_of_more_photos_is_a_table(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth_benchmark, "COUNTS", (2, 4))
    monkeypatch.setattr(growth_benchmark, "MOST_OF_VGG16", 1)  # so VGG16 measures nothing
    table = growth_benchmark.report_growth(photo_folder, "weights", tmp_path)
    _, _, *rows = table.splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| a tiny network, 64 pixels", "2"],
        ["| a tiny network, 64 pixels", "4"],
    ]
    assert load_means(tmp_path / "means.npy").image_count == 4


def test_the_parts_of_the_start_add_up(photo_folder: Path, random_vgg16: Path) -> None:
    folder_of_64 = str(photo_folder)  # nine photos: the first batch is the last
    started = time.time()
    parts = startup_benchmark.time_parts(folder_of_64, str(random_vgg16), started)
    assert len(parts) == len(startup_benchmark.PARTS) - 1
    assert min(parts) >= 0
    assert sum(parts) <= time.time() - started
