"""The output of a network that ends in a normalized filter: divided by its mean, or kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers
from zoo import chain, conv, head, settle

import vggnorm
from vggnorm.cli import main
from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.formats import load_means
from vggnorm.identification.comparison import compare_with_means
from vggnorm.identification.recovery import recover_scales
from vggnorm.network.graph import read_graph
from vggnorm.verdicts.identification import MeansRelation

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)

Run = Callable[..., Any]


def density() -> Any:
    """A network that counts: its output is the one filter of its last layer."""
    return settle(
        chain(
            conv(4, name="a"),
            layers.MaxPooling2D(),
            conv(5, name="b"),
            conv(1, size=1, name="density"),
            height=32,
            width=32,
        )
    )


def output_of(model: Any) -> np.ndarray:
    found: np.ndarray = keras.ops.convert_to_numpy(
        keras.Model(model.inputs[0], model.outputs[0])(PIXELS)
    )
    return found


def test_which_layers_give_the_output() -> None:
    assert read_graph(density()).output_layers == ("density",)
    assert read_graph(chain(conv(4, name="a"), *head())).output_layers == ()
    vgg16 = keras.applications.VGG16(weights=None, include_top=False)
    assert read_graph(vgg16).output_layers == ("block5_conv3",)


def test_branches_that_are_joined_at_the_end_all_give_the_output() -> None:
    pixels = keras.Input((32, 32, 3), name="photo")
    first = conv(4, name="a")(pixels)
    both = layers.Concatenate()([conv(2, name="b")(first), conv(3, name="c")(first)])
    assert read_graph(keras.Model(pixels, both)).output_layers == ("b", "c")


def test_the_output_is_divided_by_its_mean_unless_it_is_kept(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.compute_means(model, photo_folder)
    assert means.recipe.output_layers == ("density",)
    before = output_of(model)
    divided = output_of(vggnorm.normalize(model, means))
    np.testing.assert_allclose(divided, before / means.mean["density"], rtol=1e-4)
    kept = vggnorm.normalize(model, vggnorm.keep_output(model, means))
    np.testing.assert_allclose(output_of(kept), before, rtol=1e-4)


def test_the_other_means_become_1_and_those_of_the_output_stay(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.keep_output(model, vggnorm.compute_means(model, photo_folder))
    again = vggnorm.compute_means(vggnorm.normalize(model, means), photo_folder)
    np.testing.assert_allclose(again.mean["a"], 1, rtol=1e-4)
    np.testing.assert_allclose(again.mean["b"], 1, rtol=1e-4)
    np.testing.assert_allclose(again.mean["density"], means.mean["density"], rtol=1e-4)


def test_verify_says_what_became_of_the_output(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.compute_means(model, photo_folder)
    report = vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means)
    assert report.passed
    assert "output, of density, is divided by the means; normalize --keep-output" in str(report)
    kept = vggnorm.keep_output(model, means)
    report = vggnorm.verify(model, vggnorm.normalize(model, kept), photo_folder, kept)
    assert report.passed
    assert "output, of density, is as it was; the means there are not 1" in str(report)
    assert report.to_dict()["output"] == {"layers": ["density"], "kept": True}


def test_verify_fails_where_the_output_should_be_kept_and_is_not(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.compute_means(model, photo_folder)
    kept = vggnorm.keep_output(model, means)
    assert not vggnorm.verify(model, vggnorm.normalize(model, kept), photo_folder, means).passed
    assert not vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, kept).passed


def test_a_recipe_that_names_another_output_is_refused(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.compute_means(model, photo_folder)
    recipe = replace(means.recipe, output_layers=("b",), keep_output=True)
    with pytest.raises(MeansError, match="other layers than density .*; use vggnorm.keep_output"):
        vggnorm.normalize(model, replace(means, recipe=recipe))
    kept = vggnorm.keep_output(model, replace(means, recipe=recipe))
    np.testing.assert_allclose(
        output_of(vggnorm.normalize(model, kept)), output_of(model), rtol=1e-4
    )


def test_a_network_of_which_nothing_would_be_left_is_refused(photo_folder: Path) -> None:
    model = settle(chain(conv(4, name="a")))
    means = vggnorm.compute_means(model, photo_folder)
    with pytest.raises(NetworkError, match="nothing is left if that is kept; normalize it with"):
        vggnorm.keep_output(model, means)
    assert vggnorm.normalize(model, means) is not model  # the advice


def test_identify_compares_with_the_scales_and_not_the_means(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.keep_output(model, vggnorm.compute_means(model, photo_folder))
    normalized = vggnorm.normalize(model, means)
    weights = {
        layer.name: {weight.name: keras.ops.convert_to_numpy(weight) for weight in layer.weights}
        for layer in normalized.layers
        if layer.weights
    }
    found = compare_with_means(recover_scales(model, weights), means, "its own")
    assert found is not None
    assert found.relation is MeansRelation.EQUAL
    np.testing.assert_allclose(found.ratio["density"], 1, rtol=1e-5)


def test_the_commands_say_it(photo_folder: Path, tmp_path: Path) -> None:
    def run(*arguments: Any) -> str:
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    network, means, file = (tmp_path / name for name in ("net.keras", "means.npy", "norm.h5"))
    density().save(network)
    run("compute-means", "--data", photo_folder, "--network", network, "-o", means,
        "--preprocessing", "none")  # fmt: skip
    assert "output    of density, divided by the means unless" in run("inspect", means)
    normalize = ["normalize", "--means", means, "--network", network, "-o", file, "--force"]
    assert "output is divided by the means of density; --keep-output leaves" in run(*normalize)
    assert load_means(file).recipe.keep_output is False
    assert "output, of density, is as it was; the means" in run(*normalize, "--keep-output")
    assert load_means(file).recipe.kept_layers == ("density",)
    assert "output    of density, kept as it was" in run("inspect", file)
    verified = run("verify", file, "--data", photo_folder, "--network", network)
    assert "the network's output, of density, is as it was" in verified


def test_means_of_an_earlier_version_get_to_know_the_output(photo_folder: Path) -> None:
    model = density()
    means = vggnorm.compute_means(model, photo_folder)
    earlier = replace(means, recipe=replace(means.recipe, output_layers=()))
    kept = vggnorm.keep_output(model, earlier)
    assert kept.recipe.kept_layers == ("density",)
    assert means.recipe.differences(earlier.recipe) == []  # a run goes on, parts are added up
