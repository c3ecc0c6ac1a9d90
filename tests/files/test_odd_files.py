"""Damaged files, and outputs that lead nowhere: the user gets one line, and no traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

import vggnorm
from vggnorm.cli import main
from vggnorm.disk import check_output
from vggnorm.errors import NetworkError, OutputError
from vggnorm.identification.verdict import identify

ENDINGS = [".h5", ".weights.h5"]
KERNEL = {".h5": "model_weights/b/b/kernel", ".weights.h5": "layers/conv2d_1/vars/0"}
BIAS = {".h5": "model_weights/b/b/bias", ".weights.h5": "layers/conv2d_1/vars/1"}


def network() -> Any:
    photo = keras.Input((8, 8, 3), name="photo")
    tensor = layers.Conv2D(4, 3, activation="relu", name="a")(photo)
    return keras.Model(photo, layers.Conv2D(5, 3, activation="relu", name="b")(tensor), name="odd")


def written(model: Any, path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Save the model, or its weights, and change the file."""
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def one_line(*arguments: Any) -> str:
    """Run the command; it must fail with one line."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    said = [line for line in result.stderr.splitlines() if "photos in" not in line]
    assert len(said) == 1, result.output
    assert said[0].startswith("Error: ")
    return said[0]


def refused_everywhere(path: Path, model: Any, photos: Path, reason: str) -> None:
    """Give the file to all that reads weights."""
    original = path.with_name("original.h5")
    model.save(original)
    with pytest.raises(NetworkError, match=reason):
        identify(path, model)
    assert str(path) in one_line("inspect", path, "--original", original)
    if not path.name.endswith(".weights.h5"):
        with pytest.raises(NetworkError, match=reason):
            vggnorm.load_network(str(path))
        assert str(path) in one_line("inspect", original, "--original", path)
        assert str(path) in one_line(
            "compute-means", "--network", path, "--data", photos, "-o", path.with_suffix(".npy")
        )


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value

    return change


@pytest.mark.filterwarnings("ignore:.*HDF5:UserWarning")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", [KERNEL, BIAS], ids=["kernel", "bias"])
def test_a_weight_that_is_a_group_is_refused(
    place: dict[str, str], ending: str, photo_folder: Path, tmp_path: Path
) -> None:
    model = network()
    path = written(model, tmp_path / f"odd{ending}", replaced(place[ending], None))
    refused_everywhere(
        path,
        model,
        photo_folder,
        rf"odd{ending}: is damaged: layer b has a group in the place of a weight",
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["f4", h5py.string_dtype()], ids=["numbers", "text"])
@pytest.mark.parametrize("place", [KERNEL, BIAS], ids=["kernel", "bias"])
def test_a_weight_without_a_value_is_refused(
    place: dict[str, str], kind: Any, ending: str, photo_folder: Path, tmp_path: Path
) -> None:
    model = network()
    path = written(model, tmp_path / f"odd{ending}", replaced(place[ending], h5py.Empty(kind)))
    refused_everywhere(
        path, model, photo_folder, rf"is refused: /{place[ending]} is an array without a value"
    )


@pytest.mark.parametrize(
    "kind", ["f4", "S3", h5py.string_dtype()], ids=["numbers", "bytes", "text"]
)
@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("/", "model_config"),
        ("/", "backend"),
        ("/", "vggnorm"),
        ("/model_weights", "layer_names"),
        ("/model_weights/b", "weight_names"),
    ],
)
def test_an_attribute_without_a_value_is_refused(
    group: str, name: str, kind: Any, photo_folder: Path, tmp_path: Path
) -> None:
    def change(file: h5py.File) -> None:
        file[group].attrs[name] = h5py.Empty(kind)

    model = network()
    path = written(model, tmp_path / "odd.h5", change)
    refused_everywhere(
        path, model, photo_folder, rf"is refused: {group} has an attribute without a value"
    )
    assert "has an attribute without a value" in one_line("inspect", path)


@pytest.mark.parametrize("value", [7, np.nan, [1.0, 2.0]], ids=["integer", "nan", "list"])
def test_a_configuration_that_is_no_text_is_refused(value: Any, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file.attrs["model_config"] = value

    path = written(network(), tmp_path / "odd.h5", change)
    with pytest.raises(
        NetworkError, match=r"odd\.h5: is not loaded: its configuration is not a text"
    ):
        vggnorm.load_network(str(path))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("value", [1e200, -1e200, 3.5e38])
@pytest.mark.parametrize("place", [KERNEL, BIAS], ids=["kernel", "bias"])
def test_a_weight_beyond_float32_is_refused(
    place: dict[str, str], value: float, ending: str, photo_folder: Path, tmp_path: Path
) -> None:
    def change(file: h5py.File) -> None:
        name = place[ending]
        array = file[name][()].astype(np.float64)
        array.flat[1] = value
        replaced(name, array)(file)

    model = network()
    path = written(model, tmp_path / f"odd{ending}", change)
    refused_everywhere(
        path,
        model,
        photo_folder,
        rf"odd{ending}: layer b has a weight of \d\.\de\+(200|38), but networks compute in float32",
    )


def test_a_whole_kernel_beyond_float32_is_no_float16_network(tmp_path: Path) -> None:
    model = network()
    model.set_weights(
        [np.sign(array) / 2 for array in model.get_weights()]
    )  # all numbers of float16
    path = tmp_path / "odd.h5"
    written(
        model,
        path,
        lambda file: replaced(KERNEL[".h5"], file[KERNEL[".h5"]][()].astype(np.float64) * 1e200)(
            file
        ),
    )
    with pytest.raises(NetworkError, match=r"layer b has a weight of 5\.0e\+199"):
        identify(path, model)


def test_weights_of_float64_within_float32_are_taken(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        for name in KERNEL[".h5"], BIAS[".h5"]:
            replaced(name, file[name][()].astype(np.float64))(file)

    model = network()
    path = written(model, tmp_path / "odd.h5", change)
    for found, wanted in zip(
        vggnorm.load_network(str(path)).get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert identify(path, model).kind == "original"


# Outputs


def linked(link: Path, target: Any) -> Path:
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system makes no links")
    return link


@pytest.mark.parametrize("force", [False, True])
def test_a_loop_of_links_is_no_output(force: bool, tmp_path: Path) -> None:
    to_itself = linked(tmp_path / "one.npy", "one.npy")
    linked(tmp_path / "two.npy", "three.npy")
    to_another = linked(tmp_path / "three.npy", "two.npy")
    below = linked(tmp_path / "folder", "folder") / "means.npy"
    for path, place in ((to_itself, to_itself), (to_another, to_another), (below, below.parent)):
        with pytest.raises(
            OutputError, match=f"{path}: {place} is a link that leads back to itself; give another"
        ):
            check_output(path, force=force)


@pytest.mark.parametrize("place", ["one.npy", "folder/means.npy"])
def test_no_command_fails_with_a_traceback_on_a_loop(
    place: str, photo_folder: Path, tmp_path: Path
) -> None:
    linked(tmp_path / "one.npy", "one.npy")
    linked(tmp_path / "folder", "folder")
    linked(tmp_path / "one.h5", "one.h5")
    output = tmp_path / place
    for arguments in (
        ("compute-means", "--data", photo_folder, "-o", output),
        ("merge-means", tmp_path / "part.npy", "-o", output),
    ):
        assert f"Error: {output}: " in one_line(*arguments)
        assert f"Error: {output}: " in one_line(*arguments, "--force")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "one.h5", "one.npy"]


def test_a_link_into_a_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    path = linked(tmp_path / "means.npy", tmp_path / "missing" / "means.npy")
    with pytest.raises(
        OutputError,
        match=f"{path}: the folder {tmp_path / 'missing'} does not exist; make it first",
    ):
        check_output(path)
    (tmp_path / "missing").mkdir()
    assert check_output(path) == path
