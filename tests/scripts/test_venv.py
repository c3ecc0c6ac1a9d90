"""The scripts make .venv, and a failed try does not spoil the next one.

A shell script takes Python's place: it makes an environment of two files, and only notes what pip
is to install.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    mkdir -p .venv/bin
    echo 'PATH=$PWD/.venv/bin:$PATH' > .venv/bin/activate
    cp "$0" .venv/bin/python
    ;;
"-m pip")
    echo "{version}" >> pip.log
    [ ! -e no-network ]
    ;;
"-c "*)
    exec {real} -c "import sys, platform; sys.version_info = tuple(map(int, '{version}'.split('.')))
platform.system = lambda: '{system}'; platform.machine = lambda: 'x86_64'
$2"
    ;;
esac
"""

USE = "set -e; source scripts/venv.sh weights; python -c 'print(sys.version_info)'"


class Project:
    """A folder with a project, and some Pythons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "venv.sh", folder / "scripts")
        (folder / "pyproject.toml").write_text("[project]\n", encoding="utf-8")

    def python(self, version: str, system: str = "Linux") -> Path:
        """Make a Python of a version."""
        path = self.folder / f"python{version}"
        script = PYTHON.format(version=version, system=system, real=sys.executable)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return path

    def run(self, python: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a script that uses the environment."""
        return subprocess.run(
            ["bash", "-c", USE, "scripts/quickstart"],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin"} | ({} if python is None else {"PYTHON": str(python)}),
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def installs(self) -> list[str]:
        """The version of Python of every try to install."""
        return (self.folder / "pip.log").read_text(encoding="utf-8").split()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    if shutil.which("bash", path="/usr/bin:/bin") is None:
        pytest.skip("needs bash")
    return Project(tmp_path)


def version_used(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_it_is_made_once(project: Project) -> None:
    first = project.run(project.python("3.12.1"))
    assert first.stdout.splitlines()[0] == "making .venv with Python 3.12"
    assert version_used(first) == "(3, 12, 1)"
    again = project.run()
    assert again.stdout.splitlines() == ["(3, 12, 1)"]
    assert project.installs == ["3.12.1"]


def test_what_pyproject_asks_for_is_installed_again_when_it_changes(project: Project) -> None:
    project.run(project.python("3.12.1"))
    (project.folder / "pyproject.toml").write_text("[project] # other\n", encoding="utf-8")
    assert version_used(project.run()) == "(3, 12, 1)"
    assert project.installs == ["3.12.1", "3.12.1"]


def test_a_failed_install_is_made_again_from_the_start(project: Project) -> None:
    (project.folder / "no-network").touch()
    assert project.run(project.python("3.13.0")).returncode != 0
    (project.folder / ".venv" / "half").touch()
    (project.folder / "no-network").unlink()
    assert version_used(project.run(project.python("3.13.0"))) == "(3, 13, 0)"
    assert not (project.folder / ".venv" / "half").exists()
    assert project.run().stdout.splitlines() == ["(3, 13, 0)"]


def test_one_without_a_python_is_made_again(project: Project) -> None:
    project.run(project.python("3.13.0"))
    (project.folder / ".venv" / "bin" / "python").unlink()  # as when a Python is removed
    assert version_used(project.run(project.python("3.12.1"))) == "(3, 12, 1)"


def test_the_python_that_is_named_is_used_even_where_there_is_another(project: Project) -> None:
    project.run(project.python("3.11.7"))
    assert version_used(project.run(project.python("3.13.0"))) == "(3, 13, 0)"
    assert version_used(project.run()) == "(3, 13, 0)"
    assert project.installs == ["3.11.7", "3.13.0"]


def test_a_folder_that_a_link_leads_to_is_left_alone(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (project.folder / ".venv").symlink_to(elsewhere)
    assert version_used(project.run(project.python("3.12.1"))) == "(3, 12, 1)"
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_a_python_that_does_not_go_is_refused_and_another_is_taken(
    version: str, project: Project
) -> None:
    python = project.python(version)
    refused = project.run(python)
    short = version.rpartition(".")[0]
    assert refused.returncode == 1
    assert refused.stderr == (
        f"Python 3.11, 3.12 or 3.13 is needed, and {python} is {short}; name another, as in "
        "PYTHON=python3.13 scripts/quickstart\n"
    )
    assert not (project.folder / ".venv").exists()
    assert version_used(project.run(project.python("3.13.0"))) == "(3, 13, 0)"  # as it says


def test_a_python_that_is_not_there_is_refused(project: Project) -> None:
    refused = project.run(project.folder / "python3.99")
    assert refused.returncode == 1
    assert "python3.99 is not there; name another" in refused.stderr


def test_a_mac_with_an_intel_processor_is_refused(project: Project) -> None:
    refused = project.run(project.python("3.12.1", system="Darwin"))
    assert refused.returncode == 1
    assert refused.stderr == (
        "TensorFlow has no package for Macs with Intel processors; see docs/systems.md\n"
    )
    assert not (project.folder / ".venv").exists()


def test_the_versions_are_those_of_pyproject() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert settings["requires-python"] == ">=3.11,<3.14"
    named = [entry.rpartition(" ")[2] for entry in settings["classifiers"] if ":: 3." in entry]
    script = (ROOT / "scripts" / "venv.sh").read_text(encoding="utf-8")
    assert f"{' | '.join(named)}) ;;" in script
    assert f"Python {', '.join(named[:-1])} or {named[-1]} is needed" in script
    assert named == ["3.11", "3.12", "3.13"]
