"""inspect: what it tells about means and networks, alone and beside the original."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import failed, run

import vggnorm
from vggnorm.files.formats import load_means
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Until


def test_it_tells_the_same_of_both_files(made: Path) -> None:
    of_means = run("inspect", made / "means.npy")
    of_network = run("inspect", made / "chain_norm.h5")
    assert of_means.exit_code == of_network.exit_code == 0
    assert of_means.stdout.startswith(
        f"{made / 'means.npy'}: means\nmeasured by vggnorm {vggnorm.__version__}\n"
    )
    weights, _, rest = of_network.stdout.partition("\n\nlayer")
    assert weights.splitlines() == [
        f"{made / 'chain_norm.h5'}: container   a model of Keras 2 in an .h5 file",
        "convention  caffe, according to the file",
        "numbers     float32",
    ]
    title = f"{made / 'chain_norm.h5'}: a network normalized with the means below\n"
    assert of_means.stdout.splitlines()[1:] == rest.partition(title)[2].splitlines()
    assert "9 used, 0 skipped" in of_means.stdout


def test_it_gives_everything_as_json(made: Path) -> None:
    read = json.loads(run("inspect", made / "means.npy", "--json").stdout)
    means = load_means(made / "means.npy")
    assert read["image_count"] == 9
    assert read["recipe"] == json.loads(json.dumps(means.recipe.to_dict()))
    for layer, values in means.mean.items():
        assert read["layers"][layer]["means"] == values.tolist()
        shown = read["layers"][layer]
        assert shown["std_errors"] == means.std_error[layer].tolist()
        assert shown["lower"] == (values - means.interval.below[layer]).tolist()
        assert shown["upper"] == (values + means.interval.above[layer]).tolist()
        assert shown["badly_known"] == means.badly_known[layer].tolist()
    assert read["all_layers"]["uncertainty"] == means.uncertainty
    everything = np.concatenate(list(means.mean.values()))
    assert read["all_layers"]["standard_deviation"] == pytest.approx(everything.std())


def test_one_photo_has_silent_filters_and_no_standard_error(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    model = make_chain((4, 4))
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel, np.array([-1e6, *bias[1:3], -1e6])])
    means = vggnorm.compute_means(model, photo_folder, geometry=Geometry(32), until=Until(limit=1))
    vggnorm.save_means(means, tmp_path / "one.npy")
    silent = 2
    text = run("inspect", tmp_path / "one.npy").stdout
    assert f"{silent} filters never fired and keep their scale; measure on more photos" in text
    read = json.loads(run("inspect", tmp_path / "one.npy", "--json").stdout)
    assert read["all_layers"]["relative_std_error"] is None
    assert sum(len(layer["silent"]) for layer in read["layers"].values()) == silent


# Beside the original


def test_it_compares_with_the_original(made: Path, chain_file: Path) -> None:
    file = made / "chain_norm.h5"
    own = run("inspect", file, "--original", chain_file)
    assert own.exit_code == 0, own.output
    assert own.stdout.startswith(
        f"{file}: It is normalized with exactly the means that the file has (9 photos).\n"
    )
    means = "--means", made / "means.npy"
    given = json.loads(run("inspect", file, "--original", chain_file, *means, "--json").stdout)
    assert (given["kind"], given["intact"]) == ("normalized", True)
    assert given["means"]["source"] == "the means given (9 photos)"


def test_it_compares_with_means_over_photos(
    made_vgg16: Path, random_vgg16: Path, photo_folder: Path
) -> None:
    common = "inspect", made_vgg16 / "vgg16_norm.h5", "--original", random_vgg16
    measured = run(*common, "--data", photo_folder, "--limit", "3")  # of another size
    assert measured.exit_code == 0, measured.output
    expected = "with means of other photos, or of photos cropped in another way"
    assert expected in measured.stdout
    assert "(3 photos)" in measured.stdout
    text = run("inspect", random_vgg16, "--original", random_vgg16).stdout
    assert "It is the original" in text


def test_data_and_means_need_the_original(made: Path, chain_file: Path, tmp_path: Path) -> None:
    file = made / "chain_norm.h5"
    photos, means = ("--data", tmp_path), ("--means", made / "means.npy")
    for alone in photos, means:
        result = run("inspect", file, *alone)
        assert result.exit_code == 2
        assert "--data and --means need --original" in result.stderr
    result = run("inspect", file, "--original", chain_file, *photos, *means)
    assert result.exit_code == 2
    assert "give --data or --means, and not both" in result.stderr


def test_files_that_cannot_be_compared(made: Path, chain_file: Path, tmp_path: Path) -> None:
    file = made / "chain_norm.h5"
    for missing in "missing.keras", "missing.h5":
        text = failed(run("inspect", file, "--original", tmp_path / missing))
        assert "cannot be read: No such file or directory" in text
    text = failed(run("inspect", made / "means.npy", "--original", chain_file))
    assert "holds means, and no weights" in text


def test_no_model_file_of_unknown_preprocessing_is_measured(
    chain_file: Path, photo_folder: Path
) -> None:
    options = "--original", chain_file, "--data", photo_folder
    text = failed(run("inspect", chain_file, *options))
    assert "does not say what it takes photos as" in text
    assert "measure it with compute-means, and give --means" in text
