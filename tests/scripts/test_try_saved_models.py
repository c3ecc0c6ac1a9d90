"""Trying saved models: rows of the table, also where something fails."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import try_saved_models
from try_saved_models import VERSIONS, Places, rows_of

from vggnorm.errors import NetworkError

CHILD = Path(saved_models.__file__)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "weights.h5", tmp_path, tmp_path, limit=4)


def test_a_failure_takes_one_row_and_the_others_go_on(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"frozen.h5": None, "nested.h5": None, "nested.keras": "TypeError: cannot pickle"}

    def child(_python: Path, command: str, *_: Any, **__: Any) -> Any:
        return made if command == "build" else {"difference": 2e-7}

    def normalize_file(path: Path, *_: Any) -> tuple[str, str]:
        if path.name == "nested.h5":
            raise NetworkError(f"{path}: layer vgg16: is a model")
        return "13", "pass"

    monkeypatch.setattr(try_saved_models, "child", child)
    monkeypatch.setattr(try_saved_models, "normalize_file", normalize_file)
    python = Path(sys.executable)
    name = VERSIONS[0].name
    assert list(rows_of(VERSIONS[0], python, python, places)) == [
        [name, "frozen", ".h5", "13", "pass", "2.0e-07", "2.0e-07"],
        [name, "nested", ".h5", "", "layer vgg16: is a model", "", ""],
        [name, "nested", ".keras", "", "TypeError: cannot pickle", "", ""],
    ]


def test_the_child_tells_a_right_network_a_wrong_one_and_an_unreadable_one(
    make_chain: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_chain()
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    output = model.predict(pixels, verbose=0)
    model.save(tmp_path / "chain.keras")
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    np.savez(tmp_path / "right.npz", pixels=pixels, output=output)
    np.savez(tmp_path / "twice.npz", pixels=pixels, output=2 * output)

    def load(file: str, expected: str) -> Any:
        files = [str(tmp_path / file), str(tmp_path / expected)]
        command = [sys.executable, str(CHILD), "load", "keras", *files]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    assert load("chain.keras", "right.npz")["difference"] <= 1e-6
    assert load("chain.keras", "twice.npz")["difference"] == pytest.approx(0.5, abs=1e-4)
    assert load("broken.keras", "right.npz")["error"]


def test_the_five_ways_of_tutorials_are_tried() -> None:
    assert list(saved_models.WAYS) == ["frozen", "input_tensor", "sequential", "nested", "prepared"]
