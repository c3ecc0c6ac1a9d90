"""What is published can be installed and used outside the project's folder.

Slow: it installs TensorFlow. It runs where `build` and `twine` are installed, as by
`scripts/test --all`.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytest.importorskip("build", reason="scripts/test --all installs build and twine")
pytest.importorskip("twine", reason="scripts/test --all installs build and twine")

ROOT = Path(__file__).parents[1]

LIBRARY = """
import sys
import vggnorm

network, photos, output = sys.argv[1:]
model = vggnorm.load_network(network)
geometry = vggnorm.geometry_for(model, 32)
means = vggnorm.compute_means(model, photos, preprocessing="caffe", geometry=geometry)
normalized = vggnorm.normalize(model, means)
vggnorm.save_network(normalized, output, means)
assert vggnorm.load_means(output).image_count == means.image_count == 9
assert vggnorm.verify(model, vggnorm.load_normalized(output), photos, means).passed
assert vggnorm.packaged_means().image_count == 751
print(vggnorm.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program that does not see the project's folder; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if "Failed to establish a new connection" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a source distribution, and a wheel from it; return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def programs(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a fresh environment; return the folder of the environment's programs."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    found = folder / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = published.glob("*.whl")
    run(found / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return found


def test_the_checks_of_a_package_index_pass(published: Path) -> None:
    files = sorted(published.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=published)
    assert checked.count("PASSED") == 2


def test_the_two_commands_and_the_library_work(
    programs: Path, chain_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    vggnorm = programs / "vggnorm"
    network = "--network", chain_file
    options = *network, "--preprocessing", "caffe", "--size", "32"
    measured = run(vggnorm, "compute-means", "--data", photo_folder, *options, cwd=tmp_path)
    assert "photos    9 used, 0 skipped" in measured
    run(vggnorm, "normalize", "--means", "means.npy", *network, "-o", "norm.h5", cwd=tmp_path)
    verified = run(vggnorm, "verify", "norm.h5", "--data", photo_folder, *network, cwd=tmp_path)
    assert verified.count("pass ") == 3
    printed = run(
        programs / "python", "-c", LIBRARY, chain_file, photo_folder, "own.h5", cwd=tmp_path
    )
    package = Path(printed.strip()).parent
    assert programs.parent in package.parents
    assert (package / "py.typed").exists()
