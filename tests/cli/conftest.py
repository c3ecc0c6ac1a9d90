"""What the tests of the commands share: an own folder, bad photos, and results of the commands."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from command_line import run
from PIL import Image

RESULTS = {"means.npy", "chain_norm.h5", "vgg16_norm.h5"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in an empty folder, which may hold only whole results in the end."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    assert {path.name for path in Path().iterdir()} <= RESULTS


@pytest.fixture
def compute(photo_folder: Path, chain_file: Path) -> Callable[..., Result]:
    """Run compute-means on the chain with more options: `compute("--limit", "5", data=folder)`."""

    def call(*arguments: str | Path, data: str | Path = photo_folder) -> Result:
        network = "--network", chain_file, "--preprocessing", "caffe"
        return run("compute-means", "--data", data, *network, "--size", "32", *arguments)

    return call


@pytest.fixture(scope="session")
def made(chain_file: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with means.npy and chain_norm.h5, made by the commands."""
    return make_results(
        tmp_path_factory.mktemp("made"),
        photo_folder,
        measure=("--network", chain_file, "--preprocessing", "caffe"),
        normalize=("--network", chain_file),
        output="chain_norm.h5",
    )


@pytest.fixture(scope="session")
def made_vgg16(
    random_vgg16: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with means.npy and vgg16_norm.h5, made by the commands."""
    weights = "--weights", random_vgg16
    return make_results(
        tmp_path_factory.mktemp("made_vgg16"),
        photo_folder,
        measure=weights,
        normalize=weights,
        output="vgg16_norm.h5",
    )


def make_results(
    folder: Path,
    photos: Path,
    *,
    measure: tuple[str | Path, ...],
    normalize: tuple[str | Path, ...],
    output: str,
) -> Path:
    """Measure, then normalize; both results go into the folder."""
    means = folder / "means.npy"
    result = run("compute-means", "--data", photos, *measure, "--size", "48", "-o", means)
    assert result.exit_code == 0, result.output
    result = run("normalize", "--means", means, *normalize, "-o", folder / output)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def spoilt(photo_folder: Path, tmp_path: Path) -> Path:
    """Return a folder of two good photos and five files that cannot be used."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for name in "0.jpg", "1.jpg":
        shutil.copy(photo_folder / name, folder)
    (folder / "unreadable.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "truncated.jpg").write_bytes((photo_folder / "2.jpg").read_bytes()[:1000])
    (folder / "empty.jpg").touch()
    Image.new("1", (20_000, 10_000)).save(folder / "huge.png")
    (folder / "misnamed.jpg").write_text("not a photo at all")
    return folder
