"""The library on files of other programs, as a user of it would write it down."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import decode_file
from reference import filter_means
from safetensors.numpy import load_file, save_file
from vgg_parts import (
    IN_KERAS,
    Part,
    in_adain,
    in_torch_convention,
    random_part,
    write_torchvision,
)

import vggnorm
from vggnorm.errors import MeansError, NetworkError, OutputError
from vggnorm.files.vgg_weights import TakenAs
from vggnorm.photos.geometry import Geometry

SIDE = 32

# Of a mean. Keras adds up 576 products of float32 for each activation, with errors of 6e-8 each.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def part() -> Part:
    return random_part()


def by_hand(part: Part, photos: Path) -> dict[str, np.ndarray]:
    """Measure the part, which takes BGR minus the mean colour, with a naive loop in float64."""
    layers: list[Any] = [(IN_KERAS[name], *weights) for name, weights in part.items()]
    layers.insert(2, None)  # the pooling
    pixels = [decode_file(path, Geometry(SIDE)) for path in sorted(photos.iterdir())]
    return filter_means(pixels, layers)


def measure(model: Any, photos: Path, preprocessing: Any) -> Any:
    return vggnorm.compute_means(
        model, photos, preprocessing=preprocessing, geometry=Geometry(SIDE)
    )


def test_from_a_file_to_a_normalized_one(part: Part, photo_folder: Path, tmp_path: Path) -> None:
    source = write_torchvision(tmp_path / "mine.safetensors", part)
    model = vggnorm.load_network(source)
    means = measure(model, photo_folder, "caffe")
    for layer, mean in by_hand(part, photo_folder).items():
        np.testing.assert_allclose(means.mean[layer], mean, rtol=ROUNDING)
    normalized = vggnorm.normalize(model, means)
    output = tmp_path / "vgg_conv.safetensors"
    weights = vggnorm.weights_of(normalized, "caffe", means)
    said: list[str] = []
    written = vggnorm.save_weights(output, weights, layout="gatys", say=said.append)
    assert (written.layout, written.convention) == ("gatys", "caffe")
    assert len(said) == 1
    found = load_file(output)
    mean_in = np.ones(3)
    for name, (kernel, bias) in part.items():
        mean_out = means.mean[IN_KERAS[name]]
        expected = kernel * mean_in[:, np.newaxis] / mean_out
        np.testing.assert_allclose(
            found[f"{name}.weight"].transpose(2, 3, 1, 0), expected, rtol=1e-6
        )
        np.testing.assert_allclose(found[f"{name}.bias"], bias / mean_out, rtol=1e-6)
        mean_in = mean_out
    report = vggnorm.verify(model, vggnorm.load_normalized(output), photo_folder, means)
    assert report.passed, report


def test_open_weights_describes_a_file_and_reads_on_demand(part: Part, tmp_path: Path) -> None:
    save_file(in_adain(part), tmp_path / "encoder.safetensors")
    with vggnorm.open_weights(tmp_path / "encoder.safetensors") as file:
        assert (file.vgg.network, file.vgg.layout) == ("vgg16", "adain")
        assert (file.vgg.places, file.vgg.is_whole) == ([(1, 1), (1, 2), (2, 1)], False)
        assert file.taken_as.convention == "caffe"
        assert file.means is None
        for name, weights in part.items():
            for found, expected in zip(file.arrays()[IN_KERAS[name]], weights, strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def measured(part: Part, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The part as a model of Keras, its means, and the normalized model."""
    path = tmp_path_factory.mktemp("source") / "mine.safetensors"
    model = vggnorm.load_network(write_torchvision(path, part))
    means = measure(model, photo_folder, "caffe")
    return model, means, vggnorm.normalize(model, means)


@pytest.mark.parametrize("convention", ["caffe", "rgb255", "torch"])
@pytest.mark.parametrize("up_to", ["conv1_2", "conv2_1"])
def test_the_first_convolutions_of_a_normalized_network(
    up_to: str, convention: str, measured: Any, photo_folder: Path, tmp_path: Path
) -> None:
    """Such a file has means of layers that it lacks, and may be in another convention."""
    model, means, normalized = measured
    output = tmp_path / "part.safetensors"
    weights = vggnorm.weights_of(normalized, "caffe", means)
    vggnorm.save_weights(output, weights, convention=convention, up_to=up_to)
    loaded = vggnorm.load_normalized(output)
    report = vggnorm.verify(model, loaded, photo_folder, means)
    assert report.passed, report
    assert report.means.photos == "all"
    again = measure(loaded, photo_folder, "caffe").mean
    assert list(again) == list(IN_KERAS.values())[: 2 if up_to == "conv1_2" else 3]
    for layer, mean in again.items():
        np.testing.assert_allclose(mean, 1, atol=1e-4, err_msg=layer)
    found = vggnorm.identify(output, model)
    assert (found.kind, found.intact) == ("normalized", True), found.sentence
    assert found.missing == (["block2_conv1"] if up_to == "conv1_2" else [])


def test_a_wrong_file_does_not_pass(measured: Any, photo_folder: Path, tmp_path: Path) -> None:
    model, means, normalized = measured
    output = tmp_path / "part.npz"
    vggnorm.save_weights(output, vggnorm.weights_of(normalized, "caffe", means))
    with np.load(output) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["arr_4"] = changed["arr_4"] * 1.5  # the bias of conv1_2
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(MeansError, match="changed.npz: does not say how it was made"):
        vggnorm.load_normalized(tmp_path / "changed.npz")
    report = vggnorm.verify(
        model, vggnorm.load_network(tmp_path / "changed.npz"), photo_folder, means
    )
    assert (report.passed, report.means.passed, report.activations.passed) == (False,) * 3


def test_an_original_with_reflection_padding(
    part: Part, photo_folder: Path, tmp_path: Path
) -> None:
    """No file says how a program pads, but the recipe does, and so the comparison fits."""
    path = write_torchvision(tmp_path / "mine.safetensors", part)
    model = vggnorm.load_network(path, padding="reflect")
    means = measure(model, photo_folder, "caffe")
    weights = vggnorm.weights_of(vggnorm.normalize(model, means), "caffe", means)
    vggnorm.save_weights(tmp_path / "norm.npz", weights)
    loaded = vggnorm.load_normalized(tmp_path / "norm.npz")
    assert vggnorm.verify(model, loaded, photo_folder, means).passed
    zeros = measure(vggnorm.load_network(tmp_path / "norm.npz"), photo_folder, "caffe")
    assert max(np.abs(mean - 1).max() for mean in zeros.mean.values()) > 1e-3


# The same means, whatever the file

FORMATS = ("h5", "safetensors", "npz", "mat", "pth")


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_means_to_the_last_bit(
    ending: str, padding: Any, part: Part, photo_folder: Path, tmp_path: Path
) -> None:
    """The network takes photos as RGB, as all .mat files say; so no file needs a conversion."""
    if ending == "pth":
        pytest.importorskip("torch")
    source = write_torchvision(tmp_path / "mine.safetensors", part)
    expected = measure(vggnorm.load_network(source, padding=padding), photo_folder, "rgb255")
    with vggnorm.open_weights(source) as file:
        weights = replace(file.vgg, taken_as=TakenAs("rgb255", "the test"))
        vggnorm.save_weights(tmp_path / f"vgg.{ending}", weights, convention="rgb255")
    loaded = vggnorm.load_network(tmp_path / f"vgg.{ending}", padding=padding)
    found = measure(loaded, photo_folder, "rgb255")
    assert found.recipe == expected.recipe  # with the SHA-256 of the weights
    for layer, mean in expected.mean.items():
        np.testing.assert_array_equal(found.mean[layer], mean)
        np.testing.assert_array_equal(found.std_error[layer], expected.std_error[layer])


# What a user gets wrong


def test_a_model_that_is_no_vgg_has_no_weights_for_other_programs(make_chain: Any) -> None:
    with pytest.raises(NetworkError, match="^chain: "):
        vggnorm.weights_of(make_chain())


def test_options_that_do_not_go_together_are_errors_of_the_output(
    measured: Any, tmp_path: Path
) -> None:
    weights = vggnorm.weights_of(measured[0])
    output = tmp_path / "out.safetensors"
    with pytest.raises(OutputError, match="the layout 'lua' is not known; it must be one of kera"):
        vggnorm.save_weights(output, weights, layout="lua")
    with pytest.raises(NetworkError, match="there is no conv5_1 among the convolutions, conv1_1"):
        vggnorm.save_weights(output, weights, up_to="conv5_1")
    assert not output.exists()


def test_a_convention_that_is_not_known_is_not_guessed(part: Part, tmp_path: Path) -> None:
    source = write_torchvision(tmp_path / "mine.safetensors", part)
    with (
        vggnorm.open_weights(source) as file,
        pytest.raises(NetworkError, match="it is not known how the network takes photos; say so"),
    ):
        vggnorm.save_weights(tmp_path / "out.npz", file)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["missing.safetensors", "folder.npz"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    with (
        pytest.raises(NetworkError, match=f"{name}: "),
        vggnorm.open_weights(tmp_path / name),
    ):
        pass


# PyTorch as the judge


def torchvision_network(*, with_normalization: bool) -> Any:
    """Make the first layers of torchvision's VGG16, or of its VGG16 with batch normalization."""
    from torch import nn

    layers: list[nn.Module] = []
    for channels, filters in (3, 64), (64, 64), (64, 128):
        if filters == 128:
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.Conv2d(channels, filters, 3, padding=1))
        if with_normalization:
            layers.append(nn.BatchNorm2d(filters))
        layers.append(nn.ReLU())
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers))).eval()


def give_weights(network: Any, part: Part) -> None:
    """Set the weights of the convolutions, and any numbers of the batch normalizations."""
    import torch

    generator = torch.Generator().manual_seed(1)
    convolutions = [layer for layer in network.features if hasattr(layer, "in_channels")]
    normalizations = [layer for layer in network.features if hasattr(layer, "running_var")]
    weights = in_torch_convention(part).values()
    for layer, (kernel, bias) in zip(convolutions, weights, strict=True):
        layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(bias)
    for layer in normalizations:
        for tensor in layer.weight, layer.running_var:
            tensor.data.uniform_(0.5, 2, generator=generator)
        for tensor in layer.bias, layer.running_mean:
            tensor.data.uniform_(0, 1, generator=generator)


@pytest.mark.parametrize("with_normalization", [False, True])
def test_the_means_of_a_file_of_torchvision_are_those_that_torch_measures(
    with_normalization: bool, part: Part, photo_folder: Path, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    network = torchvision_network(with_normalization=with_normalization)
    give_weights(network, part)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    means = measure(vggnorm.load_network(tmp_path / "mine.pth"), photo_folder, "torch")
    pixels = [decode_file(path, Geometry(SIDE)) for path in sorted(photo_folder.iterdir())]
    expected = means_in_torch(network, np.stack(pixels))
    assert len(means.mean) == len(expected) == 3
    for (layer, found), mean in zip(means.mean.items(), expected, strict=True):
        np.testing.assert_allclose(found, mean, rtol=ROUNDING, err_msg=layer)


def means_in_torch(network: Any, pixels: np.ndarray) -> list[np.ndarray]:
    """Measure behind each rectifier, in float64, on photos prepared as for torchvision."""
    import torch
    from torch import nn

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    values: Any = torch.from_numpy((pixels / 255 - mean) / deviation).permute(0, 3, 1, 2)
    found = []
    with torch.no_grad():
        for layer in network.features.double():
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                found.append(values.mean(dim=(0, 2, 3)).numpy())
    return found
