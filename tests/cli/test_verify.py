"""verify: files that pass, files that fail, and files that it cannot judge."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from command_line import failed, run
from zoo import settle


@pytest.fixture
def common(photo_folder: Path, chain_file: Path) -> tuple[str | Path, ...]:
    """Return the options that name the photos and the original."""
    return "--data", photo_folder, "--network", chain_file


def test_a_normalized_file_passes(made: Path, common: tuple[str | Path, ...]) -> None:
    result = run("verify", made / "chain_norm.h5", *common)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("pass  ") == 3
    result = run("verify", made / "chain_norm.h5", *common, "--json", "--limit", "3")
    assert json.loads(result.stdout)["photos"] == 3


def test_the_photos_are_run_in_batches_of_the_size_that_is_given(
    made: Path, common: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = keras.Model.predict_on_batch

    def predict_on_batch(model: Any, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return real(model, pixels)

    monkeypatch.setattr(keras.Model, "predict_on_batch", predict_on_batch)
    result = run("verify", made / "chain_norm.h5", *common, "--batch-size", "4")
    assert result.exit_code == 0, result.output
    assert sizes == [4, 4, 1]


def test_a_file_whose_bias_was_changed_fails(
    made: Path, common: tuple[str | Path, ...], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.h5"
    shutil.copy(made / "chain_norm.h5", broken)
    with h5py.File(broken, "r+") as file:
        file["model_weights/conv2/conv2/bias:0"][...] *= 1.1
    result = run("verify", broken, *common)
    assert result.exit_code == 1
    assert result.stdout.count("FAIL  ") == 2


def test_a_file_made_elsewhere_is_refused(
    make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    make_chain().save(tmp_path / "chain.h5")
    line = failed(run("verify", tmp_path / "chain.h5", "--data", photo_folder))
    assert "chain.h5: does not say how it was made" in line


def test_another_original_is_refused(
    made: Path, make_chain: Callable[..., Any], photo_folder: Path, tmp_path: Path
) -> None:
    settle(make_chain((6, 5, 4)), seed=1).save(tmp_path / "other.keras")
    options = "--data", photo_folder, "--network", tmp_path / "other.keras"
    text = failed(run("verify", made / "chain_norm.h5", *options))
    assert "the means were measured on other weights" in text


def test_damaged_photos_are_skipped(made: Path, chain_file: Path, spoilt: Path) -> None:
    (spoilt / "huge.png").unlink()
    options = "--data", spoilt, "--network", chain_file
    result = run("verify", made / "chain_norm.h5", *options)
    assert "2 photos, 4 skipped" in result.stdout
