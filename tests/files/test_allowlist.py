"""Model files that try to run code: each is made for real, and refused before it can.

Every attack tries to leave a marker file behind. Each test also shows that the attack would succeed
if nothing prevented it.
"""

import base64
import importlib
import io
import json
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from small_files import rewritten, saved, small

from vggnorm.errors import NetworkError
from vggnorm.files import allowlist
from vggnorm.files.allowlist import require_known
from vggnorm.network.storage import load_network
from vggnorm.network.weights import weights_sha256

# Code in a model's configuration


class Payload:
    """Unpickled, it leaves the marker behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def leaving(marker: Path) -> Callable[..., Any]:
    """A function that leaves the marker behind, whose bytecode Keras writes into a file."""
    source = f"lambda x, *_, **__: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]"
    linecache.cache["<trap>"] = (
        len(source),
        None,
        [source],
        "<trap>",
    )  # Keras shows what it warns of
    trap: Callable[..., Any] = eval(compile(source, "<trap>", "eval"))
    return trap


def lambda_layer(marker: Path) -> Any:
    return layers.Lambda(leaving(marker), name="evil")


def lambda_in_a_model(marker: Path) -> Any:
    return keras.Sequential([keras.Input((4, 4, 3)), lambda_layer(marker)], name="inner")


def lambda_in_a_model_in_a_model(marker: Path) -> Any:
    photo = keras.Input((4, 4, 3))
    return keras.Model(photo, lambda_in_a_model(marker)(photo), name="outer")


def lambda_in_a_wrapper(marker: Path) -> Any:
    return layers.TimeDistributed(layers.Lambda(leaving(marker)), name="evil")


@pytest.mark.filterwarnings("ignore::UserWarning:keras")  # that anonymous functions are unsafe
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "evil", [lambda_layer, lambda_in_a_model, lambda_in_a_model_in_a_model, lambda_in_a_wrapper]
)
def test_code_in_a_model_file_is_not_run(
    evil: Callable[[Path], Any], suffix: str, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    path = saved(small(evil(marker)), tmp_path / f"evil{suffix}")
    marker.unlink(missing_ok=True)
    with pytest.raises(
        NetworkError,
        match=rf"evil\{suffix}: is not loaded: layer (evil|inner) names .*; "
        "(if you trust|build the network again)",
    ):
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
    with pytest.raises(
        NetworkError, match=r"layer evil names keras\.layers\.TorchModuleWrapper, which unpickles"
    ):
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


def named(
    class_name: Any, module: Any = "keras.layers", config: Any = None, **more: Any
) -> dict[str, Any]:
    return {
        "class_name": class_name,
        "module": module,
        "config": {} if config is None else config,
        **more,
    }


def holding(**settings: Any) -> dict[str, Any]:
    """The configuration of a model with one layer of these settings."""
    layer = named("Conv2D", config={"name": "conv", "filters": 2, **settings}, registered_name=None)
    return {"class_name": "Functional", "config": {"name": "small", "layers": [layer]}}


def name_of(evil: dict[str, Any]) -> str:
    is_function = evil["class_name"] == "function"
    name = evil["config"] if is_function else evil["class_name"]
    return f"{evil['module']}.{name}"


def function(name: Any, module: Any, **more: Any) -> dict[str, Any]:
    return {
        "class_name": "function",
        "module": module,
        "config": name,
        "registered_name": name,
        **more,
    }


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
        function("relu", "keras.activations", registered_name=None)
        | {"registered_name": "get_file"},
        named("function", "builtins", ["relu"]),
    ],
    ids=name_of,
)
@pytest.mark.parametrize(
    "place",
    [
        lambda evil: holding(kernel_initializer=evil),
        lambda evil: holding(activation=evil),
        lambda evil: holding(deep=[[{"deeper": evil}]]),
        lambda evil: holding(
            kernel_initializer=named("Zeros", "keras.initializers", {"value": evil})
        ),
        lambda evil: (
            {
                "class_name": "Sequential",
                "config": {"name": "s", "layers": [{"config": {"name": "l"}} | evil]},
            }
            if isinstance(evil["config"], dict)
            else holding(layer=evil)
        ),
        lambda evil: holding() | {"config": holding()["config"] | {"input_layers": evil}},
        lambda evil: with_in_layer(build_config={"input_shape": evil}),
        lambda evil: with_in_layer(inbound_nodes=[{"args": [], "kwargs": {"inputs": evil}}]),
        lambda evil: with_in_layer(inbound_nodes=[[["photo", 0, 0, {"mask": evil}]]]),
    ],
    ids=[
        "setting",
        "activation",
        "deep",
        "in a known one",
        "layer",
        "model",
        "build_config",
        "inbound",
        "inbound 2",
    ],
)
def test_nothing_unknown_is_named_anywhere(
    place: Callable[[Any], Any], evil: dict[str, Any]
) -> None:
    require_known(holding())
    with pytest.raises(ValueError, match="(layer .*|the model) names .*, which "):
        require_known(json.loads(json.dumps(place(evil))))


def with_in_layer(**more: Any) -> dict[str, Any]:
    config = holding()
    config["config"]["layers"][0] |= more
    return config


@pytest.mark.parametrize("activation", ["deserialize", "get", "os.system", "keras_export", ""])
def test_only_activations_are_named_as_such(activation: str) -> None:
    with pytest.raises(
        ValueError, match=rf"layer conv names {activation}, which is not known to be harmless"
    ):
        require_known(holding(activation=activation))


@pytest.mark.parametrize(
    "config",
    [
        None,
        1,
        "x",
        [],
        {},
        {"class_name": "Functional"},
        {"class_name": "Lambda", "config": {"layers": []}},
        {"class_name": "Functional", "config": {"layers": {}}},
        {"class_name": ["Functional"], "config": {"layers": []}},
    ],
)
def test_what_is_no_configuration_of_a_model_is_refused(config: Any) -> None:
    with pytest.raises(
        ValueError, match="its configuration is not that of a functional or sequential model"
    ):
        require_known(config)


def test_what_the_program_registered_is_its_own() -> None:
    config = holding(kernel_initializer=named("Mine", "my.module", registered_name="mine>Mine"))
    require_known(config, registered={"mine>Mine"})
    with pytest.raises(ValueError, match=r"layer conv names my\.module\.Mine"):
        require_known(config, registered={"mine>Other"})


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_registered_layer_is_loaded_and_another_is_not(suffix: str, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("test_untrusted")
    class Doubled(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, tensor: Any) -> Any:
            return 2 * tensor

    path = saved(small(Doubled(name="doubled")), tmp_path / f"own{suffix}")
    try:
        assert type(load_network(str(path)).get_layer("doubled")) is Doubled
    finally:
        del keras.saving.get_custom_objects()["test_untrusted>Doubled"]
    with pytest.raises(
        NetworkError, match="layer doubled names .*Doubled, which is not known to be harmless"
    ):
        load_network(str(path))


def test_all_that_is_known_is_in_keras() -> None:
    """A name that Keras lacks would be one that nobody has looked at."""
    for module, names in allowlist.MODULES.items():
        space = importlib.import_module(module)
        assert {name for name in names if not isinstance(getattr(space, name, None), type)} == set()
    assert {
        name
        for name in allowlist.ACTIVATIONS
        if not callable(getattr(keras.activations, name, None))
    } == set()
