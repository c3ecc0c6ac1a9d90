"""The commands over archives and addresses: what the folder gives, to the last bit."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archive_files import tar_bytes, write, zip_bytes
from click.testing import Result
from command_line import failed, run
from photo_server import serving

from vggnorm.files.formats import load_means
from vggnorm.photos import remote

Compute = Callable[..., Result]


@pytest.fixture
def contents(mixed_folder: Path) -> dict[str, bytes]:
    """Nine photos and two empty files, by their names."""
    return {path.name: path.read_bytes() for path in sorted(mixed_folder.iterdir())}


def test_means_over_an_archive_are_those_over_the_folder(
    compute: Compute, mixed_folder: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    assert compute(data=mixed_folder).exit_code == 0
    expected = load_means("means.npy")
    for path in (
        write(tmp_path / "stored.zip", zip_bytes(contents)),
        write(tmp_path / "deflated.zip", zip_bytes(contents, zipfile.ZIP_DEFLATED)),
        write(tmp_path / "photos.tar", tar_bytes(contents)),
    ):
        result = compute("--force", data=path)
        assert result.exit_code == 0, result.output
        assert f"11 photos in {path}\n" in result.stderr
        means = load_means("means.npy")
        for layer, mean in expected.mean.items():
            np.testing.assert_array_equal(means.mean[layer], mean)
            np.testing.assert_array_equal(
                means.measured.squared_deviation[layer], expected.measured.squared_deviation[layer]
            )
        assert means.skipped == expected.skipped
        for digest in "listed_sha256", "taken_sha256", "photos_sha256":
            assert getattr(means.recipe, digest) == getattr(expected.recipe, digest)
        assert means.recipe.photos == f"{tmp_path.name}/{path.name}"


def test_verify_and_identify_take_an_archive(
    made: Path, chain_file: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    path = write(tmp_path / "photos.zip", zip_bytes(contents))
    result = run("verify", made / "chain_norm.h5", "--data", path, "--network", chain_file)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("pass  ") == 3
    result = run("inspect", made / "chain_norm.h5", "--data", tmp_path / "none.zip")
    assert "--data and --means need --original" in result.stderr


def test_a_run_goes_on_when_the_archive_is_back(
    compute: Compute, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "photos.tar", tar_bytes(contents))
    assert compute("--batch-size", "2", data=path).exit_code == 0
    whole = load_means("means.npy")
    options = "--batch-size", "2", "--threads", "1", "--checkpoint-every", "0", "--force", "--fresh"
    take_away_after(monkeypatch, path, reads=8)
    result = compute(*options, data=path)
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {path}/")
    assert "is gone since the photos were listed; put it back as it was and run the same" in error
    path.with_suffix(".away").rename(path)
    result = compute(*options[:-1], data=path)
    assert result.exit_code == 0, result.output
    assert "goes on after" in result.stderr
    for layer, mean in whole.mean.items():
        np.testing.assert_array_equal(load_means("means.npy").mean[layer], mean)


def take_away_after(monkeypatch: pytest.MonkeyPatch, path: Path, reads: int) -> None:
    """Have an archive renamed after it was opened so many times, to be listed or read."""
    opened = Path.open
    count = 0

    def open_some(self: Path, *arguments: str, **options: int) -> object:
        nonlocal count
        if self == path:
            count += 1
            if count == reads:
                path.rename(path.with_suffix(".away"))
        return opened(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_some)


def test_no_secret_is_kept_or_said(
    compute: Compute, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="pip install 'vggnorm[http]'")
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as served:
        served.password = "sig=4711"
        served.files = {"/x.zip": zip_bytes(contents), "/x.tar": tar_bytes(contents)}
        for name in "x.zip", "x.tar":
            address = f"{served.url}/{name}?sig=4711"
            result = compute("--force", data=address)
            assert result.exit_code == 0, result.output
            assert load_means("means.npy").recipe.photos == f"{served.url}/{name}"
            assert "4711" not in result.output
            assert b"4711" not in Path("means.npy").read_bytes()
        served.files.clear()
        error = failed(compute("--force", data=address))
        assert error == f"{served.url}/x.tar: cannot be read: there is no such file"
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert all(b"4711" not in path.read_bytes() for path in kept)
