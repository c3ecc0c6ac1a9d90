"""Small files that describe large networks are refused before they take memory."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from zoo import chain, conv, settle

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.files.allowlist import require_known
from vggnorm.network.copies import require_same_outputs
from vggnorm.network.room import activation_bytes

MEGABYTE = 1_000_000


def small(*steps: Any, side: int | None = 4) -> Any:
    photo = tensor = keras.Input((side, side, 3), name="photo")
    for step in steps:
        tensor = step(tensor)
    return keras.Model(photo, tensor, name="small")


def plain() -> Any:
    return small(layers.Conv2D(2, 3, activation="relu", name="conv"))


def saved(model: Any, path: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Save a model, and change the configuration in the file."""
    model.save(path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def described(
    class_name: str, name: str, calls: list[Any], module: str = "keras.layers", **config: Any
) -> Any:
    """A layer, as Keras 3 describes it."""
    return {
        "module": module,
        "class_name": class_name,
        "registered_name": None,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": calls,
    }


def array(value: Any, dtype: Any = "float32") -> Any:
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


def photo_tensor() -> Any:
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 4, 4, 3], "dtype": "float32", "keras_history": ["photo", 0, 0]},
    }


BUILT = {"input_shape": [1, 20_000]}
WIDE = described("Dense", "wide", [], units=20_000) | {"build_config": BUILT}  # 1.6 GB of weights


def enlarged(numbers: Any) -> Any:
    """A layer that makes 1.6 GB out of 400 bytes, and is not called on a tensor."""
    return described("UpSampling2D", "up", [{"args": [numbers], "kwargs": {}}], size=[2000, 2000])


def numbers_enlarged(found: Any) -> None:
    found.append(enlarged(array([[[[1.0] * 100]]])))


def numbers_among_lists(found: Any) -> None:
    found.append(enlarged([[[[1.0] * 100]]]))


def long_letters(found: Any) -> None:
    found[1]["inbound_nodes"][0]["kwargs"] = {"mask": array(["a"], "U400000000")}


def records(found: Any) -> None:
    found[1]["config"]["deep"] = [{"deeper": array([1], [["a", "f4", [20_000, 20_000]]])}]


def letters_in_a_setting(found: Any) -> None:
    found[1]["config"]["kernel_initializer"] = described(
        "Constant", "x", [], "keras.initializers", value=array("a", "U400000000")
    )


def unused_and_built(found: Any) -> None:
    found.append(WIDE)


def unused_and_called(found: Any) -> None:
    found.append(described("Flatten", "flat", [{"args": [photo_tensor()], "kwargs": {}}]))
    flat = photo_tensor()
    flat["config"] |= {"shape": [None, 48], "keras_history": ["flat", 0, 0]}
    found.append(described("Dense", "wide", [{"args": [flat], "kwargs": {}}], units=20_000_000))


def unused_under_a_name_twice(found: Any) -> None:
    found.insert(1, WIDE | {"name": "conv", "config": WIDE["config"] | {"name": "conv"}})


def a_layer_for_an_initializer(found: Any) -> None:
    found[1]["config"]["kernel_initializer"] = WIDE


def a_layer_within_an_initializer(found: Any) -> None:
    found[1]["config"]["bias_initializer"] = described(
        "Constant", "x", [], "keras.initializers", value=[WIDE]
    )


def a_layer_within_an_activation(found: Any) -> None:
    found[1]["config"]["activation"] = described("ReLU", "x", [], max_value=WIDE)


def a_layer_in_a_call(found: Any) -> None:
    found[1]["inbound_nodes"][0]["kwargs"] = {"mask": WIDE}


# A change of the description -> what the error says.
CLAIMS = {
    numbers_enlarged: "layer up is not called on the output of another layer",
    numbers_among_lists: "layer up is not called on the output of another layer",
    long_letters: "layer conv holds an array of another type than numbers",
    records: "layer conv holds an array of another type than numbers",
    letters_in_a_setting: "layer conv holds an array of another type than numbers",
    unused_and_built: "describes a layer wide that its network does not use",
    unused_and_called: "describes a layer (flat|wide) that its network does not use",
    unused_under_a_name_twice: "describes a layer conv that its network does not use",
    a_layer_for_an_initializer: "layer conv holds a Dense in its settings",
    a_layer_within_an_initializer: "layer conv holds a Dense in its settings",
    a_layer_within_an_activation: "layer conv holds a Dense in its settings",
    a_layer_in_a_call: "layer conv is called with Dense, which is neither a tensor",
}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_a_description_that_claims_much_is_refused(claim: Any, tmp_path: Path) -> None:
    path = saved(plain(), tmp_path / "claims.keras", claim)
    with pytest.raises(NetworkError, match=rf"claims\.keras: .*{CLAIMS[claim]}") as refused:
        vggnorm.load_network(str(path))
    assert "\n" not in str(refused.value)


def channels(found: Any) -> None:
    found[0]["config"]["batch_shape"] = [None, 4, 4, 200_000_000]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("settings", [{}, {"mean": 0.0, "variance": 1.0}], ids=["adapted", "set"])
def test_the_numbers_of_a_normalization_are_counted(
    settings: Any, suffix: str, tmp_path: Path
) -> None:
    path = saved(small(layers.Normalization(**settings)), tmp_path / f"wide{suffix}", channels)
    text = (
        "its means and variances would take 1,600,000,000 bytes"
        if settings
        else "1,600,000,004 bytes of weights"
    )
    with pytest.raises(NetworkError, match=text):
        vggnorm.load_network(str(path))


# 40000 x 40000 x 3 numbers of 4 bytes and 39998 x 39998 x 2 at once are 32.0 GB; and so on.
LARGE: dict[str, tuple[Callable[[], Any], str]] = {
    "upsampling": (
        lambda: small(layers.UpSampling2D(10_000), conv(2)),
        "32.0 GB for one input of 4x4x3",
    ),
    "padding": (
        lambda: small(layers.ZeroPadding2D(19_998), conv(2)),
        "32.0 GB for one input of 4x4x3",
    ),
    "resizing": (
        lambda: small(layers.Resizing(40_000, 40_000), conv(2)),
        "32.0 GB for one input of 4x4x3",
    ),
    "repeating": (
        lambda: small(
            layers.Flatten(),
            layers.RepeatVector(10**8),
            layers.Reshape((10**4, 10**4, 48)),
            conv(2),
        ),
        "38.4 GB for one input of 4x4x3",
    ),
    "inside a model": (
        lambda: small(
            keras.Sequential([layers.UpSampling2D(10_000), layers.MaxPooling2D(10_000)]), conv(2)
        ),
        "19.2 GB for one input of 4x4x3",
    ),
    "the photo": (lambda: small(conv(2), side=40_000), "32.0 GB for one input of 40000x40000x3"),
    "before a reshape": (
        lambda: small(
            layers.UpSampling2D(600),
            layers.Reshape((64, 64, 600 * 600 * 3)),
            layers.MaxPooling2D(64),
            side=64,
        ),
        "35.4 GB for one input of 64x64x3",
    ),
    "any size": (
        lambda: small(layers.UpSampling2D(600), conv(2), side=None),
        "GB for one input of 224x224x3",
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("network", LARGE)
def test_a_network_of_huge_activations_is_refused(
    network: str, suffix: str, tmp_path: Path
) -> None:
    build, size = LARGE[network]
    path = saved(build(), tmp_path / f"large{suffix}")
    with pytest.raises(
        NetworkError, match=rf"large\{suffix}: .*: its activations would take .*{size}"
    ):
        vggnorm.load_network(str(path))


def test_a_network_of_huge_activations_is_not_run() -> None:
    model = small(layers.UpSampling2D(600), conv(2), side=None)
    with pytest.raises(
        NetworkError, match=r"small: its activations would take .* GB for one input of 224x224x3"
    ):
        require_same_outputs(model, model, "a copy")


LOADER = """
import resource, sys
import vggnorm, vggnorm.network
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        vggnorm.load_network(path)
    except vggnorm.NetworkError:
        continue
    sys.exit(f"{path} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives the peak memory in KiB")
def test_what_is_refused_takes_no_memory(tmp_path: Path) -> None:
    """Each file would take 1.4 GB or more; Keras itself needs about 10 MB to read them."""
    files = [saved(plain(), tmp_path / f"{claim.__name__}.keras", claim) for claim in CLAIMS]
    files += [saved(build(), tmp_path / f"{name}.keras") for name, (build, _) in LARGE.items()]
    files += [saved(small(layers.Normalization()), tmp_path / "wide.keras", channels)]
    loaded = subprocess.run(
        [sys.executable, "-c", LOADER, *files], capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert int(loaded.stdout) * 1024 < 500 * MEGABYTE


# What must still load


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("value", [2.0, np.array([2.0, 3.0, 4.0])], ids=["number", "array"])
def test_a_normalization_with_numbers_in_its_settings_is_loaded(
    value: Any, suffix: str, tmp_path: Path
) -> None:
    model = settle(
        chain(
            layers.Normalization(mean=value, variance=4.0 * np.ones(np.shape(value))),
            conv(2, name="a"),
        )
    )
    model.save(tmp_path / f"set{suffix}")
    loaded = vggnorm.load_network(str(tmp_path / f"set{suffix}"))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 40, 56, 3)).astype(np.float32)
    front = keras.Model(loaded.inputs[0], loaded.layers[1].output)
    np.testing.assert_allclose(
        front.predict(pixels, verbose=0), (pixels - value) / 2, rtol=1e-6, atol=1e-6
    )


def test_an_activation_that_is_a_layer_is_loaded(tmp_path: Path) -> None:
    model = small(layers.Conv2D(2, 3, activation=layers.ReLU(max_value=3), name="conv"))
    path = saved(model, tmp_path / "layer.keras")
    assert vggnorm.load_network(str(path)).get_layer("conv").activation.max_value == 3


def test_an_initializer_with_the_name_of_a_layer_is_loaded(tmp_path: Path) -> None:
    model = small(layers.Conv2D(2, 3, name="conv"), layers.Dense(2, kernel_initializer="identity"))
    loaded = vggnorm.load_network(str(saved(model, tmp_path / "identity.keras")))
    np.testing.assert_array_equal(loaded.layers[-1].get_weights()[0], np.eye(2))


def test_a_network_for_some_sizes_only_is_loaded(tmp_path: Path) -> None:
    """A U-Net of six levels takes pictures whose sides are multiples of 64, and 224 is not."""
    photo = keras.Input((None, None, 3))
    tensor, sides = photo, []
    for _ in range(6):
        tensor = conv(2, padding="same")(tensor)
        sides.append(tensor)
        tensor = layers.MaxPooling2D()(tensor)
    for side in reversed(sides):
        tensor = layers.Concatenate()([layers.UpSampling2D()(tensor), side])
    keras.Model(photo, tensor).save(tmp_path / "unet.keras")
    assert vggnorm.load_network(str(tmp_path / "unet.keras")).count_params() > 0


def test_lists_of_keras_2_are_called_on_tensors() -> None:
    call = [["photo", 0, 0, {}]]
    layer = {"class_name": "Conv2D", "config": {"name": "conv"}, "inbound_nodes": [call]}
    require_known({"class_name": "Functional", "config": {"layers": [layer]}})


# How much is needed


def test_activations_are_counted_while_they_are_needed() -> None:
    """By hand, in numbers: photo 192, a 256, b 320, pool 80, and the sum of a and c 256."""
    photo = keras.Input((8, 8, 3))  # 192
    a = layers.Conv2D(4, 1)(photo)  # 256
    b = layers.Conv2D(5, 1)(a)  # 320
    c = layers.Conv2D(4, 1)(b)  # 256
    both = layers.Add()([a, c])  # 256
    assert activation_bytes(keras.Model(photo, b), (1, 8, 8, 3)) == 4 * (256 + 320)
    assert activation_bytes(keras.Model(photo, c), (1, 8, 8, 3)) == 4 * (256 + 320 + 256 - 256)
    assert activation_bytes(keras.Model(photo, both), (1, 8, 8, 3)) == 4 * (
        256 + 320 + 256
    )  # a waits for c
    assert activation_bytes(keras.Model(photo, layers.MaxPooling2D()(a)), (2, 8, 8, 3)) == 2 * 4 * (
        192 + 256
    )


def test_vgg16_needs_two_layers_of_64_filters_at_once() -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = keras.applications.VGG16(weights=None, include_top=False)
        assert activation_bytes(model, (1, 224, 224, 3)) == 2 * 224 * 224 * 64 * 4
        assert activation_bytes(model, (1, 600, 600, 3)) == 2 * 600 * 600 * 64 * 4
