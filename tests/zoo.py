"""Small networks of many kinds, with random weights that make every filter fire."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

HEIGHT, WIDTH = 40, 56  # not square, so that a mix-up of the two shows


def settle(model: Any, seed: int = 0) -> Any:
    """Give all layers random weights that keep activations near 1 and make every filter fire."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        arrays = []
        for variable, array in zip(layer.weights, layer.get_weights(), strict=True):
            if "kernel" in variable.name:
                transposed = type(layer).__name__.endswith("Transpose")
                fan_in = np.prod(array.shape) / array.shape[-2 if transposed else -1]
                arrays.append(random.normal(0, 0.4 / np.sqrt(fan_in), array.shape))
            else:
                low, high = {
                    "bias": (1, 2),
                    "gamma": (0.3, 0.6),
                    "beta": (1, 2),
                    "moving_mean": (0.5, 1.5),
                    "moving_variance": (0.3, 2.0),
                    "alpha": (0.1, 0.4),
                }[variable.name]
                arrays.append(random.uniform(low, high, array.shape))
        layer.set_weights(arrays)
    first = next(layer for layer in model.layers if layer.weights)
    # Pixels are large, so the kernel of the first layer must be small.
    first.set_weights([array / 100 if array.ndim > 1 else array for array in first.get_weights()])
    return model


def photo(height: int = HEIGHT, width: int = WIDTH) -> Any:
    return keras.Input((height, width, 3), name="photo")


def conv(filters: int, size: int | tuple[int, int] = 3, **options: Any) -> Any:
    return layers.Conv2D(filters, size, **({"activation": "relu", "padding": "same"} | options))


def chain(*steps: Any, height: int = HEIGHT, width: int = WIDTH) -> Any:
    tensor = pixels = photo(height, width)
    for step in steps:
        tensor = step(tensor)
    return keras.Model(pixels, tensor)


def head(classes: int = 5) -> list[Any]:
    return [
        layers.Flatten(),
        layers.Dense(7, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(classes, "softmax"),
    ]


def alexnet() -> Any:
    return chain(
        layers.Conv2D(8, 7, strides=2, activation="relu"),
        layers.MaxPooling2D(3, 2),
        layers.ZeroPadding2D(2),
        layers.Conv2D(12, 5, groups=2, activation="relu"),
        layers.MaxPooling2D(3, 2),
        conv(10),
        layers.Conv2D(8, 3, groups=2, padding="same"),
        layers.ReLU(),
        *head(),
    )


def squeezenet() -> Any:
    def fire(tensor: Any, squeeze: int, expand: int) -> Any:
        tensor = conv(squeeze, 1)(tensor)
        return layers.Concatenate()([conv(expand, 1)(tensor), conv(expand, 3)(tensor)])

    pixels = photo()
    tensor = layers.MaxPooling2D(3, 2)(layers.Conv2D(8, 3, strides=2, activation="relu")(pixels))
    tensor = fire(fire(tensor, 4, 6), 5, 7)
    tensor = conv(5, 1, name="classes")(layers.Dropout(0.5)(tensor))
    return keras.Model(pixels, layers.Softmax()(layers.GlobalAveragePooling2D()(tensor)))


def batch_normalized(before: bool) -> Any:
    """A network with batch normalization before or after each activation."""
    steps: list[Any] = []
    for filters in (6, 8, 7):
        bn = layers.BatchNormalization(epsilon=0.1, center=filters != 8, scale=filters != 7)
        if before:
            steps += [
                layers.Conv2D(filters, 3, use_bias=filters == 8),
                bn,
                layers.Activation("relu"),
            ]
        else:
            steps += [conv(filters), bn]
        steps.append(layers.MaxPooling2D(2))
    return chain(*steps, *head())


def separate_activations() -> Any:
    relu = layers.ReLU()  # a layer without weights may be used several times
    return chain(
        conv(6, activation=None), relu, conv(5, activation=None), relu, layers.AveragePooling2D(2),
        conv(4, activation=None), layers.MaxPooling2D(2), layers.Activation("relu"), *head(),
    )  # fmt: skip


def leaky() -> Any:
    return chain(
        conv(6, activation=None), layers.LeakyReLU(0.2),
        conv(5, activation=None), layers.PReLU(shared_axes=[1, 2]),
        conv(4, activation="leaky_relu"),
        conv(4, activation=None), layers.ReLU(negative_slope=0.1), *head(),
    )  # fmt: skip


def depthwise_separable() -> Any:
    return chain(
        conv(4),
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
        layers.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu"),
        layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.ReLU(),
        conv(5, 1, activation=None), layers.BatchNormalization(), layers.ReLU(),
        layers.DepthwiseConv2D(3),  # not normalized, as it has no rectifier
        layers.SeparableConv2D(4, 3, use_bias=False, activation="relu"),
        layers.GlobalMaxPooling2D(keepdims=True), *head(),
    )  # fmt: skip


def all_convolutional() -> Any:
    return chain(
        conv(6),
        conv(8, strides=2),
        conv(7, 1),
        conv(5, 1, name="classes"),
        layers.GlobalAveragePooling2D(),
    )


def decoder() -> Any:
    return chain(
        conv(6, strides=2),
        layers.Conv2DTranspose(5, 3, strides=2, activation="relu"),
        layers.Cropping2D(1), layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Conv2DTranspose(4, 2, use_bias=False), layers.ReLU(),
        conv(3, 1, activation="sigmoid"),
    )  # fmt: skip


def one_dimensional() -> Any:
    return chain(
        layers.Reshape((HEIGHT, WIDTH * 3)),
        layers.Conv1D(6, 3, activation="relu"), layers.MaxPooling1D(2), layers.ZeroPadding1D(1),
        layers.SeparableConv1D(5, 3, activation="relu"),
        layers.DepthwiseConv1D(3, activation="relu"),
        layers.Conv1DTranspose(4, 3, activation="relu"),
        layers.UpSampling1D(2), layers.Cropping1D(1),
        layers.GlobalAveragePooling1D(), layers.Dense(3),
    )  # fmt: skip


def three_dimensional() -> Any:
    return chain(
        layers.Reshape((HEIGHT, WIDTH, 3, 1)),
        layers.Conv3D(4, 3, padding="same", activation="relu"), layers.AveragePooling3D((2, 2, 1)),
        layers.Conv3DTranspose(3, 3, activation="relu"),
        layers.ZeroPadding3D(1), layers.MaxPooling3D(2),
        layers.Cropping3D(((1, 0), (0, 1), (1, 0))), layers.UpSampling3D(2), conv_3d_last(),
        layers.Flatten(), layers.Dense(3, activation="softmax"),
    )  # fmt: skip


def conv_3d_last() -> Any:
    return layers.Conv3D(3, (2, 3, 1), activation="relu")


def moved_channels() -> Any:
    """Channels move and come back, or are laid out as features."""
    return chain(
        conv(4),
        layers.Permute((3, 1, 2)), layers.Permute((2, 3, 1)),
        conv(6, strides=4),
        layers.Reshape((HEIGHT // 4 * WIDTH // 4, 6)), layers.Conv1D(5, 1, activation="relu"),
        layers.Reshape((-1,)), layers.Dense(4, activation="relu"), layers.Reshape((1, 4)),
        layers.Dense(3), layers.Flatten(),
    )  # fmt: skip


def resized() -> Any:
    """Augmentation, resizing, cropping and rescaling in front and between the filters."""
    return chain(
        layers.RandomFlip(), layers.Resizing(40, 40), conv(5), layers.RandomZoom(0.2),
        layers.Resizing(20, 30, crop_to_aspect_ratio=True),
        conv(4, activation=None), layers.Rescaling([0.5, 2.0, 1.0, 0.1]), layers.ReLU(),
        layers.CenterCrop(16, 18), conv(3, activation=None), layers.RandomContrast(0.5),
        layers.LeakyReLU(0.1), layers.Rescaling(0.3), *head(),
    )  # fmt: skip


def several_outputs() -> Any:
    pixels = photo()
    one = conv(4, name="one")(pixels)
    two = conv(5, name="two")(layers.MaxPooling2D(2)(one))
    scores = layers.Dense(3)(layers.GlobalMaxPooling2D()(conv(6, name="three")(two)))
    return keras.Model(pixels, [one, two, scores])


def prepared_inside() -> Any:
    """Any layers may come before the first filter."""
    return chain(
        layers.Rescaling(1 / 127.5, offset=-1), layers.Activation("tanh"), conv(4), conv(3), *head()
    )


def normalized_pixels() -> Any:
    """A batch normalization of the photo itself, and one after a dense layer."""
    return chain(
        layers.BatchNormalization(), conv(4),
        layers.GlobalMaxPooling2D(keepdims=True), layers.Flatten(),
        layers.Dense(5, activation="relu"), layers.BatchNormalization(), layers.Dense(3),
    )  # fmt: skip


def sequential() -> Any:
    return keras.Sequential([photo(), conv(4), layers.MaxPooling2D(2), conv(5), *head()])


def vgg(application: Callable[..., Any]) -> Any:
    return application(weights=None, include_top=True, input_shape=(32, 64, 3), classes=6)


NETWORKS: dict[str, Callable[[], Any]] = {
    "VGG16 with top": lambda: vgg(keras.applications.VGG16),
    "VGG19 with top": lambda: vgg(keras.applications.VGG19),
    "AlexNet-like": alexnet,
    "SqueezeNet-like": squeezenet,
    "batch normalization before": lambda: batch_normalized(before=True),
    "batch normalization after": lambda: batch_normalized(before=False),
    "separate activations": separate_activations,
    "leaky": leaky,
    "depthwise-separable": depthwise_separable,
    "all-convolutional": all_convolutional,
    "decoder": decoder,
    "one-dimensional": one_dimensional,
    "three-dimensional": three_dimensional,
    "moved channels": moved_channels,
    "resized": resized,
    "several outputs": several_outputs,
    "prepared inside": prepared_inside,
    "sequential": sequential,
    "normalized pixels": normalized_pixels,
    "single filters": lambda: chain(conv(1), conv(1), layers.Flatten(), layers.Dense(3)),
}
