"""A small file may describe a large network; it is refused before it takes memory."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from zoo import chain, conv

import vggnorm
from vggnorm.errors import NetworkError

resource = pytest.importorskip("resource", reason="needs the measures of a Unix system")


def save_changed(model: Any, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Save a model as a `.keras` file and change its configuration: layer name -> its part."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)
    change({layer["config"]["name"]: layer for layer in config["config"]["layers"]})
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def peak() -> int:
    """Give the largest number of bytes that this process has had in memory."""
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (0.5, "its means and variances would take 3,456,000,000 bytes"),
        (None, r"a network with 3,456,000,\d+ bytes of weights"),
    ],
    ids=["a setting", "weights"],
)
def test_a_normalization_as_large_as_the_photo_is_refused(
    mean: float | None, text: str, tmp_path: Path
) -> None:
    """A mean and a variance in float32 for each of 12000 x 12000 x 3 numbers take 3.456e9 bytes."""
    model = chain(layers.Normalization(axis=(1, 2, 3), mean=mean, variance=mean), conv(4))
    photo = {"batch_shape": [None, 12000, 12000, 3]}
    path = save_changed(
        model, tmp_path / "network.keras", lambda parts: parts["photo"]["config"].update(photo)
    )
    before = peak()
    with pytest.raises(NetworkError, match=text):
        vggnorm.load_network(str(path))
    assert peak() - before < 1 << 30


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("settings", [{"axis": None}, {"axis": -1}, {"axis": (1, 2, 3)}], ids=str)
def test_a_normalization_by_settings_is_loaded(
    settings: dict[str, Any], ending: str, tmp_path: Path
) -> None:
    model = chain(layers.Normalization(mean=80.0, variance=900.0, **settings), conv(4))
    model.save(tmp_path / f"network{ending}")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 56, 3)).astype(np.float32)
    loaded = vggnorm.load_network(str(tmp_path / f"network{ending}"))
    normalized = keras.Model(loaded.inputs, loaded.layers[1].output).predict(pixels, verbose=0)
    np.testing.assert_allclose(normalized, (pixels - 80) / 30, rtol=1e-5, atol=1e-5)
