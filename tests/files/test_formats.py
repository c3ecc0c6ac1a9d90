"""The desk: what a file is said to be, by what is in it, and how often it is opened."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from zoo import NETWORKS, settle

import vggnorm
from vggnorm.cli import main
from vggnorm.errors import MeansError, NetworkError
from vggnorm.files import keras_weights, untrusted
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.weights_file import Kind
from vggnorm.means.filter_means import FilterMeans
from vggnorm.network.weights import load_weights

MakeChain = Callable[..., Any]


# What a file is


def as_keras_2(model: Any, path: Path) -> None:
    vggnorm.save_network(model, path)


def as_keras_2_weights(model: Any, path: Path) -> None:
    model_file = path.with_name("model.h5")
    model.save(model_file)
    with h5py.File(model_file) as model_in_file, h5py.File(path, "w") as file:
        weights = model_in_file["model_weights"]
        file.attrs.update(weights.attrs)
        for name in weights:
            weights.copy(name, file)


def as_keras_3(model: Any, path: Path) -> None:
    model_file = path.with_name("model.h5")
    model.save(model_file)
    model_file.rename(path)


def as_keras_3_weights(model: Any, path: Path) -> None:
    weights_file = path.with_name("model.weights.h5")
    model.save_weights(weights_file)
    weights_file.rename(path)


def as_archive(model: Any, path: Path) -> None:
    archive = path.with_name("model.keras")
    model.save(archive)
    archive.rename(path)


WRITERS: dict[Kind, Callable[[Any, Path], None]] = {
    Kind.KERAS2_MODEL: as_keras_2,
    Kind.KERAS2_WEIGHTS: as_keras_2_weights,
    Kind.KERAS3_MODEL: as_keras_3,
    Kind.KERAS3_WEIGHTS: as_keras_3_weights,
    Kind.KERAS_ARCHIVE: as_archive,
}
MODELS = (Kind.KERAS2_MODEL, Kind.KERAS3_MODEL, Kind.KERAS_ARCHIVE)


@pytest.mark.parametrize("name", ["odd.h5", "odd.keras", "odd.npy", "odd"])
@pytest.mark.parametrize("kind", WRITERS, ids=lambda kind: kind.name)
def test_what_a_file_is_stands_in_it_and_not_in_its_name(
    kind: Kind, name: str, make_chain: MakeChain, tmp_path: Path
) -> None:
    model = make_chain((2, 5))
    path = tmp_path / name
    if kind is Kind.KERAS2_MODEL and name != "odd.h5":
        as_keras_2(model, tmp_path / "model.h5")
        (tmp_path / "model.h5").rename(path)
    else:
        WRITERS[kind](model, path)
    with open_weights(path) as file:
        assert (file.path, file.kind) == (path, kind)
        assert file.holds_model == (kind in MODELS)
        assert (file.config() is not None) == (kind in MODELS)
        assert file.means is None
        assert file.shapes() == {
            "conv1": [(3, 3, 3, 2), (2,)],
            "conv2": [(3, 3, 2, 5), (5,)],
        }
        for layer in ("conv1", "conv2"):
            stored = file.arrays()[layer]
            for array, wanted in zip(stored, model.get_layer(layer).get_weights(), strict=True):
                np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("name", ["means.npy", "means.h5"])
def test_means_are_read_from_either_kind_of_file(
    name: str, some_means: FilterMeans, make_chain: MakeChain, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name == "means.npy":
        vggnorm.save_means(some_means, path)
    else:
        vggnorm.save_network(make_chain((2, 3)), path, some_means)
    found = vggnorm.load_means(path)
    assert found.recipe == some_means.recipe
    for layer, mean in some_means.mean.items():
        np.testing.assert_array_equal(found.mean[layer], mean)
    with open_weights(path) as file:
        assert (file.kind is Kind.MEANS) == (name == "means.npy")
        assert load_means(file).image_count == 3


def test_a_file_of_means_holds_no_weights(some_means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    vggnorm.save_means(some_means, path)
    with open_weights(path) as file:
        assert file.config() is None
        with pytest.raises(NetworkError, match=r"means\.npy: holds means, and no weights; give"):
            file.shapes()
    path.rename(tmp_path / "means.h5")
    with pytest.raises(NetworkError, match=r"means\.h5: cannot be loaded as a model, because it"):
        vggnorm.load_network(str(tmp_path / "means.h5"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    reason = "absent.h5: cannot be read: No such file or directory"
    with pytest.raises(NetworkError, match=reason), open_weights(tmp_path / "absent.h5"):
        pass
    with pytest.raises(MeansError, match=reason):
        load_means(tmp_path / "absent.h5")


# How often


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is opened, and how often anything is scanned."""
    counts: Counter[str] = Counter()
    scan: Callable[[Any, int], None] = vars(untrusted)["_check_hdf5"]

    class CountedFile(h5py.File):  # type: ignore[misc]  # h5py has no types
        def __init__(self, name: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(name, *arguments, **options)
            counts[Path(str(name)).name] += 1

    def counted_scan(file: Any, size: int) -> None:
        counts["scans"] += 1
        scan(file, size)

    monkeypatch.setattr(h5py, "File", CountedFile)
    monkeypatch.setattr(untrusted, "_check_hdf5", counted_scan)
    return counts


def test_identify_opens_and_scans_each_file_once(
    random_vgg16: Path, tmp_path: Path, opened: Counter[str]
) -> None:
    path = tmp_path / "vgg.h5"
    shutil.copyfile(random_vgg16, path)
    assert vggnorm.identify(path, random_vgg16).kind == "original"
    assert opened == {"vgg.h5": 1, "random_vgg16.h5": 1, "scans": 2}


def test_identify_with_a_network_opens_and_scans_the_file_once(
    some_means: FilterMeans, make_chain: MakeChain, tmp_path: Path, opened: Counter[str]
) -> None:
    model = make_chain((2, 3))
    path = tmp_path / "chain.h5"
    vggnorm.save_network(model, path, some_means)
    opened.clear()
    assert vggnorm.identify(path, model).kind == "original"
    assert opened == {"chain.h5": 1, "scans": 1}


def test_load_network_opens_and_scans_the_file_once(
    make_chain: MakeChain, tmp_path: Path, opened: Counter[str]
) -> None:
    path = tmp_path / "chain.h5"
    make_chain((2, 3)).save(path)
    opened.clear()
    vggnorm.load_network(str(path))
    assert opened == {"chain.h5": 1, "scans": 1}


def test_inspect_opens_and_scans_each_file_once(
    make_chain: MakeChain, tmp_path: Path, opened: Counter[str]
) -> None:
    paths = [tmp_path / "chain.h5", tmp_path / "original.h5"]
    for path in paths:
        vggnorm.save_network(make_chain((2, 3)), path)
    opened.clear()
    result = CliRunner().invoke(main, ["inspect", str(paths[0]), "--original", str(paths[1])])
    assert result.exit_code == 0, result.output
    assert opened == {"chain.h5": 1, "original.h5": 1, "scans": 2}


def test_a_file_that_is_open_is_not_opened_again(
    make_chain: MakeChain, tmp_path: Path, opened: Counter[str]
) -> None:
    path = tmp_path / "chain.h5"
    vggnorm.save_network(make_chain((2, 3)), path)
    opened.clear()
    with open_weights(path) as file:
        with open_weights(file) as same:
            assert same is file
        assert list(file.arrays()) == ["pixels", "conv1", "conv2", "pool2"]
    assert opened == {"chain.h5": 1, "scans": 1}


def test_each_array_is_read_once_and_only_when_asked_for(
    make_chain: MakeChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chain.h5"
    model = make_chain((2, 3))
    model.save(path)
    read = keras_weights.read_array
    layers: list[str] = []

    def noted(dataset: h5py.Dataset, layer: str, path: Path) -> Any:
        layers.append(layer)
        return read(dataset, layer, path)

    monkeypatch.setattr(keras_weights, "read_array", noted)
    with open_weights(path) as file:
        assert file.shapes()
        assert "conv1" in file.arrays()
        assert layers == []
    load_weights(model, path)
    assert layers == ["conv1", "conv1", "conv2", "conv2"]  # a kernel and a bias each


# The layout of Keras 3, beside Keras's own loading


def without_names(path: Path) -> None:
    """Take the layers' names out of a file, as early versions of Keras 3 did not write them."""
    with h5py.File(path, "r+") as file:
        for group in file["layers"].values():
            group["vars"].attrs.pop("name", None)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_suffice_to_load_what_keras_loads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, archive = tmp_path / "network.weights.h5", tmp_path / "network.keras"
    model = settle(NETWORKS[name](), seed=1)
    model.save_weights(path)
    settle(model, seed=0).save(archive)
    expected = keras.models.load_model(archive, compile=False)
    expected.load_weights(path)
    monkeypatch.delattr(keras.Model, "load_weights")
    load_weights(model, path)
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    loaded = vggnorm.load_network(str(archive))
    assert loaded.get_config() == expected.get_config()


def attention() -> Any:
    """A network with a layer that is made of other layers, whose weights names do not tell."""
    photo = keras.Input((4, 4, 3), name="photo")
    one = keras.layers.Conv2D(4, 1, activation="relu", name="one")(photo)
    mixed = keras.layers.MultiHeadAttention(2, 3, name="mixed")(one, one)
    return keras.Model(photo, mixed, name="attention")


def test_where_names_do_not_suffice_keras_loads(tmp_path: Path) -> None:
    model = attention()
    path = tmp_path / "attention.keras"
    model.save(path)
    loaded = vggnorm.load_network(str(path))
    for found, wanted in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    path.rename(tmp_path / "attention.h5")
    with pytest.raises(NetworkError, match=r"only Keras can load .* ends in \.keras"):
        vggnorm.load_network(str(tmp_path / "attention.h5"))


def test_a_file_without_names_is_loaded_by_keras(make_chain: MakeChain, tmp_path: Path) -> None:
    model = make_chain((2, 3))
    model.save_weights(tmp_path / "early.weights.h5")
    without_names(tmp_path / "early.weights.h5")
    other = make_chain((2, 3), seed=1)
    load_weights(other, tmp_path / "early.weights.h5")
    for found, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


@keras.saving.register_keras_serializable("test_formats")
class Reversed(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Keeps its two weights in a file in the opposite order."""

    def build(self, _input_shape: Any) -> None:
        self.first = self.add_weight((), initializer="zeros", name="first")
        self.second = self.add_weight((), initializer="ones", name="second")

    def call(self, inputs: Any) -> Any:
        return inputs * self.second + self.first

    def save_own_variables(self, store: Any) -> None:
        store["0"], store["1"] = self.second.numpy(), self.first.numpy()

    def load_own_variables(self, store: Any) -> None:
        self.second.assign(store["0"])
        self.first.assign(store["1"])


def test_a_layer_with_its_own_way_of_loading_is_loaded_by_keras(tmp_path: Path) -> None:
    photo = keras.Input((4, 4, 3), name="photo")
    model = keras.Model(photo, Reversed(name="reversed")(photo))
    path = tmp_path / "reversed.keras"
    model.save(path)
    assert [float(array) for array in vggnorm.load_network(str(path)).get_weights()] == [0, 1]
