"""Low-rank adapters (LoRA, Hu et al., 2022): refused in one line, and following the advice."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import vggnorm
from vggnorm.errors import NetworkError

SIDE = 16


def adapted() -> Any:
    """A small network whose second convolution has an adapter that changes its kernel."""
    random = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(6, 3, activation="relu", name="one"),
            layers.Conv2D(5, 3, activation="relu", name="two"),
            layers.Conv2D(4, 3, activation="relu", name="three"),
        ]
    )
    model.get_layer("two").enable_lora(2)
    for weight in model.weights:
        weight.assign(random.uniform(-0.2, 0.4, weight.shape))
    return model


def without_adapter(model: Any) -> Any:
    """Follow the advice: the same layers without enable_lora, with the kernels that they use."""
    plain = keras.Sequential.from_config(
        {
            "name": "plain",
            "layers": [
                {**layer, "config": {**layer["config"], "lora_rank": None}}
                if "lora_rank" in layer["config"]
                else layer
                for layer in model.get_config()["layers"]
            ],
        }
    )
    for layer in model.layers:
        plain.get_layer(layer.name).set_weights([layer.kernel, layer.bias])
    return plain


@pytest.mark.parametrize("form", ["in memory", ".h5", ".keras"])
def test_an_adapter_is_refused_and_its_effective_kernel_measured(
    form: str, photo_folder: Path, tmp_path: Path
) -> None:
    model = adapted()
    if form != "in memory":
        model.save(tmp_path / f"adapted{form}")
        model = vggnorm.load_network(tmp_path / f"adapted{form}")
    geometry = vggnorm.Geometry(SIDE)
    with pytest.raises(NetworkError, match=r"layer two: .* lora_kernel_a, .* without .*adapters"):
        vggnorm.compute_means(model, photo_folder, preprocessing="none", geometry=geometry)

    plain = without_adapter(model)
    noise = np.random.default_rng(1).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    wanted = model.predict(noise, verbose=0)
    # Both round to float32.
    np.testing.assert_allclose(plain.predict(noise, verbose=0), wanted, rtol=1e-5)
    means = vggnorm.compute_means(plain, photo_folder, preprocessing="none", geometry=geometry)
    assert list(means.mean) == ["one", "two", "three"]
