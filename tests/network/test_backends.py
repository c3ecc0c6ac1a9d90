"""The same means, and a network that passes verify, on every Keras backend that is installed."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import decode_file
from reference import Around, filter_means, reference_layers

from vggnorm.files.formats import load_means
from vggnorm.photos.geometry import Geometry

SIZE = 40


def run(backend: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vggnorm", *arguments],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("padding", "around"), [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_from_photos_to_a_network_that_passes(
    backend: str,
    padding: str,
    around: Around,
    make_chain: Callable[..., Any],
    photo_folder: Path,
    tmp_path: Path,
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chain = make_chain((8, 6, 7))
    chain.save(tmp_path / "chain.keras")
    photos = ("--data", str(photo_folder), "--network", "chain.keras")
    options = (*photos, "--preprocessing", "caffe", "--size", str(SIZE), "--padding", padding)
    run(backend, "compute-means", *options, folder=tmp_path)
    run(
        backend,
        "compute-means",
        *options,
        "--precision",
        "bfloat16",
        "-o",
        "fast.npy",
        folder=tmp_path,
    )
    run(
        backend,
        "normalize",
        "--means",
        "means.npy",
        "--network",
        "chain.keras",
        "-o",
        "norm.h5",
        folder=tmp_path,
    )
    assert "FAIL" not in run(backend, "verify", "norm.h5", *photos, folder=tmp_path)
    pixels = [decode_file(path, Geometry(SIZE)) for path in photo_folder.iterdir()]
    expected = filter_means(pixels, reference_layers(chain), around)
    exact = np.concatenate(list(expected.values()))
    for name in "means.npy", "fast.npy":  # with bfloat16, all photos are run in float32 as well
        found = np.concatenate(list(load_means(tmp_path / name).mean.values()))
        errors = np.abs(found / exact - 1)
        assert np.median(errors) <= 1e-6
        assert errors.max() <= 1e-4
