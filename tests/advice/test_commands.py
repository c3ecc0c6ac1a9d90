"""The advice of the commands, followed on the command line."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from advice_texts import refused, said
from measuring import measure
from safetensors.numpy import save_file
from vgg_files import gatys_layers
from vgg_parts import random_part, write_torchvision

import vggnorm
from vggnorm.cli import main
from vggnorm.cli.packaged import say_how_well_known
from vggnorm.files.packaged import packaged_means
from vggnorm.identification.verdict import identify
from vggnorm.report.plot import plot_means


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plain(name: str) -> Any:
    """A network of one convolution of two filters, for photos of any size."""
    convolution = keras.layers.Conv2D(2, 3, activation="relu", name=name, bias_initializer="ones")
    return keras.Sequential([keras.Input((None, None, 3)), convolution], name="plain")


def run(*arguments: str | Path) -> None:
    """Run the command line, and let its errors through."""
    main.main([str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def measuring(photo_folder: Path) -> list[str]:
    return ["compute-means", "--data", str(photo_folder), "--size", "32", "--limit", "2"]


@pytest.fixture
def part_file(tmp_path: Path) -> Path:
    """The first three convolutions of a VGG, which do not say how they take photos."""
    return write_torchvision(tmp_path / "part.safetensors", random_part())


def test_how_the_network_takes_photos_is_said(part_file: Path, measuring: list[str]) -> None:
    with refused("give --preprocessing, one of {}"):
        run(*measuring, "--network", part_file)
    run(*measuring, "--network", part_file, "--preprocessing", "torch")


def test_a_file_that_says_another_preprocessing(
    part_file: Path, measuring: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with vggnorm.open_weights(part_file) as file:
        vggnorm.save_weights("other.safetensors", file, preprocessing="torch", convention="torch")
    run(*measuring, "--network", "other.safetensors", "--preprocessing", "caffe")
    assert "--preprocessing caffe is used all the same" in capsys.readouterr().err
    run(*measuring, "--network", "other.safetensors", "--force")
    assert "warning" not in capsys.readouterr().err


def test_the_model_file_of_the_means_is_given(chain_file: Path, measuring: list[str]) -> None:
    run(*measuring, "--network", chain_file, "--preprocessing", "caffe")
    with refused("give that model's file with --network"):
        run("normalize", "--means", "means.npy")
    run("normalize", "--means", "means.npy", "--network", chain_file)


def test_means_of_another_network_are_measured_by_the_command_that_is_named(
    random_vgg16: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "normalize", "--weights", str(random_vgg16), "-o", "norm.h5"
    with refused("run {}, then add --means means.npy to this command") as caught:
        run(*arguments)
    command = caught.text.partition("; run ")[2].partition(", then add")[0]
    program, *measure = shlex.split(command.replace("PHOTOS", shlex.quote(str(photo_folder))))
    assert program == "vggnorm"
    say_how_well_known(packaged_means())  # as it is said where the packaged means are used
    assert said(
        capsys.readouterr().err.splitlines(),
        "for better ones, measure a few thousand photos with 'vggnorm compute-means --data PHOTOS',"
        " and give --means means.npy",
    )
    run(*measure, "--size", "32", "--limit", "1")
    run(*arguments, "--means", "means.npy")


def test_a_normalized_network_is_measured_before_it_is_drawn(
    chain_file: Path, measuring: list[str]
) -> None:
    run(*measuring, "--network", chain_file, "--preprocessing", "caffe")
    run("normalize", "--means", "means.npy", "--network", chain_file, "-o", "norm.h5")
    with refused(
        "measure it with compute-means --network {}{}, and give the file that this writes"
    ):
        run("plot", "means.npy", "norm.h5", "-o", "plot.png")
    run(*measuring, "--network", "norm.h5", "--preprocessing", "caffe", "-o", "after.npy")
    run("plot", "means.npy", "after.npy", "-o", "plot.png")


def test_means_of_one_network_are_drawn_together(chain_file: Path, measuring: list[str]) -> None:
    plain("conv1").save("other.keras")
    run(*measuring, "--network", chain_file, "--preprocessing", "caffe")
    run(*measuring, "--network", "other.keras", "--preprocessing", "caffe", "-o", "other.npy")
    with refused("give the means of a network and of the network normalized from it"):
        run("plot", "means.npy", "other.npy", "-o", "plot.png")
    run("normalize", "--means", "means.npy", "--network", chain_file, "-o", "norm.h5")
    run(*measuring, "--network", "norm.h5", "--preprocessing", "caffe", "-o", "after.npy")
    run("plot", "means.npy", "after.npy", "-o", "plot.png")


def test_precision_auto_does_not_go_with_parts(chain_file: Path, photo_folder: Path) -> None:
    arguments: list[Any] = ["compute-means", "--data", photo_folder, "--network", chain_file]
    arguments += ["--preprocessing", "caffe", "--shard", "1/2", "--precision"]
    with refused("name a precision"):
        run(*arguments, "auto")
    run(*arguments, "float32")


def test_a_vgg_with_another_setting_is_written_as_h5(measuring: list[str]) -> None:
    convolutions = [
        keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", name=name)
        for name in ("block1_conv1", "block1_conv2")
    ]
    keras.Sequential([keras.Input((None, None, 3)), *convolutions]).save("strides.keras")
    run(*measuring, "--network", "strides.keras", "--preprocessing", "caffe")
    arguments = "normalize", "--means", "means.npy", "--network", "strides.keras"
    with refused("write it to one, with normalize or vggnorm.save_network"):
        run(*arguments, "-o", "norm.safetensors")
    run(*arguments, "-o", "norm.h5")


def test_the_original_is_given(chain_file: Path) -> None:
    with refused("give the original model's file with --original"):
        identify(chain_file)
    assert identify(chain_file, chain_file).recovery.layers


def test_the_right_original_is_given(chain_file: Path) -> None:
    plain("conv1").save("other.keras")
    with refused("give the original that the file is made from with --original"):
        identify(chain_file, "other.keras")
    assert identify(chain_file, chain_file).recovery.layers


def test_means_are_those_of_the_original(
    chain_file: Path, photo_folder: Path, make_chain: Any
) -> None:
    original = vggnorm.load_network(chain_file)
    options: dict[str, Any] = {"size": 16, "preprocessing": "caffe"}
    renamed = plain("another")
    with refused("measure it with compute-means"):
        identify(chain_file, original, measure(renamed, photo_folder, **options))
    other = make_chain((6, 5, 4), seed=9)
    with refused("measure these with compute-means"):
        identify(chain_file, original, measure(other, photo_folder, **options))
    assert identify(chain_file, original, measure(original, photo_folder, **options)).comparison


def test_an_original_that_does_not_say_how_it_takes_photos_is_measured(
    chain_file: Path, measuring: list[str], photo_folder: Path
) -> None:
    arguments = "identify", chain_file, "--original", chain_file
    with refused("measure it with compute-means, and give --means"):
        run(*arguments, "--data", photo_folder)
    run(*measuring, "--network", chain_file, "--preprocessing", "caffe")
    run(*arguments, "--means", "means.npy")


def test_weights_that_take_photos_otherwise_are_given_as_the_network(
    measuring: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "vgg.safetensors"
    save_file(gatys_layers(), path)
    with refused(
        "give the file itself as the network, --network FILE, with --preprocessing if it is not "
        "known"
    ):
        run(*measuring, "--weights", path)
    run(*measuring, "--network", path, "--preprocessing", "rgb255")


def test_the_weights_of_a_model_are_in_its_file(chain_file: Path, measuring: list[str]) -> None:
    options = "--network", chain_file, "--preprocessing", "caffe"
    with refused("leave out --weights"):
        run(*measuring, *options, "--weights", chain_file)
    run(*measuring, *options)


def test_the_network_of_the_weights_is_said(measuring: list[str], tmp_path: Path) -> None:
    path = tmp_path / "vgg19.weights.h5"
    keras.applications.VGG19(weights=None, include_top=False).save_weights(path)
    with refused("say which with --network"):
        run(*measuring, "--weights", path)
    run(*measuring, "--network", "vgg19", "--weights", path)


def test_more_photos_are_measured_where_no_filter_fires(photo_folder: Path) -> None:
    model = plain("conv1")
    means = measure(model, photo_folder, size=16, preprocessing="caffe")
    zeros = {layer: np.zeros_like(values) for layer, values in means.mean.items()}
    with refused("measure more photos"):
        plot_means(replace(means, measured=replace(means.measured, mean=zeros)), log=True)
    plot_means(means, log=True)


def test_the_names_of_a_layer(photo_folder: Path) -> None:
    means = measure(plain("conv1"), photo_folder, size=16)
    lines = []
    for name in "conf", "zzz":
        with pytest.raises(vggnorm.MeansError, match="the means have no layer") as caught:
            plot_means(means, layers=[name])
        lines.append(str(caught.value))
    assert said(lines[:1], "did you mean {}?")
    assert said(lines[1:], "there are {}")
    plot_means(means, layers=["conv1"])


def test_the_output_is_kept_by_an_option(
    chain_file: Path, measuring: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*measuring, "--network", chain_file, "--preprocessing", "caffe")
    arguments = "normalize", "--means", "means.npy", "--network", chain_file
    run(*arguments, "-o", "norm.h5")
    assert said(capsys.readouterr().err.splitlines(), "--keep-output leaves it as it was")
    run(*arguments, "-o", "kept.h5", "--keep-output")
    assert "the network's output, of conv3, is as it was" in capsys.readouterr().err


def test_photos_or_means_tell_how_a_network_was_rescaled(
    chain_file: Path, measuring: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--network", chain_file, "--preprocessing", "caffe"
    run(*measuring, *options)
    run("normalize", "--means", "means.npy", "--network", chain_file, "-o", "norm.h5")
    vggnorm.save_network(vggnorm.load_network("norm.h5"), "alone.h5")  # without the means
    identifying = "identify", "alone.h5", "--original", chain_file
    capsys.readouterr()
    run(*identifying)
    output = capsys.readouterr().out
    assert said(output.splitlines(), "give --data FOLDER or --means.")
    with refused("give --data or --means, and not both"):
        run(*identifying, "--means", "means.npy", "--data", measuring[2])
    run(*identifying, "--means", "means.npy")
    assert "may be mean activations" not in capsys.readouterr().out


def test_a_figure_of_some_layers_or_of_all(photo_folder: Path) -> None:
    vggnorm.save_means(measure(plain("conv1"), photo_folder, size=16), "means.npy")
    arguments = "plot", "means.npy", "--every-layer"
    with refused("leave out --layer"):
        run(*arguments, "-o", "plot.png", "--layer", "conv1")
    with refused("give a name that ends in {} or {}") as caught:
        run(*arguments, "-o", "plot.txt")
    run(*arguments, "-o", f"plot{caught.text.rpartition(' or ')[2]}")
    run("plot", "means.npy", "--layer", "conv1", "-o", "plot.png")
