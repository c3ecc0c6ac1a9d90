"""Trying versions of Keras: rows of the table, the choice of a Python, and loading here."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import trials
import try_keras_versions
from click.testing import CliRunner
from trials import TrialError, cell, run
from try_keras_versions import (
    CHILD,
    COLUMNS,
    Version,
    find_python,
    make_environment,
    row,
    table,
)

import vggnorm

VERSION = Version(
    "TensorFlow 2.4.4", "tensorflow.keras", "3.7", ("tensorflow-cpu==2.4.4", "protobuf<3.20")
)
FOUND = {
    "python": "3.7.16",
    "version": "2.4.4",
    "tensorflow": "2.4.4",
    "ways": {
        "load_model": {"error": "ValueError: Unknown layer: A|B"},
        "applications": {"difference": 1.234e-6},
        "load_weights": {"difference": 0.5},
        "by_name": {"difference": 0.0},
    },
}


def test_a_row_holds_a_cell_for_each_way_and_the_pins() -> None:
    assert row(VERSION, FOUND) == (
        r"| TensorFlow 2.4.4 | 2.4.4 | 2.4.4 | 3.7.16 | ValueError: Unknown layer: A\|B | 1.2e-06 "
        "| **wrong by 5.0e-01** | 0.0e+00 | `tensorflow-cpu==2.4.4`, `protobuf<3.20` |"
    )


def test_a_network_that_computes_nan_is_wrong() -> None:
    assert cell({"difference": float("nan")}) == "**wrong by nan**"


def test_an_error_is_cut_after_a_word_of_its_first_line() -> None:
    assert cell({"error": "ValueError: short\nand more"}) == "ValueError: short"
    assert cell({"error": "word " * 100}) == "word " * 13 + "word …"
    assert cell({"error": "x" * 100}) == "x" * 70 + " …"


def test_every_line_of_the_table_has_the_same_number_of_cells() -> None:
    page = table(
        {
            VERSION: FOUND,
            Version("Keras 0", "keras", "3.7", ("keras==0",)): TrialError("no such thing"),
        }
    )
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.replace(r"\|", "").count("|") for line in lines} == {5 + len(COLUMNS) + 1}
    assert "not tried: no such thing" in lines[-1]
    assert "`keras==0`" in lines[-1]


def test_each_version_is_one_row_and_equal_pins_share_an_environment() -> None:
    versions = try_keras_versions.VERSIONS
    assert len({version.name for version in versions}) == len(versions)
    for one in versions:
        for other in versions:
            assert (one.folder == other.folder) == (
                (one.python, one.pins) == (other.python, other.pins)
            )


def test_the_python_given_comes_before_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = tmp_path / "python3.7"
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(on_path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_python("3.7", {}) == str(on_path)
    assert find_python("3.7", {"3.7": "/elsewhere/python"}) == "/elsewhere/python"
    with pytest.raises(TrialError, match=r"python3\.8 is not on PATH"):
        find_python("3.8", {"3.7": "/elsewhere/python"})


def test_a_python_that_fails_makes_no_environment(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="/nowhere/python"):
        make_environment(VERSION, tmp_path, {"3.7": "/nowhere/python"})
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'the last word' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(TrialError, match=r"^the last word$"):
        make_environment(VERSION, tmp_path, {"3.7": str(broken)})


def test_an_environment_is_used_again_once_everything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Any] = []

    def fail_to_install(command: Any) -> str:
        commands.append(command)
        if "pip" in command:
            raise TrialError("no such version")
        (tmp_path / VERSION.folder).mkdir(exist_ok=True)
        return ""

    monkeypatch.setattr(trials, "run", fail_to_install)
    for _ in range(2):  # an unfinished environment is made again
        with pytest.raises(TrialError, match="no such version"):
            make_environment(VERSION, tmp_path, {"3.7": "python"})
    assert len(commands) == 4
    assert commands[1][-3:] == ["--prefer-binary", *VERSION.pins]

    monkeypatch.setattr(trials, "run", commands.append)
    make_environment(VERSION, tmp_path, {"3.7": "python"})
    assert len(commands) == 6
    python = make_environment(VERSION, tmp_path, {})
    assert python == tmp_path / VERSION.folder / "bin" / "python"
    assert len(commands) == 6


def test_the_error_is_pips_own_and_not_the_warning_behind_it() -> None:
    code = (
        "import sys; sys.exit('ERROR: first\\nERROR: No matching distribution\\nWARNING: pip is "
        "old\\n')"
    )
    with pytest.raises(TrialError, match=r"^ERROR: No matching distribution$"):
        run([sys.executable, "-c", code])


def test_a_program_inherits_no_setting_of_python_tensorflow_or_keras(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PYTHONPATH", "TF2_BEHAVIOR", "KERAS_BACKEND", "VGGNORM_OTHER"):
        monkeypatch.setenv(name, "1")
    printed = run(
        [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
        KERAS_HOME="/home",
    )
    found = json.loads(printed)
    assert not {"PYTHONPATH", "TF2_BEHAVIOR", "KERAS_BACKEND"} & set(found)
    assert (found["VGGNORM_OTHER"], found["KERAS_HOME"]) == ("1", "/home")


def test_versions_that_cannot_be_had_are_rows_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(try_keras_versions, "VERSIONS", (VERSION,))
    monkeypatch.setattr(
        try_keras_versions,
        "make_files",
        lambda folder: (folder / "model.h5", folder / "expected.npz"),
    )
    output = tmp_path / "table.md"
    arguments = [
        "--cache",
        str(tmp_path / "cache"),
        "--python",
        "3.7=/nowhere/python",
        "-o",
        str(output),
    ]
    result = CliRunner().invoke(try_keras_versions.main, arguments)
    assert result.exit_code == 0, result.output
    assert "not tried: /nowhere/python: No such file or directory" in output.read_text()
    assert CliRunner().invoke(try_keras_versions.main, ["--python", "3.7"]).exit_code == 2


def test_the_page_holds_every_version_and_what_readme_says_of_them() -> None:
    page = (try_keras_versions.ROOT / "docs" / "keras-versions.md").read_text()
    rows = [
        [part.strip() for part in line.split(" | ")]
        for line in page.splitlines()
        if line.startswith("| ")
    ][2:]
    assert [cells[0].removeprefix("| ") for cells in rows] == [
        version.name for version in try_keras_versions.VERSIONS
    ]
    for name, *_, load_model, applications, load_weights, by_name, _pins in rows:
        assert max(map(float, (applications, load_weights, by_name))) <= 1e-5, name
        # README promises Keras 3.4 and later, tf_keras, and TensorFlow 1.15 to 2.15. The others end
        # in an error.
        loads = not re.match(r"\| Keras (2|3\.[0-3])\.", name)
        assert ("Error: " not in load_model) == loads, name
        assert not loads or float(load_model) <= 1e-5, name


@pytest.fixture(scope="module")
def files(random_vgg16: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a VGG16 that vggnorm saved, and the output of the same network saved by Keras."""
    folder = tmp_path_factory.mktemp("files")
    model = keras.models.load_model(random_vgg16, compile=False)
    pixels = np.random.default_rng(3).uniform(-100, 100, (1, 32, 32, 3)).astype(np.float32)
    vggnorm.save_network(model, folder / "vgg16.h5")
    np.savez(folder / "expected.npz", pixels=pixels, output=model.predict(pixels, verbose=0))
    return folder / "vgg16.h5", folder / "expected.npz"


@pytest.mark.parametrize("module", ["keras", "tf_keras"])
def test_all_ways_of_loading_work_in_the_versions_at_hand(
    module: str, files: tuple[Path, Path]
) -> None:
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, str(CHILD), module, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["ways"]) == set(COLUMNS)
    for way, result in found["ways"].items():
        # Two versions may use different algorithms for convolution, and the rounding errors of 13
        # layers add up.
        assert result.get("difference", np.inf) <= 1e-5, (way, result)


def test_the_child_tells_a_wrong_network_and_an_unreadable_one(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    from load_in_old_keras import main

    with np.load(files[1]) as arrays:
        np.savez(tmp_path / "twice.npz", pixels=arrays["pixels"], output=2 * arrays["output"])
    for result in main("keras", str(files[0]), str(tmp_path / "twice.npz"))["ways"].values():
        assert result["difference"] == pytest.approx(0.5, abs=1e-4)
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    for result in main("keras", str(tmp_path / "broken.h5"), str(files[1]))["ways"].values():
        assert result["error"]
