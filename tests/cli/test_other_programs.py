"""From a network of a user of PyTorch to a normalized one, in files of every format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from command_line import failed, run
from safetensors.numpy import load_file, save_file
from vgg_parts import (
    IN_KERAS,
    Part,
    in_adain,
    in_torch_convention,
    random_part,
    write_torchvision,
)

from vggnorm.files.formats import load_means

SIDE = "--size", "32"
ENDINGS = ("safetensors", "npz", "mat", "h5", "pth")
FILTERS = 64 + 64 + 128


@pytest.fixture(scope="module")
def part() -> Part:
    return random_part()


@pytest.fixture(scope="module")
def source(part: Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes photos as torchvision does, in a file that does not say so."""
    path = tmp_path_factory.mktemp("source") / "mine.safetensors"
    return write_torchvision(path, in_torch_convention(part))


@pytest.fixture(scope="module")
def measure(photo_folder: Path) -> Callable[..., Result]:
    """Measure a network: `measure(file, output, *options)`."""

    def call(network: Path, output: Path, *options: str | Path) -> Result:
        where = "--data", photo_folder, "--network", network, "-o", output
        return run("compute-means", *where, *SIDE, *options)

    return call


@pytest.fixture(scope="module")
def means(
    source: Path, measure: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("means") / "means.npy"
    result = measure(source, path, "--preprocessing", "torch")
    assert result.exit_code == 0, result.output
    assert "network   mine.safetensors, max pooling, torch preprocessing" in result.stdout
    return path


@pytest.fixture(params=ENDINGS)
def normalized(request: pytest.FixtureRequest, source: Path, means: Path, tmp_path: Path) -> Path:
    """The normalized network, in a file of each format."""
    if request.param == "pth":
        pytest.importorskip("torch")
    path = tmp_path / f"norm.{request.param}"
    result = run("normalize", "--means", means, "--network", source, "-o", path)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"mine.safetensors, {FILTERS} filters in 3 layers, normalized with means over 9 photos, "
        f"saved as {path}\n"
    )
    return path


# normalize, and what follows


def test_the_means_are_inside_or_beside(normalized: Path) -> None:
    written = {path.name for path in normalized.parent.iterdir() if path.is_file()}
    expected = {normalized.name}
    if normalized.suffix in {".npz", ".mat", ".pth"}:
        expected.add(f"{normalized.name}.means.npy")
    assert written == expected


def test_every_mean_of_it_is_1(
    normalized: Path, measure: Callable[..., Result], tmp_path: Path
) -> None:
    """Each file, measured as what it says that it takes photos as, gives 1 for every filter.

    At the border, what stands around a photo is another colour after a change of convention. That
    is half a step of 255, and changes means of 32 x 32 positions by less than 1 %.
    """
    result = measure(normalized, tmp_path / "again.npy")
    assert result.exit_code == 0, result.output
    taken_as = {".mat": "rgb255", ".npz": "caffe"}.get(normalized.suffix, "torch")
    known = f"{normalized}: takes photos as {taken_as}, according to the file"
    assert known in result.stderr.splitlines()
    allowed = 1e-4 if taken_as == "torch" else 1e-2
    for layer, mean in load_means(tmp_path / "again.npy").mean.items():
        np.testing.assert_allclose(mean, 1, atol=allowed, err_msg=layer)


def test_verify_passes(normalized: Path, source: Path, photo_folder: Path) -> None:
    options = "--data", photo_folder, "--network", source
    result = run("verify", normalized, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("pass  ") == 3
    report = json.loads(run("verify", normalized, *options, "--json", "--limit", "3").stdout)
    assert (report["photos"], report["passed"]) == (3, True)


def test_inspect_shows_means_and_recipe(normalized: Path, means: Path) -> None:
    read = json.loads(run("inspect", normalized, "--json").stdout)
    expected = json.loads(run("inspect", means, "--json").stdout)
    weights = read.pop("weights")
    assert read == expected
    assert list(weights["layers"]) == list(IN_KERAS.values())
    lines = run("inspect", normalized).stdout.splitlines()
    assert f"{normalized}: a network normalized with the means below" in lines
    assert "network   mine.safetensors, max pooling, torch preprocessing" in lines


def test_plot_draws_it(normalized: Path, tmp_path: Path) -> None:
    result = run("plot", normalized, "-o", tmp_path / "figure.png")
    assert (result.exit_code, result.stdout) == (0, f"figure saved as {tmp_path / 'figure.png'}\n")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    line = failed(run("plot", normalized, normalized, "-o", tmp_path / "two.png"))
    assert "holds the means from before it was normalized; measure it with compute-means" in line


def test_identify_finds_the_means_that_travel_with_it(normalized: Path, source: Path) -> None:
    found = json.loads(run("identify", normalized, "--original", source, "--json").stdout)
    assert (found["kind"], found["intact"]) == ("normalized", True), found["sentence"]
    assert "exactly the means that the file has (9 photos)" in found["sentence"]


def test_convert_takes_the_means_along(normalized: Path, means: Path, tmp_path: Path) -> None:
    """From each format to each other one, the means are the same to the last bit."""
    expected = load_means(means)
    for ending in "safetensors", "npz", "mat", "h5":
        output = tmp_path / f"other.{ending}"
        result = run("convert", normalized, "-o", output)
        assert result.exit_code == 0, result.output
        found = load_means(output)
        assert found.recipe == expected.recipe
        for layer, mean in expected.mean.items():
            np.testing.assert_array_equal(found.mean[layer], mean)


# Options of normalize


def test_normalize_takes_the_options_of_convert(
    source: Path, means: Path, part: Part, tmp_path: Path
) -> None:
    """The numbers are the rule by hand: kernels over the mean out, times the mean in."""
    output = tmp_path / "encoder.safetensors"
    how = "--layout", "adain", "--up-to", "conv1_2", "--dtype", "float32"
    result = run("normalize", "--means", means, "--network", source, "-o", output, *how)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "pytorch-AdaIN itself loads VGG19, whole, and this file is another part or network; load "
        "it into a network of these layers",
        "layout adain, taking photos as adain",
    ]
    found, original = load_file(output), in_adain(part)
    assert set(found) == {"0.weight", "0.bias", "2.weight", "2.bias", "5.weight", "5.bias"}
    mean = load_means(means).mean
    first, second = mean["block1_conv1"], mean["block1_conv2"]
    kernel = original["5.weight"] * first[:, np.newaxis, np.newaxis]
    kernel /= second[:, np.newaxis, np.newaxis, np.newaxis]
    np.testing.assert_allclose(found["5.weight"], kernel, rtol=1e-5)
    np.testing.assert_allclose(found["5.bias"], original["5.bias"] / second, rtol=1e-5)
    # In front, the network of `torch` is kept, and the colours become what it takes.
    deviation = np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(found["0.weight"][:, :, 0, 0], np.diag(1 / deviation), rtol=1e-6)


def test_a_model_of_keras_in_another_convention(source: Path, means: Path, tmp_path: Path) -> None:
    """An .h5 file keeps the network's own convention, unless another is asked for."""
    for options, taken_as in ((), "torch"), (("--convention", "rgb255"), "rgb255"):
        output = tmp_path / f"{taken_as}.h5"
        result = run("normalize", "--means", means, "--network", source, "-o", output, *options)
        assert result.exit_code == 0, result.output
        facts = json.loads(run("inspect", output, "--json").stdout)["weights"]
        assert (facts["convention"], facts["convention_source"]) == (taken_as, "the file")


def test_an_existing_file_of_means_is_not_replaced(
    source: Path, means: Path, tmp_path: Path
) -> None:
    beside = tmp_path / "norm.npz.means.npy"
    beside.write_text("precious")
    command = "normalize", "--means", means, "--network", source, "-o", tmp_path / "norm.npz"
    assert failed(run(*command)).startswith(f"{beside}: exists already; give another name, or --f")
    assert beside.read_text() == "precious"
    assert run(*command, "--force").exit_code == 0
    assert load_means(beside).image_count == 9


def test_the_means_beside_belong_to_one_file(source: Path, means: Path, tmp_path: Path) -> None:
    """A file that has come to have the name of another does not get its means."""
    path = tmp_path / "norm.npz"
    run("normalize", "--means", means, "--network", source, "-o", path)
    with np.load(path) as arrays:
        other = {name: arrays[name] * 2 if name == "arr_1" else arrays[name] for name in arrays}
    np.savez(path, **other)
    text = failed(run("inspect", path))
    assert text == (
        f"{path}.means.npy: holds the means of another file than norm.npz is now; remove it, or "
        "get the two files again"
    )
    Path(f"{path}.means.npy").unlink()  # the advice
    assert run("inspect", path).exit_code == 0


# What compute-means says of a file's convention


def test_a_convention_that_nobody_knows_must_be_named(
    source: Path, measure: Callable[..., Result], tmp_path: Path
) -> None:
    assert failed(measure(source, tmp_path / "means.npy")) == (
        f"{source}: nothing in the file says what it takes photos as; give --preprocessing, one of "
        "caffe, rgb255, torch, tf, none"
    )
    assert not (tmp_path / "means.npy").exists()


def test_a_convolution_of_the_colours_tells_it(
    part: Part, measure: Callable[..., Result], tmp_path: Path
) -> None:
    save_file(in_adain(part), tmp_path / "encoder.safetensors")
    result = measure(tmp_path / "encoder.safetensors", tmp_path / "means.npy")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1] == (
        f"{tmp_path / 'encoder.safetensors'}: takes photos as caffe, according to the 1x1 "
        "convolution in front of it"
    )
    assert load_means(tmp_path / "means.npy").recipe.preprocessing == "caffe"


@pytest.mark.parametrize("ending", ["safetensors", "h5", "mat"])
def test_a_user_who_contradicts_the_file_is_warned(
    ending: str, source: Path, measure: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / f"stated.{ending}"
    how = "--preprocessing", "torch", "--convention", "rgb255"
    assert run("convert", source, "-o", path, *how).exit_code == 0
    said = measure(path, tmp_path / "told.npy").stderr.splitlines()
    assert said[1] == f"{path}: takes photos as rgb255, according to the file"
    result = measure(path, tmp_path / "means.npy", "--preprocessing", "caffe")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1] == (
        f"warning: {path}: takes photos as rgb255, according to the file; --preprocessing caffe is "
        "used all the same"
    )
    assert load_means(tmp_path / "means.npy").recipe.preprocessing == "caffe"
    agreeing = measure(path, tmp_path / "same.npy", "--preprocessing", "rgb255")
    assert "warning" not in agreeing.stderr


def test_files_for_options_of_keras_networks(source: Path, photo_folder: Path) -> None:
    """VGG16's weights may come from any program, if they are Keras's VGG16 in all else."""
    common = "compute-means", "--data", photo_folder, *SIDE
    text = failed(run(*common, "--network", source, "--include-top", "--preprocessing", "torch"))
    assert text == f"{source}: include_top is for vgg16 and vgg19; a model file is as it is"
    options = "--network", source, "--preprocessing", "torch", "--weights", source
    assert failed(run(*common, *options)) == (
        f"{source}: a model file has its own weights; leave out --weights"
    )
    assert failed(run(*common, "--weights", source)) == (
        f"{source}: takes photos in a way that is not known, and not as Keras's VGG does (caffe); "
        "give the file itself as the network, --network FILE, with --preprocessing if it is not "
        "known"
    )
