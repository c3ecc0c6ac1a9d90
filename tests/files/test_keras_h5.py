"""The saved model: what is in the file, and whether every way of loading it gives the same bits."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import MeansError, OutputError
from vggnorm.files.formats import load_means, open_weights
from vggnorm.files.keras_h5 import check_h5_output
from vggnorm.means.filter_means import FilterMeans
from vggnorm.measure import compute_means
from vggnorm.network.storage import load_network, save_network
from vggnorm.normalization import normalize
from vggnorm.photos.geometry import Geometry

# Keras 2 in a process of its own: the two packages register the same names with TensorFlow.
KERAS_2 = """
import sys
import numpy as np
import tf_keras

def vgg16(**options):
    return tf_keras.applications.VGG16(include_top=False, **options)

path, way, output = sys.argv[1:]
if way == "load_model":
    model = tf_keras.models.load_model(path)
elif way == "application":
    model = vgg16(weights=path)
else:
    model = vgg16(weights=None)
    model.load_weights(path, by_name=way == "by_name")
photo = np.linspace(0, 255, 40 * 40 * 3, dtype="float32").reshape(1, 40, 40, 3)
prediction = np.asarray(model(photo))
names = [layer.name for layer in model.layers]
np.savez(output, *model.get_weights(), prediction=prediction, names=names)
"""


@pytest.fixture(scope="module")
def normalized(
    random_vgg16: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A normalized VGG16 with random weights, and its file."""
    model = load_network("vgg16", random_vgg16)
    means = compute_means(model, photo_folder, geometry=Geometry(48))
    result = normalize(model, means)
    path = tmp_path_factory.mktemp("normalized") / "vgg16_norm.h5"
    save_network(result, path, means)
    return result, path


def shapes_in(path: Path) -> dict[str, list[tuple[int, ...]]]:
    with open_weights(path) as file:
        return file.shapes()


def vgg16(**options: Any) -> Any:
    return keras.applications.VGG16(include_top=False, **options)


def loaded_by_weights(path: Path, **options: Any) -> Any:
    model = vgg16(weights=None)
    model.load_weights(path, **options)
    return model


@pytest.mark.parametrize(
    "load",
    [
        keras.models.load_model,
        lambda path: vgg16(weights=path),
        loaded_by_weights,
        lambda path: loaded_by_weights(path, by_name=True),
        lambda path: load_network("vgg16", path),
    ],
    ids=["load_model", "application", "load_weights", "by_name", "load_network"],
)
def test_keras_3_loads_the_same_weights(load: Any, normalized: tuple[Any, Path]) -> None:
    model, path = normalized
    loaded = load(path)
    assert [layer.name for layer in loaded.layers][1:] == [layer.name for layer in model.layers][1:]
    for array, saved in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, saved)


@pytest.mark.parametrize("way", ["load_model", "application", "load_weights", "by_name"])
def test_keras_2_loads_the_same_weights(
    way: str, normalized: tuple[Any, Path], tmp_path: Path
) -> None:
    model, path = normalized
    output = tmp_path / "loaded.npz"
    subprocess.run(
        [sys.executable, "-c", KERAS_2, path, way, output],
        check=True,
        env=os.environ,
        capture_output=True,
    )
    with np.load(output) as loaded:
        names = [layer.name for layer in model.layers]
        assert loaded["names"].tolist()[1:] == names[1:]
        for index, saved in enumerate(model.get_weights()):
            np.testing.assert_array_equal(loaded[f"arr_{index}"], saved)
        photo = np.linspace(0, 255, 40 * 40 * 3, dtype="float32").reshape(1, 40, 40, 3)
        np.testing.assert_allclose(
            loaded["prediction"], np.asarray(model(photo)), rtol=1e-4, atol=1e-4
        )


def test_load_model_needs_nothing_of_vggnorm_and_computes_the_same(
    normalized: tuple[Any, Path],
) -> None:
    model, path = normalized
    photo = np.random.default_rng(0).uniform(-100, 100, (1, 40, 40, 3)).astype(np.float32)
    loaded = keras.models.load_model(path)
    assert type(loaded).__module__.startswith("keras.")
    np.testing.assert_array_equal(np.asarray(loaded(photo)), np.asarray(model(photo)))


def test_the_file_says_how_it_was_made(normalized: tuple[Any, Path], photo_folder: Path) -> None:
    _, path = normalized
    with h5py.File(path) as file:
        description = json.loads(file.attrs["vggnorm"])
        assert description["version"] == vggnorm.__version__
        assert description["image_count"] == 9
        assert description["recipe"]["photos"] == f"{photo_folder.parent.name}/{photo_folder.name}"
        assert file["vggnorm_means/filters"][0] == 64


def test_the_means_come_back_to_the_last_bit(
    some_means: FilterMeans, make_chain: Any, tmp_path: Path
) -> None:
    save_network(make_chain((2, 3)), tmp_path / "chain.h5", some_means)
    read = load_means(tmp_path / "chain.h5")
    for layer in some_means.mean:
        np.testing.assert_array_equal(read.mean[layer], some_means.mean[layer])
        np.testing.assert_array_equal(
            read.squared_deviation[layer], some_means.squared_deviation[layer]
        )
    assert (read.recipe, read.image_count, read.skipped) == (
        some_means.recipe,
        3,
        some_means.skipped,
    )
    assert list(read.mean) == list(some_means.mean)


def test_a_list_of_skipped_photos_longer_than_an_attribute_may_be(
    some_means: FilterMeans, make_chain: Any, tmp_path: Path
) -> None:
    many = tuple(vggnorm.SkippedPhoto(f"photo {number}.jpg", "is empty") for number in range(5000))
    means = FilterMeans(some_means.measured, some_means.recipe, many)
    save_network(make_chain((2, 3)), tmp_path / "chain.h5", means)
    assert load_means(tmp_path / "chain.h5").skipped == many


def test_the_same_network_gives_the_same_bytes(make_chain: Any, tmp_path: Path) -> None:
    for name in "one.h5", "other.h5":
        save_network(make_chain(), tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_a_file_of_keras_says_nothing_of_its_making(random_vgg16: Path) -> None:
    with pytest.raises(
        MeansError,
        match=r"random_vgg16\.h5: does not say how it was made; give a file that vggnorm",
    ):
        load_means(random_vgg16)


def test_a_file_is_read_without_a_lock(random_vgg16: Path) -> None:
    # HDF5 would ask for one, which some file systems do not have. Here another holds it.
    fcntl = pytest.importorskip("fcntl", reason="needs the locks of a Unix system")
    with random_vgg16.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="unable to lock file"), h5py.File(random_vgg16, "r"):
            pytest.fail("the lock is not held")
        with open_weights(random_vgg16) as file:
            assert file.vgg.network == "vgg16"


@pytest.mark.parametrize("damage", ["part", "layer", "json", "nan"])
def test_a_damaged_description_is_refused(
    damage: str, some_means: FilterMeans, make_chain: Any, tmp_path: Path
) -> None:
    path = tmp_path / "chain.h5"
    save_network(make_chain((2, 3)), path, some_means)
    with h5py.File(path, "r+") as file:
        if damage == "part":
            del file["vggnorm_means/recipe"]
        elif damage == "json":
            del file["vggnorm_means/layers"]
            file["vggnorm_means/layers"] = "["
        elif damage == "layer":
            del file["vggnorm_means/mean"]
        else:
            file["vggnorm_means/mean"][3] = np.nan
    with pytest.raises(MeansError, match=r"chain\.h5: the means stored in it are damaged"):
        load_means(path)


def test_shapes_are_read_by_layer(make_chain: Any, tmp_path: Path) -> None:
    save_network(make_chain((2, 5)), tmp_path / "chain.h5")
    assert shapes_in(tmp_path / "chain.h5") == {
        "conv1": [(3, 3, 3, 2), (2,)],
        "conv2": [(3, 3, 2, 5), (5,)],
    }


def test_shapes_of_keras_3_weights_come_in_the_order_of_the_layers(
    make_chain: Any, tmp_path: Path
) -> None:
    model = make_chain(
        tuple(range(2, 14))
    )  # conv2d_10 comes before conv2d_2 in the alphabet, and in the file
    model.save_weights(tmp_path / "chain.weights.h5")
    assert shapes_in(tmp_path / "chain.weights.h5") == {
        layer.name: [weight.shape for weight in layer.weights]
        for layer in model.layers
        if layer.weights
    }
    assert list(shapes_in(tmp_path / "chain.weights.h5")) == [
        f"conv{index}" for index in range(1, 13)
    ]


def test_a_file_that_reads_back_otherwise_is_not_left_behind(
    make_chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoilt(io.BytesIO):
        """A file in memory, of which one bit changes before it is written."""

        def getbuffer(self) -> memoryview:
            content = super().getbuffer()
            place = bytes(content).index(np.float32(0.4321).tobytes())
            content[place] ^= 1  # the lowest bit of one weight
            return content

    model = make_chain((2,))
    kernel, _ = model.get_layer("conv1").get_weights()
    model.get_layer("conv1").set_weights([kernel, np.array([0.4321, 0])])
    monkeypatch.setattr("vggnorm.files.keras_h5.io.BytesIO", Spoilt)
    with pytest.raises(OutputError, match="layer conv1 does not read back as it was written"):
        save_network(model, tmp_path / "chain.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_vector_too_long_to_be_one_is_not_read(
    some_means: FilterMeans, make_chain: Any, tmp_path: Path
) -> None:
    path = tmp_path / "chain.h5"
    save_network(make_chain((2, 3)), path, some_means)
    with h5py.File(path, "r+") as file:
        del file["vggnorm_means/mean"]
        file["vggnorm_means"].create_dataset("mean", shape=(1 << 40,), dtype="f8", chunks=(1024,))
    with pytest.raises(
        MeansError, match=r"chain\.h5: is refused: /vggnorm_means/mean is chunked, compressed"
    ):
        load_means(path)


@pytest.mark.parametrize("name", ["norm.weights.h5", "norm.keras", "norm", "norm.npy"])
def test_names_that_keras_would_not_load_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"give a name that ends in \.h5 and not in \.weights\.h5"
    ):
        check_h5_output(tmp_path / name)


def test_an_existing_file_is_kept_without_force(make_chain: Any, tmp_path: Path) -> None:
    path = tmp_path / "chain.h5"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"chain\.h5: exists already"):
        save_network(make_chain(), path)
    assert path.read_bytes() == b"precious"
    save_network(make_chain(), path, force=True)
    assert shapes_in(path)
