"""The rule on networks of all kinds: the function is kept, every filter's mean becomes 1, and the rest is refused."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from zoo import HEIGHT, NETWORKS, WIDTH, chain, conv, head, photo, settle

import vggnorm
from vggnorm.errors import MeansError, NetworkError
from vggnorm.graph import Graph, read_graph
from vggnorm.measure import compute_means
from vggnorm.network import load_network, normalize, save_network
from vggnorm.verification import verify


def pixels_for(model: Any, count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-120, 120, (count, *model.inputs[0].shape[1:])).astype(np.float32)


def outputs_of(model: Any, pixels: np.ndarray) -> list[np.ndarray]:
    first = any(getattr(layer, "data_format", None) == "channels_first" for layer in model.layers)
    run = tf.function(model, jit_compile=True) if first else model  # TensorFlow may have no such convolution on a CPU
    return [np.asarray(output, dtype=np.float64) for output in keras.tree.flatten(run(pixels, training=False))]


def assert_same_function(model: Any, normalized: Any, means: Any) -> None:
    """Outputs, times what the rule says they are divided by, are the original's to 1e-5 of their range."""
    scales = {layer: np.where(mean > 0, mean, 1) for layer, mean in means.mean.items()}
    divisors = read_graph(model, dense=means.recipe.dense).rescale(scales).outputs
    pixels = pixels_for(model)
    for before, after, divisor in zip(outputs_of(model, pixels), outputs_of(normalized, pixels), divisors, strict=True):
        assert np.abs(after * divisor - before).max() <= 1e-5 * np.ptp(before)
        if before.ndim == 2:  # class scores: the original's as they are
            np.testing.assert_array_equal(divisor, 1)


def assert_means_are_1(normalized: Any, means: Any, folder: Path) -> None:
    again = compute_means(normalized, folder, dense=means.recipe.dense)
    counted = 0
    for layer, values in again.mean.items():
        fires = means.mean[layer] > 0
        np.testing.assert_allclose(values[fires], 1, atol=1e-4, err_msg=layer)
        counted += fires.sum()
    assert counted >= means.filter_count / 2


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest, photo_folder: Path) -> tuple[Any, Any, Any]:
    """A network, its means, and what it becomes."""
    model = settle(NETWORKS[request.param]())
    means = compute_means(model, photo_folder)
    return model, means, normalize(model, means)


def test_the_function_is_kept(case: tuple[Any, Any, Any]) -> None:
    model, means, normalized = case
    assert_same_function(model, normalized, means)
    changed = [
        not np.array_equal(one, other) for one, other in zip(model.get_weights(), normalized.get_weights(), strict=True)
    ]
    assert any(changed)


def test_every_mean_becomes_1(case: tuple[Any, Any, Any], photo_folder: Path) -> None:
    _, means, normalized = case
    assert_means_are_1(normalized, means, photo_folder)


def test_verify_passes_and_names_stay(case: tuple[Any, Any, Any], photo_folder: Path) -> None:
    model, means, normalized = case
    assert [layer.name for layer in normalized.layers] == [layer.name for layer in model.layers]
    report = verify(model, normalized, photo_folder, means)
    assert report.means.passed, report
    assert report.activations.passed, report
    assert len(report.activations.relative) == len(means.mean) + len(model.outputs)


KERAS_2 = """
import sys
import numpy as np
import tf_keras
model = tf_keras.models.load_model(sys.argv[1], compile=False)
pixels = np.load(sys.argv[2])
outputs = model(pixels, training=False)
outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
np.savez(sys.argv[3], *[np.asarray(output) for output in outputs])
"""


@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated:UserWarning")  # as Keras 2 calls negative_slope
def test_saved_it_loads_in_keras_3_and_keras_2(case: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, means, normalized = case
    save_network(normalized, tmp_path / "norm.h5", means)
    loaded = keras.models.load_model(tmp_path / "norm.h5", compile=False)
    for one, other in zip(loaded.get_weights(), normalized.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    pixels = pixels_for(model)
    expected = outputs_of(normalized, pixels)
    for found, output in zip(outputs_of(loaded, pixels), expected, strict=True):
        np.testing.assert_array_equal(found, output)

    np.save(tmp_path / "pixels.npy", pixels)
    files = [tmp_path / name for name in ("norm.h5", "pixels.npy", "outputs.npz")]
    done = subprocess.run(
        [sys.executable, "-c", KERAS_2, *files], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    with np.load(files[-1]) as found:
        for index, output in enumerate(expected):
            np.testing.assert_allclose(found[f"arr_{index}"], output, rtol=1e-4, atol=1e-5 * np.abs(output).max())


def test_hidden_dense_layers_are_normalized_on_request(photo_folder: Path) -> None:
    model = settle(chain(conv(4), *head()))
    means = compute_means(model, photo_folder, dense=True)
    assert [len(values) for values in means.mean.values()] == [4, 7]
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)
    assert verify(model, normalized, photo_folder, means).passed
    assert len(compute_means(model, photo_folder).mean) == 1


def test_flattening_keeps_the_order_of_channels_first(photo_folder: Path) -> None:
    """The trap: features of one channel lie side by side, or one of each channel, as Keras has it."""
    options = {"data_format": "channels_first"}
    pixels = keras.Input((3, HEIGHT, WIDTH), name="photo")
    tensor = conv(5, strides=2, **options)(pixels)
    tensor = layers.MaxPooling2D(2, **options)(tensor)
    tensor = layers.BatchNormalization(axis=1)(conv(4, **options)(tensor))
    tensor = layers.Flatten(**options)(tensor)
    model = settle(keras.Model(pixels, layers.Dense(3, activation="softmax")(tensor)))
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)


def test_global_pooling_leaves_the_channels_first(photo_folder: Path) -> None:
    options = {"data_format": "channels_first"}
    pixels = keras.Input((3, HEIGHT, WIDTH), name="photo")
    tensor = layers.GlobalMaxPooling2D(keepdims=True, **options)(conv(4, strides=2, **options)(pixels))
    tensor = layers.Flatten(**options)(conv(5, 1, **options)(tensor))
    model = settle(keras.Model(pixels, layers.Dense(3)(tensor)))
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)


# What is normalized


def kept(model: Any, **options: Any) -> dict[str, str]:
    return read_graph(model, **options).kept


def test_the_convolutions_of_vgg() -> None:
    for application, convolutions in ((keras.applications.VGG16, 13), (keras.applications.VGG19, 16)):
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
    model = chain(conv(4, name="a"), conv(3, activation=None, name="b"), conv(2, name="c"), layers.Softmax(name="end"))
    assert kept(model) == {
        "b": "no rectified linear unit follows it directly (linear)",
        "c": "the input of end must not change",
    }
    model = chain(conv(4, name="a"), conv(3, name="b"), layers.GlobalAveragePooling2D())
    assert kept(model) == {"b": "an output without positions must not change"}


def test_the_measured_activation_stands_behind_the_rectifier() -> None:
    relu = layers.ReLU(name="relu")
    model = chain(
        conv(4, activation=None, name="a"), layers.BatchNormalization(), layers.MaxPooling2D(2), relu, conv(2)
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
def test_the_pooling_is_told(steps: list[Any], pooling: str) -> None:
    assert read_graph(chain(conv(4), *steps)).pooling == pooling


# Refused by name


class Local(layers.Layer):
    """A layer that nobody knows."""

    def call(self, inputs: Any) -> Any:
        return inputs


BENDS = "its output is not proportional to its input"
CLIPS = "it is clipped or has a threshold"
REFUSED = [
    (layers.Activation("sigmoid", name="odd"), f"Activation with 'sigmoid' stands before other filters, and {BENDS}"),
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
        "Activation with 'ReLU' .* its activation is a layer, .*: give a layer",
    ),
    (layers.Softmax(name="odd"), f"Softmax stands .* {BENDS}"),
    (layers.ELU(name="odd"), f"ELU stands .* {BENDS}"),
    (layers.ReLU(6, name="odd"), f"ReLU stands .* {CLIPS}"),
    (layers.ReLU(threshold=1, name="odd"), f"ReLU stands .* {CLIPS}"),
    (layers.LayerNormalization(name="odd"), "LayerNormalization stands .* it undoes every scale"),
    (layers.GroupNormalization(2, name="odd"), "GroupNormalization stands .* it undoes every scale"),
    (Local(name="odd"), "Local stands .* it is not known to pass a scale on"),
    (layers.Rescaling(0.5, name="odd"), "Rescaling stands .* it is not known to pass a scale on"),
    (conv(4, activation="sigmoid", name="odd"), f"Conv2D with 'sigmoid' .* {BENDS}"),
    (conv(4, activation="relu6", name="odd"), f"Conv2D with 'relu6' .* {CLIPS}"),
    (layers.Dense(4, activation="gelu", name="odd"), f"Dense with 'gelu' .* {BENDS}"),
]


@pytest.mark.parametrize(("layer", "text"), REFUSED, ids=[f"{type(one).__name__}-{text[:30]}" for one, text in REFUSED])
def test_what_is_not_homogeneous_is_refused_inside(layer: Any, text: str) -> None:
    advice = r"replace it, or leave out the layers from there on: keras.Model\(model.inputs, model.get_layer\('first'\)"
    with pytest.raises(NetworkError, match=f"^layer odd: {text}.*; {advice}"):
        read_graph(chain(conv(4, name="first"), layer, conv(3)))


@pytest.mark.parametrize("layer", [layer for layer, _ in REFUSED], ids=[type(layer).__name__ for layer, _ in REFUSED])
def test_at_the_end_it_is_accepted_and_what_feeds_it_kept(layer: Any) -> None:
    graph = read_graph(chain(conv(4, name="first"), conv(4, name="last"), layer))
    takes_scales_in = isinstance(layer, layers.Conv2D | layers.Dense)
    assert list(graph.sites) == (["first", "last"] if takes_scales_in else ["first"])


@pytest.mark.parametrize("kind", [layers.Add, layers.Average, layers.Maximum, layers.Multiply])
def test_branches_that_are_added_are_refused(kind: Any) -> None:
    pixels = photo()
    stem = conv(4)(pixels)
    joined = kind(name="joined")([stem, conv(4)(stem)])
    with pytest.raises(NetworkError, match=f"layer joined: {kind.__name__} stands .* would have to share one scale"):
        read_graph(keras.Model(pixels, conv(3)(joined)))


class Two(layers.Layer):
    """Gives its input twice."""

    def call(self, inputs: Any) -> Any:
        return inputs, inputs


class Sum(layers.Layer):
    """Takes two arguments."""

    def call(self, inputs: Any, other: Any) -> Any:
        return inputs + other


def nested() -> Any:
    return chain(conv(4), layers.Flatten(), keras.Sequential([layers.Dense(3)], name="odd"))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: chain(conv(4), lambda x: x * 2.0, conv(3)), r"layer \w+: is an operation, and no layer; write it as"),
        (lambda: chain(lambda x: x / 127.5 - 1, conv(3)), r"layer \w+: is an operation, and no layer; write it as"),
        (
            lambda: chain(layers.Lambda(abs, name="odd"), conv(3)),
            "layer odd: is a Lambda, whose code is neither",
        ),
        (nested, r"layer odd: holds layers of its own, .*give that part alone: model.get_layer\('odd'\)"),
        (
            lambda: chain(layers.TimeDistributed(layers.Dense(3), name="odd"), conv(3)),
            "layer odd: holds layers of its own",
        ),
        (lambda: chain(lambda x: Two(name="odd")(conv(3)(x))[0]), "layer odd: gives several tensors; leave it out"),
        (
            lambda: chain(conv(3), lambda x: layers.BatchNormalization(name="odd")(x, training=True)),
            "layer odd: is called with training=True, .*; leave that out",
        ),
        (lambda: chain(conv(3), lambda x: Sum(name="odd")(x, x)), "layer odd: is called with several arguments"),
    ],
)
def test_what_could_not_be_copied_and_saved_is_refused_anywhere(make: Any, text: str) -> None:
    with pytest.raises(NetworkError, match=text):
        read_graph(make())


def test_weights_of_an_unknown_kind_are_refused() -> None:
    model = chain(conv(4), layers.Dense(4, activation="relu", name="odd"), conv(3))
    model.get_layer("odd").enable_lora(2)
    with pytest.raises(NetworkError, match="layer odd: has weights of an unknown kind, lora_kernel_a, lora_kernel_b"):
        read_graph(model)


def test_half_of_a_size_is_refused(photo_folder: Path) -> None:
    pixels = keras.Input((64, None, 3))
    with pytest.raises(NetworkError, match="fixes one side of the photos, .*; build it with both, or with none"):
        compute_means(keras.Model(pixels, conv(3)(pixels)), photo_folder)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"photo": x}], ids=["list", "dict"])
def test_inputs_in_a_list_or_dict_as_in_files_of_keras_2(wrap: Any, photo_folder: Path) -> None:
    pixels = photo()
    model = settle(keras.Model(wrap(pixels), layers.Dense(3)(layers.Flatten()(conv(3)(conv(4)(pixels))))))
    means = compute_means(model, photo_folder)
    normalized = normalize(model, means)
    assert verify(model, normalized, photo_folder, means).passed
    assert [layer.name for layer in normalized.layers] == [layer.name for layer in model.layers]


def test_an_adapted_normalization_in_front(photo_folder: Path) -> None:
    pixels, prepared = photo(), layers.Normalization()
    model = keras.Model(pixels, conv(3, name="two")(conv(4, name="one")(prepared(pixels))))
    prepared.adapt(np.random.default_rng(0).normal(80, 30, (8, HEIGHT, WIDTH, 3)))
    means = compute_means(model, photo_folder, preprocessing="none")
    normalized = normalize(model, means)
    report = verify(model, normalized, photo_folder, means)
    assert report.activations.passed, report
    assert report.means.passed, report


def test_scales_that_do_not_follow_the_positions_are_refused_with_one_filter_too() -> None:
    pixels = photo()
    joined = layers.Concatenate(axis=1, name="joined")([conv(1)(pixels), conv(1)(pixels)])
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(keras.Model(pixels, conv(3, name="odd")(joined)))
    turned = [conv(4), layers.Reshape((HEIGHT * WIDTH, 4)), layers.Permute((2, 1)), layers.UpSampling1D(2, name="odd")]
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
        NetworkError, match="layer joined: joins tensors along an axis that is not that of their channels"
    ):
        read_graph(keras.Model(pixels, conv(3)(joined)))


def test_mixing_channels_and_positions_is_refused() -> None:
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(conv(4), layers.Permute((3, 2, 1)), conv(3, name="odd")))
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(conv(4), layers.MaxPooling2D(2, data_format="channels_first", name="odd"), conv(3)))
    with pytest.raises(NetworkError, match="layer odd: mixes values of different scales"):
        read_graph(chain(conv(4), layers.BatchNormalization(axis=1, name="odd"), conv(3)))


def test_flattening_photos_of_any_size_is_refused() -> None:
    pixels = keras.Input((None, None, 3))
    tensor = layers.Reshape((-1, 4), name="odd")(conv(4)(pixels))
    with pytest.raises(NetworkError, match="layer odd: needs a network whose photos have a fixed size; build"):
        read_graph(keras.Model(pixels, layers.Conv1D(3, 1, activation="relu")(tensor)))


def test_networks_without_filters_to_normalize_are_refused() -> None:
    with pytest.raises(NetworkError, match="has no layer whose filters can be normalized; only: no rectified"):
        read_graph(chain(conv(4, activation=None, name="only")))
    with pytest.raises(NetworkError, match="has no layer whose filters can be normalized$"):
        read_graph(chain(layers.MaxPooling2D(2)))


def test_other_inputs_are_refused() -> None:
    one, other = photo(), keras.Input((HEIGHT, WIDTH, 3), name="other")
    with pytest.raises(NetworkError, match="has 2 inputs; it must take photos and nothing else"):
        read_graph(keras.Model([one, other], layers.Concatenate()([conv(4)(one), conv(4)(other)])))
    with pytest.raises(NetworkError, match="is no functional or built sequential model of Keras 3; build it"):
        read_graph(keras.Sequential([conv(4)]))
    grey = keras.Input((32, 32, 1))
    with pytest.raises(NetworkError, match="and not photos of 3 colours"):
        compute_means(keras.Model(grey, conv(4)(grey)), "no folder is looked for")


def test_a_refusal_comes_before_any_photo_is_looked_for() -> None:
    with pytest.raises(NetworkError, match="layer odd"):
        compute_means(chain(conv(4), layers.Softmax(name="odd"), conv(3)), "no such folder")


# Means that do not fit


def test_means_of_another_pooling_are_refused(photo_folder: Path) -> None:
    max_pooled, avg_pooled = (
        settle(chain(conv(4), kind(2), conv(3))) for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
    )
    means = compute_means(max_pooled, photo_folder)
    assert means.recipe.pooling == "max"
    for one, other in zip(max_pooled.layers, avg_pooled.layers, strict=True):
        if one.weights:
            other.name = one.name
    with pytest.raises(MeansError, match="measured with max pooling, and this network has avg pooling; give the same"):
        normalize(avg_pooled, means)


def test_a_negative_mean_is_possible_behind_a_leak_only(photo_folder: Path) -> None:
    def network(activation: str) -> Any:
        model = settle(
            chain(conv(4, name="first"), conv(3, activation=activation, name="second"), layers.MaxPooling2D(2))
        )
        kernel, _ = model.get_layer("second").get_weights()
        model.get_layer("second").set_weights([kernel, np.array([-50.0, 1.0, 1.0])])
        return model

    model = network("leaky_relu")
    means = compute_means(model, photo_folder)
    assert means.mean["second"][0] < 0
    assert means.silent["second"].tolist() == [0]
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    vggnorm.save_means(means, photo_folder.parent / "leaky.npy", force=True)
    assert vggnorm.load_means(photo_folder.parent / "leaky.npy").mean["second"][0] < 0

    rectified = compute_means(network("relu"), photo_folder)
    rectified.mean["second"][0] = -1
    with pytest.raises(MeansError, match="the mean of second is negative at filter 0"):
        normalize(network("relu"), rectified)


# Random networks


def random_network(seed: int) -> Any:
    """Build a random network out of what is supported, with branches and any kind of end."""
    random = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    def activated(tensor: Any, make: Any) -> Any:
        """Call a layer with its rectifier inside, behind it, or behind a batch normalization."""
        kind = random.integers(4)
        if kind == 0:
            return make(activation=pick("relu", "leaky_relu"))(tensor)
        tensor = make(activation=None, use_bias=bool(random.integers(2)))(tensor)
        if kind == 1:
            tensor = layers.BatchNormalization(epsilon=float(random.uniform(1e-3, 0.5)))(tensor)
        rectifier = pick(layers.ReLU(), layers.LeakyReLU(0.3), layers.PReLU(), layers.Activation("relu"))
        tensor = rectifier(tensor)
        return layers.BatchNormalization()(tensor) if kind == 2 else tensor

    def filtered(tensor: Any) -> Any:
        filters, channels = int(random.integers(2, 6)), tensor.shape[-1]
        same = {"padding": "same"}
        return activated(
            tensor,
            pick(
                lambda **options: layers.Conv2D(filters, 3, **same, **options),
                lambda **options: layers.Conv2D(channels * 2, 3, groups=channels, **same, **options),
                lambda **options: layers.DepthwiseConv2D(3, depth_multiplier=2, **same, **options),
                lambda **options: layers.SeparableConv2D(filters, 3, depth_multiplier=2, **same, **options),
                lambda **options: layers.Conv2DTranspose(filters, 3, **same, **options),
            ),
        )

    def passed(tensor: Any) -> Any:
        return pick(
            layers.MaxPooling2D(2, 1),
            layers.AveragePooling2D(3, 1),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(1),
            layers.UpSampling2D(1),
            layers.Dropout(0.3),
        )(tensor)

    tensor = pixels = keras.Input((int(random.integers(14, 18)), int(random.integers(14, 18)), 3), name="photo")
    tensor = conv(4)(tensor)
    for _ in range(random.integers(2, 5)):
        step = random.integers(3)
        if step == 0:
            tensor = layers.Concatenate()([filtered(tensor), filtered(filtered(tensor)), tensor])
        else:
            tensor = filtered(tensor) if step == 1 else passed(tensor)
    end = random.integers(4)
    if end == 0:
        tensor = layers.Dense(3, activation="softmax")(layers.Flatten()(tensor))
    elif end == 1:
        tensor = layers.Dense(3)(layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(tensor)))
    elif end == 2:
        tensor = layers.Softmax()(layers.GlobalMaxPooling2D()(conv(3, 1)(tensor)))
    return settle(keras.Model(pixels, tensor), seed)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_keep_their_function_and_get_means_of_1(seed: int, photo_folder: Path) -> None:
    model = random_network(seed)
    means = compute_means(model, photo_folder, dense=bool(seed % 2))
    normalized = normalize(model, means)
    assert_same_function(model, normalized, means)
    assert_means_are_1(normalized, means, photo_folder)


# Networks from files


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_file_is_a_network(suffix: str, photo_folder: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from vggnorm.cli import main

    model = settle(NETWORKS["SqueezeNet-like"]())
    path = tmp_path / f"squeeze{suffix}"
    model.save(path)
    common = ["--network", str(path)]
    data = ["--data", str(photo_folder)]

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, list(arguments))

    result = run("compute-means", *common, *data, "-o", str(tmp_path / "means.npy"))
    assert result.exit_code == 1
    assert "a model file does not say what it takes photos as; give --preprocessing" in result.stderr
    result = run("compute-means", *common, *data, "--preprocessing", "none", "-o", str(tmp_path / "means.npy"))
    assert result.exit_code == 0, result.output
    assert "classes is not normalized: the input of " in result.stdout
    assert f"geometry  {HEIGHT} x {WIDTH}" in result.stdout
    arguments = "normalize", "--means", str(tmp_path / "means.npy"), "-o", str(tmp_path / "norm.h5")
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"measured on squeeze{suffix}; give that model's file with --network" in result.stderr
    result = run(*arguments, *common)
    assert result.exit_code == 0, result.output
    result = run("verify", str(tmp_path / "norm.h5"), *data, *common, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"]
    assert run("inspect", str(tmp_path / "norm.h5")).exit_code == 0


def test_a_size_the_network_does_not_take_is_refused(photo_folder: Path) -> None:
    with pytest.raises(NetworkError, match=rf"takes photos of {HEIGHT} x {WIDTH} pixels \(height x width\), not of 64"):
        compute_means(settle(chain(conv(4))), photo_folder, size=64)


def test_options_of_vgg_and_a_model_file(photo_folder: Path, tmp_path: Path) -> None:
    model = settle(chain(conv(4), layers.MaxPooling2D(2, name="pool"), conv(3)))
    model.save(tmp_path / "model.keras")
    averaging = load_network(str(tmp_path / "model.keras"), pooling="avg")
    assert isinstance(averaging.get_layer("pool"), layers.AveragePooling2D)
    assert compute_means(averaging, photo_folder).recipe.pooling == "avg"
    with pytest.raises(NetworkError, match="include_top is for vgg16 and vgg19; a model file is as it is"):
        load_network(str(tmp_path / "model.keras"), include_top=True)


@pytest.mark.parametrize("name", ["absent.keras", "absent.h5"])
def test_a_missing_model_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="there is no such file; give a .keras or .h5 file of a model"):
        load_network(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text"),
    [("bad.keras", "cannot be loaded as a Keras model: "), ("bad.h5", "cannot be read")],
)
def test_a_damaged_model_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(NetworkError, match=rf"{name}: {text}"):
        load_network(str(tmp_path / name))


def test_a_model_file_brings_its_own_weights(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="a model file has its own weights; leave out --weights"):
        load_network(str(tmp_path / "model.keras"), "weights.h5")


def test_average_pooling_in_the_place_of_max(random_vgg16: Path) -> None:
    model, averaging = load_network("vgg16", random_vgg16), load_network("vgg16", random_vgg16, pooling="avg")
    assert [layer.name for layer in averaging.layers][1:] == [layer.name for layer in model.layers][1:]
    for one, other in zip(model.layers[1:], averaging.layers[1:], strict=True):
        expected = layers.AveragePooling2D if isinstance(one, layers.MaxPooling2D) else type(one)
        assert type(other) is expected
        assert getattr(other, "strides", None) == getattr(one, "strides", None)
        for array, copied in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(array, copied)
    with pytest.raises(NetworkError, match="the pooling 'min' is not known; it must be one of max, avg"):
        load_network("vgg16", random_vgg16, pooling="min")


@pytest.mark.parametrize("preprocessing", ["caffe", "torch", "tf", "none"])
def test_photos_are_prepared_as_keras_does_it(preprocessing: Any, photo_folder: Path) -> None:
    """A 1x1 convolution that copies the three colours shows what the network was given."""
    model = chain(conv(3, 1), height=8, width=8)
    offset = np.full(3, 200.0, np.float32)
    model.layers[1].set_weights([np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3), offset])
    means = compute_means(model, photo_folder, preprocessing=preprocessing, limit=1)
    path = vggnorm.images.find_photos(photo_folder).shuffled(0).names[0]
    pixels = vggnorm.images.decode_photo(photo_folder / path, vggnorm.geometry.Geometry(8)).astype(np.float64)
    expected = {
        "caffe": pixels[..., ::-1] - [103.939, 116.779, 123.68],
        "torch": (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "tf": pixels / 127.5 - 1,
        "none": pixels,
    }[preprocessing]
    (found,) = means.mean.values()
    np.testing.assert_allclose(found, expected.mean(axis=(0, 1)) + 200, rtol=1e-5)


def test_an_unknown_preprocessing_is_refused(photo_folder: Path) -> None:
    with pytest.raises(NetworkError, match="the preprocessing 'vgg' is not known; it must be one of caffe, torch, tf"):
        compute_means(chain(conv(3)), photo_folder, preprocessing="vgg")  # type: ignore[arg-type]


def test_graphs_are_read_without_a_trace(photo_folder: Path) -> None:
    """Reading and measuring a network must not add calls to its layers, by which `layer.output` would be lost."""
    model = settle(NETWORKS["moved channels"]())
    assert isinstance(read_graph(model), Graph)
    compute_means(model, photo_folder)
    for layer in model.layers:
        assert len(layer._inbound_nodes) == 1, layer.name
