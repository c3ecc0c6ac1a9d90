"""normalize: what it writes and says, and the means and networks that it refuses."""

import json
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from command_line import failed, run
from zoo import settle

import vggnorm
from vggnorm.files.formats import load_means
from vggnorm.network import applications, storage
from vggnorm.photos.geometry import Geometry


def test_it_says_what_it_did(made: Path, chain_file: Path) -> None:
    result = run("normalize", "--means", made / "means.npy", "--network", chain_file)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "chain.keras, 15 filters in 3 layers, normalized with means over 9 photos, saved as "
        "chain_norm.h5\n"
    )
    assert load_means(Path("chain_norm.h5")).image_count == 9


def test_vgg16_is_found_by_the_name_in_the_means(
    made_vgg16: Path, random_vgg16: Path, photo_folder: Path
) -> None:
    weights = "--weights", random_vgg16
    result = run("normalize", "--means", made_vgg16 / "means.npy", *weights)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "vgg16, 4224 filters in 13 layers, normalized with means over 9 photos, saved as "
        "vgg16_norm.h5\n"
    )
    result = run("verify", "vgg16_norm.h5", "--data", photo_folder, *weights)
    assert result.exit_code == 0, result.output


def build_thin_vgg16(weights: None, include_top: bool) -> Any:
    """Build a network with the layers of VGG16, of which each has a few filters."""
    assert weights is None
    tensor = pixels = keras.Input((32, 64, 3) if include_top else (None, None, 3))
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, convolutions + 1):
            name = f"block{block}_conv{number}"
            layer = keras.layers.Conv2D(block + 3, 3, padding="same", activation="relu", name=name)
            tensor = layer(tensor)
        tensor = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(tensor)
    if include_top:
        tensor = keras.layers.Flatten(name="flatten")(tensor)
        tensor = keras.layers.Dense(9, activation="relu", name="fc1")(tensor)
        tensor = keras.layers.Dense(8, activation="relu", name="fc2")(tensor)
        tensor = keras.layers.Dense(6, activation="softmax", name="predictions")(tensor)
    return keras.Model(pixels, tensor, name="vgg16")


@pytest.fixture
def thin_vgg16(monkeypatch: pytest.MonkeyPatch) -> Callable[[None, bool], Any]:
    """Let `vgg16` be a network of few filters."""
    monkeypatch.setitem(applications.APPLICATIONS, "vgg16", build_thin_vgg16)
    return build_thin_vgg16


def test_the_dense_layers_undo_the_last_scale(
    photo_folder: Path, thin_vgg16: Callable[[None, bool], Any], tmp_path: Path
) -> None:
    original = settle(thin_vgg16(None, True))
    original.save(tmp_path / "top.h5")
    weights = "--weights", tmp_path / "top.h5"
    result = run("compute-means", "--data", photo_folder, *weights, "--include-top")
    assert result.exit_code == 0, result.output
    assert "network   vgg16 with its top, max pooling, caffe preprocessing" in result.stdout
    assert "geometry  32 x 64" in result.stdout
    assert "fc1 will not be normalized: it is a dense layer" in result.stderr
    assert run("normalize", "--means", "means.npy", *weights).exit_code == 0
    verified = run("verify", "vgg16_norm.h5", "--data", photo_folder, *weights, "--json")
    report = json.loads(verified.stdout)
    assert report["activations"]["relative"]["output 0 (predictions)"] <= 1e-5
    assert (report["means"]["passed"], report["activations"]["passed"]) == (True, True)
    photo = np.random.default_rng(0).uniform(-120, 120, (1, 32, 64, 3)).astype(np.float32)
    scores = np.asarray(keras.models.load_model("vgg16_norm.h5")(photo))
    np.testing.assert_allclose(scores, np.asarray(original(photo)), atol=1e-6)


def test_the_pooling_asked_for_is_measured_saved_and_required(
    photo_folder: Path, thin_vgg16: Callable[[None, bool], Any], tmp_path: Path
) -> None:
    settle(thin_vgg16(None, False)).save(tmp_path / "thin.h5")
    weights = "--weights", tmp_path / "thin.h5"
    options = "--size", "48", "--pooling", "avg"
    result = run("compute-means", "--data", photo_folder, *weights, *options)
    assert result.exit_code == 0, result.output
    assert "network   vgg16, avg pooling" in result.stdout
    common = "normalize", "--means", "means.npy", *weights
    assert failed(run(*common, "--pooling", "max")).startswith(
        "the means were measured with avg pooling, and this network has max pooling; give the same"
    )
    assert run(*common, "--network", "vgg16").exit_code == 0
    pool = keras.models.load_model("vgg16_norm.h5").get_layer("block3_pool")
    assert isinstance(pool, keras.layers.AveragePooling2D)
    assert run("verify", "vgg16_norm.h5", "--data", photo_folder, *weights).exit_code == 0


# Without means


def advised(line: str) -> list[str]:
    """Return the arguments of the command that an error says to run."""
    found = re.search("; run vggnorm (.*), then add --means means.npy to this command$", line)
    assert found
    return shlex.split(found[1])


@pytest.mark.parametrize(
    ("options", "what"),
    [(("--network", "vgg19"), "vgg19"), (("--pooling", "avg"), "avg pooling")],
)
def test_options_for_which_no_means_come_with_it_are_refused_before_any_work(
    options: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        pytest.fail("work was done first")

    monkeypatch.setattr(storage, "load_network", no_work)
    line = failed(run("normalize", *options))
    assert line == (
        f"no means of {what} come with vggnorm, only those of Keras's VGG16 with its ImageNet "
        f"weights and max pooling; run vggnorm compute-means --data PHOTOS {' '.join(options)}, "
        "then add --means means.npy to this command"
    )


@pytest.mark.parametrize("option", ["--weights", "--network"])
def test_another_network_without_means_is_refused_with_advice_that_works(
    option: str,
    chain_file: Path,
    photo_folder: Path,
    random_vgg16: Path,
    tmp_path: Path,
) -> None:
    source = tmp_path / "its own.h5" if option == "--weights" else tmp_path / "its own.keras"
    shutil.copy(random_vgg16 if option == "--weights" else chain_file, source)
    command = "normalize", option, source
    line = failed(run(*command))
    assert line.startswith(f"no means of {source} come with vggnorm, only those of Keras's VGG16")
    arguments = [str(photo_folder) if word == "PHOTOS" else word for word in advised(line)]
    if option == "--network":  # the file does not say what it takes photos as
        arguments += ["--preprocessing", "caffe"]
    measured = run(*arguments, "--size", "48")
    assert measured.exit_code == 0, measured.output
    result = run(*command, "--means", "means.npy", "-o", tmp_path / "norm.h5")
    assert result.exit_code == 0, result.output


# Outputs


def test_an_existing_output_is_refused_before_any_work(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        pytest.fail("work was done first")

    Path("chain_norm.h5").write_text("precious")
    monkeypatch.setattr(storage, "load_network", no_work)
    text = failed(run("normalize", "--means", made / "means.npy"))
    assert text == "chain_norm.h5: exists already; give another name, or --force to replace it"
    assert Path("chain_norm.h5").read_text() == "precious"


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write into"
)
def test_an_output_folder_that_cannot_be_written(made: Path) -> None:
    text = failed(run("normalize", "--means", made / "means.npy", "-o", "/proc/n.h5"))
    assert "cannot write into /proc" in text


def test_an_output_name_that_keras_would_not_load(made: Path) -> None:
    text = failed(run("normalize", "--means", made / "means.npy", "-o", "norm.weights.h5"))
    assert "give a name that ends in .h5 and not in .weights.h5" in text


# Means that cannot be used


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is not a file of Keras, safetensors, PyTorch, numpy or MATLAB"),
        (b"some text", "it is not a file of Keras, safetensors, PyTorch, numpy or MATLAB"),
        (pickle.dumps([1, 2, 3]), "is a pickle"),
    ],
)
def test_a_file_that_holds_no_means(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(content)
    assert text in failed(run("normalize", "--means", tmp_path / "bad.npy"))
    assert text in failed(run("inspect", tmp_path / "bad.npy"))


def test_means_that_hold_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    text = failed(run("normalize", "--means", tmp_path / "bad.npy"))
    assert "pickled objects, which are never loaded" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.nan, "not usable as means: the mean of conv2 is not finite at filter 3 (nan)"),
        (np.inf, "not usable as means: the mean of conv2 is not finite at filter 3 (inf)"),
        (-1.0, "the means are not possible: the mean of conv2 is negative at filter 3 (-1.0)"),
    ],
)
def test_means_with_impossible_numbers(
    value: float, text: str, made: Path, chain_file: Path, tmp_path: Path
) -> None:
    record = np.load(made / "means.npy")
    place = 6 + 3  # after the six filters of conv1
    record["mean"][place] = record["measured"][place] = value
    np.save(tmp_path / "bad.npy", record)
    means = "--means", tmp_path / "bad.npy"
    assert text in failed(run("normalize", *means, "--network", chain_file))


def test_means_of_other_layers(
    make_chain: Callable[..., Any], chain_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    means = vggnorm.compute_means(make_chain((6, 7, 4)), photo_folder, geometry=Geometry(32))
    vggnorm.save_means(means, tmp_path / "other.npy")
    line = failed(run("normalize", "--means", tmp_path / "other.npy", "--network", chain_file))
    assert line.startswith(
        "the means do not fit chain: layer conv2 has 7 filters in the means and 5 filters"
    )


def test_means_of_a_network_that_is_not_known(made: Path) -> None:
    line = failed(run("normalize", "--means", made / "means.npy"))
    expected = "the means were measured on chain.keras; give that model's file with --network"
    assert line == expected


def test_means_of_other_weights(made: Path, make_chain: Callable[..., Any], tmp_path: Path) -> None:
    settle(make_chain((6, 5, 4)), seed=1).save(tmp_path / "other.keras")
    network = "--network", tmp_path / "other.keras"
    line = failed(run("normalize", "--means", made / "means.npy", *network))
    assert line.startswith("the means were measured on other weights, with SHA-256 ")
    assert "(chain.keras)" in line
