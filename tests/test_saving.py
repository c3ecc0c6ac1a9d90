"""Files of networks with many or long names, and what is refused before a photo is measured."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from vggnorm.errors import MeansError, NetworkError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.keras_h5 import require_writable
from vggnorm.files.means_npy import require_saveable, save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.network.storage import save_network
from vggnorm.run import checkpoint as checkpoint_module
from vggnorm.run.checkpoint import say_what_is_kept

LONG = "block_of_a_pyramid_of_features_" * 13  # 403 characters


def deep(count: int = 170) -> Any:
    tensor = photo = keras.Input((4, 4, 1), name="photo")
    for index in range(count):
        tensor = keras.layers.Conv2D(1, 1, name=f"{LONG}{index:03}", kernel_initializer="ones")(
            tensor
        )
    return keras.Model(photo, tensor, name="deep")


def test_names_beyond_64_kib_are_read_by_keras_3_and_keras_2(tmp_path: Path) -> None:
    model, path = deep(), tmp_path / "deep.h5"
    assert sum(len(layer.name) for layer in model.layers) > 1 << 16
    for index, layer in enumerate(model.layers[1:]):
        layer.set_weights([np.ones((1, 1, 1, 1)), np.array([index])])
    save_network(model, path)
    expected = 3 + sum(range(170))  # every layer adds its number
    pixels = np.full((1, 4, 4, 1), 3, np.float32)
    assert (np.asarray(keras.models.load_model(path)(pixels)) == expected).all()
    code = (
        "import sys, numpy as np, tf_keras; model = tf_keras.models.load_model(sys.argv[1]); "
        "print(float(np.asarray(model(np.full((1, 4, 4, 1), 3, 'float32'))).max()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert float(done.stdout.splitlines()[-1]) == expected
    with open_weights(path) as file:
        assert list(file.shapes()) == [layer.name for layer in model.layers[1:]]


def test_a_file_that_keras_split_is_read(tmp_path: Path) -> None:
    model, path = deep(), tmp_path / "deep.h5"
    model.save(path)
    with h5py.File(path) as file:
        assert "layer_names" not in file["model_weights"].attrs
    with open_weights(path) as file:
        assert list(file.shapes()) == [layer.name for layer in model.layers[1:]]


@pytest.mark.parametrize("name", ["keras_version", "backend", "model_config"])
def test_what_old_keras_decodes_is_of_a_kind_that_h5py_2_gives_as_bytes(
    name: str, make_chain: Any, tmp_path: Path
) -> None:
    save_network(make_chain(), tmp_path / "chain.h5")
    with h5py.File(tmp_path / "chain.h5") as file:
        kind = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
        assert kind is not None
        assert kind.encoding == "ascii"


def test_model_input_and_output_stay_single_tensors(make_chain: Any, tmp_path: Path) -> None:
    save_network(make_chain(), tmp_path / "chain.h5")
    loaded = keras.models.load_model(tmp_path / "chain.h5")
    assert not isinstance(loaded.input, list)
    assert not isinstance(loaded.output, list)


def test_a_name_that_no_attribute_can_hold_is_refused() -> None:
    with pytest.raises(
        NetworkError,
        match="its name is too long, because an .h5 file holds names of up to 64,512 bytes",
    ):
        require_writable({}, {"x" * 65_000: ["kernel"]})


@pytest.mark.parametrize("layer", ["plain", "with/slash", "./dot", "..", "naïve \N{SNOWMAN}", LONG])
def test_means_of_many_layers_of_any_name_are_read_by_plain_numpy(
    layer: str, recipe: Recipe, tmp_path: Path
) -> None:
    values = {f"{layer}{index}": np.array([index + 0.5, index + 1.5]) for index in range(300)}
    means = FilterMeans(Moments(3, values, values), recipe)
    require_saveable(dict.fromkeys(values, 2), recipe)
    save_means(means, tmp_path / "means.npy")
    record = np.load(tmp_path / "means.npy")
    assert json.loads(str(record["layers"])) == list(values)
    np.testing.assert_array_equal(record["mean"].reshape(300, 2)[:, 0], np.arange(300) + 0.5)
    assert list(load_means(tmp_path / "means.npy").mean) == list(values)


def test_means_of_odd_names_come_back_from_the_model_file(
    recipe: Recipe, make_chain: Any, tmp_path: Path
) -> None:
    values = {"a": np.array([1.0]), "a/b": np.array([2.0, 3.0]), ".": np.array([4.0])}
    save_network(
        make_chain(), tmp_path / "chain.h5", FilterMeans(Moments(3, values, values), recipe)
    )
    read = load_means(tmp_path / "chain.h5")
    assert {layer: vector.tolist() for layer, vector in read.mean.items()} == {
        "a": [1],
        "a/b": [2, 3],
        ".": [4],
    }


@pytest.mark.parametrize("name", ["image_count", "control_count"])
@pytest.mark.parametrize("value", [np.inf, np.nan, np.uint64(2**64 - 1)])
def test_absurd_counts_are_refused(
    name: str, value: Any, some_means: FilterMeans, make_chain: Any, tmp_path: Path
) -> None:
    save_network(make_chain(), tmp_path / "chain.h5", some_means)
    with h5py.File(tmp_path / "chain.h5", "r+") as file:
        del file[f"vggnorm_means/{name}"]
        file[f"vggnorm_means/{name}"] = value
    with pytest.raises(MeansError, match=f"damaged: {name} is "):
        load_means(tmp_path / "chain.h5")


@pytest.mark.parametrize(
    "change",
    [
        {"size": 20_000},
        {"size": [224, 20_000]},
        {"batch_size": 10**9},
        {"listed": 10**30},
        {"limit": 10**30},
    ],
)
def test_absurd_recipes_are_refused(change: dict[str, Any], recipe: Recipe) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is"):
        Recipe.from_json(json.dumps(recipe.to_dict() | change))


def test_what_is_kept_is_said_as_it_is(
    some_means: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    sixty = FilterMeans(replace(some_means.measured, count=60), some_means.recipe)
    assert "nothing of the run is kept" in say_what_is_kept(path, sixty)
    said: list[str] = []
    keeper = checkpoint_module.Keeper(checkpoint_module.Checkpoint(path, every=0), said.append)
    assert keeper.save(some_means)

    def fail(_: Path, __: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert not keeper.save(sixty)
    assert said == [
        f"{path}: could not be written: No space left on device; the run goes on; if it is ended, "
        "3 photos are kept"
    ]
    assert f"{path} keeps 3 of 60 photos; " in say_what_is_kept(path, sixty)
    other = replace(sixty, recipe=replace(sixty.recipe, seed=1))
    assert "is of another run" in say_what_is_kept(path, other)
