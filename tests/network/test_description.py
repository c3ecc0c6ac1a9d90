"""Two networks have the same description exactly if they compute the same with the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from zoo import NETWORKS, chain, conv, settle

import vggnorm
from vggnorm.errors import MeansError
from vggnorm.network.applications import is_application
from vggnorm.network.description import architecture_sha256
from vggnorm.network.graph import read_graph


def digest(model: keras.Model) -> str:
    found = architecture_sha256(read_graph(model))
    assert found is not None
    return found


# Keras warns of an option that Keras 2 has.
@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated")
@pytest.mark.parametrize("name", NETWORKS)
def test_one_network_has_one_digest_from_any_file(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    found = {digest(model)}
    for ending in ".keras", ".h5":
        model.save(tmp_path / f"network{ending}")
        found.add(digest(vggnorm.load_network(str(tmp_path / f"network{ending}"))))
    vggnorm.save_network(model, tmp_path / "keras2.h5")
    found.add(digest(vggnorm.load_network(str(tmp_path / "keras2.h5"))))
    assert len(found) == 1


def test_all_networks_of_the_zoo_differ() -> None:
    assert len({digest(build()) for build in NETWORKS.values()}) == len(NETWORKS)


def plain(**options: Any) -> list[Any]:
    return [conv(4, name="a"), layers.MaxPooling2D(2), conv(4, name="b", **options)]


def transposed(**options: Any) -> Any:
    return chain(conv(4), layers.Conv2DTranspose(4, 3, strides=2, activation="relu", **options))


SAME: dict[str, Callable[[], Any]] = {
    "another size of the photos": lambda: chain(*plain(), height=48, width=48),
    "other names": lambda: chain(
        conv(4, name="x"), layers.MaxPooling2D(2, name="y"), conv(4, name="z")
    ),
    "a dropout": lambda: chain(conv(4), layers.Dropout(0.5), layers.MaxPooling2D(2), conv(4)),
    "another initializer": lambda: chain(
        *plain(kernel_initializer="he_normal", kernel_regularizer="l2")
    ),
    "a sequential": lambda: keras.Sequential([keras.Input((40, 56, 3)), *plain()]),
}
OTHER: dict[str, Callable[[], Any]] = {
    "stride": lambda: chain(*plain(strides=2)),
    "padding": lambda: chain(*plain(padding="valid")),
    "dilation": lambda: chain(*plain(dilation_rate=2)),
    "average pooling": lambda: chain(conv(4), layers.AveragePooling2D(2), conv(4)),
    "size of pooling": lambda: chain(conv(4), layers.MaxPooling2D(3, 2), conv(4)),
    "stride of pooling": lambda: chain(conv(4), layers.MaxPooling2D(2, 1), conv(4)),
    "padding of pooling": lambda: chain(conv(4), layers.MaxPooling2D(2, padding="same"), conv(4)),
    "rescaling in front": lambda: chain(layers.Rescaling(1 / 255), *plain()),
    "another rescaling in front": lambda: chain(layers.Rescaling(1 / 127.5), *plain()),
    "offset of a rescaling in front": lambda: chain(layers.Rescaling(1 / 255, offset=-1), *plain()),
    "slope": lambda: chain(
        conv(4), layers.MaxPooling2D(2), conv(4, activation=None), layers.LeakyReLU(0.1)
    ),
    "another slope": lambda: chain(
        conv(4), layers.MaxPooling2D(2), conv(4, activation=None), layers.LeakyReLU(0.2)
    ),
    "epsilon": lambda: chain(
        conv(4), layers.BatchNormalization(epsilon=1e-3), layers.MaxPooling2D(2), conv(4)
    ),
    "another epsilon": lambda: chain(
        conv(4), layers.BatchNormalization(epsilon=1e-2), layers.MaxPooling2D(2), conv(4)
    ),
    "output padding": lambda: transposed(output_padding=0),
    "another output padding": lambda: transposed(output_padding=1),
    "one more layer": lambda: chain(*plain(), layers.MaxPooling2D(2)),
}


@pytest.mark.parametrize("build", SAME.values(), ids=SAME)
def test_what_changes_no_number_changes_no_digest(build: Callable[[], Any]) -> None:
    assert digest(build()) == digest(chain(*plain()))


def rectified_by_a_layer(slope: float, name: str) -> Any:
    """Build a network whose last activation is a layer, with a name and a data type of its own."""
    return chain(*plain(), layers.Conv2D(3, 1, activation=layers.LeakyReLU(slope, name=name)))


def test_an_activation_that_is_a_layer_counts_by_its_slope_and_not_by_its_name() -> None:
    assert digest(rectified_by_a_layer(0.3, "one")) == digest(rectified_by_a_layer(0.3, "two"))
    assert digest(rectified_by_a_layer(0.3, "one")) != digest(rectified_by_a_layer(0.2, "one"))


def test_a_registered_layer_is_not_the_one_of_keras_with_its_name() -> None:
    @keras.saving.register_keras_serializable("somebody")
    class Rescaling(layers.Rescaling):  # type: ignore[misc]  # Keras has no types
        def call(self, inputs: Any) -> Any:
            return inputs * inputs * self.scale

    assert digest(chain(Rescaling(0.1), *plain())) != digest(chain(layers.Rescaling(0.1), *plain()))


def test_a_setting_that_an_older_keras_lacks_changes_no_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keras 3.11 does not write output_padding for a transposed convolution; others write None."""
    model = chain(conv(4), layers.Conv2DTranspose(4, 3, activation="relu"))
    now = digest(model)
    get_config = layers.Conv2DTranspose.get_config

    def older(layer: Any) -> dict[str, Any]:
        return {
            name: value for name, value in get_config(layer).items() if name != "output_padding"
        }

    monkeypatch.setattr(layers.Conv2DTranspose, "get_config", older)
    assert digest(model) == now


def test_what_changes_a_number_changes_the_digest() -> None:
    digests = [digest(build()) for build in OTHER.values()]
    assert len({*digests, digest(chain(*plain()))}) == len(digests) + 1


@pytest.mark.parametrize(
    "other",
    [plain(strides=2), plain(dilation_rate=2), [layers.Rescaling(1 / 255), *plain()]],
    ids=str,
)
def test_means_of_another_network_with_the_same_weights_are_refused(
    other: list[Any], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    measured = settle(chain(*plain()))
    changed = chain(*other)
    changed.set_weights(measured.get_weights())
    means = vggnorm.compute_means(measured, tmp_path)
    vggnorm.normalize(measured, means)
    with pytest.raises(MeansError, match="measured on another network with the same weights"):
        vggnorm.normalize(changed, means)


def test_the_networks_of_keras_are_known() -> None:
    assert is_application(
        keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    )
    assert not is_application(chain(*plain()))


class Scale(layers.Identity):  # type: ignore[misc]
    """A custom layer that does something, although the layer it extends does nothing."""

    def call(self, inputs: Any) -> Any:
        return inputs * 0.01


class Rescaling(layers.Layer):  # type: ignore[misc]
    """A custom layer with the name of one of Keras's layers."""

    def __init__(self, scale: float, offset: float = 0.0, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.scale, self.offset, self.seed = scale, offset, seed

    def call(self, inputs: Any) -> Any:
        return inputs / (self.scale + self.seed)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "seed": self.seed,
        }


class Silent(layers.Layer):  # type: ignore[misc]
    """A custom layer that does not say what its settings are."""

    def __init__(self, factors: np.ndarray) -> None:
        super().__init__()
        self.factors = factors

    def call(self, inputs: Any) -> Any:
        return inputs * self.factors

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError


def test_a_layer_that_extends_an_idle_one_counts() -> None:
    assert digest(chain(Scale(), *plain())) != digest(chain(*plain()))


def test_a_custom_layer_is_not_the_one_of_keras_with_its_name() -> None:
    assert digest(chain(Rescaling(3.0), *plain())) != digest(chain(layers.Rescaling(3.0), *plain()))


def test_every_setting_of_a_custom_layer_counts() -> None:
    assert digest(chain(Rescaling(3.0, seed=1), *plain())) != digest(
        chain(Rescaling(3.0, seed=2), *plain())
    )


def test_which_of_two_like_layers_is_called_twice_counts() -> None:
    def model(second: int) -> keras.Model:
        pixels = keras.Input((40, 56, 3))
        scales = [
            layers.Normalization(mean=0.0, variance=4.0),
            layers.Normalization(mean=0.0, variance=4.0),
        ]
        tensor = scales[1](scales[second](scales[0](pixels)))
        return keras.Model(pixels, conv(4)(tensor))

    assert digest(model(0)) != digest(model(1))


def test_a_slope_that_keras_does_not_write_down_counts() -> None:
    assert digest(chain(layers.ELU(0.5), *plain())) != digest(chain(layers.ELU(1.0), *plain()))


def test_what_a_layer_in_front_computes_in_counts() -> None:
    half = chain(layers.Rescaling(1 / 3, dtype="float16"), *plain())
    assert digest(half) != digest(chain(layers.Rescaling(1 / 3), *plain()))


def test_a_network_that_does_not_describe_itself_is_measured_without_a_digest(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (56, 40), (9, 80, 200)).save(tmp_path / "photo.png")
    model = settle(chain(Silent(np.array([1, 2, 3], np.float32)), *plain()))
    assert architecture_sha256(read_graph(model)) is None
    assert not is_application(model)
    assert vggnorm.compute_means(model, tmp_path).recipe.architecture_sha256 is None


def test_a_layer_of_a_script_is_measured_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rescaling, "__module__", "__main__")
    Image.new("RGB", (56, 40), (9, 80, 200)).save(tmp_path / "photo.png")
    model = settle(chain(Rescaling(3.0), *plain()))
    assert vggnorm.compute_means(model, tmp_path).recipe.architecture_sha256 == digest(model)
