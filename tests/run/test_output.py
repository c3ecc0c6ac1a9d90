"""What surrounds a run: the lock, the checkpoint beside the output, and saving."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggnorm
from vggnorm.errors import NotGuaranteedWarning, OutputError, StoppedError
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.run.checkpoint import Keeper
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


def test_a_name_that_is_too_long_for_the_checkpoint_is_refused_at_the_beginning(
    tmp_path: Path,
) -> None:
    path = tmp_path / f"{'n' * 230}.npy"  # with `.checkpoint` and a mark, it is beyond 255
    text = "checkpoint: cannot write into .*: File name too long; give a shorter name"
    with pytest.raises(OutputError, match=text), means_output(path):
        pytest.fail("reserved")
    with means_output(tmp_path / "means.npy"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_locks_the_files_of_another_run_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / ".means.npy.checkpoint.01234567.tmp"
    leftover.touch()

    fcntl = pytest.importorskip("fcntl", reason="needs the locks of a Unix system")

    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        with pytest.warns(NotGuaranteedWarning), means_output(tmp_path / "means.npy"):
            pass
    assert list(tmp_path.iterdir()) == [leftover]
    with means_output(tmp_path / "means.npy"):
        assert not leftover.exists()


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


def test_there_must_be_room_for_the_list_of_a_thousand_skipped_photos(
    make_chain: MakeChain, photo_folder: Path, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="needs the limits of a Unix system")
    means = vggnorm.compute_means(make_chain(), photo_folder)
    reason = "is truncated: pixels are missing; get the file again"
    skipped = tuple(SkippedPhoto(f"train2017/{number:012}.jpg", reason) for number in range(1000))
    sizes = {}
    for name, photos in {"none.npy": (), "many.npy": skipped}.items():
        vggnorm.save_means(replace(means, skipped=photos), tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    # At the end of a run there are two such files.
    too_small = 2 * sizes["many.npy"] - 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with means_output(tmp_path / "means.npy") as output:
        keeper = Keeper(output.checkpoint(), say=pytest.fail)
        resource.setrlimit(resource.RLIMIT_FSIZE, (too_small, hard))
        try:
            with pytest.raises(OutputError, match="cannot be written: File too large"):
                keeper.require_room(sizes["none.npy"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        keeper.require_room(sizes["none.npy"])
