"""The loss of neural style transfer: Gatys, Ecker and Bethge, CVPR 2016, equations 1 to 7.

A layer has N filters at M positions. F (M x N) are its activations for the picture that is being
made, P those for the content picture, and A is the Gram matrix for the style picture.

    content     C_l = 1 / (2 N M) * sum (F - P)^2
    Gram        G   = F^T F / M
    style       E_l = 1 / (4 N^2) * sum (G - A)^2
    total       content_weight * mean of C_l + style_weight * sum of w_l E_l, where the w_l sum to 1

E_l is that of the paper, but each Gram matrix is divided by the M of its own picture, so that the
style picture may have another size. C_l is that of the paper divided by N M. So it does not grow
with the picture or the layer, and one content_weight fits all sizes.

If you divide all activations of a layer by c, you divide its C_l by c^2 and its E_l by c^4. That is
why a network whose filters have very different mean activations needs weights tuned by hand, and a
normalized network does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from vggnorm.errors import NetworkError
from vggnorm.network.compilation import JIT_COMPILE
from vggnorm.network.instruments import photo_size

Tensor = Any  # a tensor of Keras's backend


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Return half the mean squared difference of two feature maps of one shape."""
    return ops.mean(ops.square(features - target)) / 2


def gram_matrix(features: Tensor) -> Tensor:
    """Return the mean over positions of the products of any two filters.

    Args:
        features: activations, `(1, height, width, n)`.

    Returns:
        The Gram matrix, `(n, n)`.
    """
    flat = ops.reshape(features, (-1, features.shape[-1]))  # (positions, n)
    return ops.matmul(ops.transpose(flat), flat) / ops.cast(ops.shape(flat)[0], flat.dtype)


def style_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Return a quarter of the mean squared difference of two Gram matrices `(n, n)`."""
    return ops.mean(ops.square(gram - target)) / 4


@dataclass(frozen=True)
class Weights:
    """The layers to compare, and the weights of their losses.

    Attributes:
        content_layers: layers to compare the content in; they count equally.
        style_layers: layer name -> weight w_l; the weights are divided by their sum before use.
        content: content_weight, the weight of the mean over the content layers.
        style: style_weight, the weight of the weighted mean over the style layers.
    """

    content_layers: Sequence[str]
    style_layers: Mapping[str, float]
    content: float
    style: float


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, without weights.

    Attributes:
        content: layer name -> C_l.
        style: layer name -> E_l.
    """

    content: dict[str, float]
    style: dict[str, float]


class Objective:
    """The loss of a picture and its gradient, for a network, a content and a style picture.

    Pictures are `(height, width, 3)`, RGB 0..255. The content picture and the one that is made have
    the same size.
    """

    def __init__(
        self, model: keras.Model, content: NDArray[Any], style: NDArray[Any], weights: Weights
    ) -> None:
        """Run the two pictures through the network, and keep the features to compare with.

        Raises:
            NetworkError: the backend of Keras is not TensorFlow, which gives the gradients; or the
                network lacks one of the layers, or takes pictures of one size only.
        """
        if keras.backend.backend() != "tensorflow":
            raise NetworkError(
                "style transfer takes gradients from TensorFlow, and Keras works with "
                f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
            )
        if (size := photo_size(model)) is not None:
            raise NetworkError(
                f"{model.name}: takes pictures of {size[0]} x {size[1]} only; give a network "
                "without dense layers"
            )
        self.weights = weights
        self._activating = _activations(model, {*weights.content_layers, *weights.style_layers})
        content_features, style_features = self._features(content), self._features(style)
        self._content = {name: content_features[name] for name in weights.content_layers}
        self._gram = {name: gram_matrix(style_features[name]) for name in weights.style_layers}
        self._gradient = tf.function(self._value_and_gradient, jit_compile=JIT_COMPILE)

    def losses(self, picture: NDArray[Any]) -> Losses:
        """Return the parts of the loss for a picture."""
        content, style = self._parts(_batch(picture))
        return Losses(
            content={name: float(loss) for name, loss in content.items()},
            style={name: float(loss) for name, loss in style.items()},
        )

    def value_and_gradient(self, picture: NDArray[Any]) -> tuple[float, NDArray[np.float32]]:
        """Return the loss of a picture, and its derivative by every pixel, `(height, width, 3)`."""
        value, gradient = self._gradient(_batch(picture))
        return float(value), gradient.numpy()[0]

    def _features(self, picture: NDArray[Any]) -> dict[str, Tensor]:
        return self._activate(_batch(picture))

    def _activate(self, batch: Tensor) -> dict[str, Tensor]:
        activations: dict[str, Tensor] = self._activating(
            keras.applications.vgg16.preprocess_input(batch)
        )
        return activations

    def _parts(self, batch: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        features = self._activate(batch)
        content = {
            name: content_loss(features[name], target) for name, target in self._content.items()
        }
        style = {
            name: style_loss(gram_matrix(features[name]), target)
            for name, target in self._gram.items()
        }
        return content, style

    def _total(self, batch: Tensor) -> Tensor:
        content, style = self._parts(batch)
        share = self.weights.style_layers
        weighted = sum(share[name] * loss for name, loss in style.items()) / sum(share.values())
        return (
            self.weights.content * sum(content.values()) / len(content)
            + self.weights.style * weighted
        )

    def _value_and_gradient(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            value = self._total(batch)
        return value, tape.gradient(value, batch)


def _activations(model: keras.Model, names: set[str]) -> keras.Model:
    known = [layer.name for layer in model.layers]
    for name in sorted(names):
        if name not in known:
            raise NetworkError(f"{model.name}: has no layer {name}; it has {', '.join(known)}")
    return keras.Model(
        model.inputs[0], {name: model.get_layer(name).output for name in known if name in names}
    )


def _batch(picture: NDArray[Any]) -> Tensor:
    """Return a picture as a batch of one, `(1, height, width, 3)` float32."""
    return tf.convert_to_tensor(np.asarray(picture, np.float32)[None])
