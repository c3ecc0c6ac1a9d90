"""What surrounds a run: the lock, the checkpoint beside the output, and saving."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggnorm
from vggnorm.errors import OutputError, StoppedError
from vggnorm.run.options import Compute, Watch
from vggnorm.run.output import means_output

MakeChain = Callable[..., Any]
ONE_AT_A_TIME = Compute(batch_size=1)


def stop_after(count: int) -> Watch:
    """Stop a run when it has asked so many times whether to stop."""
    answers = iter([False] * count + [True])
    return Watch(stop=lambda: next(answers))


def test_the_library_goes_on_as_the_command_line_does(
    make_chain: MakeChain, photo_folder: Path, tmp_path: Path
) -> None:
    model, path = make_chain(), tmp_path / "means.npy"
    with pytest.raises(StoppedError, match="stopped after 2 of"), means_output(path) as output:
        vggnorm.compute_means(
            model,
            photo_folder,
            compute=ONE_AT_A_TIME,
            checkpoint=output.checkpoint(),
            watch=stop_after(2),
        )
    assert [file.name for file in tmp_path.iterdir()] == ["means.npy.checkpoint"]
    said: list[str] = []
    with means_output(path) as output:
        means = vggnorm.compute_means(
            model,
            photo_folder,
            compute=ONE_AT_A_TIME,
            checkpoint=output.checkpoint(),
            watch=Watch(say=said.append),
        )
        output.save(means)
    assert [file.name for file in tmp_path.iterdir()] == ["means.npy"]
    assert any("goes on after 2 of" in line for line in said)
    whole = vggnorm.compute_means(model, photo_folder, compute=ONE_AT_A_TIME)
    for layer, mean in vggnorm.load_means(path).mean.items():
        np.testing.assert_array_equal(mean, whole.mean[layer])


def test_an_output_that_exists_is_refused_before_anything_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    path.write_bytes(b"earlier")
    with pytest.raises(OutputError, match=r"means\.npy: exists already"), means_output(path):
        pytest.fail("reserved")
    assert path.read_bytes() == b"earlier"
    with means_output(path, force=True):
        pass


def test_only_one_run_makes_an_output(tmp_path: Path) -> None:
    path = tmp_path / "means.npy"
    refused = pytest.raises(OutputError, match="is being made by process")
    with means_output(path), refused, means_output(path):
        pytest.fail("reserved twice")
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_saved_leaves_its_checkpoint(
    make_chain: MakeChain,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "means.npy"
    with means_output(path) as output:
        means = vggnorm.compute_means(make_chain(), photo_folder, checkpoint=output.checkpoint())
        replace = Path.replace

        def refuse(file: Path, target: Path) -> Path:
            if target.name == "means.npy":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return replace(file, target)

        monkeypatch.setattr(Path, "replace", refuse)
        count = means.image_count
        text = f"No space left on device; .*checkpoint keeps {count} of {count} photos; when this"
        with pytest.raises(OutputError, match=text):
            output.save(means)
    assert [file.name for file in tmp_path.iterdir()] == ["means.npy.checkpoint"]
