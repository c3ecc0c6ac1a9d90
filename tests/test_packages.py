"""What is built from the project holds the means that come with it, to the last byte."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEANS = "vggnorm/data/vgg16_coco751.npy"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_wheel(project: Path, folder: Path) -> zipfile.ZipFile:
    from hatchling.builders.wheel import WheelBuilder

    (path,) = WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_means(tmp_path: Path) -> None:
    with build_wheel(ROOT, tmp_path) as wheel:
        assert sha256(wheel.read(MEANS)) == sha256((ROOT / MEANS).read_bytes())


def test_the_sdist_holds_them_and_so_does_a_wheel_made_from_it(tmp_path: Path) -> None:
    from hatchling.builders.sdist import SdistBuilder

    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (project,) = (entry for entry in tmp_path.iterdir() if entry.is_dir())
    with build_wheel(project, tmp_path) as wheel:
        assert sha256(wheel.read(MEANS)) == sha256((ROOT / MEANS).read_bytes())
