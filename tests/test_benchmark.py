"""The benchmark's reckoning by hand, and its contestants' numbers; not their speed."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
from benchmark import Clock, Figures, Job
from click.testing import CliRunner
from reference import filter_means
from test_network import reference_layers

from vggnorm.geometry import Geometry
from vggnorm.images import decode_photo

SCRIPTS = Path(benchmark.__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_rate_is_that_of_the_median_batch_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.0, 13.0, 17.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    clock = Clock()
    for done in (0, 8, 16, 24, 30):  # 8 photos in 2 s, 8 in 1 s, 6 in 4 s; of none it takes no notice
        clock(done)
    assert clock.rate == 4


def test_ratios_are_those_of_each_round() -> None:
    def rounds(*rates: float) -> list[Figures]:
        return [Figures(rate, 5.0, 3.0, whole=9.0, memory=100.0) for rate in rates]

    found = {benchmark.EXACT: rounds(9, 4, 6), "convolutions alone, float32": rounds(10, 8, 6)}
    assert benchmark.median_ratio(found, *found) == 0.9  # of 0.9, 0.5 and 1
    assert np.isnan(benchmark.median_ratio(found, benchmark.EXACT, benchmark.BASELINE))
    found[benchmark.BASELINE] = rounds(3, 2, 2)  # ratios 3, 2 and 3
    row = benchmark.format_table(found).splitlines()[2]
    assert row == "| vggnorm, float32 | 6.0 | 0.90 | 3.00 | 9.0 | 5.0 | 3.0 | 100 |"


@pytest.fixture
def job(photo_folder: Path, make_chain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Job:
    chain = make_chain((6, 5))
    monkeypatch.setattr(benchmark, "plain_network", lambda _: chain)
    return Job("", str(photo_folder), "", size=32, batch_size=4)


@pytest.fixture
def expected(job: Job) -> dict[str, np.ndarray]:
    photos = [decode_photo(Path(path), Geometry(32)) for path in benchmark.paths(job)]
    return filter_means(photos, reference_layers(benchmark.plain_network(job)))


def test_the_plain_model_takes_the_means(job: Job, expected: dict[str, np.ndarray]) -> None:
    photos = np.concatenate(list(benchmark.batches(job)))
    found = benchmark.plain_means(job).predict(photos, verbose=0)
    for values, mean in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(values.mean(axis=0), mean, rtol=1e-4, atol=1e-5)


def test_the_network_of_pytorch_is_the_same(job: Job) -> None:
    torch = pytest.importorskip("torch")
    photos = np.random.default_rng(0).normal(size=(2, 32, 36, 3)).astype(np.float32)
    with torch.inference_mode():
        found = benchmark.torch_network(job)(torch.from_numpy(photos.transpose(0, 3, 1, 2).copy())).numpy()
    expected = np.asarray(benchmark.plain_network(job)(photos))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in benchmark.CONTESTANTS if "vggnorm" not in name])
def test_every_contestant_runs_all_photos(name: str, job: Job) -> None:
    if name.startswith("PyTorch"):
        pytest.importorskip("torch")
    clock = Clock()
    benchmark.CONTESTANTS[name](job, clock)
    assert clock.told[-1][1] >= 9


def test_what_starts_the_contestants_is_small() -> None:
    # A process's peak memory begins with that of the one that starts it: TensorFlow's would be in all.
    code = "import sys, benchmark; benchmark.describe_machine(); print(*{'keras', 'tensorflow'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SCRIPTS)
    assert not found.stdout.strip()


def test_photos_repeat(photo_folder: Path, tmp_path: Path) -> None:
    folder = benchmark.repeat_photos(photo_folder, 20, tmp_path / "repeated")
    links = sorted(folder.iterdir())
    assert len(links) == 20
    assert links[0].resolve() == links[9].resolve() == links[18].resolve() != links[1].resolve()


def test_from_photos_to_table_and_bars(photo_folder: Path, random_vgg16: Path, tmp_path: Path) -> None:
    arguments = [str(photo_folder), "--weights", str(random_vgg16), "--only", "decoding alone", "-o", str(tmp_path)]
    result = CliRunner().invoke(benchmark.main, [*arguments, "--rounds", "1", "--count", "64"])
    assert result.exit_code == 0, result.output
    assert "| decoding alone | " in (tmp_path / "benchmark.md").read_text()
    assert (tmp_path / "benchmark.png").read_bytes().startswith(PNG)


def test_how_the_cost_grows_is_drawn(tmp_path: Path) -> None:
    rows = [[100, 20.0, 900.0], [1000, 21.0, 901.0]]
    benchmark.draw_scaling({"photos": rows, "threads that decode": rows}, "title", tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(PNG)
