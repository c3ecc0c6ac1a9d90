"""`verify` on a file with an adapted Normalization, from the command line."""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers
from PIL import Image
from reference import convolve
from zoo import conv

from vggnorm.cli import main
from vggnorm.files.formats import load_means
from vggnorm.network import copies, weights

SIDE = 32
MEAN, VARIANCE = np.array([90.0, 110.0, 130.0]), np.array([900.0, 1600.0, 2500.0])
SPREAD = np.sqrt(VARIANCE)
ENDINGS = [".keras", ".h5"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of the size that the network takes, so that their pixels do not change."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for index in range(5):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(
            folder / f"{index}.png"
        )
    return folder


def network() -> Any:
    """A network whose Normalization has a mean and variance far from 0 and 1."""
    random = np.random.default_rng(1)
    normalization = layers.Normalization(name="adapted")
    photo = keras.Input((SIDE, SIDE, 3), name="photo")
    model = keras.Model(
        photo, conv(5, name="b")(conv(4, name="a")(normalization(photo))), name="adapted_network"
    )
    normalization.set_weights([MEAN, VARIANCE, np.array(1)])
    normalization.finalize_state()
    for name in "a", "b":
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights(
            [random.normal(0, 0.3, kernel.shape), random.uniform(0.5, 1, bias.shape)]
        )
    return model


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def done(*arguments: Any) -> Any:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def normalized(model: Any, ending: str, photos: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Save, measure and normalize a network; give the three files."""
    files = folder / f"network{ending}", folder / "means.npy", folder / "normalized.h5"
    model.save(files[0])
    as_they_are = "--preprocessing", "none", "--fit", "stretch"
    done("compute-means", "--network", files[0], *as_they_are, "--data", photos, "-o", files[1])
    done("normalize", "--means", files[1], "--network", files[0], "-o", files[2])
    return files


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_good_file_passes(ending: str, photos: Path, tmp_path: Path) -> None:
    """The means equal those of a naive loop over pixels that are normalized by hand."""
    model = network()
    original, means_file, result = normalized(model, ending, photos, tmp_path)
    pixels = np.stack(
        [np.asarray(Image.open(photos / f"{index}.png"), np.float64) for index in range(5)]
    )
    first = np.maximum(
        [
            convolve(photo, *model.get_layer("a").get_weights())
            for photo in (pixels - MEAN) / SPREAD
        ],
        0,
    )
    second = np.maximum(
        [convolve(values, *model.get_layer("b").get_weights()) for values in first], 0
    )
    wanted = {"a": first.mean(axis=(0, 1, 2)), "b": second.mean(axis=(0, 1, 2))}
    for layer, mean in load_means(means_file).mean.items():
        np.testing.assert_allclose(mean, wanted[layer], rtol=1e-5)
    report = json.loads(
        done("verify", result, "--data", photos, "--network", original, "--json").stdout
    )
    assert report["passed"]
    assert report["means"]["photos"] == "all"
    assert "compared" not in done("verify", result, "--data", photos, "--network", original).stderr
    own = keras.saving.load_model(result, compile=False)  # as Keras loads the file
    np.testing.assert_allclose(
        own.predict(pixels, verbose=0) * wanted["b"], second, rtol=0, atol=1e-5 * second.max()
    )


def test_a_file_whose_normalization_was_changed_fails(photos: Path, tmp_path: Path) -> None:
    original, _, result = normalized(network(), ".keras", photos, tmp_path)
    with h5py.File(result, "r+") as file:
        file["model_weights/adapted/adapted/variance:0"][...] *= 1.2
    report = run("verify", result, "--data", photos, "--network", original, "--json")
    assert report.exit_code == 1
    found = json.loads(report.stdout)
    assert not found["means"]["passed"]
    assert not found["activations"]["passed"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_original_with_another_normalization_is_refused(
    ending: str, photos: Path, tmp_path: Path
) -> None:
    model = network()
    _, _, result = normalized(model, ".keras", photos, tmp_path)
    model.get_layer("adapted").set_weights([MEAN, 1.2 * VARIANCE, np.array(1)])
    other = tmp_path / f"other{ending}"
    model.save(other)
    report = run("verify", result, "--data", photos, "--network", other)
    assert report.exit_code == 1
    assert "Error: the means were measured on other weights" in report.stderr


@pytest.mark.parametrize("which", ["original", "normalized"])
def test_a_mistake_in_loading_is_found(
    which: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same mistake in both networks, they would agree with each other."""
    model = network()
    original, _, result = normalized(model, ".h5", photos, tmp_path)
    if which == "original":  # the mistake must change nothing in the normalized network
        with h5py.File(result, "r+") as file:
            file["model_weights/adapted/adapted/mean:0"][...] = 0
            file["model_weights/adapted/adapted/variance:0"][...] = 1
    for module in copies, weights:
        monkeypatch.setattr(module, "finalize", lambda _: None)
    report = run("verify", result, "--data", photos, "--network", original)
    assert report.exit_code == 1
    assert report.stdout == ""
    wrong = original if which == "original" else result
    assert f"what was loaded from {wrong} computes something else" in report.stderr.splitlines()[-1]
