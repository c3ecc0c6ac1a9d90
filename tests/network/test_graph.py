"""Which filters of a network are normalized, and which networks are refused, by name."""

import functools
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from zoo import HEIGHT, NETWORKS, WIDTH, chain, conv, photo, settle

from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means
from vggnorm.network.graph import Graph, read_graph

# What is normalized


def kept(model: Any, **options: Any) -> dict[str, str]:
    return read_graph(model, **options).kept


def test_the_convolutions_of_vgg() -> None:
    for application, convolutions in (
        (keras.applications.VGG16, 13),
        (keras.applications.VGG19, 16),
    ):
        graph = read_graph(application(weights=None, include_top=False))
        assert len(graph.sites) == convolutions
        assert list(graph.filters)[:3] == ["block1_conv1", "block1_conv2", "block2_conv1"]
        assert (graph.kept, graph.pooling) == ({}, "max")
    graph = read_graph(keras.applications.VGG16(weights=None, input_shape=(32, 32, 3)))
    assert len(graph.sites) == 13
    assert sum(graph.filters.values()) == 4224
    assert graph.kept == {
        "fc1": "it is a dense layer",
        "fc2": "it is a dense layer",
        "predictions": "no rectified linear unit follows it directly (softmax)",
    }


def test_what_is_kept_and_why() -> None:
    model = chain(
        conv(4, name="a"),
        conv(3, activation=None, name="b"),
        conv(2, name="c"),
        layers.Softmax(name="end"),
    )
    assert kept(model) == {
        "b": "no rectified linear unit follows it directly (linear)",
        "c": "the input of end must not change",
    }
    model = chain(conv(4, name="a"), conv(3, name="b"), layers.GlobalAveragePooling2D())
    assert kept(model) == {"b": "an output without positions must not change"}


def test_the_measured_activation_stands_behind_the_rectifier() -> None:
    relu = layers.ReLU(name="relu")
    model = chain(
        conv(4, activation=None, name="a"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        relu,
        conv(2),
    )
    assert read_graph(model).sites["a"].activation is relu.output


def test_a_linear_output_that_is_used_twice_is_not_normalized() -> None:
    pixels = photo()
    shared = conv(4, activation=None, name="shared")(pixels)
    both = layers.Concatenate()([layers.ReLU()(shared), layers.LeakyReLU()(shared)])
    model = keras.Model(pixels, conv(3, name="last")(both))
    assert set(kept(model)) == {"shared"}


@pytest.mark.parametrize(
    ("steps", "pooling"),
    [
        ([layers.MaxPooling2D(2)], "max"),
        ([layers.AveragePooling2D(2)], "avg"),
        ([layers.AveragePooling2D(2), layers.MaxPooling2D(2)], "max+avg"),
        ([layers.GlobalAveragePooling2D(keepdims=True)], "none"),
        ([], "none"),
    ],
)
def test_the_kinds_of_pooling(steps: list[Any], pooling: str) -> None:
    assert read_graph(chain(conv(4), *steps)).pooling == pooling


# What is refused


class Local(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A custom layer."""

    def call(self, inputs: Any) -> Any:
        return inputs


BENDS = "its output is not proportional to its input"

CLIPS = "it is clipped or has a threshold"

REFUSED = [
    (
        layers.Activation("sigmoid", name="odd"),
        f"Activation with 'sigmoid' stands before other filters, and {BENDS}",
    ),
    (layers.Activation("tanh", name="odd"), f"Activation with 'tanh' .* {BENDS}"),
    (layers.Activation("gelu", name="odd"), f"Activation with 'gelu' .* {BENDS}"),
    (layers.Activation("swish", name="odd"), f"Activation with 'silu' .* {BENDS}"),
    (layers.Activation("relu6", name="odd"), f"Activation with 'relu6' .* {CLIPS}"),
    (layers.Activation("softmax", name="odd"), f"Activation with 'softmax' .* {BENDS}"),
    (
        layers.Activation(functools.partial(keras.activations.relu, max_value=6), name="odd"),
        "Activation with 'partial'",
    ),
    (
        layers.Activation(layers.ReLU(), name="odd"),
        "Activation with 'ReLU' .* its activation is itself a layer, .*; use a layer",
    ),
    (layers.Softmax(name="odd"), f"Softmax stands .* {BENDS}"),
    (layers.ELU(name="odd"), f"ELU stands .* {BENDS}"),
    (layers.ReLU(6, name="odd"), f"ReLU stands .* {CLIPS}"),
    (layers.ReLU(threshold=1, name="odd"), f"ReLU stands .* {CLIPS}"),
    (layers.LayerNormalization(name="odd"), "LayerNormalization stands .* it undoes every scale"),
    (
        layers.GroupNormalization(2, name="odd"),
        "GroupNormalization stands .* it undoes every scale",
    ),
    (Local(name="odd"), "Local stands .* it is not known to pass a scale on"),
    (layers.Rescaling(0.5, offset=-1, name="odd"), "Rescaling stands .* it adds a constant"),
    (
        layers.Rescaling(0.5, offset=[0, 0, 0, 1], name="odd"),
        "Rescaling stands .* it adds a constant",
    ),
    (
        layers.Resizing(20, 30, pad_to_aspect_ratio=True, fill_value=1, name="odd"),
        "Resizing stands .* it adds a constant",
    ),
    (conv(4, activation="sigmoid", name="odd"), f"Conv2D with 'sigmoid' .* {BENDS}"),
    (conv(4, activation="relu6", name="odd"), f"Conv2D with 'relu6' .* {CLIPS}"),
    (layers.Dense(4, activation="gelu", name="odd"), f"Dense with 'gelu' .* {BENDS}"),
]


@pytest.mark.parametrize(
    ("layer", "text"), REFUSED, ids=[f"{type(one).__name__}-{text[:30]}" for one, text in REFUSED]
)
def test_what_is_not_homogeneous_is_refused_inside(layer: Any, text: str) -> None:
    advice = (
        "replace it, or leave out the layers from there on: "
        r"keras.Model\(model.inputs, model.get_layer\('first'\)"
    )
    with pytest.raises(NetworkError, match=f"^layer odd: {text}.*; {advice}"):
        read_graph(chain(conv(4, name="first"), layer, conv(3)))


@pytest.mark.parametrize(
    "layer", [layer for layer, _ in REFUSED], ids=[type(layer).__name__ for layer, _ in REFUSED]
)
def test_at_the_end_it_is_accepted_and_what_feeds_it_kept(layer: Any) -> None:
    graph = read_graph(chain(conv(4, name="first"), conv(4, name="last"), layer))
    takes_scales_in = isinstance(layer, layers.Conv2D | layers.Dense)
    assert list(graph.sites) == (["first", "last"] if takes_scales_in else ["first"])


@pytest.mark.parametrize("kind", [layers.Add, layers.Average, layers.Maximum, layers.Multiply])
def test_branches_that_are_added_are_refused(kind: Any) -> None:
    pixels = photo()
    stem = conv(4)(pixels)
    joined = kind(name="joined")([stem, conv(4)(stem)])
    with pytest.raises(
        NetworkError, match=f"layer joined: {kind.__name__} stands .* would need one common scale"
    ):
        read_graph(keras.Model(pixels, conv(3)(joined)))


class Two(layers.Layer):  # type: ignore[misc]
    """Gives its input twice."""

    def call(self, inputs: Any) -> Any:
        return inputs, inputs


class Sum(layers.Layer):  # type: ignore[misc]
    """Takes two arguments."""

    def call(self, inputs: Any, other: Any) -> Any:
        return inputs + other


class Doubling(keras.Operation):  # type: ignore[misc]  # Keras has no types
    """An operation of the user's own."""

    def call(self, x: Any) -> Any:
        return 2 * x

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: chain(conv(4), Doubling(name="odd"), conv(3)),
            "layer odd: is an operation that is not Keras's own, .*; write it as a layer",
        ),
        (
            lambda: chain(layers.Lambda(abs, name="odd"), conv(3)),
            "layer odd: is a Lambda, whose code can be neither",
        ),
        (
            lambda: chain(layers.TimeDistributed(layers.Dense(3), name="odd"), conv(3)),
            "layer odd: holds layers of its own",
        ),
        (
            lambda: chain(lambda x: Two(name="odd")(conv(3)(x))[0]),
            "layer odd: gives several tensors; leave it out",
        ),
        (
            lambda: chain(conv(3), lambda x: Sum(name="odd")(x, x)),
            "layer odd: is called with several arguments",
        ),
    ],
)
def test_what_could_not_be_copied_and_saved_is_refused_anywhere(make: Any, text: str) -> None:
    with pytest.raises(NetworkError, match=text):
        read_graph(make())


def test_weights_of_an_unknown_kind_are_refused() -> None:
    model = chain(conv(4), layers.Dense(4, activation="relu", name="odd"), conv(3))
    model.get_layer("odd").enable_lora(2)
    with pytest.raises(
        NetworkError,
        match="layer odd: has weights of an unknown kind, lora_kernel_a, lora_kernel_b",
    ):
        read_graph(model)


def test_scales_that_do_not_follow_the_positions_are_refused_with_one_filter_too() -> None:
    pixels = photo()
    joined = layers.Concatenate(axis=1, name="joined")([conv(1)(pixels), conv(1)(pixels)])
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(keras.Model(pixels, conv(3, name="odd")(joined)))
    turned = [
        conv(4),
        layers.Reshape((HEIGHT * WIDTH, 4)),
        layers.Permute((2, 1)),
        layers.UpSampling1D(2, name="odd"),
    ]
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(*turned, layers.Conv1D(3, 1, activation="relu")))


def test_a_layer_with_weights_that_is_used_twice_is_refused() -> None:
    pixels, shared = photo(), conv(3, name="shared")
    with pytest.raises(NetworkError, match="layer shared: is used more than once"):
        read_graph(keras.Model(pixels, shared(shared(pixels))))


def test_joining_along_positions_is_refused() -> None:
    pixels = photo()
    joined = layers.Concatenate(axis=1, name="joined")([conv(4)(pixels), conv(4)(pixels)])
    with pytest.raises(
        NetworkError,
        match="layer joined: joins tensors along an axis that is not the axis of their channels",
    ):
        read_graph(keras.Model(pixels, conv(3)(joined)))


def test_mixing_channels_and_positions_is_refused() -> None:
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(conv(4), layers.Permute((3, 2, 1)), conv(3, name="odd")))
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(
            chain(
                conv(4), layers.MaxPooling2D(2, data_format="channels_first", name="odd"), conv(3)
            )
        )
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(conv(4), layers.BatchNormalization(axis=1, name="odd"), conv(3)))


def test_flattening_photos_of_any_size_is_refused() -> None:
    pixels = keras.Input((None, None, 3))
    tensor = layers.Reshape((-1, 4), name="odd")(conv(4)(pixels))
    with pytest.raises(
        NetworkError, match="layer odd: needs a network whose photos have a fixed size; build"
    ):
        read_graph(keras.Model(pixels, layers.Conv1D(3, 1, activation="relu")(tensor)))


def test_networks_without_filters_to_normalize_are_refused() -> None:
    with pytest.raises(
        NetworkError, match="has no layer whose filters can be normalized; only: no rectified"
    ):
        read_graph(chain(conv(4, activation=None, name="only")))
    with pytest.raises(NetworkError, match="has no layer whose filters can be normalized$"):
        read_graph(chain(layers.MaxPooling2D(2)))


def test_other_inputs_are_refused() -> None:
    one, other = photo(), keras.Input((HEIGHT, WIDTH, 3), name="other")
    with pytest.raises(NetworkError, match="has 2 inputs; it must take photos and nothing else"):
        read_graph(keras.Model([one, other], layers.Concatenate()([conv(4)(one), conv(4)(other)])))
    with pytest.raises(
        NetworkError, match="is not a functional or built sequential model of Keras 3; build it"
    ):
        read_graph(keras.Sequential([conv(4)]))
    grey = keras.Input((32, 32, 1))
    with pytest.raises(NetworkError, match=", not photos of 3 colours"):
        compute_means(keras.Model(grey, conv(4)(grey)), "no folder is looked for")


def test_a_refusal_comes_before_any_photo_is_looked_for() -> None:
    with pytest.raises(NetworkError, match="layer odd"):
        compute_means(chain(conv(4), layers.Softmax(name="odd"), conv(3)), "no such folder")


def test_graphs_are_read_without_a_trace(photo_folder: Path) -> None:
    """Reading and measuring a network must not add calls to its layers."""
    model = settle(NETWORKS["moved channels"]())
    assert isinstance(read_graph(model), Graph)
    compute_means(model, photo_folder)
    for layer in model.layers:
        assert len(vars(layer)["_inbound_nodes"]) == 1, layer.name  # there is no public count
