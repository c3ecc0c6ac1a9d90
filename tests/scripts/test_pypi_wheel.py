"""A wheel is downloaded once and checked, and another wheel is never used."""

import hashlib
import io
import zipfile
from pathlib import Path

import pypi_wheel
import pytest
from pypi_wheel import DownloadError, cache_folder, download_wheel

from vggnorm.errors import OutputError


def wheel_bytes() -> bytes:
    """Make a wheel whose bytes do not depend on the time, which zip archives usually record."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo("package/photo.jpg"), b"pixels")
    return content.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vggnorm"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace pip; the list holds its requests."""
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        path = folder / "package-1.0-py3-none-any.whl"
        path.write_bytes(wheel_bytes())
        return path

    monkeypatch.setattr(pypi_wheel, "_pip_download", download)
    return asked


def test_a_wheel_is_downloaded_once(downloads: list[str]) -> None:
    sha256 = hashlib.sha256(wheel_bytes()).hexdigest()
    for _ in range(2):
        with download_wheel("package==1.0", sha256) as wheel:
            assert wheel.read("package/photo.jpg") == b"pixels"
    assert downloads == ["package==1.0"]


def test_another_file_is_not_used_and_not_kept(downloads: list[str], cache: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"package-1\.0.*is not the expected file \(SHA-256 differs\)"
    ):
        download_wheel("package==1.0", "0" * 64)
    assert downloads == ["package==1.0"]
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("downloads")
def test_a_cached_wheel_that_was_damaged_is_downloaded_again(
    downloads: list[str], cache: Path
) -> None:
    sha256 = hashlib.sha256(wheel_bytes()).hexdigest()
    download_wheel("package==1.0", sha256).close()
    (cached,) = cache.iterdir()
    cached.write_bytes(b"damaged")
    with download_wheel("package==1.0", sha256) as wheel:
        assert wheel.read("package/photo.jpg") == b"pixels"
    assert len(downloads) == 2


def test_pip_that_finds_nothing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", str(cache)),
        ("PIP_CONFIG_FILE", "/dev/null"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        DownloadError, match="pip could not download no-such-package==1.0; its message is above"
    ):
        download_wheel("no-such-package==1.0", "0" * 64)
    out, err = capfd.readouterr()
    assert out == ""
    assert "no-such-package" in err


def test_a_cache_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        OutputError, match="vggnorm: cannot be made: Not a directory; set XDG_CACHE_HOME to another"
    ):
        cache_folder()
