"""Files that try to run code, to reach other files or to swell: each is made for real, and refused before it can.

Every attack tries to leave a marker file behind. That it does so where nothing keeps it from it, is part of the test.
"""

import base64
import io
import json
import linecache
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from zoo import NETWORKS, settle

from vggnorm import modelconfig
from vggnorm.coco import list_photos
from vggnorm.errors import MeansError, NetworkError, PhotoError
from vggnorm.h5file import is_hdf5, read_means, read_shapes
from vggnorm.means import FilterMeans, load_means
from vggnorm.modelconfig import require_known
from vggnorm.network import _load_weights, load_network, save_network, weights_sha256
from vggnorm.untrusted import open_hdf5, read_model_config


def small(*steps: Any) -> Any:
    """A network of a few weights, all of them named."""
    tensor = photo = keras.Input((4, 4, 3), name="photo")
    for step in steps or (layers.Conv2D(2, 3, activation="relu", name="conv"),):
        tensor = step(tensor)
    return keras.Model(photo, tensor, name="small")


def rewritten(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the configuration in a model file, and leave the rest as it is."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


# Code in a model's configuration


class Payload:
    """Unpickled, it leaves the marker behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def leaving(marker: Path) -> Callable[..., Any]:
    """An anonymous function, as Keras writes its bytecode into a file, that leaves the marker behind."""
    source = f"lambda x, *_, **__: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]"
    linecache.cache["<trap>"] = len(source), None, [source], "<trap>"  # Keras shows what it warns of
    return eval(compile(source, "<trap>", "eval"))


def lambda_layer(marker: Path) -> Any:
    return layers.Lambda(leaving(marker), name="evil")


def lambda_in_a_model(marker: Path) -> Any:
    return keras.Sequential([keras.Input((4, 4, 3)), lambda_layer(marker)], name="inner")


def lambda_in_a_wrapper(marker: Path) -> Any:
    return layers.TimeDistributed(layers.Lambda(leaving(marker)), name="evil")


@pytest.mark.filterwarnings("ignore::UserWarning:keras")  # that anonymous functions are unsafe
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("evil", [lambda_layer, lambda_in_a_model, lambda_in_a_wrapper])
def test_code_in_a_model_file_is_not_run(evil: Callable[[Path], Any], suffix: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = saved(small(evil(marker)), tmp_path / f"evil{suffix}")
    marker.unlink(missing_ok=True)
    with pytest.raises(NetworkError, match=rf"evil\{suffix}: is not loaded: layer (evil|inner) names .*; if you trust"):
        load_network(str(path))
    assert not marker.exists()
    keras.models.load_model(path, safe_mode=False, compile=False)
    assert marker.exists(), "the trap would not have worked"


def test_a_pickle_in_a_model_file_is_not_loaded(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    marker, buffer = tmp_path / "marker", io.BytesIO()
    torch.save(Payload(marker), buffer)

    def change(config: Any) -> None:
        module = {"class_name": "str", "config": base64.b64encode(buffer.getvalue()).decode()}
        layer = config["config"]["layers"][1]
        layer["class_name"] = "TorchModuleWrapper"
        layer["config"] = {"name": "evil", "module": module["config"]}
        layer["build_config"] = None

    path = rewritten(saved(small(), tmp_path / "evil.keras"), change)
    with pytest.raises(NetworkError, match=r"layer evil names keras\.layers\.TorchModuleWrapper, which unpickles"):
        load_network(str(path))
    assert not marker.exists()
    with pytest.raises(Exception, match="."):  # after the damage is done
        keras.models.load_model(path, safe_mode=False)
    assert marker.exists(), "the trap would not have worked"


@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_a_model_was_trained_with_is_not_looked_at(suffix: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    model = small()
    model.compile(loss=leaving(marker) if suffix == ".keras" else "mse", metrics=["mae"])
    path = saved(model, tmp_path / f"trained{suffix}")
    marker.unlink(missing_ok=True)
    assert weights_sha256(load_network(str(path))) == weights_sha256(model)
    assert not marker.exists()


def named(class_name: Any, module: Any = "keras.layers", config: Any = None, **more: Any) -> dict[str, Any]:
    return {"class_name": class_name, "module": module, "config": {} if config is None else config, **more}


def holding(**settings: Any) -> dict[str, Any]:
    """The configuration of a model with one layer of these settings."""
    layer = named("Conv2D", config={"name": "conv", "filters": 2, **settings}, registered_name=None)
    return {"class_name": "Functional", "config": {"name": "small", "layers": [layer]}}


def function(name: Any, module: Any, **more: Any) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name, **more}


@pytest.mark.parametrize(
    "evil",
    [
        named("__lambda__", None, {"value": ["4wAA", None, None]}),
        named("Lambda", "keras.src.layers.core.lambda_layer"),
        named("TFSMLayer", config={"filepath": "/tmp/model"}),
        named("JaxLayer"),
        named("FlaxLayer"),
        named("StringLookup", config={"vocabulary": "/etc/passwd"}),
        named("TextVectorization", config={"vocabulary": "/etc/passwd"}),
        named("system", "os"),
        named("Popen", "subprocess", {"args": ["touch", "marker"]}),
        named("Dense", "somewhere.else"),
        named("Dense", None, registered_name="other>Dense"),
        named("Dense", "keras.src.layers.core.dense"),
        named("Map", "keras.src.ops.core"),
        named("Variable", "keras.src.backend.common.variables"),
        named("FeatureSpace", "keras.utils"),
        named("DTypePolicyMap", "keras"),
        named("GPTQConfig", "keras.quantizers"),
        named("Functional", "keras.src.models.functional"),
        named("__typespec__", "tensorflow", []),
        named("CompositeTensor", None, spec={}),
        named("TypeSpec", None, type_spec="tf.TensorSpec"),
        named("deserialize", None),
        named("__builtins__", None),
        named(["Dense"]),
        named("Dense", ["keras.layers"]),
        named("Dense", compile_config={"loss": "mse"}),
        function("load_model", "keras.models"),
        function("get_file", "keras.utils"),
        function("enable_unsafe_deserialization", "keras.config"),
        function("set_global_attribute", "keras.src.backend.common.global_state"),
        function("system", "os"),
        function("eval", "builtins"),
        function("deserialize", "keras.activations"),
        function("relu", "keras.activations", registered_name=None) | {"registered_name": "get_file"},
        named("function", "builtins", ["relu"]),
    ],
    ids=lambda evil: f"{evil['module']}.{evil['config'] if evil['class_name'] == 'function' else evil['class_name']}",
)
@pytest.mark.parametrize(
    "place",
    [
        lambda evil: holding(kernel_initializer=evil),
        lambda evil: holding(activation=evil),
        lambda evil: holding(deep=[[{"deeper": evil}]]),
        lambda evil: holding(kernel_initializer=named("Zeros", "keras.initializers", {"value": evil})),
        lambda evil: (
            {"class_name": "Sequential", "config": {"name": "s", "layers": [{"config": {"name": "l"}} | evil]}}
            if isinstance(evil["config"], dict)
            else holding(layer=evil)
        ),
        lambda evil: holding() | {"config": holding()["config"] | {"input_layers": evil}},
        lambda evil: with_in_layer(build_config={"input_shape": evil}),
        lambda evil: with_in_layer(inbound_nodes=[{"args": [], "kwargs": {"inputs": evil}}]),
        lambda evil: with_in_layer(inbound_nodes=[[["photo", 0, 0, {"mask": evil}]]]),
    ],
    ids=["setting", "activation", "deep", "in a known one", "layer", "model", "build_config", "inbound", "inbound 2"],
)
def test_nothing_unknown_is_named_anywhere(place: Callable[[Any], Any], evil: dict[str, Any]) -> None:
    require_known(holding())
    with pytest.raises(ValueError, match="(layer .*|the model) names .*, which "):
        require_known(json.loads(json.dumps(place(evil))))


def with_in_layer(**more: Any) -> dict[str, Any]:
    config = holding()
    config["config"]["layers"][0] |= more
    return config


@pytest.mark.parametrize("activation", ["deserialize", "get", "os.system", "keras_export", ""])
def test_only_activations_are_named_as_such(activation: str) -> None:
    with pytest.raises(ValueError, match=rf"layer conv names {activation}, which is not known to be harmless"):
        require_known(holding(activation=activation))


@pytest.mark.parametrize(
    "config",
    [None, 1, "x", [], {}, {"class_name": "Functional"}, {"class_name": "Lambda", "config": {"layers": []}},
     {"class_name": "Functional", "config": {"layers": {}}}, {"class_name": ["Functional"], "config": {"layers": []}}],
)  # fmt: skip
def test_what_is_no_configuration_of_a_model_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match="its configuration is not that of a functional or sequential model"):
        require_known(config)


def test_what_the_program_registered_is_its_own() -> None:
    config = holding(kernel_initializer=named("Mine", "my.module", registered_name="mine>Mine"))
    require_known(config, registered={"mine>Mine"})
    with pytest.raises(ValueError, match=r"layer conv names my\.module\.Mine"):
        require_known(config, registered={"mine>Other"})


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_registered_layer_is_loaded_and_another_is_not(suffix: str, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("test_untrusted")
    class Doubled(layers.Layer):
        def call(self, tensor: Any) -> Any:
            return 2 * tensor

    path = saved(small(Doubled(name="doubled")), tmp_path / f"own{suffix}")
    try:
        assert type(load_network(str(path)).get_layer("doubled")) is Doubled
    finally:
        del keras.saving.get_custom_objects()["test_untrusted>Doubled"]
    with pytest.raises(NetworkError, match="layer doubled names .*Doubled, which is not known to be harmless"):
        load_network(str(path))


def test_all_that_is_known_is_in_keras() -> None:
    """A name that Keras lacks would be one that nobody has looked at."""
    for module, names in modelconfig.MODULES.items():
        space = keras if module == "keras" else getattr(keras, module.partition(".")[2])
        assert {name for name in names if not isinstance(getattr(space, name, None), type)} == set()
    assert {name for name in modelconfig.ACTIVATIONS if not callable(getattr(keras.activations, name, None))} == set()


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_configuration_nested_too_deep_is_refused(depth: int, tmp_path: Path) -> None:
    path = saved(small(), tmp_path / "deep.keras")
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    text = json.dumps(holding(deep="?")).replace('"?"', "[" * depth + "]" * depth)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", weights)
    with pytest.raises(NetworkError, match=r"deep\.keras: "):
        load_network(str(path))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("filters", [1 << 20, 1 << 40])
def test_a_network_larger_than_its_file_is_not_built(filters: int, suffix: str, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["config"]["layers"][1]["config"]["filters"] = filters

    path = rewritten(saved(small(), tmp_path / f"huge{suffix}"), change)
    needed = f"{4 * 28 * filters:,}"
    with pytest.raises(NetworkError, match=rf"describes a network with {needed} bytes of weights, and does not hold"):
        load_network(str(path))


# HDF5 files that reach elsewhere, or claim what is not there

KERNEL = "model_weights/conv/conv/kernel"


def replaced(make: Callable[[h5py.Group, str, Path], None]) -> Callable[[h5py.File, Path], None]:
    """Put something else in the place of the kernel."""

    def change(file: h5py.File, other: Path) -> None:
        del file[KERNEL]
        make(file[KERNEL.rpartition("/")[0]], "kernel", other)

    return change


def link(group: h5py.Group, name: str, target: Any) -> None:
    group[name] = target


def dataset(**options: Any) -> Callable[[h5py.File, Path], None]:
    return replaced(lambda group, name, _: group.create_dataset(name, **options))


def external_storage(group: h5py.Group, name: str, other: Path) -> None:
    group.create_dataset(name, (3, 3, 3, 2), "f4", external=[(str(other), 0, 216)])


def virtual(group: h5py.Group, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 2), "f4")
    layout[:] = h5py.VirtualSource(other, "kernel", (3, 3, 3, 2))
    group.create_virtual_dataset(name, layout)


def never_written(group: h5py.Group, name: str, _: Path) -> None:
    space, kind = h5py.h5s.create_simple((1 << 40,)), h5py.h5t.IEEE_F32LE
    h5py.h5d.create(group.id, name.encode(), kind, space)


def grouped(file: h5py.File, _: Path) -> None:
    file["model_weights/conv/again"] = file["model_weights/conv"]


def attribute(value: Any, **options: Any) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file["model_weights"].attrs.create("odd", value, **options)


ELSEWHERE = "is chunked, compressed, virtual or kept in another file, as Keras does not do"
COMPOUND = np.dtype([("a", "f4"), ("b", "f4")])
HDF5_HAZARDS: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "external link": (
        replaced(lambda group, name, other: link(group, name, h5py.ExternalLink(other, "/kernel"))),
        f"/{KERNEL} is a link to somewhere else",
    ),
    "soft link": (
        replaced(lambda group, name, _: link(group, name, h5py.SoftLink("/model_weights/conv/conv/bias"))),
        f"/{KERNEL} is a link to somewhere else",
    ),
    "soft link to itself": (
        replaced(lambda group, name, _: link(group, name, h5py.SoftLink(f"/{KERNEL}"))),
        f"/{KERNEL} is a link to somewhere else",
    ),
    "soft link to nothing": (
        lambda file, _: link(file, "more", h5py.SoftLink("/nothing")), "/more is a link to somewhere else"
    ),
    "loop": (grouped, "/model_weights/conv/again is in the file twice"),
    "a loop to the root": (lambda file, _: link(file, "again", file["/"]), "/again is in the file twice"),
    "the same array twice": (lambda file, _: link(file, "again", file[KERNEL]), "is in the file twice"),
    "external storage": (replaced(external_storage), f"/{KERNEL} {ELSEWHERE}"),
    "virtual": (replaced(virtual), f"/{KERNEL} {ELSEWHERE}"),
    "terabytes of zeros": (
        dataset(shape=(1 << 40,), dtype="f4", chunks=(1 << 20,), compression="gzip"), f"/{KERNEL} {ELSEWHERE}"
    ),
    "compressed": (
        dataset(data=np.zeros((3, 3, 3, 2), "f4"), compression="gzip", shuffle=True), f"/{KERNEL} {ELSEWHERE}"
    ),
    "never written": (replaced(never_written), f"/{KERNEL} claims 4,398,046,511,104 bytes, of which 0 are there"),
    "text": (dataset(data="kernel"), f"/{KERNEL} is no array of numbers"),
    "texts": (dataset(data=["kernel"] * 3), f"/{KERNEL} is no array of numbers"),
    "bytes": (dataset(data=np.array([b"kernel"] * 3)), f"/{KERNEL} is no array of numbers"),
    "compound": (dataset(data=np.zeros(3, COMPOUND)), f"/{KERNEL} is no array of numbers"),
    "arrays of arrays": (dataset(shape=(2,), dtype=np.dtype("(3,)f4")), f"/{KERNEL} is no array of numbers"),
    "lists": (dataset(shape=(2,), dtype=h5py.vlen_dtype("f4")), f"/{KERNEL} is no array of numbers"),
    "references": (dataset(shape=(2,), dtype=h5py.ref_dtype), f"/{KERNEL} is no array of numbers"),
    "region references": (dataset(shape=(2,), dtype=h5py.regionref_dtype), f"/{KERNEL} is no array of numbers"),
    "complex": (dataset(data=np.zeros(2, "c8")), f"/{KERNEL} is no array of numbers"),
    "opaque": (dataset(data=np.zeros(2, "V4")), f"/{KERNEL} is no array of numbers"),
    "longer floats": (dataset(data=np.zeros(2, "f16")), f"/{KERNEL} is no array of numbers"),
    "a type": (replaced(lambda group, name, _: link(group, name, np.dtype("f4"))), "is neither a group nor an array"),
    "attribute of lists": (attribute(np.zeros(0), dtype=h5py.vlen_dtype("i4"), shape=(0,)), "has an attribute that"),
    "attribute of references": (attribute(None, dtype=h5py.ref_dtype, shape=(1,)), "has an attribute that"),
}  # fmt: skip


@pytest.mark.parametrize("hazard", HDF5_HAZARDS)
def test_hdf5_that_could_harm_is_refused(hazard: str, tmp_path: Path) -> None:
    change, text = HDF5_HAZARDS[hazard]
    path = saved(small(), tmp_path / "small.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.zeros((3, 3, 3, 2), "f4")
    with open_hdf5(path):
        pass
    with h5py.File(path, "r+") as file:
        change(file, tmp_path / "other.h5")
    with pytest.raises(NetworkError) as caught, open_hdf5(path):
        pass
    assert f"{path}: is refused: " in str(caught.value)
    assert text in str(caught.value)


def test_arrays_in_the_same_place_do_not_swell(tmp_path: Path) -> None:
    """Two arrays whose bytes are the same: each finds room in the file, and both together do not."""
    path = tmp_path / "twice.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for name in "one", "other":
            file[name] = np.zeros(100_000)
        places = [file[name].id.get_offset() for name in ("one", "other")]
    content = bytearray(path.read_bytes())
    one, other = (struct.pack("<Q", place) for place in places)
    assert content.count(other) == 1
    content = content.replace(other, one)[: places[1]]
    struct.pack_into("<Q", content, 40, len(content))  # where the file ends, in the superblock of version 0
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert file["other"].shape == file["one"].shape == (100_000,)
    with pytest.raises(NetworkError, match=r"twice\.h5: is refused: its arrays claim more bytes than"), open_hdf5(path):
        pass


def test_texts_in_the_same_place_do_not_swell(tmp_path: Path) -> None:
    """One long text, to which a list of a thousand names refers a thousand times."""
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["x" * 2_000_000, *["y"] * 999]
    with h5py.File(path) as file:
        assert len(file.attrs["layer_names"]) == 1000  # the file is sound, and would be with a thousand references
    with pytest.raises(NetworkError, match=r"texts\.h5: is refused: its texts claim more bytes than are plausible"):
        read_shapes(path)


# Through every door


def as_weights(path: Path) -> Any:
    return _load_weights(small(), path)


def write_file(kind: str, folder: Path, means: FilterMeans) -> tuple[Path, Callable[[Path], Any]]:
    """Write a lawful file of a kind; give it and what reads it."""
    model = small()
    if kind == "means":
        save_network(model, folder / "normalized.h5", means)
        return folder / "normalized.h5", read_means
    if kind == "weights":
        return saved(model, folder / "weights.h5"), as_weights
    if kind == ".weights.h5":
        model.save_weights(folder / "small.weights.h5")
        return folder / "small.weights.h5", as_weights
    return saved(model, folder / f"small{kind}"), lambda path: load_network(str(path))


def change_inner(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change an HDF5 file, or the one in a `.keras` archive."""
    if path.suffix != ".keras":
        with h5py.File(path, "r+") as file:
            change(file)
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    members["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


KINDS = ("weights", ".weights.h5", ".h5", ".keras", "means")


def find_vectors(file: h5py.File) -> list[str]:
    """The names of the arrays with one axis, as a bias has."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if getattr(item, "shape", None) == (2,) else None)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_reader_follows_a_link_to_another_file(kind: str, some_means: FilterMeans, tmp_path: Path) -> None:
    path, read = write_file(kind, tmp_path, some_means)
    read(path)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.array([1.0, 2.0])

    def change(file: h5py.File) -> None:
        name = find_vectors(file)[0]
        del file[name]
        file[name] = h5py.ExternalLink(tmp_path / "other.h5", "/secret")

    change_inner(path, change)
    with pytest.raises(NetworkError, match=r"is refused: /.* is a link to somewhere else"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [".h5", ".keras", "weights", ".weights.h5"])
def test_weights_that_are_not_finite_are_refused(
    kind: str, value: float, some_means: FilterMeans, tmp_path: Path
) -> None:
    path, read = write_file(kind, tmp_path, some_means)

    def change(file: h5py.File) -> None:
        file[find_vectors(file)[0]][1] = value

    change_inner(path, change)
    with pytest.raises(NetworkError, match=rf"{path.name}: has weights that are not finite, in layer conv"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_is_refused_without_waiting(kind: str, some_means: FilterMeans, tmp_path: Path) -> None:
    path, read = write_file(kind, tmp_path, some_means)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        NetworkError, match=rf"{path.name}: (cannot be read: it is no regular file|there is no such file)"
    ):
        read(path)


def test_a_layer_that_is_listed_again_and_again_is_read_once(tmp_path: Path) -> None:
    path = saved(small(), tmp_path / "again.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/conv"].attrs["weight_names"] = [b"conv/kernel"] * 1000
    with pytest.raises(
        NetworkError, match=r"layer conv has weights of the shapes 3x3x3x2 and 2 there, and 3x3x3x2 and"
    ):
        load_network(str(path))


# Archives


def write_archive(path: Path, members: list[tuple[Any, bytes]], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """What is in a lawful archive."""
    with zipfile.ZipFile(saved(small(), tmp_path / "lawful.keras")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "assets/../../evil",
        "assets/vocabulary.txt",
        "C:\\evil",
        "model.weights.npz",
        "config.json/",
    ],
)
def test_an_archive_holds_nothing_else(name: str, members: dict[str, bytes], tmp_path: Path) -> None:
    path = write_archive(tmp_path / "evil.keras", [*members.items(), (name, b"evil")])
    with pytest.raises(NetworkError, match=r"evil\.keras: is refused: it holds '.*', and may hold metadata\.json"):
        load_network(str(path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evil.keras", "lawful.keras"]


def test_a_link_in_an_archive_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("metadata.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    del members["metadata.json"]
    path = write_archive(tmp_path / "evil.keras", [(entry, b"/etc/passwd"), *members.items()])
    with pytest.raises(NetworkError, match=r"is refused: metadata\.json in it is a link"):
        load_network(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_for_two_files_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    path = write_archive(tmp_path / "evil.keras", [*members.items(), ("config.json", b"{}")])
    with pytest.raises(NetworkError, match=r"is refused: it holds config\.json twice"):
        load_network(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_cannot_swell(method: int, members: dict[str, bytes], tmp_path: Path) -> None:
    members["metadata.json"] = b" " * 10_000_000
    path = write_archive(tmp_path / "bomb.keras", list(members.items()), compression=method)
    assert path.stat().st_size < 100_000
    with pytest.raises(NetworkError, match="is refused: .* in it is encrypted or compressed, as Keras does not do"):
        load_network(str(path))


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [
        (8, 1, "is refused: .* in it is encrypted or compressed"),
        (10, 99, "is refused: .* in it is encrypted or compressed"),
        (20, 0xFFFFFFF0, "is refused: .* in it claims another size than it has|cannot be loaded"),
        (24, 0xFFFFFFF0, "is refused: .* in it claims another size than it has"),
        (42, 0xFFFFFF00, "cannot be"),
    ],
    ids=["encrypted", "unknown method", "compressed size", "size", "place"],
)
def test_false_claims_in_the_directory_of_an_archive(
    offset: int, value: int, text: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "evil.keras", list(members.items()))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the last file in the archive
    struct.pack_into("<H" if value < 100 else "<I", content, entry + offset, value)
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=rf"evil\.keras: ({text})"):
        load_network(str(path))


def test_the_largest_configuration_is_limited(members: dict[str, bytes], tmp_path: Path) -> None:
    members["config.json"] = b" " * (1 << 22) + members["config.json"]
    with pytest.raises(NetworkError, match="its configuration has more than 4,194,304 bytes"):
        read_model_config(write_archive(tmp_path / "large.keras", list(members.items())))


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_an_archive_without_its_parts_is_refused(missing: str, members: dict[str, bytes], tmp_path: Path) -> None:
    del members[missing]
    with pytest.raises(NetworkError, match=rf"part\.keras: cannot be loaded as a Keras model: .*{missing}"):
        load_network(str(write_archive(tmp_path / "part.keras", list(members.items()))))


# Lawful files


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_files_of_keras_are_loaded_as_by_keras(name: str, suffix: str, tmp_path: Path) -> None:
    model = settle(NETWORKS[name]())
    path = saved(model, tmp_path / f"model{suffix}")
    loaded, expected = load_network(str(path)), keras.models.load_model(path, compile=False)
    assert type(loaded) is type(expected)
    assert loaded.get_config() == expected.get_config()
    assert weights_sha256(loaded) == weights_sha256(model)


# Damage that HDF5 itself does not survive


def test_a_heap_on_which_hdf5_would_work_for_ever_is_refused(some_means: FilterMeans, tmp_path: Path) -> None:
    path = tmp_path / "normalized.h5"
    save_network(small(), path, some_means)
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL\x01\0\0\0") + 16
    while content[place : place + 2] != b"\0\0":  # the free piece at the end of the heap
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=r"normalized\.h5: is refused: its texts are damaged"):
        read_means(path)


# Other files


def test_other_files_that_are_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(MeansError, match="pipe: cannot be read: it is no regular file"):
        load_means(path)
    with pytest.raises(PhotoError, match="pipe: cannot be read: it is no regular file"):
        list_photos(path)
    assert not is_hdf5(path)
