"""Trying PyTorch programs: which files are written, what comes back, and rows of the tables."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import try_clients
from PIL import Image
from trials import TrialError
from try_clients import (
    LOADED_BY,
    File,
    Written,
    compare,
    every_file,
    load_all,
    make_expected,
    own_dependencies,
    product_table,
    program_table,
    read_h5,
)

GATYS = File("vgg19", "pth", "gatys", "caffe")
WHOLE = File("vgg16", "pth", "torchvision", "torch", with_classifier=True)
ADAIN = File("vgg19", "npz", "adain", "adain")
FOUND = {"version": "1.2", "layers": ["relu1_1", "relu5_1"], "difference": 1.23e-6}


def test_a_file_says_how_it_is_made() -> None:
    assert (GATYS.name, GATYS.options) == (
        "vgg19_gatys_caffe.pth",
        ["--layout", "gatys", "--convention", "caffe"],
    )
    assert (WHOLE.name, WHOLE.options) == (
        "vgg16_torchvision_torch_whole.pth",
        ["--layout", "torchvision", "--convention", "torch", "--with-classifier"],
    )
    assert ADAIN.options == ["--layout", "adain"]


def test_every_container_layout_and_convention_is_tried_once() -> None:
    files = list(every_file("vgg19"))
    assert len({file.name for file in files}) == len(files) == 3 * 3 * 3 + 2 * 3 + 2 * 3 + 1
    assert {file.container for file in files} == set(try_clients.ENDINGS)


def test_neither_keras_nor_tensorflow_is_installed_beside_pytorch() -> None:
    needs = own_dependencies()
    assert any(need.startswith("h5py") for need in needs)
    assert not any("keras" in need or "tensorflow" in need for need in needs)


def test_what_comes_back_is_compared_bit_by_bit() -> None:
    before = {
        "block1_conv1/kernel": np.array([0.5, -2.0], np.float32),
        "block1_conv2/bias": np.array([4.0], np.float32),
    }
    assert compare(before, dict(before)) == "same bits"
    first = before | {"block1_conv1/kernel": np.array([0.5, -2.0002], np.float32)}
    assert compare(before, first) == "1e-04 in conv1_1"
    assert compare(before, first | {"block1_conv2/bias": np.array([5.0], np.float32)}) == (
        "2e-01 **in 2 arrays**"  # the bias: 1 of 4, rounded to one digit
    )
    negative_zero = {"block1_conv1/kernel": np.array([-0.0], np.float32)}
    zero = {"block1_conv1/kernel": np.array([0.0], np.float32)}
    assert compare(zero, negative_zero) != "same bits"
    assert compare(before, {"block1_conv2/bias": before["block1_conv2/bias"]}) == "**other layers**"


def test_both_kinds_of_h5_file_are_read(tmp_path: Path) -> None:
    for place in ("model_weights/", ""):
        path = tmp_path / f"{len(place)}.h5"
        with h5py.File(path, "w") as file:
            file[f"{place}block1_conv1/block1_conv1/kernel:0"] = np.ones(3, np.float32)
            file[f"{place}predictions/predictions/kernel:0"] = np.ones(2, np.float32)
        arrays = read_h5(path)
        assert list(arrays) == ["block1_conv1/kernel"]
        np.testing.assert_array_equal(arrays["block1_conv1/kernel"], [1, 1, 1])


def test_rows_hold_what_came_back_and_what_was_seen() -> None:
    failed = {"error": "RuntimeError: Missing key(s) in state_dict\nmore"}
    written: dict[File, Written | TrialError] = {
        WHOLE: Written(Path("a"), "6e-08 in conv1_1"),
        GATYS: TrialError("no such layout"),
    }
    lines = program_table({("lpips", WHOLE): FOUND, ("vgg", GATYS): failed}, written)
    assert lines[2] == (
        "| lpips 1.2 | vgg16, whole | `.pth` | `torchvision` | `torch` | 6e-08 in conv1_1 "
        "| relu1_1 to relu5_1 | 1.2e-06 |"
    )
    assert lines[3].endswith("| no such layout |  | RuntimeError: Missing key(s) in state_dict |")


def test_the_product_has_a_column_for_each_container() -> None:
    files = [GATYS, File("vgg19", "npz", "gatys", "caffe"), ADAIN]
    written: dict[File, Written | TrialError] = {
        file: Written(Path("a"), "same bits") for file in files
    }
    lines = product_table({("plain network", file): FOUND for file in files}, written)
    assert lines[0] == "| Layout | Convention | `.pth` | `.safetensors` | `.npz` | `.mat` |"
    assert lines[2] == ("| `gatys` | `caffe` | same bits, 1.2e-06 |  | same bits, 1.2e-06 |  |")
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {7}


def test_a_file_that_was_not_written_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Any] = []

    def run(command: Any, **_environment: str) -> str:
        commands.append(command)
        return 'a program prints this\n[{"difference": 0.0}]'

    monkeypatch.setattr(try_clients, "run", run)
    written: dict[File, Written | TrialError] = {
        WHOLE: Written(Path("whole.pth"), "same bits"),
        GATYS: TrialError("no such layout"),
    }
    expected = {"vgg16": Path("16.npz"), "vgg19": Path("19.npz")}
    loads = [("plain network", GATYS), ("torchvision", WHOLE)]
    found = load_all(Path("python"), loads, written, expected, tmp_path)
    assert found == {
        ("plain network", GATYS): {"error": "no such layout"},
        ("torchvision", WHOLE): {"difference": 0.0},
    }
    assert commands[0][1:] == [try_clients.CHILD, tmp_path / "jobs.json"]


def test_keras_sees_what_a_convolution_by_hand_gives(random_vgg16: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (200, 100, 50)).save(tmp_path / "photo.png")
    path = make_expected(random_vgg16, "vgg16", tmp_path / "photo.png", tmp_path)
    kernel, bias = keras.models.load_model(random_vgg16, compile=False).layers[1].get_weights()
    pixel = np.array([50 - 103.939, 100 - 116.779, 200 - 123.68])  # BGR, less the mean
    seen = np.maximum(np.einsum("yxci,c->i", kernel.astype(np.float64), pixel) + bias, 0)
    with np.load(path) as arrays:
        assert arrays["photo"].shape == (256, 384, 3)
        assert len(arrays.files) == 1 + 13
        assert arrays["relu5_3"].shape == (16, 24, 512)
        np.testing.assert_allclose(arrays["relu1_1"][100, 100], seen, rtol=1e-5, atol=1e-4)


def test_each_program_of_the_page_is_tried() -> None:
    page = (try_clients.ROOT / "docs" / "programs.md").read_text()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()]
    for program, _ in LOADED_BY:
        assert any(row.startswith(program) for row in rows), program
