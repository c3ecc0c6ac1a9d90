"""convert: what it writes, what it says, what it refuses, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import failed, run
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from vgg_parts import (
    IN_KERAS,
    Part,
    in_adain,
    in_pytorch,
    in_torch_convention,
    random_part,
    write_torchvision,
)

CHOICES = "caffe, rgb255, torch, tf, none"

PART_OF = (
    "itself loads {}, and this file is another part or network; load it into a network of these "
    "layers"
)


@pytest.fixture(scope="module")
def part() -> Part:
    return random_part()


@pytest.fixture
def source(part: Part, tmp_path: Path) -> Path:
    """A file under torchvision's names that does not say how it takes photos."""
    return write_torchvision(tmp_path / "source.safetensors", part)


def lines_of(*arguments: str | Path) -> list[str]:
    """Run a command that succeeds; return what it said on stderr, then what on stdout."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [*result.stderr.splitlines(), *result.stdout.splitlines()]


# What is written


def test_a_file_of_one_program_becomes_that_of_another(
    source: Path, part: Part, tmp_path: Path
) -> None:
    output = tmp_path / "vgg_conv.safetensors"
    options = "--preprocessing", "caffe", "--layout", "gatys"
    said = lines_of("convert", source, "-o", output, *options)
    assert said == [
        f"PytorchNeuralStyleTransfer {PART_OF.format('VGG19, whole')}",
        f"vgg16 saved as {output}, layout gatys, taking photos as caffe",
    ]
    found, expected = load_file(output), in_pytorch(part, {name: name for name in part})
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("layout", ["adain", "wct"])
def test_a_convolution_of_the_colours_is_set_in_front(
    layout: str, source: Path, part: Part, tmp_path: Path
) -> None:
    output = tmp_path / "encoder.safetensors"
    lines_of("convert", source, "-o", output, "--preprocessing", "caffe", "--layout", layout)
    found = load_file(output)
    if layout == "wct":
        names = {name: f"seq.{name}" for name in part}
        colours = {"preprocess_weight": "0.weight", "preprocess_bias": "0.bias"}
        expected = {new: in_adain(part)[old] for new, old in colours.items()}
        expected |= in_pytorch(part, names)
    else:
        expected = in_adain(part)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_only_the_first_convolution_is_converted(source: Path, part: Part, tmp_path: Path) -> None:
    output = tmp_path / "torch.safetensors"
    options = "--preprocessing", "caffe", "--convention", "torch"
    said = lines_of("convert", source, "-o", output, *options)
    assert said == [
        "the first convolution is converted from caffe to torch; zero padding at the border of a "
        "photo then stands for another colour",
        f"torchvision {PART_OF.format('VGG16, whole')}",
        f"vgg16 saved as {output}, layout torchvision, taking photos as torch",
    ]
    found, expected = load_file(output), in_pytorch(in_torch_convention(part))
    for name, array in expected.items():
        if name.startswith("features.0."):  # the order of the sums may differ
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(found[name], array)


def test_the_numbers_survive_a_tour_of_all_formats(source: Path, tmp_path: Path) -> None:
    """The convention is named at each step, because an .npz file has no place for it."""
    path = source
    for ending in "npz", "h5", "mat", "safetensors":
        output = tmp_path / f"tour.{ending}"
        options = "--preprocessing", "rgb255", "--convention", "rgb255"
        said = lines_of("convert", path, "-o", output, *options)
        assert not any("warning" in line for line in said)
        path = output
    found, expected = load_file(path), load_file(source)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_the_first_convolutions_alone(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "two.npz"
    options = "--preprocessing", "caffe", "--up-to", "conv1_2", "--layout", "gatys"
    lines_of("convert", source, "-o", output, *options)
    with np.load(output) as arrays:
        assert sorted(arrays) == [
            "conv1_1.bias",
            "conv1_1.weight",
            "conv1_2.bias",
            "conv1_2.weight",
        ]


def test_the_format_overrides_the_ending(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "weights.bin"
    options = "--preprocessing", "caffe", "--format", "safetensors", "--dtype", "float16"
    lines_of("convert", source, "-o", output, *options)
    assert {array.dtype for array in load_file(output).values()} == {np.dtype(np.float16)}


def test_numbers_that_float16_does_not_hold(part: Part, tmp_path: Path) -> None:
    arrays = in_pytorch(part)
    arrays["features.2.weight"][0, 0, 0, 0] = 1e-6
    arrays["features.5.weight"][0, 0, 0, 0] = 1e6
    save_file(arrays, tmp_path / "source.safetensors")
    output = tmp_path / "half.safetensors"
    options = "--preprocessing", "caffe", "--dtype", "float16"
    result = run("convert", tmp_path / "source.safetensors", "-o", output, *options)
    *said, error = result.stderr.splitlines()
    warnings = [line for line in said if line.startswith("warning: ")]
    small, large = sorted(warnings, key=len, reverse=True)
    assert small.startswith("warning: float16 loses precision below 6e-5, and some weights are s")
    assert "block1_conv2" in small
    assert large == "warning: float16 ends at 65504, and a weight is beyond that, in block2_conv1"
    assert error == (
        f"Error: {output}: is not written: features.5.weight would hold numbers that are not "
        "finite in float16; give another --dtype, or get the weights again"
    )
    assert not output.exists()


# How the source takes photos


def test_a_convention_that_nobody_knows_must_be_named(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    assert failed(run("convert", source, "-o", output)) == (
        f"{source}: nothing in the file says what it takes photos as; give --preprocessing, one of "
        f"{CHOICES}"
    )
    assert not output.exists()
    for convention in CHOICES.split(", "):  # the advice holds for each
        options = "--preprocessing", convention, "--layout", "torchvision", "--force"
        said = lines_of("convert", source, "-o", output, *options)
        assert said[-1].endswith(f"layout torchvision, taking photos as {convention}")


def test_a_convention_that_the_file_says(source: Path, tmp_path: Path) -> None:
    stated, output = tmp_path / "stated.safetensors", tmp_path / "out.safetensors"
    lines_of("convert", source, "-o", stated, "--preprocessing", "rgb255")
    said = lines_of("convert", stated, "-o", output)
    assert said[0] == f"{stated}: takes photos as rgb255, according to the file"
    said = lines_of("convert", stated, "-o", output, "--preprocessing", "torch", "--force")
    assert said[0] == (
        f"warning: {stated}: takes photos as rgb255, according to the file; --preprocessing torch "
        "is used all the same"
    )
    said = lines_of("convert", stated, "-o", output, "--preprocessing", "rgb255", "--force")
    assert said[0].startswith("torchvision itself loads")


def test_a_convolution_of_the_colours_says_it(part: Part, tmp_path: Path) -> None:
    encoder, output = tmp_path / "encoder.safetensors", tmp_path / "out.npz"
    save_file(in_adain(part), encoder)
    said = lines_of("convert", encoder, "-o", output, "--layout", "gatys")
    assert said[0] == (
        f"{encoder}: takes photos as caffe, according to the 1x1 convolution in front of it"
    )
    with np.load(output) as arrays:
        for name, (kernel, bias) in part.items():
            np.testing.assert_array_equal(arrays[f"{name}.weight"], kernel.transpose(3, 2, 0, 1))
            np.testing.assert_array_equal(arrays[f"{name}.bias"], bias)


# What is refused


@pytest.mark.parametrize(
    ("output", "options", "text"),
    [
        ("out.h5", "--layout gatys", "a file of the format h5 has the layout keras; leave out"),
        ("out.mat", "--layout gatys", "a file of the format mat has the layout matconvnet; leave"),
        ("out.npz", "--layout matconvnet", "the layout matconvnet is that of .mat files; give"),
        ("out.bin", "", "give a name that ends in one of .h5, .safetensors, .pth, .pt, .npz, .mat"),
        ("out.weights.h5", "", "give a name that ends in .h5 and not in .weights.h5"),
        ("out.h5", "--dtype float16", "a model of Keras in an .h5 file has float32 weights; leave"),
        ("out.npz", "--dtype bfloat16", "a file of the format npz cannot hold bfloat16 (arr_1); "),
        ("out.mat", "--dtype float16", "a file of the format mat cannot hold float16 (conv1_1.we"),
        ("out.npz", "--convention adain", "the layout list has no 1x1 convolution that takes RGB"),
        ("out.npz", "--up-to conv3_1", "there is no conv3_1 among the convolutions, conv1_1, conv"),
        ("out.npz", "--up-to block1_conv1", "there is no block1_conv1 among the convolutions, co"),
        ("out.npz", "--with-classifier", "files of the layout list have no dense layers; leave"),
        (
            "out.safetensors",
            "--with-classifier",
            "the dense layers follow the last convolution, which this file shall not have; leave",
        ),
    ],
)
def test_options_that_do_not_go_together(
    output: str, options: str, text: str, source: Path, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    result = run(
        "convert", source, "-o", tmp_path / output, "--preprocessing", "caffe", *options.split()
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {tmp_path / output}: {text}")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--layout lua", "Invalid value for '--layout': 'lua' is not one of"),
        ("--convention bgr", "Invalid value for '--convention': 'bgr' is not one of"),
        ("--dtype int8", "Invalid value for '--dtype': 'int8' is not one of"),
        ("--format onnx", "Invalid value for '--format': 'onnx' is not one of"),
        ("--preprocessing bgr", "Invalid value for '--preprocessing': 'bgr' is not one of"),
    ],
)
def test_unknown_choices_are_listed(options: str, text: str, source: Path, tmp_path: Path) -> None:
    result = run("convert", source, "-o", tmp_path / "out.npz", *options.split())
    assert result.exit_code == 2
    assert text in result.stderr


def test_an_output_must_be_named(source: Path) -> None:
    result = run("convert", source)
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr


@pytest.mark.parametrize("taken", ["out.npz", "out.npz.means.npy"])
def test_no_file_is_replaced_without_force(taken: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("precious")
    output = tmp_path / "out.npz"
    arguments = "convert", source, "-o", output, "--preprocessing", "caffe"
    assert failed(run(*arguments)) == (
        f"{tmp_path / taken}: exists already; give another name, or --force to replace it"
    )
    assert (tmp_path / taken).read_text() == "precious"
    lines_of(*arguments, "--force")
    with np.load(output) as arrays:
        assert int(arrays["arr_0"]) == 6
    # Means of the file that was replaced would be taken for those of the new one.
    assert not (tmp_path / "out.npz.means.npy").exists()


def test_a_file_of_means_holds_no_weights(made: Path, tmp_path: Path) -> None:
    text = failed(run("convert", made / "means.npy", "-o", tmp_path / "out.npz"))
    assert text == f"{made / 'means.npy'}: holds means, and no weights; give the file of a network"


def test_a_network_that_is_no_vgg(chain_file: Path, tmp_path: Path) -> None:
    text = failed(run("convert", chain_file, "-o", tmp_path / "out.npz"))
    assert text.startswith(f"{chain_file}: is a model of another network than a VGG, which only an")


# What stays out of memory


@pytest.mark.parametrize("ending", ["safetensors", "npz", "mat", "h5"])
def test_neither_keras_nor_torch_is_imported_without_need(
    ending: str, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"vgg.{ending}"
    program = (
        "import sys; from vggnorm.cli import main; main(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'torch', 'jax', 'PIL'} & set(sys.modules), 'imported'"
    )
    caffe = "--preprocessing", "caffe"
    commands: list[list[str | Path]] = [
        ["convert", source, "-o", path, *caffe],
        ["convert", path, "-o", tmp_path / "other.safetensors", *caffe],
        ["inspect", path],
        ["inspect", path, "--json"],
    ]
    for arguments in commands:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


# What inspect says of the files


@pytest.mark.parametrize(
    ("ending", "container", "layout", "convention", "source_of_it"),
    [
        ("safetensors", "a safetensors file", "torchvision", "caffe", "the file"),
        ("npz", "an .npz archive of numpy", "list", None, ""),
        ("mat", "a .mat file", "matconvnet", "rgb255", "the file"),
        ("h5", "a model of Keras 2 in an .h5 file", "keras", "caffe", "the file"),
        ("pth", "a file of PyTorch", "torchvision", None, ""),
    ],
)
def test_inspect_says_what_a_file_holds(
    ending: str,
    container: str,
    layout: str,
    convention: str | None,
    source_of_it: str,
    source: Path,
    part: Part,
    tmp_path: Path,
) -> None:
    if ending == "pth":
        pytest.importorskip("torch")
    path = tmp_path / f"vgg.{ending}"
    lines_of("convert", source, "-o", path, "--preprocessing", "caffe")
    facts: dict[str, Any] = json.loads("".join(lines_of("inspect", path, "--json")))
    assert facts == {
        "weights": {
            "container": container,
            "layout": layout,
            "network": "vgg16",
            "found_in": "",
            "convention": convention,
            "convention_source": source_of_it,
            "dtypes": ["float32"],
            "not_read": [],
            "layers": {
                IN_KERAS[name]: [list(array.shape) for array in weights]
                for name, weights in part.items()
            },
        }
    }
    known = f"{convention}, according to {source_of_it}"
    unknown = "not known: nothing in the file says how the network takes photos"
    assert lines_of("inspect", path) == [
        f"{path}: container   {container}",
        f"layout      {layout}, vgg16",
        f"convention  {known if convention else unknown}",
        "numbers     float32",
        "",
        "layer         shapes",
        "block1_conv1  3x3x3x64 and 64",
        "block1_conv2  3x3x64x64 and 64",
        "block2_conv1  3x3x64x128 and 128",
        "",
    ]


def test_inspect_names_what_is_not_read_and_where_the_weights_were(
    part: Part, tmp_path: Path
) -> None:
    arrays = {f"module.{name}": array for name, array in in_pytorch(part).items()}
    arrays["module.fc_of_my_own.weight"] = np.zeros((2, 2), np.float32)
    path = tmp_path / "parallel.safetensors"
    save_file(arrays, path)
    lines = lines_of("inspect", path)
    assert "found in    module." in lines
    assert "not read    fc_of_my_own.weight" in lines


def test_metadata_says_it_to_others(source: Path, tmp_path: Path) -> None:
    """Another program reads what the file is with the library alone."""
    path = tmp_path / "vgg.safetensors"
    lines_of("convert", source, "-o", path, "--preprocessing", "caffe", "--convention", "rgb255")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    description = json.loads(metadata["vggnorm"])
    assert (description["layout"], description["convention"]) == ("torchvision", "rgb255")
    assert set(metadata) == {"vggnorm"}  # without means, nothing claims to be normalized
