"""Models inside a model: opened, measured, normalized and saved as one network."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from nests import NESTS, SIDE, augmentation, base, conv, photos, settle, transfer, twice_nested

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.graph import read_graph
from vggnorm.network.nesting import opened
from vggnorm.network.padding import with_padding
from vggnorm.network.paths import leaf_layers, lookup
from vggnorm.network.storage import load_network, save_network
from vggnorm.network.weights import load_weights, weights_sha256
from vggnorm.normalization import normalize
from vggnorm.photos.finding import find_photos
from vggnorm.photos.reader import PhotoReader
from vggnorm.verification import verify

NOISE = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=NESTS)
def nest(request: pytest.FixtureRequest) -> Any:
    keras.utils.set_random_seed(0)
    return settle(NESTS[request.param]())


def measured(model: Any, folder: Path) -> FilterMeans:
    return vggnorm.compute_means(model, folder, preprocessing="none")


def predicted(model: Any) -> list[np.ndarray]:
    return [np.asarray(output) for output in keras.tree.flatten(model.predict(NOISE, verbose=0))]


def assert_alike(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Float32 rounds to 6e-8, some hundred times along the few layers of these networks."""
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_an_opened_network_predicts_the_same(nest: Any) -> None:
    flat = opened(nest)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert_alike(predicted(flat), predicted(nest))


def test_a_network_without_models_inside_is_left_as_it_is() -> None:
    model = base()
    assert opened(model) is model


def test_opening_leaves_the_users_layers_alone() -> None:
    """Another call of a layer would make its `output` ambiguous, and Keras would raise."""
    model = settle(transfer())
    opened(model)
    assert model.get_layer("base").get_layer("one").output is not None


def test_the_means_inside_are_those_of_the_model_inside(photo_folder: Path) -> None:
    """What the base gives for prepared photos is worked out with the base alone."""
    model = settle(transfer())
    means = measured(model, photo_folder)
    assert list(means.mean) == ["base.one", "base.two"]
    pixels = _pixels(photo_folder)
    inside = model.get_layer("base")
    first = keras.Model(inside.inputs, inside.get_layer("one").output)
    activation = first.predict(pixels / 127.5 - 1, verbose=0)
    # 1e-5: the activations are summed in float32, here in another order.
    np.testing.assert_allclose(means.mean["base.one"], activation.mean((0, 1, 2)), rtol=1e-5)


def _pixels(folder: Path) -> np.ndarray:
    """Read the photos of a folder as the reader does, by its own public function."""
    reader = PhotoReader(find_photos(folder), vggnorm.Geometry(SIDE))
    return np.concatenate([batch.pixels for batch in reader.batches(8)]).astype(np.float32)


def test_a_normalized_network_keeps_its_models_and_what_it_computes(
    nest: Any, photo_folder: Path
) -> None:
    means = measured(nest, photo_folder)
    normalized = normalize(nest, means)
    assert list(leaf_layers(normalized)) == list(leaf_layers(nest))
    divisors = read_graph(nest).rescale(means.mean).outputs
    restored = [
        found * divisor for found, divisor in zip(predicted(normalized), divisors, strict=True)
    ]
    assert_alike(restored, predicted(nest))
    again = measured(normalized, photo_folder)
    for name, mean in again.mean.items():
        np.testing.assert_allclose(mean, 1, atol=1e-4, err_msg=name)
    assert verify(nest, normalized, photo_folder, means).passed


def test_a_saved_network_is_the_same_in_keras_and_here(
    nest: Any, photo_folder: Path, tmp_path: Path
) -> None:
    means = measured(nest, photo_folder)
    normalized = normalize(nest, means)
    path = tmp_path / "normalized.h5"
    save_network(normalized, path, means)
    wanted = predicted(normalized)
    assert_alike(predicted(keras.models.load_model(path)), wanted)
    loaded = load_network(path)
    assert_alike(predicted(loaded), wanted)
    assert weights_sha256(loaded) == weights_sha256(normalized)


IN_KERAS_2 = """
import sys, numpy as np, tf_keras
for path in sys.argv[1:]:
    model = tf_keras.models.load_model(path, compile=False)
    found = model.predict(np.load(path + ".npy"), verbose=0)
    found = found if isinstance(found, list) else [found]
    np.savez(path + ".npz", *found)
"""


def test_keras_2_loads_and_predicts_the_same(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {}
    for name, make in NESTS.items():
        model = settle(make())
        path = tmp_path / f"{name}.h5"
        save_network(model, path)
        np.save(f"{path}.npy", NOISE)
        wanted[str(path)] = predicted(model)
    subprocess.run([sys.executable, "-c", IN_KERAS_2, *wanted], check=True)
    for saved, outputs in wanted.items():
        with np.load(f"{saved}.npz") as arrays:
            assert_alike(list(arrays.values()), outputs)


OF_KERAS_2 = """
import sys, numpy as np, tf_keras as keras
layers = keras.layers
keras.utils.set_random_seed(0)
pixels = keras.Input((24, 24, 3))
base = keras.Model(pixels, layers.Conv2D(4, 3, activation="relu", name="one")(pixels), name="base")
front = keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255.0)], name="front")
relu = keras.Sequential([keras.Input((20, 20, 3)), layers.ReLU()], name="relu")
photos = keras.Input((24, 24, 3))
tensor = relu(layers.Conv2D(3, 3, name="two")(base(front(photos), training=False)))
tensor = relu(layers.Conv2D(3, 1, name="three")(tensor))
model = keras.Model(photos, tensor)
for path in sys.argv[1:-1]:
    model.save(path)
np.save(sys.argv[-1], model.predict(np.load(sys.argv[-1]), verbose=0))
"""


def test_files_of_keras_2_are_read(tmp_path: Path) -> None:
    """Keras 3 itself takes the second call of a model in such a file for the first."""
    paths = [tmp_path / "old.h5", tmp_path / "old.keras"]
    noise = tmp_path / "noise.npy"
    np.save(noise, NOISE)
    subprocess.run([sys.executable, "-c", OF_KERAS_2, *map(str, paths), str(noise)], check=True)
    for path in paths:
        model = load_network(path)
        assert list(read_graph(model).filters) == ["base.one", "two", "three"]
        assert_alike(predicted(model), [np.load(noise)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_keras_3_are_read(nest: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    nest.save(path)
    model = load_network(path)
    assert_alike(predicted(model), predicted(nest))
    assert read_graph(model).filters == read_graph(nest).filters


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5", "whole.weights.h5"])
def test_the_weights_of_a_model_inside_are_found(name: str, tmp_path: Path) -> None:
    whole = settle(transfer())
    path = tmp_path / name
    whole.save_weights(path) if ".weights." in name else whole.save(path)
    part = base()
    load_weights(part, path)
    assert weights_sha256(part) == weights_sha256(whole.get_layer("base"))


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5"])
def test_a_model_inside_of_one_layer_has_that_layer(name: str, tmp_path: Path) -> None:
    pixels = photos()
    inside = keras.Model(pixels, conv(4, "one")(pixels), name="inside")
    head = keras.Sequential([layers.Flatten(), layers.Dense(2, name="scores")], name="head")
    model = settle(keras.Model(pixels, head(inside(pixels))))
    model.save(tmp_path / name)
    with open_weights(tmp_path / name) as file:
        found = {path: len(tensors) for path, tensors in file.layers.items() if tensors}
    assert found == {"inside.one": 2, "head.scores": 2}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_two_inputs_is_refused_in_words(suffix: str, tmp_path: Path) -> None:
    pixels = [photos(), keras.Input((SIDE, SIDE, 3), name="others")]
    path = tmp_path / f"two{suffix}"
    keras.Model(pixels, conv(3, "one")(layers.Concatenate()(pixels)), name="two").save(path)
    with pytest.raises(NetworkError, match="two: has 2 inputs; it must take photos and nothing"):
        load_network(path)


def test_weights_that_fit_twice_are_refused(tmp_path: Path) -> None:
    pixels = photos()
    copies = []
    for name in ("left", "right"):
        tensor = conv(4, "one")(pixels)
        copies.append(keras.Model(pixels, conv(5, "two")(tensor), name=name))
    joined = layers.Concatenate()([copy(pixels) for copy in copies])
    path = tmp_path / "two.weights.h5"
    keras.Model(pixels, joined).save_weights(path)
    with pytest.raises(NetworkError, match=r"in several models, left and right; give the file of"):
        load_weights(base(), path)


def shared() -> Any:
    """A model with filters that is called twice."""
    pixels = photos()
    same = keras.Model(pixels, conv(3, "one")(pixels), name="same")
    return keras.Model(pixels, same(same(pixels)))


def shared_layer() -> Any:
    """Two models that hold the same layer."""
    pixels = photos()
    layer = conv(3, "one")
    first = keras.Model(pixels, layer(pixels), name="first")
    second = keras.Model(pixels, layer(pixels), name="second")
    return keras.Model(pixels, second(first(pixels)))


def clashing() -> Any:
    pixels = photos()
    inside = keras.Model(pixels, conv(3, "one")(pixels), name="inside")
    return keras.Model(pixels, conv(3, "inside.one")(inside(pixels)))


class Own(keras.Model):  # type: ignore[misc]
    """A model whose class says what it computes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.one = conv(3, "one")

    def call(self, inputs: Any) -> Any:
        return self.one(inputs)


def of_own_class() -> Any:
    pixels = photos()
    return keras.Model(pixels, conv(3, "two")(Own(name="own")(pixels)))


def own_inside() -> Any:
    pixels = photos()
    inside = keras.Sequential([pixels, Own(name="own")], name="inside")
    return keras.Model(pixels, conv(3, "two")(inside(pixels)))


def rounding(dtype: str = "uint8") -> Any:
    """A model inside that takes whole numbers and is given others."""
    whole = keras.Input((SIDE, SIDE, 3), dtype=dtype)
    inside = keras.Model(whole, layers.Rescaling(1.0)(whole), name="inside")
    pixels = photos()
    return keras.Model(pixels, conv(3, "one")(inside(layers.Rescaling(0.5)(pixels))))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (shared, r"layer same\.one: is used more than once, .*; give each use a layer of its own"),
        (shared_layer, r"layer second\.one: is the same layer as first\.one, .*; give each model"),
        (clashing, r"layer inside\.one: is the name of a layer and also the path .*; rename one"),
        (of_own_class, "layer own: holds layers of its own, .*; build the network from those"),
        (own_inside, r"layer inside\.own: holds layers of its own, .*; build the network from"),
        (rounding, "layer inside: is a model whose input is of type uint8, .*; build it with an"),
    ],
)
def test_what_cannot_be_opened_is_refused(make: Any, text: str) -> None:
    with pytest.raises(NetworkError, match=f"^{text}"):
        read_graph(make())


def test_the_advice_on_shared_layers_works() -> None:
    pixels = photos()
    parts = [keras.Model(pixels, conv(3, "one")(pixels), name=name) for name in ("a", "b")]
    assert list(read_graph(keras.Model(pixels, parts[1](parts[0](pixels)))).filters) == [
        "a.one",
        "b.one",
    ]


def test_the_advice_on_an_input_that_rounds_works() -> None:
    assert list(read_graph(rounding(dtype="float32")).filters) == ["one"]


def test_the_advice_to_rename_a_layer_works() -> None:
    model = clashing()
    model.layers[-1].name = "other"
    assert list(read_graph(model).filters) == ["inside.one", "other"]


def test_the_advice_to_leave_out_layers_works_inside() -> None:
    """What the message says is run as a program."""
    pixels = photos()
    tensor = conv(3, "one")(pixels)
    added = layers.Add(name="sum")([tensor, conv(3, "two")(tensor)])
    inside = keras.Model(pixels, conv(3, "three")(added), name="inside")
    model = keras.Model(pixels, conv(3, "one")(inside(pixels)))
    with pytest.raises(NetworkError, match=r"layer inside\.sum: Add stands before") as caught:
        read_graph(model)
    advice = str(caught.value).rpartition("from there on: ")[2]
    part = eval(advice, {"keras": keras, "model": model})
    assert list(read_graph(part).filters) == ["one"]


def test_the_place_of_a_layer_is_written_as_a_program_finds_it() -> None:
    model = twice_nested()
    holder, name = lookup(model, "inner.base.two")
    found = eval(holder, {"model": model}).get_layer(name)
    assert found is leaf_layers(model)["inner.base.two"]
    assert lookup(model, "one") == ("model", "one")


def test_reflection_padding_is_for_the_part_alone() -> None:
    """What stands in front and pads nothing, such as augmentation, is not that part."""
    model = settle(transfer())
    with pytest.raises(NetworkError, match="layer base: is a model inside") as caught:
        with_padding(model, "reflect")
    assert "give that part alone: model.get_layer('base')" in str(caught.value)
    assert with_padding(model.get_layer("base"), "reflect") is not None
    assert with_padding(model, "zeros") is model


def test_reflection_padding_behind_augmentation() -> None:
    pixels = photos()
    tensor = layers.MaxPooling2D()(conv(4, "one")(augmentation()(pixels)))
    model = settle(keras.Model(pixels, conv(5, "two")(tensor)))
    wanted = settle(base())
    wanted.set_weights(model.get_weights())
    assert_alike(
        predicted(with_padding(model, "reflect")), predicted(with_padding(wanted, "reflect"))
    )


def test_average_pooling_reaches_the_models_inside(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    settle(transfer()).save(path)
    graph = read_graph(load_network(path, pooling="avg"))
    assert graph.pooling == "avg"
