"""Networks that Keras refuses at the size of a run are refused before it, and the advice works."""

import ast
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means, geometry_for
from vggnorm.network.copies import require_same_outputs
from vggnorm.network.trial import failure_of, require_runs, sizes_that_run
from vggnorm.photos.geometry import Geometry


def conv(tensor: Any, filters: int = 4, **options: Any) -> Any:
    settings = {"padding": "same", "activation": "relu", **options}
    return layers.Conv2D(filters, 3, **settings)(tensor)


def u_net(depth: int) -> Any:
    """A network that joins each map with one from before the pooling, of any size."""
    photo = tensor = keras.Input((None, None, 3))
    before = []
    for _ in range(depth):
        tensor = conv(tensor)
        before.append(tensor)
        tensor = layers.MaxPooling2D()(tensor)
    for early in reversed(before):
        tensor = layers.UpSampling2D()(tensor)
        tensor = conv(layers.Concatenate()([early, tensor]))
    return keras.Model(photo, tensor, name="u_net")


def odd() -> Any:
    """Takes photos whose sides are odd: it loses one position, and joins what must be even then."""
    photo = keras.Input((None, None, 3))
    even = layers.Conv2D(4, 2, activation="relu")(photo)
    coarse = layers.UpSampling2D()(layers.MaxPooling2D()(even))
    return keras.Model(photo, conv(layers.Concatenate()([even, coarse])), name="odd")


def small_maps() -> Any:
    """Four times a convolution without padding and a pooling: 46 pixels are the least."""
    photo = tensor = keras.Input((None, None, 3))
    for _ in range(4):
        tensor = layers.MaxPooling2D()(conv(tensor, padding="valid"))
    return keras.Model(photo, tensor, name="small_maps")


def cropped() -> Any:
    photo = keras.Input((None, None, 3))
    return keras.Model(photo, conv(conv(layers.Cropping2D(40)(photo))), name="cropped")


def joined_before_the_filters() -> Any:
    photo = keras.Input((None, None, 3))
    coarse = layers.UpSampling2D()(layers.AveragePooling2D(2)(photo))
    return keras.Model(photo, conv(layers.Add()([photo, coarse])), name="joined")


@pytest.mark.parametrize(
    ("network", "size", "layer", "sizes"),
    [
        (u_net(1), 101, "Concatenate", [96, 128]),
        (u_net(2), 102, "Concatenate", [96, 128]),
        (u_net(5), 48, "Concatenate", [32, 64]),
        (small_maps(), 32, "Conv2D", [64, 96]),
        (cropped(), 64, "Cropping2D", [96, 128]),
        (joined_before_the_filters(), 33, "Add", [32, 64]),
        (odd(), 64, "Concatenate", [63, 65]),
    ],
)
def test_a_size_that_keras_refuses_is_told_before_any_photo_and_others_are_named(
    network: Any, size: int, layer: str, sizes: list[int], tmp_path: Path, photo_folder: Path
) -> None:
    (tmp_path / "no photo.jpg").touch()  # reading it would be another error
    with pytest.raises(NetworkError) as raised:
        compute_means(network, tmp_path, geometry=geometry_for(network, size))
    text = str(raised.value)
    start = f"{network.name}: cannot run on photos of {size} x {size} pixels (height x width): "
    assert text.startswith(start)
    assert re.search(rf"layer \w+ \({layer}\): ", text)
    assert "\n" not in text
    found = re.search(r"; use --size (\d+) or (\d+)$", text)
    assert found is not None
    assert [int(advised) for advised in found.groups()] == sizes
    for advised in sizes:
        means = compute_means(network, photo_folder, geometry=geometry_for(network, advised))
        assert means.image_count == 9


def test_the_layer_that_is_named_is_the_first_that_keras_refuses() -> None:
    network = u_net(2)
    names = [layer.name for layer in network.layers if isinstance(layer, layers.Concatenate)]
    with pytest.raises(NetworkError, match=rf"layer {names[0]} \(Concatenate\)"):
        require_runs(network, (102, 102))  # 51 pixels after the first pooling, 25 after the second
    with pytest.raises(NetworkError, match=rf"layer {names[1]} \(Concatenate\)"):
        require_runs(network, (101, 101))


def test_a_side_alone_may_be_wrong() -> None:
    with pytest.raises(NetworkError, match="; use photos of 32 x 128 or 64 x 96 pixels$"):
        require_runs(u_net(1), (64, 101))
    require_runs(u_net(1), (64, 96))
    require_runs(u_net(1), (32, 128))


def test_the_trial_says_what_running_says() -> None:
    for network in (u_net(2), small_maps(), odd()):
        for size in range(40, 50):
            blank = np.zeros((1, size, size, 3), np.float32)
            try:
                network(keras.ops.convert_to_tensor(blank))
            except Exception:
                runs = False
            else:
                runs = True
            assert (failure_of(network, (size, size)) is None) == runs


def test_a_network_that_runs_at_no_size_gets_another_advice() -> None:
    photo = keras.Input((None, None, 3))
    both = layers.Concatenate()([conv(photo), layers.ZeroPadding2D(1)(conv(photo))])
    network = keras.Model(photo, conv(both), name="never")
    assert sizes_that_run(network, (64, 64)) == []
    with pytest.raises(NetworkError, match="; mend that layer, or leave out the layers from there"):
        require_runs(network, (64, 64))


@pytest.mark.parametrize("name", ["conv 1", "фильтр", "a'b\"c", "größe", "(1)"])
def test_a_layer_name_that_tensorflow_does_not_take_is_replaced_as_advised(
    name: str, photo_folder: Path, tmp_path: Path
) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow makes scopes of the names")
    photo = keras.Input((None, None, 3))
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(photo)
    network = keras.Model(photo, conv(first), name="named")
    with pytest.raises(NetworkError) as raised:
        compute_means(network, photo_folder, geometry=Geometry(32))
    text = str(raised.value)
    found = re.search(r"only: model\.get_layer\((.+)\)\.name = (.+)$", text)
    assert found is not None
    named, plain = (ast.literal_eval(part) for part in found.groups())
    assert named == name
    network.get_layer(named).name = plain
    means = compute_means(network, photo_folder, geometry=Geometry(32))
    assert next(iter(means.mean)) == plain
    normalized = vggnorm.normalize(network, means)
    vggnorm.save_network(normalized, tmp_path / "named.h5", means)
    loaded = vggnorm.load_network(tmp_path / "named.h5")
    assert vggnorm.verify(network, loaded, photo_folder, means).passed


def test_a_new_name_is_not_one_that_another_layer_has() -> None:
    photo = keras.Input((None, None, 3))
    first = layers.Conv2D(4, 3, activation="relu", name="a_b")(photo)
    second = layers.Conv2D(4, 3, activation="relu", name="a b")(first)
    with pytest.raises(NetworkError, match=r"name = 'a_b_1'$"):
        require_runs(keras.Model(photo, second), (32, 32))


def test_the_name_of_the_network_does_not_matter(photo_folder: Path) -> None:
    photo = keras.Input((None, None, 3))
    network = keras.Model(photo, conv(photo), name="my network")
    assert compute_means(network, photo_folder, geometry=Geometry(32)).image_count == 9


def test_what_a_layer_of_the_users_own_says_is_told() -> None:
    class Own(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, inputs: Any) -> Any:
            if inputs.shape[1] == 40:
                raise ValueError("forty is not for me\nnor is this line")
            return inputs

    photo = keras.Input((None, None, 3))
    network = keras.Model(photo, conv(Own(name="own")(photo)), name="net")
    with pytest.raises(NetworkError, match=r"own \(Own\): forty is not for me; use --size 32"):
        require_runs(network, (40, 40))


def test_a_mistake_in_a_layer_of_the_users_own_keeps_its_traceback() -> None:
    class Own(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs if inputs.shape[1] is None else inputs.nothing

    photo = keras.Input((None, None, 3))
    network = keras.Model(photo, conv(Own()(photo)))
    with pytest.raises(AttributeError):
        require_runs(network, (32, 32))


def test_nothing_is_computed() -> None:
    require_runs(u_net(3), (4096, 4096))  # takes gigabytes when it is run
    with pytest.raises(NetworkError, match="use --size"):
        require_runs(u_net(3), (4097, 4097))


def test_two_networks_are_compared_at_a_size_that_they_take() -> None:
    photo = keras.Input((None, None, 3))
    large = layers.Cropping2D(120)(conv(photo))  # takes neither 224 pixels nor fewer
    network = keras.Model(photo, large, name="large")
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    require_same_outputs(network, copy, "a copy")
    larger = keras.Model(photo, layers.Cropping2D(300)(conv(photo)), name="larger")
    with pytest.raises(NetworkError, match="larger: cannot be run on noise .* an input of a fixed"):
        require_same_outputs(larger, larger, "a copy")


@pytest.mark.parametrize("axis", [1, 2, -2])
@pytest.mark.parametrize("filters", [1, 2])
def test_maps_of_any_size_that_are_joined_side_by_side_are_refused(
    axis: int, filters: int, photo_folder: Path
) -> None:
    photo = keras.Input((None, None, 3))
    both = [conv(photo, filters, name=f"branch{index}") for index in range(2)]
    joined = layers.Concatenate(axis=axis, name="joined")(both)
    with pytest.raises(NetworkError, match="layer joined: joins .* leave out the layers from"):
        compute_means(keras.Model(photo, conv(joined)), photo_folder)
    left = keras.Model(photo, both)  # the advice
    assert compute_means(left, photo_folder, geometry=Geometry(32)).image_count == 9
