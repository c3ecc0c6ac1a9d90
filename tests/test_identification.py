"""What a file is said to be: files made in every way that one may meet, small networks and VGG's shapes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import MeansError, NetworkError
from vggnorm.graph import read_graph
from vggnorm.identification import Identification, identify
from vggnorm.means import FilterMeans

PHOTO_SIZE = 48


@pytest.fixture(scope="module")
def model(make_chain: Callable[..., Any]) -> Any:
    """Wide enough for statistics over filters."""
    return make_chain((40, 40, 48, 48), seed=4)


@pytest.fixture(scope="module")
def means(model: Any, photo_folder: Path) -> FilterMeans:
    return vggnorm.compute_means(model, photo_folder, size=PHOTO_SIZE)


@pytest.fixture
def random_scales(model: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {name: np.exp(random.normal(3, 1, count)) for name, count in read_graph(model).filters.items()}


def rescale(model: Any, scales: dict[str, Any]) -> Any:
    """Give a rescaled copy; the rule itself has tests of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name, changed in read_graph(model).rescale(scales).weights.items():
        copy.get_layer(name).set_weights(list(changed().values()))
    return copy


@pytest.fixture
def said_of(model: Any, tmp_path: Path) -> Callable[..., Identification]:
    """Save a network, change the file, and say what it is."""

    def said(network: Any, means: FilterMeans | None = None, change: Callable[[Any], None] | None = None) -> Any:
        path = tmp_path / "file.h5"
        vggnorm.save_network(network, path, force=True)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file["model_weights"])
        return identify(path, model, means)

    return said


def test_the_original(said_of: Any, model: Any, means: FilterMeans) -> None:
    for found in said_of(model), said_of(model, means):
        assert found.kind == "original"
        assert found.intact
        assert found.sentence == "It is the original, not rescaled."
        assert {found.state(name) for name in found.recovery.layers} == {"original"}


def test_normalized_with_the_means_in_the_file(model: Any, means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "made.h5"
    vggnorm.save_network(vggnorm.normalize(model, means), path, means)
    found = identify(path, model)
    assert found.kind == "normalized"
    assert found.intact
    assert found.sentence == "It is normalized, exactly by the means that the file has (9 photos)."
    for layer, mean in means.mean.items():
        fires = mean > 0
        np.testing.assert_allclose(found.recovery.layers[layer].scale[fires], mean[fires], rtol=1e-6)
        np.testing.assert_allclose(found.recovery.layers[layer].scale[~fires], 1, rtol=1e-6)  # silent filters


def test_normalized_with_the_means_given(said_of: Any, model: Any, means: FilterMeans) -> None:
    normalized = vggnorm.normalize(model, means)
    assert said_of(normalized, means).sentence == "It is normalized, exactly by the means given (9 photos)."
    alone = said_of(normalized)
    assert alone.kind == "possibly normalized"
    assert "may be means of activations" in alone.sentence
    assert "--data FOLDER, or --means" in alone.sentence


def test_normalized_with_other_means(said_of: Any, model: Any, means: FilterMeans) -> None:
    # Half of the means are 0.8 of the others', the others 0.98 of them: the median is between, half within 5 %.
    other = {layer: mean * np.where(np.arange(len(mean)) % 2, 0.8, 0.98) for layer, mean in means.mean.items()}
    found = said_of(vggnorm.normalize(model, replace(means, measured=replace(means.measured, mean=other))), means)
    assert found.kind == "normalized"
    assert "by means that were measured on other photos, or photos cut in another way" in found.sentence
    assert found.comparison.share_close == pytest.approx(0.5, abs=0.1)
    assert 0.8 <= found.comparison.median <= 0.98
    assert f"{found.comparison.median:.2f} times those in the median" in found.sentence


def test_scales_that_have_nothing_to_do_with_the_means(
    said_of: Any, model: Any, means: FilterMeans, random_scales: dict[str, Any]
) -> None:
    found = said_of(rescale(model, random_scales), means)
    assert found.kind == "rescaled"
    assert found.intact
    assert "not by means of activations" in found.sentence
    assert "not like the means given (9 photos)" in found.sentence


def test_without_photos_random_scales_are_refuted_by_the_mean_before_rectification(
    said_of: Any, model: Any, random_scales: dict[str, Any]
) -> None:
    found = said_of(rescale(model, random_scales))
    assert found.kind == "rescaled"
    assert "if all means were 1, the weights alone would give" in found.sentence
    # conv1 takes the photo, conv3 what is pooled; of the others the sum is by hand.
    assert [name for name, layer in found.recovery.layers.items() if layer.drift is not None] == ["conv2", "conv4"]
    kernel, bias = rescale(model, random_scales).get_layer("conv2").get_weights()
    np.testing.assert_allclose(found.recovery.layers["conv2"].drift, kernel.sum(axis=(0, 1, 2)) + bias, rtol=1e-4)


def constant(model: Any) -> dict[str, Any]:
    return {name: np.full(count, 3.7) for name, count in read_graph(model).filters.items()}


def powers_of_two(model: Any) -> dict[str, Any]:
    filters = read_graph(model).filters.items()
    return {name: 2.0 ** np.random.default_rng(0).integers(-2, 5, count) for name, count in filters}


def kernel_norms(model: Any) -> dict[str, Any]:
    scales, incoming = {}, np.ones(3)
    for name in read_graph(model).filters:
        kernel = model.get_layer(name).get_weights()[0] * incoming[:, np.newaxis]
        scales[name] = incoming = np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    return scales


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (constant, "all filters of a layer have the same scale"),
        (powers_of_two, "they are powers of two"),
        (kernel_norms, "they make the kernels of a layer all of the same norm"),
    ],
)
def test_scales_of_another_origin(make: Any, reason: str, said_of: Any, model: Any) -> None:
    found = said_of(rescale(model, make(model)))
    assert found.kind == "rescaled"
    assert found.sentence == f"It is rescaled, and not by means of activations: {reason}."


def test_another_network(said_of: Any, make_chain: Callable[..., Any]) -> None:
    found = said_of(make_chain((40, 40, 48, 48), seed=5))
    assert found.kind == "something else"
    assert not found.intact
    assert found.sentence == (
        "It is something else: 4 of its 4 layers have weights that no scale of the original's filters gives."
    )
    assert {found.state(name) for name in found.recovery.layers} == {"other weights"}


def test_a_damaged_layer_is_named(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        kernel = weights["conv2/conv2/kernel:0"]
        kernel[...] = np.random.default_rng(0).normal(size=kernel.shape)

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert not found.intact
    assert found.sentence.startswith("It is normalized, exactly by the means given (9 photos). ")
    assert found.sentence.endswith("It is not so throughout: see conv2.")
    assert [found.state(f"conv{k}") for k in (1, 2, 3, 4)] == ["rescaled", "other weights", "rescaled", "rescaled"]


def test_damaged_filters_biases_and_channels_are_named(said_of: Any, model: Any, random_scales: dict[str, Any]) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][..., 7] = 0.5
        weights["conv2/conv2/bias:0"][3:5] *= 2
        weights["conv3/conv3/kernel:0"][:, :, 30:38] *= 3
        weights["conv4/conv4/kernel:0"][..., 2] *= -1

    found = said_of(rescale(model, random_scales), None, change)
    assert [found.state(f"conv{k}") for k in (1, 2, 3, 4)] == [
        "rescaled; filter 7 with other weights",
        "rescaled; filters 3, 4 with a bias of another scale than the kernel",
        "rescaled; 8 channels taken at another scale than the layers before give",
        "rescaled; filter 2 with the sign changed; filter 2 with a bias of another scale than the kernel",
    ]
    assert "It is not so throughout: see conv1, conv2, conv3, conv4." in found.sentence
    assert not found.intact


def test_a_sign_that_changed_is_not_compared_with_means(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        for name in "kernel", "bias":
            weights[f"conv4/conv4/{name}:0"][..., 2] *= -1

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert (found.kind, found.intact) == ("normalized", False)
    assert found.state("conv4") == "rescaled; filter 2 with the sign changed"
    assert np.isnan(found.comparison.ratio["conv4"][2])


def test_small_deviations_are_said(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        for name in "conv2", "conv3":
            kernel = weights[f"{name}/{name}/kernel:0"]
            kernel[...] *= np.random.default_rng(0).normal(1, 1e-3, kernel.shape)  # a relative deviation of 1e-3

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert "conv2, conv3 deviate from that besides (by 1.0e-03 of the weights at most" in found.sentence
    assert found.state("conv2") == "nearly rescaled"
    assert not found.intact


def test_sixteen_bits_are_said_and_are_no_damage(said_of: Any, model: Any, means: FilterMeans) -> None:
    normalized = vggnorm.normalize(model, means)
    normalized.set_weights([array.astype(np.float16).astype(np.float32) for array in normalized.get_weights()])
    found = said_of(normalized, means)
    assert found.intact
    assert found.sentence == (
        "It is normalized, exactly by the means given (9 photos). Its weights are float16 numbers."
    )


def test_rgb_and_pixels_up_to_1(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        kernel = weights["conv1/conv1/kernel:0"]
        kernel[...] = kernel[...][:, :, ::-1] * 255

    found = said_of(vggnorm.normalize(model, means), means, change)
    assert found.kind == "normalized"
    assert found.intact
    assert "It takes the colours of a photo in reverse order: RGB where the original takes BGR." in found.sentence
    assert found.sentence.endswith("It takes photos divided by 255.")


def test_channels_of_the_photo_that_are_scaled_apart(said_of: Any, model: Any) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][...] *= np.array([58.4, 57.1, 57.4])[:, np.newaxis]

    found = said_of(model, None, change)
    assert found.sentence.endswith("It takes photos whose channels are divided by 58.4, 57.1, 57.4.")


# Which layer is which


def save(path: Path, layers: dict[str, dict[str, Any]]) -> Path:
    """Write a file of weights as Keras 2 does."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}_{name}".encode() for name in arrays])
            for name, array in arrays.items():
                group[f"{layer}_{name}"] = array
    return path


@pytest.fixture
def arrays(model: Any) -> dict[str, dict[str, Any]]:
    """The original's weights, under other names."""
    return {
        f"conv_{index}": dict(zip(("W", "b"), layer.get_weights(), strict=True))
        for index, layer in enumerate([layer for layer in model.layers if layer.weights])
    }


def test_layers_of_other_names_are_matched_by_order(model: Any, arrays: Any, tmp_path: Path) -> None:
    found = identify(save(tmp_path / "other.h5", arrays), model)
    assert (found.kind, found.matched, found.intact) == ("original", "order", True)
    assert found.names == {f"conv{index + 1}": f"conv_{index}" for index in range(4)}
    assert found.sentence.endswith("Its layers have other names, and were matched by order and shapes.")


def test_a_part_of_the_layers(model: Any, arrays: Any, tmp_path: Path) -> None:
    found = identify(save(tmp_path / "part.h5", {name: arrays[name] for name in ("conv_0", "conv_1")}), model)
    assert (found.kind, found.missing) == ("original", ["conv3", "conv4"])
    assert found.sentence.endswith("It lacks conv3, conv4.")
    assert "conv4 not in the file" in str(found)


def test_layers_more_than_the_original_has(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays["decoder"] = {"W": np.ones((3, 3, 48, 3)), "b": np.zeros(3)}
    found = identify(save(tmp_path / "more.h5", arrays), model)
    assert (found.kind, found.extra) == ("original", ["decoder"])
    assert "Not compared, since the original has no such layers: decoder." in found.sentence


def test_a_convolution_that_prepares_the_photo(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays = {"prepare": {"W": 255 * np.eye(3)[::-1].reshape(1, 1, 3, 3), "b": np.zeros(3)}} | arrays
    found = identify(save(tmp_path / "prepared.h5", arrays), model)
    assert (found.kind, found.prepended) == ("original", "prepare")
    assert "Before its first layer stands prepare, a 1x1 convolution that prepares the photo" in found.sentence


def test_weights_of_other_shapes_are_refused(model: Any, arrays: Any, tmp_path: Path) -> None:
    arrays["conv_2"]["W"] = arrays["conv_2"]["W"][..., :47]
    path = save(tmp_path / "other.h5", arrays)
    text = (
        r"other\.h5: is of another architecture than chain: layer conv3 has weights of the shapes 3x3x40x48 and 48, "
        r"and 3x3x40x47 and 48 in the file, as conv_2; give the original"
    )
    with pytest.raises(NetworkError, match=text):
        identify(path, model)


@pytest.mark.parametrize("name", ["whole.keras", "only.weights.h5", "whole.h5"])
def test_files_of_keras_itself(name: str, model: Any, means: FilterMeans, tmp_path: Path) -> None:
    normalized = vggnorm.normalize(model, means)
    if name == "only.weights.h5":
        normalized.save_weights(tmp_path / name)
    else:
        normalized.save(tmp_path / name)
    found = identify(tmp_path / name, model, means)
    assert (found.kind, found.matched, found.intact) == ("normalized", "name", True)


def test_a_file_of_pytorch_is_not_opened(model: Any, tmp_path: Path) -> None:
    (tmp_path / "vgg_normalised.pth").write_bytes(b"\x80\x02}.")
    with pytest.raises(NetworkError, match=r"vgg_normalised\.pth: is a file of PyTorch, .* save that as \.h5"):
        identify(tmp_path / "vgg_normalised.pth", model)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x05\x06" + bytes(18)])
def test_what_holds_no_weights(content: bytes, model: Any, tmp_path: Path) -> None:
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(NetworkError, match=r"file\.h5: "):
        identify(tmp_path / "file.h5", model)


def test_means_of_other_weights_are_refused(said_of: Any, model: Any, means: FilterMeans) -> None:
    elsewhere = replace(means, recipe=replace(means.recipe, weights_sha256="0" * 64))
    with pytest.raises(MeansError, match="the means were measured on other weights than chain's"):
        said_of(model, elsewhere)
    with pytest.raises(MeansError, match="the means have no layer of chain"):
        said_of(model, replace(means, measured=replace(means.measured, mean={"other": np.ones(3)})))


def test_json_has_all_of_it(said_of: Any, model: Any, means: FilterMeans) -> None:
    def change(weights: Any) -> None:
        weights["conv1/conv1/kernel:0"][..., 7] = 0.5

    found = said_of(vggnorm.normalize(model, means), means, change)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (read["kind"], read["intact"], read["sentence"]) == ("normalized", False, found.sentence)
    assert read["layers"]["conv1"]["scale"][7] is None
    assert read["layers"]["conv2"]["scale"] == found.recovery.layers["conv2"].scale.tolist()
    assert read["layers"]["conv3"]["state"] == "rescaled"
    assert read["means"]["median_ratio"] == pytest.approx(1)


def test_the_table(said_of: Any, model: Any, means: FilterMeans) -> None:
    lines = str(said_of(vggnorm.normalize(model, means), means)).splitlines()
    mean = means.mean["conv3"]
    row = next(line for line in lines if line.startswith("conv3")).split()
    assert row[1] == "48"
    assert [float(cell) for cell in row[2:5]] == pytest.approx([mean.min(), np.median(mean), mean.max()], abs=6e-4)
    assert float(row[5]) < 1e-6
    assert row[6:] == ["1.00", "rescaled"]


# VGG


def test_batch_normalization_that_was_not_rescaled_is_named(tmp_path: Path) -> None:
    import zoo

    original = zoo.settle(zoo.batch_normalized(before=True))
    graph = read_graph(original)
    random = np.random.default_rng(0)
    normalized = keras.models.clone_model(original)
    normalized.set_weights(original.get_weights())
    changed = graph.rescale({name: np.exp(random.normal(1, 1, count)) for name, count in graph.filters.items()}).weights
    for layer in original.layers:
        if layer.name in changed:
            new = changed[layer.name]()
            pairs = zip(layer.weights, layer.get_weights(), strict=True)
            normalized.get_layer(layer.name).set_weights([new.get(weight.name, array) for weight, array in pairs])
    vggnorm.save_network(normalized, tmp_path / "one.h5")
    assert identify(tmp_path / "one.h5", original).intact
    name = next(layer.name for layer in original.layers if "batch" in layer.name)
    normalized.get_layer(name).set_weights(original.get_layer(name).get_weights())
    vggnorm.save_network(normalized, tmp_path / "two.h5")
    found = identify(tmp_path / "two.h5", original)
    assert not found.intact
    assert f"It is not so throughout: see {name}." in found.sentence


@pytest.mark.parametrize(("network", "convolutions"), [("vgg16", 13), ("vgg19", 16)])
def test_the_vgg_of_a_file_is_found_by_its_shapes(network: str, convolutions: int, tmp_path: Path) -> None:
    model = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[network](
        weights=None, include_top=False
    )
    layers = {
        layer.name: {"W": np.zeros(layer.kernel.shape, np.float16), "b": np.zeros(layer.filters, np.float16)}
        for layer in model.layers
        if layer.weights
    }
    path = save(tmp_path / "weights.h5", layers)
    model.save(tmp_path / "original.h5")
    found = identify(path, tmp_path / "original.h5")
    assert len(found.recovery.layers) == convolutions
    with h5py.File(tmp_path / "original.h5", "r+") as file:
        del file.attrs["model_config"]  # weights alone
    found = identify(path, tmp_path / "original.h5")
    assert len(found.recovery.layers) == convolutions
    first = {name: layers[name] for name in list(layers)[:4]}
    text = "its 4 convolutions are the first of both VGG16 and VGG19; give the original model's file with --original"
    with pytest.raises(NetworkError, match=text):
        identify(save(tmp_path / "first.h5", first))


def test_imagenet_is_for_vgg(arrays: Any, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"other\.h5: its convolutions are not those of VGG16 or VGG19; give the"):
        identify(save(tmp_path / "other.h5", arrays))
