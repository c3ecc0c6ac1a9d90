"""Operations such as `keras.ops.pad` in a network: measured, rescaled, saved and loaded again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.applications.imagenet_utils import preprocess_input
from zoo import chain, conv, photo, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import read_graph
from vggnorm.network.operations import operations_in

AROUND = [[0, 0], [1, 1], [1, 1], [0, 0]]

Between = Callable[[Any], Any]


def padded(tensor: Any, **options: Any) -> Any:
    return ops.pad(tensor, AROUND, **options)


def flipped_and_joined(tensor: Any) -> Any:
    return ops.concatenate([tensor, ops.flip(tensor, -1)[..., 1:], tensor[..., ::-1]], axis=-1)


def rectified(tensor: Any) -> Any:
    return keras.activations.relu(ops.relu(ops.leaky_relu(tensor)))


PASSING: dict[str, Between] = {
    "reflection": lambda x: padded(x, mode="reflect"),
    "symmetric": lambda x: padded(x, mode="symmetric"),
    "zeros": padded,
    "zeros in words": lambda x: padded(x, constant_values=0),
    "cropping": lambda x: x[:, 1:-1, 2:],
    "new axis": lambda x: x[:, None, :, :, :][:, 0],
    "channels": flipped_and_joined,
    "rectifiers": rectified,
    "maximum": lambda x: ops.maximum(0.0, x),
    "pooling": lambda x: ops.max_pool(ops.average_pool(x, 2), 2),
    "resizing": lambda x: ops.image.resize(x, (12, 12)),
    "factors": lambda x: ops.cast(x * 0.5 / np.array([1.0, 2, 4, 8], np.float32), "float32"),
    "transposed": lambda x: ops.transpose(ops.transpose(x, (0, 3, 2, 1)), (0, 3, 2, 1)),
}


def between(operations: Between, **options: Any) -> Any:
    """A network with operations behind a first layer of four filters."""
    behind = options.pop("behind", 3)
    return settle(chain(conv(4, name="a", **options), operations, conv(behind, name="b")))


def outputs(model: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the activations of both convolutions."""
    tensors = {name: model.get_layer(name).output for name in ("a", "b")}
    found = keras.Model(model.inputs[0], tensors)(pixels)
    return {name: keras.ops.convert_to_numpy(values) for name, values in found.items()}


@pytest.mark.parametrize("name", PASSING)
def test_scales_pass(name: str, photo_folder: Path) -> None:
    """Each activation is the original's, divided by the mean of its filter, at every position."""
    model = between(PASSING[name])
    means = vggnorm.compute_means(model, photo_folder)
    normalized = vggnorm.normalize(model, means)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 40, 56, 3)).astype(np.float32)
    before, after = outputs(model, pixels), outputs(normalized, pixels)
    for layer, values in before.items():
        wanted = values / means.mean[layer]
        np.testing.assert_allclose(after[layer], wanted, rtol=1e-3, atol=1e-5 * wanted.max())


@pytest.mark.parametrize("name", ["maximum", "rectifiers"])
def test_an_operation_rectifies_a_linear_layer(name: str) -> None:
    model = between(PASSING[name], activation=None)
    graph = read_graph(model)
    assert set(graph.sites) == {"a", "b"}
    assert graph.sites["a"].rectified is (name == "maximum")


REFUSED: dict[str, tuple[Between, str]] = {
    "sum": (lambda x: x + x, "operation Add stands .* one common scale"),
    "offset": (lambda x: x - 1, "operation Subtract stands .* numbers that it adds"),
    "product": (lambda x: x * x, "operation Multiply stands .* one common scale"),
    "inverse": (lambda x: 1 / (x + 1), "operation Add stands"),
    "clipping": (lambda x: ops.clip(x, 0, 6), "operation Clip stands .* clipped"),
    "relu6": (ops.relu6, "operation Relu6 stands .* clipped"),
    "threshold": (lambda x: ops.maximum(x, 1), "operation Maximum stands .* these arguments"),
    "other rim": (lambda x: padded(x, constant_values=2), "operation Pad stands .* arguments"),
    "sigmoid": (ops.sigmoid, "operation Sigmoid stands .* not known to pass a scale"),
    "stack": (lambda x: ops.stack([x, x])[0], "operation Stack stands"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_bends_scales_is_refused_and_the_advice_works(name: str, photo_folder: Path) -> None:
    operations, text = REFUSED[name]
    model = between(operations)
    with pytest.raises(NetworkError, match=text) as refused:
        vggnorm.compute_means(model, photo_folder)
    advice = str(refused.value).rpartition(": ")[2]
    assert advice == "keras.Model(model.inputs, model.get_layer('a').output)"
    part = keras.Model(model.inputs, model.get_layer("a").output)
    assert set(vggnorm.compute_means(part, photo_folder).mean) == {"a"}


def test_what_moves_channels_into_positions_is_refused() -> None:
    sideways = [[0, 0], [0, 0], [0, 0], [0, 1]]
    with pytest.raises(NetworkError, match="pads along the axis of the channels; leave out"):
        read_graph(between(lambda x: ops.pad(x, sideways)))
    with pytest.raises(NetworkError, match="scales along an axis that is not the channels'"):
        read_graph(between(lambda x: ops.max_pool(ops.transpose(x, (0, 3, 1, 2)), 2)))


def prepared(mode: str) -> Any:
    pixels = photo(32, 32)
    inside = preprocess_input(pixels, "channels_last", mode)
    return settle(keras.Model(pixels, conv(3, name="b")(conv(4, name="a")(inside))))


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_preprocess_input_inside(
    mode: str, suffix: str, photo_folder: Path, tmp_path: Path
) -> None:
    """The means are those of the bare network, whose photos are prepared in front of it."""
    model = prepared(mode)
    bare = chain(conv(4, name="a"), conv(3, name="b"), height=32, width=32)
    bare.set_weights(model.get_weights())
    path = tmp_path / f"model{suffix}"
    model.save(path)
    loaded = vggnorm.load_network(str(path))
    assert architecture_sha256(read_graph(loaded)) == architecture_sha256(read_graph(model))
    found = vggnorm.compute_means(loaded, photo_folder, preprocessing="none")
    wanted = vggnorm.compute_means(bare, photo_folder, preprocessing=mode)  # type: ignore[arg-type]
    for layer, mean in wanted.mean.items():
        np.testing.assert_allclose(found.mean[layer], mean, rtol=1e-5)


@pytest.mark.parametrize("size", [32, None])
def test_a_network_with_operations_is_saved_and_loaded(
    size: int | None, photo_folder: Path, tmp_path: Path
) -> None:
    pixels = keras.Input((size, size, 3), name="photo")
    tensor = conv(4, name="a")(preprocess_input(pixels, "channels_last", "caffe") * 0.5)
    tensor = padded(tensor, mode="reflect")[..., ::-1]
    model = settle(keras.Model(pixels, conv(3, padding="valid", name="b")(tensor)))
    path = tmp_path / "normalized.h5"
    means = vggnorm.compute_means(model, photo_folder, preprocessing="none")
    normalized = vggnorm.normalize(model, means)
    vggnorm.save_network(normalized, path, means)
    assert vggnorm.verify(model, vggnorm.load_network(str(path)), photo_folder, means).passed
    noise = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    by_keras = outputs(keras.models.load_model(path, compile=False), noise)
    for layer, values in outputs(normalized, noise).items():
        np.testing.assert_array_equal(by_keras[layer], values)
    again = vggnorm.normalize(vggnorm.load_network(str(path)), measured_again(path, photo_folder))
    assert again.count_params() == model.count_params()


def measured_again(path: Path, photo_folder: Path) -> vggnorm.FilterMeans:
    loaded = vggnorm.load_network(str(path))
    return vggnorm.compute_means(loaded, photo_folder, preprocessing="none")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: padded(x, mode="reflect"), lambda x: padded(x, mode="symmetric")),
        (lambda x: x[:, 1:, 1:], lambda x: x[:, :-1, 1:]),
        (lambda x: x * 2.0, lambda x: x * 3.0),
        (lambda x: ops.maximum(x, 0), lambda x: ops.minimum(x, 0)),
    ],
)
def test_networks_that_differ_in_an_operation_have_other_digests(
    one: Between, other: Between
) -> None:
    digests = [
        architecture_sha256(read_graph(chain(make, conv(4, name="a")))) for make in (one, other)
    ]
    assert digests[0] != digests[1]


def test_a_file_that_does_harm_through_an_operation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    between(PASSING["reflection"]).save(path)
    evil = {"class_name": "function", "module": "os", "config": "system", "registered_name": None}
    for place, value, text in (
        ("config", {"mode": evil}, "names os.system, which is not known to be harmless"),
        ("config", {"mode": {"class_name": "Dense", "config": {}}}, "holds a Dense in its"),
        ("module", "os", "names os.Pad, which is not known to be harmless"),
        ("class_name", "Arange", "names Arange, which is not known to be harmless"),
    ):
        changed = tmp_path / "changed.h5"
        changed.write_bytes(path.read_bytes())
        with h5py.File(changed, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            pad = next(one for one in config["config"]["layers"] if one["class_name"] == "Pad")
            pad[place] = {**pad[place], **value} if isinstance(value, dict) else value
            file.attrs["model_config"] = json.dumps(config)
        with pytest.raises(NetworkError, match=text):
            vggnorm.load_network(str(changed))


@pytest.mark.parametrize(("mode", "side"), [("reflect", 3), ("symmetric", 2)])
def test_maps_too_small_to_be_reflected_are_refused(
    mode: str, side: int, photo_folder: Path
) -> None:
    """Of three positions, two can be reflected without the outermost one, and all three with it."""
    around = [[0, 0], [2, 2], [2, 2], [0, 0]]
    pixels = keras.Input((None, None, 3), name="photo")
    small = layers.AveragePooling2D(16)(conv(4, name="a")(pixels))
    model = settle(keras.Model(pixels, conv(3, name="b")(ops.pad(small, around, mode=mode))))
    geometry = vggnorm.Geometry(16 * side)
    assert vggnorm.compute_means(model, photo_folder, geometry=geometry).image_count
    geometry = vggnorm.Geometry(16 * side - 1)
    with pytest.raises(NetworkError, match="too small to reflect 2 of .*; use larger photos"):
        vggnorm.compute_means(model, photo_folder, geometry=geometry)


def test_operations_are_found_in_models_inside() -> None:
    whole = chain(between(lambda x: ops.max_pool(ops.relu(x), 2)), conv(3), lambda x: x / 2)
    assert operations_in(whole) == ["Relu", "MaxPool", "TrueDivide"]
    assert operations_in(keras.Sequential([photo(), whole])) == operations_in(whole)
    assert operations_in(keras.Sequential([photo(), conv(3)])) == []


@pytest.mark.parametrize("inside", [False, True])
def test_pooling_by_an_operation_is_named_and_not_replaced(inside: bool, tmp_path: Path) -> None:
    model = between(lambda x: ops.max_pool(x, 2))
    if inside:
        model = keras.Sequential([photo(), model])
    assert read_graph(model).pooling == "max"
    model.save(tmp_path / "model.keras")
    with pytest.raises(NetworkError, match="operation max_pool, which cannot be replaced"):
        vggnorm.load_network(str(tmp_path / "model.keras"), pooling="avg")
    advised = chain(conv(4, name="a"), layers.MaxPooling2D(), conv(3, name="b"))
    advised.set_weights(model.get_weights())
    advised.save(tmp_path / "advised.keras")
    averaged = vggnorm.load_network(str(tmp_path / "advised.keras"), pooling="avg")
    assert read_graph(averaged).pooling == "avg"


@pytest.mark.parametrize("front", [lambda x: ops.cast(x, "float32") / 255, layers.Rescaling(1.0)])
def test_whole_numbers_in_front(front: Any, photo_folder: Path) -> None:
    """A filter cannot take whole numbers; what is advised in the message can."""

    def network(make: Any) -> Any:
        pixels = keras.Input((32, 32, 3), dtype="uint8", name="photo")
        return settle(keras.Model(pixels, conv(4, name="a")(make(pixels))))

    with pytest.raises(NetworkError, match=r"layer a: is given whole numbers \(uint8\), .*Resc"):
        vggnorm.compute_means(network(layers.Identity()), photo_folder, preprocessing="none")
    model = network(front)
    means = vggnorm.compute_means(model, photo_folder, preprocessing="none")
    assert vggnorm.verify(model, vggnorm.normalize(model, means), photo_folder, means).passed
    with pytest.raises(NetworkError, match="of type uint8, which cannot hold"):
        vggnorm.compute_means(model, photo_folder, preprocessing="tf")


def test_the_advice_for_an_operation_that_files_may_not_name_works(
    photo_folder: Path, tmp_path: Path
) -> None:
    pixels = photo(32, 32)
    model = settle(keras.Model(pixels, conv(4, name="a")(ops.cumsum(pixels / 255, axis=1))))
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        NetworkError, match=r"names keras\.src\.ops\.numpy\.Cumsum, .*; if you trust it, load it"
    ):
        vggnorm.load_network(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert vggnorm.compute_means(loaded, photo_folder, preprocessing="none").image_count
