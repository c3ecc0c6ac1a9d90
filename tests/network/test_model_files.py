"""Networks from model files, and average pooling in the place of max pooling."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import layers
from zoo import HEIGHT, NETWORKS, WIDTH, chain, conv, settle

from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means
from vggnorm.network.storage import load_network


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_file_is_a_network(suffix: str, photo_folder: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from vggnorm.cli import main

    model = settle(NETWORKS["SqueezeNet-like"]())
    path = tmp_path / f"squeeze{suffix}"
    model.save(path)
    common = ["--network", str(path)]
    data = ["--data", str(photo_folder)]

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, list(arguments))

    result = run("compute-means", *common, *data, "-o", str(tmp_path / "means.npy"))
    assert result.exit_code == 1
    assert (
        "nothing in the file says what it takes photos as; give --preprocessing, one of caffe, "
        "rgb255, torch, tf, none"
    ) in result.stderr
    result = run(
        "compute-means",
        *common,
        *data,
        "--preprocessing",
        "none",
        "-o",
        str(tmp_path / "means.npy"),
    )
    assert result.exit_code == 0, result.output
    assert "classes will not be normalized: the input of " in result.stderr
    assert f"geometry  {HEIGHT} x {WIDTH}" in result.stdout
    arguments = "normalize", "--means", str(tmp_path / "means.npy"), "-o", str(tmp_path / "norm.h5")
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"measured on squeeze{suffix}; give that model's file with --network" in result.stderr
    result = run(*arguments, *common)
    assert result.exit_code == 0, result.output
    result = run("verify", str(tmp_path / "norm.h5"), *data, *common, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"]
    assert run("inspect", str(tmp_path / "norm.h5")).exit_code == 0


def test_options_of_vgg_and_a_model_file(photo_folder: Path, tmp_path: Path) -> None:
    model = settle(chain(conv(4), layers.MaxPooling2D(2, name="pool"), conv(3)))
    model.save(tmp_path / "model.keras")
    averaging = load_network(str(tmp_path / "model.keras"), pooling="avg")
    assert isinstance(averaging.get_layer("pool"), layers.AveragePooling2D)
    assert compute_means(averaging, photo_folder).recipe.pooling == "avg"
    with pytest.raises(
        NetworkError, match="include_top is for vgg16 and vgg19; a model file is as it is"
    ):
        load_network(str(tmp_path / "model.keras"), include_top=True)


@pytest.mark.parametrize("name", ["absent.keras", "absent.h5"])
def test_a_missing_model_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="there is no such file; give the file of a network"):
        load_network(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text"),
    [("bad.keras", "cannot be read"), ("bad.h5", "cannot be read")],
)
def test_a_damaged_model_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(NetworkError, match=rf"{name}: {text}"):
        load_network(str(tmp_path / name))


def test_a_model_file_has_its_own_weights(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="a model file has its own weights; leave out --weights"):
        load_network(str(tmp_path / "model.keras"), "weights.h5")


def test_average_pooling_in_the_place_of_max(random_vgg16: Path) -> None:
    model = load_network("vgg16", random_vgg16)
    averaging = load_network("vgg16", random_vgg16, pooling="avg")
    names = [layer.name for layer in model.layers[1:]]
    assert [layer.name for layer in averaging.layers[1:]] == names
    for one, other in zip(model.layers[1:], averaging.layers[1:], strict=True):
        expected = layers.AveragePooling2D if isinstance(one, layers.MaxPooling2D) else type(one)
        assert type(other) is expected
        assert getattr(other, "strides", None) == getattr(one, "strides", None)
        for array, copied in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(array, copied)
    with pytest.raises(
        NetworkError, match="the pooling 'min' is not known; it must be one of max, avg"
    ):
        load_network("vgg16", random_vgg16, pooling="min")


@pytest.mark.parametrize("name", ["chain", "chain.hdf5", "CHAIN.H5", "CHAIN.KERAS", "chain.bin"])
@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_the_name_of_a_file_does_not_matter(
    name: str, ending: str, make_chain: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_chain()
    model.save(tmp_path / f"saved.{ending}")
    (tmp_path / f"saved.{ending}").rename(tmp_path / name)
    loaded = load_network(tmp_path / name).get_weights()
    for found, wanted in zip(loaded, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
