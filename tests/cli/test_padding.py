"""Reflection padding from one command to the next."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import Result
from command_line import failed, run
from photo_files import decode_file
from reference import filter_means, reference_layers

from vggnorm.files.formats import load_means
from vggnorm.photos.geometry import Geometry

Compute = Callable[..., Result]

REFLECT = "--padding", "reflect"

ROUNDING = 3e-4  # see tests/network/test_padding.py; this network is like the one there


@pytest.fixture
def reflected(compute: Compute) -> Path:
    """Measure the chain with reflection padding."""
    result = compute(*REFLECT)
    assert result.exit_code == 0, result.output
    assert "network   chain.keras, max pooling, reflection padding, caffe pre" in result.stdout
    return Path("means.npy")


def test_from_the_means_to_a_network_that_passes(
    reflected: Path, chain_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    means = load_means(reflected)
    assert means.recipe.padding == "reflect"
    original: Any = keras.saving.load_model(chain_file)
    photos = [decode_file(path, Geometry(32)) for path in sorted(photo_folder.iterdir())]
    for layer, expected in filter_means(photos, reference_layers(original), "reflect").items():
        np.testing.assert_allclose(means.mean[layer], expected, rtol=ROUNDING)
    network = "--network", chain_file
    result = run("normalize", "--means", reflected, *network)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == [
        "the means are those of reflection padding; chain_norm.h5 holds the network with zero "
        "padding, because Keras has no layer for the other"
    ]
    saved: Any = keras.saving.load_model("chain_norm.h5", compile=False)
    assert [layer.name for layer in saved.layers] == [layer.name for layer in original.layers]
    for layer in original.layers:
        assert getattr(saved.get_layer(layer.name), "padding", None) == getattr(
            layer, "padding", None
        )
    assert load_means("chain_norm.h5").recipe == means.recipe
    verified = run("verify", "chain_norm.h5", "--data", photo_folder, *network)
    assert verified.exit_code == 0, verified.output
    assert "on the photos measured" in verified.stdout
    again = tmp_path / "again.npy"
    common = "--data", photo_folder, "--preprocessing", "caffe", "--size", "32", "-o", again
    for padding, largest in ("reflect", 1e-4), ("zeros", np.inf):
        options = "--network", "chain_norm.h5", "--padding", padding, "--force"
        assert run("compute-means", *common, *options).exit_code == 0
        off = max(np.abs(mean - 1).max() for mean in load_means(again).mean.values())
        assert off <= largest
    assert off > 1e-2  # with zeros, the means are not 1


@pytest.mark.parametrize("name", ["means.npy", "chain_norm.h5"])
def test_inspect_and_plot(name: str, reflected: Path, chain_file: Path, tmp_path: Path) -> None:
    assert run("normalize", "--means", reflected, "--network", chain_file).exit_code == 0
    assert "max pooling, reflection padding, caffe preprocessing" in run("inspect", name).stdout
    assert json.loads(run("inspect", name, "--json").stdout)["recipe"]["padding"] == "reflect"
    assert run("plot", name, "-o", tmp_path / "figure.png").exit_code == 0
    line = failed(run("plot", reflected, "chain_norm.h5", "-o", tmp_path / "other.png"))
    assert "--network chain_norm.h5 --padding reflect, and give" in line
    compared = run("inspect", "chain_norm.h5", "--original", chain_file, "--means", reflected)
    assert compared.exit_code == 0, compared.output
    assert "normalized with exactly the means" in compared.stdout


def test_verify_passes_with_average_pooling_of_a_file(
    compute: Compute, chain_file: Path, photo_folder: Path
) -> None:
    """The file is compared with what Keras loads from it before pooling and padding change."""
    assert compute(*REFLECT, "--pooling", "avg").exit_code == 0
    network = "--network", chain_file
    assert run("normalize", "--means", "means.npy", *network).exit_code == 0
    result = run("verify", "chain_norm.h5", "--data", photo_folder, *network)
    assert result.exit_code == 0, result.output


def test_zeros_are_not_said(made: Path, compute: Compute) -> None:
    assert "padding" not in run("inspect", made / "means.npy").stdout
    assert load_means(made / "means.npy").recipe.padding == "zeros"
    assert compute("--padding", "zeros").exit_code == 0
    assert load_means("means.npy").recipe.padding == "zeros"
    wrong = compute("--padding", "same", "--force")
    assert (wrong.exit_code, "'same' is not one of 'zeros', 'reflect'" in wrong.stderr) == (2, True)


def test_parts_with_another_padding_are_refused(compute: Compute, tmp_path: Path) -> None:
    parts = tmp_path / "part1.npy", tmp_path / "part2.npy"
    assert compute("--shard", "1/2", "-o", parts[0]).exit_code == 0
    assert compute("--shard", "2/2", "-o", parts[1], *REFLECT).exit_code == 0
    line = failed(run("merge-means", *parts))
    assert "part2.npy does not go with" in line
    assert "padding reflect and zeros" in line


def test_a_network_that_cannot_have_it_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    pixels = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="one")
    keras.Model(pixels, layer(pixels)).save(tmp_path / "strides.keras")
    network = "--network", tmp_path / "strides.keras", "--preprocessing", "caffe"
    line = failed(run("compute-means", "--data", photo_folder, *network, *REFLECT))
    assert line.startswith("layer one: pads with zeros and has the strides (2, 2), so it cannot")
