"""What a model's configuration may name, so that building the model runs no code out of the file.

A configuration is JSON that names classes and functions, and Keras turns each name into a call.
These ways from there to code are known: the bytecode of a `Lambda` layer (CVE-2024-3660; in an .h5
file in spite of `safe_mode`, CVE-2025-9905), functions of any module (CVE-2025-1550), functions of
Keras's own that fetch files or switch `safe_mode` off (CVE-2025-8747, CVE-2025-9906), a pickled
PyTorch module (`TorchModuleWrapper`), and a SavedModel (`TFSMLayer`). A vocabulary that is a path
leads to the user's other files (CVE-2025-12058).

So this module does not look for names that are known to be evil. It lets only those names through
that are listed here: classes of Keras that compute with numbers from their configuration and their
weights.
"""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from vggnorm.files import operations
from vggnorm.files.nested_config import MODELS, is_model, model_calls


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Layers that hold layers are not here: vggnorm does not normalize networks with them. Models inside
# a model are let through by `vggnorm.files.nested_config.is_model`.
LAYERS = _words(
    """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AutoContrast
    Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization CenterCrop
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Cropping1D
    Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense
    Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention Identity InputLayer LayerNormalization LeakyReLU
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply
    Normalization PReLU Permute RMSNormalization RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
    RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
    RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D
    SeparableConv2D Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
    Subtract UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)

INITIALIZERS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer
    LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform
    TruncatedNormal VarianceScaling Zeros
    """
)

REGULARIZERS = frozenset(["L1", "L1L2", "L2", "OrthogonalRegularizer"])

CONSTRAINTS = frozenset(["MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"])

ACTIVATIONS = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink
    softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh
    tanh_shrink threshold
    """
)

# More calls of layers than any network has. A model that calls a model twice, which calls another
# one twice, and so on, would keep Keras busy for ever.
MAX_CALLS = 50_000

# Values that JSON has no word for; Keras does not make objects of them.
VALUES = operations.VALUES | {"__numpy__", "TensorShape"}

# The module under which Keras 3 writes each class. Keras 2 wrote many without a module.
MODULES: Mapping[str, frozenset[str]] = {
    "keras.layers": LAYERS,
    "keras.initializers": INITIALIZERS,
    "keras.regularizers": REGULARIZERS,
    "keras.constraints": CONSTRAINTS,
    "keras": frozenset(["DTypePolicy", "FloatDTypePolicy"]),
    **operations.OPERATIONS,
}

FUNCTION_MODULES = (None, "builtins", "keras.activations")  # None: without a module

WITHOUT_MODULE = LAYERS | INITIALIZERS | REGULARIZERS | CONSTRAINTS | VALUES

# Numpy would make room for any other type that a file names: "U1000000000" takes 4 GB for a letter.
NUMBER_TYPES = _words(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 half "
    "single double"
)

HAZARDS = {
    "Lambda": "runs code out of the file",
    "__lambda__": "is code out of the file",
    "TorchModuleWrapper": "unpickles, and so runs, what the file holds",
    "TFSMLayer": "loads and runs another model",
    "JaxLayer": "calls functions that the file names",
    "FlaxLayer": "calls functions that the file names",
    "StringLookup": "may read other files",
    "IntegerLookup": "may read other files",
    "TextVectorization": "may read other files",
    "compile_config": "is to be compiled, as only a whole model is",
}


CODE = ("Lambda", "__lambda__")


class CodeInFileError(ValueError):
    """A layer whose code is in the file. Neither Keras nor vggnorm could copy it, once loaded."""


def require_known(config: Any, registered: Container[str] = ()) -> None:
    """Refuse the configuration of a model if it names anything that is not known to be harmless.

    Args:
        config: the configuration of a whole model, as Keras 2 or 3 writes it in JSON.
        registered: names under which the running program itself has registered classes and
            functions with Keras. They stand for that program's code and not the file's, and are
            let through.

    Raises:
        CodeInFileError: it has a layer whose code is in the file.
        ValueError: it is not the configuration of a functional or sequential model, or it names
            something else; the text says which layer and what.
    """
    match config:
        case {"class_name": str(class_name), "config": {"layers": list()} as model} if (
            class_name in MODELS
        ):
            pass
        case _:
            raise ValueError("its configuration is not that of a functional or sequential model")
    _require_harmless_model(model, "the model", registered)
    if model_calls(model) > MAX_CALLS:
        raise ValueError(
            f"the models inside it call layers more than {MAX_CALLS:,} times, as no network does"
        )


def _require_harmless_model(
    model: Mapping[str, Any], where: str, registered: Container[str]
) -> None:
    """Refuse the settings of a model, or of a model inside it, if they name anything else."""
    for layer in model["layers"]:
        if is_model(layer):
            _require_harmless_model_inside(layer, registered)
        else:
            _require_harmless_layer(layer, registered)
    rest = {key: value for key, value in model.items() if key != "layers"}
    _require_known(rest, where, registered)


def _require_harmless_model_inside(layer: Mapping[str, Any], registered: Container[str]) -> None:
    where = f"layer {layer['config'].get('name')!s:.60}"
    _require_harmless_model(layer["config"], where, registered)
    named = ("class_name", "config", "module", "registered_name")  # `is_model` has looked at these
    rest = {key: value for key, value in layer.items() if key not in named}
    _require_known(rest, where, registered)
    for call in _calls(layer):
        _require_call_on_tensor(call, where)


def _require_harmless_layer(layer: Any, registered: Container[str]) -> None:
    match layer:
        case {"class_name": _, "config": dict(settings)}:
            where = f"layer {settings.get('name')!s:.60}"
        case _:
            raise ValueError("its configuration has a layer without a class or settings")
    _require_known(layer, where, registered)
    _require_no_layer_inside(layer, where)
    _require_arrays_of_numbers(layer, where)
    for call in _calls(layer):
        _require_call_on_tensor(call, where)


def _require_known(part: Any, where: str, registered: Container[str]) -> None:
    for named in _named(part):
        if not _is_known(named, registered):
            kind = CodeInFileError if named["class_name"] in CODE else ValueError
            raise kind(f"{where} {_description(named)}")


def _require_no_layer_inside(layer: Mapping[str, Any], where: str) -> None:
    """Refuse a layer in the settings of another layer.

    Keras builds it before anything knows its size. What the weights of other layers take is counted
    before they are made, see `vggnorm.network.room`.
    """
    if layer["class_name"] not in LAYERS | operations.NAMES:
        return  # a layer of the running program, which knows what it takes
    settings = dict(layer["config"])
    if isinstance(settings.get("activation"), dict):  # only here does Keras itself write a layer
        settings["activation"] = settings["activation"].get("config")
    for named in _named(settings):
        if named["class_name"] in LAYERS - INITIALIZERS:  # both have an Identity
            raise ValueError(
                f"{where} holds a {named['class_name']} in its settings, where no layer belongs"
            )


def _require_arrays_of_numbers(layer: Mapping[str, Any], where: str) -> None:
    for named in _named(layer):
        is_array = named["class_name"] in ("__numpy__", "__tensor__")
        if is_array and not _is_array_of_numbers(named.get("config")):
            raise ValueError(f"{where} holds an array of another type than numbers")


def _calls(layer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the calls of a layer, if Keras 3 wrote them; those of Keras 2 hold only tensors."""
    calls = layer.get("inbound_nodes") or []
    if not isinstance(calls, list):
        calls = [calls]
    return [call for call in calls if isinstance(call, dict)]


def _is_array_of_numbers(config: Any) -> bool:
    match config:
        case {"value": list() | int() | float(), "dtype": str(dtype)}:
            return dtype in NUMBER_TYPES
        case _:
            return False


def _require_call_on_tensor(call: Mapping[str, Any], where: str) -> None:
    """Refuse a layer that is called on numbers: Keras would compute its output at once."""
    kinds = {named["class_name"] for named in _named(call)}
    if "__keras_tensor__" not in kinds:
        raise ValueError(f"{where} is not called on the output of another layer")
    if not kinds <= VALUES:
        raise ValueError(
            f"{where} is called with {min(kinds - VALUES)}, which is neither a tensor nor a number"
        )


def _named(value: Any) -> Iterator[dict[str, Any]]:
    """Give everything that Keras would turn into an object, at any depth of a configuration."""
    if isinstance(value, list):
        for entry in value:
            yield from _named(entry)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        yield value
    for key, entry in value.items():
        if key in ("activation", "recurrent_activation") and isinstance(entry, str):
            yield {"class_name": "function", "config": entry}
        elif key == "compile_config" and entry:
            yield {"class_name": key}
        yield from _named(entry)


def _is_known(named: Mapping[str, Any], registered: Container[str]) -> bool:
    class_name, module = named["class_name"], named.get("module")
    alias = named.get("registered_name")
    if not all(isinstance(text, str | None) for text in (class_name, module, alias)):
        return False
    if class_name == "function":
        return _is_known_function(named.get("config"), module, alias, registered)
    names = WITHOUT_MODULE if module is None else MODULES.get(module, frozenset())
    if class_name in names and alias in (None, class_name):
        return True
    return (alias or class_name) in registered


def _is_known_function(
    function: Any, module: str | None, alias: str | None, registered: Container[str]
) -> bool:
    if not isinstance(function, str) or alias not in (None, function):
        return False
    is_activation = module in FUNCTION_MODULES and function in ACTIVATIONS
    return is_activation or function in registered


def _description(named: Mapping[str, Any]) -> str:
    class_name, module = str(named["class_name"]), named.get("module")
    name = str(named.get("config")) if class_name == "function" else class_name
    full_name = name if module is None else f"{module}.{name}"
    return f"names {full_name[:120]}, which {HAZARDS.get(name, 'is not known to be harmless')}"
