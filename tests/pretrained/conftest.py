"""Real weights and real photos, fetched once by the scripts that users run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def fetch(program: str, *arguments: str | Path) -> None:
    """Run a script; skip the tests if it only failed to download."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / program, *arguments], capture_output=True, text=True, check=False
    )
    if "Error: pip could not download" in done.stderr:
        pytest.skip(f"no source can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def imagenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of VGG16's ImageNet weights."""
    path = tmp_path_factory.mktemp("imagenet") / "vgg16_imagenet.h5"
    fetch("fetch_weights.py", "-o", path)
    return path


@pytest.fixture(scope="session")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of VGG19's ImageNet weights, rounded or not."""
    path = tmp_path_factory.mktemp("imagenet") / "vgg19.h5"
    fetch("fetch_weights.py", "--network", "vgg19", "-o", path)
    return path


@pytest.fixture(scope="session")
def vgg16(imagenet_file: Path) -> Any:
    """Return VGG16 with its ImageNet weights."""
    from vggnorm.network.storage import load_network

    return load_network("vgg16", imagenet_file)


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of sixteen real photos."""
    folder = tmp_path_factory.mktemp("samples")
    fetch("sample_photos.py", folder)
    return folder
