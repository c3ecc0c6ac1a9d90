"""What a program has set around a call: the right result, or one line with what to do."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import vggnorm
from vggnorm.errors import NetworkError
from vggnorm.measure import compute_means
from vggnorm.network import surroundings
from vggnorm.network.applications import load_vgg
from vggnorm.network.failures import is_of_gpu, is_out_of_memory, reason_of
from vggnorm.network.surroundings import require_ready, unused_gpu_line, usual_settings
from vggnorm.photos.geometry import Geometry
from vggnorm.run.options import Watch

MakeChain = Callable[..., Any]
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="this is about TensorFlow"
)
IN_GRAPH_MODE = r"TensorFlow is in graph mode.*; call vggnorm outside tf\.function and tf\.Graph"


@pytest.fixture
def restored() -> Iterator[None]:
    """Put Keras's global settings back after the test."""
    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])
    keras.config.set_dtype_policy(before[2])


# Graph mode


@needs_tensorflow
def test_graph_mode_is_told_in_one_line(
    make_chain: MakeChain, photo_folder: Path, chain_file: Path
) -> None:
    import tensorflow as tf

    network = make_chain()
    means = compute_means(network, photo_folder, geometry=Geometry(32))
    with tf.Graph().as_default():
        for call in (
            lambda: compute_means(network, photo_folder, geometry=Geometry(32)),
            lambda: vggnorm.load_network(chain_file),
            lambda: vggnorm.normalize(network, means),
            lambda: vggnorm.verify(network, network, photo_folder, means),
            lambda: vggnorm.keep_output(network, means),
            lambda: vggnorm.save_network(network, chain_file.with_suffix(".h5"), means),
            lambda: vggnorm.load_normalized(chain_file),
            lambda: vggnorm.weights_of(network),
            lambda: vggnorm.identify(chain_file, chain_file),
        ):
            with pytest.raises(NetworkError, match=IN_GRAPH_MODE):
                call()

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def traced() -> Any:
        require_ready()

    with pytest.raises(NetworkError, match=IN_GRAPH_MODE):
        traced()
    require_ready()  # outside, as the line says


@needs_tensorflow
def test_a_program_that_turned_eager_execution_off_is_told_in_one_line(chain_file: Path) -> None:
    program = (
        "import tensorflow as tf, vggnorm; tf.compat.v1.disable_eager_execution()\n"
        f"try: vggnorm.load_network({str(chain_file)!r})\n"
        "except vggnorm.VggnormError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert re.match(IN_GRAPH_MODE, done.stdout)
    assert len(done.stdout.splitlines()) == 1


# Settings


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "change",
    [
        lambda: keras.config.set_floatx("float16"),
        lambda: keras.config.set_floatx("float64"),
        lambda: keras.config.set_image_data_format("channels_first"),
        lambda: keras.config.set_dtype_policy("mixed_float16"),
        lambda: keras.config.set_dtype_policy("mixed_bfloat16"),
        lambda: keras.config.set_epsilon(1e-7),
    ],
)
def test_a_global_setting_of_keras_changes_no_bit(
    change: Callable[[], None], chain_file: Path, photo_folder: Path
) -> None:
    def measure() -> Any:
        network = vggnorm.load_network(chain_file)
        return compute_means(
            network, photo_folder, preprocessing="caffe", geometry=Geometry(32)
        ).mean

    expected = measure()
    change()
    found = measure()
    for layer, mean in expected.items():
        np.testing.assert_array_equal(found[layer], mean)


@pytest.mark.usefixtures("restored")
def test_vgg_is_built_as_usual_under_other_settings(random_vgg16: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-100, 100, (1, 32, 32, 3)).astype(np.float32)
    expected = load_vgg("vgg16", random_vgg16).predict_on_batch(pixels)
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_float16")
    network = load_vgg("vgg16", random_vgg16)
    assert network.inputs[0].shape == (None, None, None, 3)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    np.testing.assert_array_equal(network.predict_on_batch(pixels), expected)
    assert keras.config.floatx() == "float16"
    assert keras.config.image_data_format() == "channels_first"
    assert keras.config.dtype_policy().name == "mixed_float16"


@pytest.mark.usefixtures("restored")
def test_the_settings_come_back_after_an_error() -> None:
    keras.config.set_floatx("float64")
    with pytest.raises(ZeroDivisionError), usual_settings():
        raise ZeroDivisionError
    assert keras.config.floatx() == "float64"


# A GPU that cannot be used. The texts are TensorFlow's, JAX's and PyTorch's own.

TROUBLES = [
    "cudaGetDevice() failed. Status: CUDA driver version is insufficient for CUDA runtime version",
    "cudaSetDevice() on GPU:0 failed. Status: out of memory",
    "DNN library is not found.\n\t [[{{node conv}}]] [Op:__inference_one_step]",
    "No algorithm worked!  Error messages:\n  Profiling failure on CUDNN engine eng14",
    "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above",
    "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices.",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "Found no NVIDIA driver on your system.",
]


@pytest.mark.parametrize("text", TROUBLES)
def test_trouble_with_a_gpu_is_known_by_what_backends_say(text: str) -> None:
    assert is_of_gpu(RuntimeError(text))


@pytest.mark.parametrize("error", [RuntimeError("x"), AttributeError("cuda"), KeyError("cuda")])
def test_other_errors_are_no_trouble_with_a_gpu(error: Exception) -> None:
    assert not is_of_gpu(error)


@needs_tensorflow
@pytest.mark.parametrize("text", [text for text in TROUBLES if "out of memory" not in text])
def test_a_gpu_that_fails_at_the_first_batch_is_told_in_one_line(
    text: str, make_chain: MakeChain, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow import errors

    def fail(*_: Any) -> Any:
        raise errors.NotFoundError(None, None, text)

    monkeypatch.setattr(keras.Model, "predict_on_batch", fail)
    with pytest.raises(NetworkError) as raised:
        compute_means(make_chain(), photo_folder, geometry=Geometry(32))
    first = text.splitlines()[0].rstrip(".").strip()
    assert str(raised.value) == (
        f"the GPU cannot be used: {first}; end other programs that use it, mend its driver and "
        "libraries, or set CUDA_VISIBLE_DEVICES=-1 to compute on the CPU"
    )


def test_a_gpu_that_fails_at_the_start_is_told_before_anything_is_loaded(
    chain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError(TROUBLES[1])

    monkeypatch.setattr(keras.ops, "ones", fail)
    with pytest.raises(NetworkError, match=r"the GPU cannot be used: cudaSetDevice\(\) on GPU:0"):
        vggnorm.load_network(chain_file)


def test_a_bug_at_the_start_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("x")

    monkeypatch.setattr(keras.ops, "ones", fail)
    with pytest.raises(RuntimeError, match="x"):
        require_ready()


def test_a_gpu_that_the_backend_does_not_use_is_told_and_can_be_hidden(
    make_chain: MakeChain, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = tmp_path / "nvidia0"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(surroundings, "_has_gpu", lambda: False)
    assert unused_gpu_line((str(gpu),)) is None
    gpu.touch()
    line = unused_gpu_line((str(gpu),))
    assert line is not None
    assert line.startswith(f"this machine has a GPU ({gpu}), but {keras.backend.backend()} finds")
    monkeypatch.setattr(surroundings, "_has_gpu", lambda: True)
    assert unused_gpu_line((str(gpu),)) is None
    monkeypatch.setattr(surroundings, "_has_gpu", lambda: False)

    def said() -> list[str]:
        lines: list[str] = []
        watch = Watch(say=lines.append)
        compute_means(make_chain(), photo_folder, geometry=Geometry(32), watch=watch)
        return [line for line in lines if "GPU" in line]

    monkeypatch.setattr(surroundings, "GPU_FILES", (str(gpu),))
    assert said() == [line]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # the advice
    assert said() == []


def test_a_machine_without_a_gpu_says_nothing() -> None:
    if not any(Path(file).exists() for file in surroundings.GPU_FILES):
        assert unused_gpu_line() is None


# What Keras says


def test_only_the_reason_is_kept_of_what_keras_says() -> None:
    bold, plain = "\x1b[1m", "\x1b[0m"
    text = (
        "Could not automatically infer the output shape / dtype of 'a' (of type A). Error:\n\n"
        "Exception encountered when calling Concatenate.call().\n\n"
        f"{bold}Dimension 1 must be equal, but are 3 and 2. for '{{{{node x}}}} = ConcatV2[N=2]' "
        f"with input shapes: [3], [2].{plain}\n\nArguments received by Concatenate.call():\n  • x"
    )
    assert reason_of(ValueError(text)) == "Dimension 1 must be equal, but are 3 and 2"
    assert reason_of(ValueError("")) == "ValueError"
    assert reason_of(ValueError("a" * 300)) == "a" * 240 + "..."


def test_memory_is_told_before_the_gpu() -> None:
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
