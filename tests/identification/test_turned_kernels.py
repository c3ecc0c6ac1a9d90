"""Kernels turned by 180 degrees, as Theano stores them.

If the file names Theano it is refused; if not, the comparison with the original finds them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from zoo import chain, conv, settle

import vggnorm
from vggnorm.cli import main
from vggnorm.errors import NetworkError
from vggnorm.files.formats import open_weights
from vggnorm.identification.verdict import identify
from vggnorm.network.graph import read_graph

NO_BACKEND = "does not name the backend that it was written with"


def names_backend(path: Path) -> bool:
    """Tell whether a file says for which backend its kernels are."""
    with open_weights(path) as file:
        return file.names_backend


@pytest.fixture
def model(make_chain: Callable[..., Any]) -> Any:
    return make_chain((12, 16, 20), seed=4)


def saved(model: Any, path: Path, **backends: str | bytes | None) -> Path:
    """Save a network in the layout of Keras 2.

    Args:
        model: the network.
        path: the file.
        **backends: `root` and `weights` name the backend at the root and at the weights. None
            leaves the name out.
    """
    vggnorm.save_network(model, path)
    with h5py.File(path, "r+") as file:
        for group, name in ((file, "root"), (file["model_weights"], "weights")):
            if name in backends:
                del group.attrs["backend"]
                if backends[name] is not None:
                    group.attrs["backend"] = backends[name]
    return path


def turned(model: Any, *names: str) -> Any:
    """Copy a network, with the kernels of some layers turned, position by position."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in names or [layer.name for layer in model.layers if layer.weights]:
        kernel, *bias = model.get_layer(name).get_weights()
        other = np.empty_like(kernel)
        height, width = kernel.shape[:2]
        for row in range(height):
            for column in range(width):
                other[row, column] = kernel[height - 1 - row, width - 1 - column]
        copy.get_layer(name).set_weights([other, *bias])
    return copy


def rescaled(model: Any) -> Any:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(0)
    scales = {
        name: np.exp(random.normal(3, 1, count))
        for name, count in read_graph(model).filters.items()
    }
    for name, changed in read_graph(model).rescale(scales).weights.items():
        copy.get_layer(name).set_weights(list(changed().values()))
    return copy


# Files that name Theano


@pytest.mark.parametrize("name", ["theano", b"theano", "Theano"])
@pytest.mark.parametrize("place", ["root", "weights"])
def test_a_file_of_theano_is_refused(
    place: str, name: str | bytes, model: Any, tmp_path: Path
) -> None:
    path = saved(model, tmp_path / "old.h5", **{place: name})
    reason = (
        r"old\.h5: was written with Theano as Keras's backend, and its kernels are turned by 180 "
        "degrees; load it"
    )
    for read in (lambda: vggnorm.load_network(str(path)), lambda: identify(path, model)):
        with pytest.raises(NetworkError, match=reason) as refused:
            read()
        assert "\n" not in str(refused.value)


def test_weights_of_theano_alone_are_refused(random_vgg16: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(random_vgg16) as whole, h5py.File(path, "w") as file:
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)
        file.attrs.update(whole["model_weights"].attrs)
        file.attrs["backend"] = b"theano"
    with pytest.raises(NetworkError, match=r"weights\.h5: was written with Theano"):
        vggnorm.load_network("vgg16", path)


@pytest.mark.parametrize("name", ["tensorflow", b"tensorflow", "cntk", None])
def test_files_of_other_backends_are_read_as_they_are(
    name: str | bytes | None, model: Any, tmp_path: Path
) -> None:
    path = saved(model, tmp_path / "old.h5", root=name, weights=name)
    for found, wanted in zip(
        vggnorm.load_network(str(path)).get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert names_backend(path) == (name is not None)


def test_files_of_keras_3_need_not_name_a_backend(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "new.keras")
    model.save_weights(tmp_path / "new.weights.h5")
    assert names_backend(tmp_path / "new.keras")
    assert names_backend(tmp_path / "new.weights.h5")


def test_one_name_of_a_backend_is_enough(model: Any, tmp_path: Path) -> None:
    assert names_backend(saved(model, tmp_path / "one.h5", root=None))
    assert names_backend(saved(model, tmp_path / "two.h5", weights=None))


# Files that do not


def test_a_turned_network_is_recognized(model: Any, tmp_path: Path) -> None:
    found = identify(saved(turned(model), tmp_path / "turned.h5"), model)
    assert (found.kind, found.intact) == ("something else", False)
    assert found.turned == ["conv1", "conv2", "conv3"]
    assert found.sentence == (
        "It is something else: the kernels of 3 of its 3 layers are turned by 180 degrees, as "
        "Theano stores them, and Keras on TensorFlow does not turn them back. Turned back: It is "
        "the original, not rescaled."
    )
    assert {found.state(name) for name in found.turned} == {
        "original; kernels turned by 180 degrees"
    }
    assert json.loads(json.dumps(found.to_dict()))["turned"] == found.turned


def test_a_turned_and_rescaled_network_is_recognized(model: Any, tmp_path: Path) -> None:
    wanted = identify(saved(rescaled(model), tmp_path / "rescaled.h5"), model)
    found = identify(saved(turned(rescaled(model)), tmp_path / "turned.h5"), model)
    assert found.kind == "something else"
    assert found.sentence.endswith(f"Turned back: {wanted.sentence}")
    assert found.turned == ["conv1", "conv2", "conv3"]
    for name in found.turned:
        np.testing.assert_allclose(
            found.recovery.layers[name].scale, wanted.recovery.layers[name].scale, rtol=1e-5
        )


def test_one_turned_layer_is_named(model: Any, tmp_path: Path) -> None:
    found = identify(saved(turned(model, "conv2"), tmp_path / "turned.h5"), model)
    assert (found.kind, found.intact, found.turned) == ("original", False, ["conv2"])
    assert (
        found.sentence
        == "It is the original, not rescaled. This does not hold everywhere: see conv2."
    )
    assert found.state("conv2") == "original; kernels turned by 180 degrees"


@pytest.mark.parametrize("axis", [0, 1])
def test_kernels_mirrored_along_one_axis_are_other_weights(
    axis: int, model: Any, tmp_path: Path
) -> None:
    copy = turned(model)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            copy.get_layer(layer.name).set_weights([np.flip(kernel, axis), bias])
    found = identify(saved(copy, tmp_path / "mirrored.h5"), model)
    assert (found.kind, found.turned) == ("something else", [])
    assert "other weights" in found.state("conv2")


def test_kernels_of_one_position_cannot_be_turned(tmp_path: Path) -> None:
    model = settle(chain(conv(8, 1, name="a"), conv(8, 1, name="b")))
    found = identify(saved(turned(model), tmp_path / "same.h5"), model)
    assert (found.kind, found.intact, found.turned) == ("original", True, [])


def test_inspect_says_when_the_file_names_no_backend(model: Any, tmp_path: Path) -> None:
    original = saved(model, tmp_path / "original.h5")
    without = saved(turned(model), tmp_path / "without.h5", root=None, weights=None)
    for path, said in ((without, True), (original, False)):
        for option in [], ["--json"]:
            result = CliRunner().invoke(
                main, ["inspect", str(path), "--original", str(original), *option]
            )
            assert result.exit_code == 0
            lines = [line for line in result.stderr.splitlines() if NO_BACKEND in line]
            assert len(lines) == said
            assert all(line.startswith(f"{path}: ") for line in lines)
            assert NO_BACKEND not in result.stdout
    assert (
        "turned by 180 degrees"
        in CliRunner().invoke(main, ["inspect", str(without), "--original", str(original)]).stdout
    )
