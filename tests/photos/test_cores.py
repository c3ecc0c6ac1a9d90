"""How many cores a container grants, with files such as Linux has."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vggnorm.photos import cores
from vggnorm.photos.cores import core_count, core_limit

MACHINE = 64  # cores


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to be in a group of processes with these limits: folder -> text of its cpu.max."""

    def pretend(own: str, limits: dict[str, str]) -> None:
        (tmp_path / "own").write_text(f"3:cpuset:/elsewhere\n{own}\n")
        groups = tmp_path / "cgroup"
        for folder, text in limits.items():
            (groups / folder).mkdir(parents=True, exist_ok=True)
            (groups / folder / "cpu.max").write_text(text)
        monkeypatch.setattr(cores, "CGROUPS", groups)
        monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(MACHINE), raising=False)

    return pretend


@pytest.mark.parametrize(
    ("own", "limits", "granted"),
    [
        ("0::/", {"": "200000 100000\n"}, 2),  # docker run --cpus 2
        ("0::/", {"": "250000 100000\n"}, 3),  # two and a half
        ("0::/", {"": "5000 100000\n"}, 1),
        ("0::/", {"": "max 100000\n"}, None),
        ("0::/", {"": "9000000 100000\n"}, 90),  # more than the machine has
        ("0::/", {}, None),  # the outermost group has no such file
        ("0::/pods/mine", {"pods/mine": "400000 100000\n", "pods": "max 100000\n"}, 4),
        ("0::/pods/mine", {"pods/mine": "max 100000\n", "pods": "300000 100000\n"}, 3),
        ("0::/pods/mine", {"pods/mine": "800000 100000\n", "pods": "300000 100000\n"}, 3),
        ("0::/not/mounted", {"": "200000 100000\n"}, 2),  # the path is the host's
        ("0::/", {"": "nonsense\n"}, None),
    ],
)
def test_what_a_container_grants_is_counted(
    own: str, limits: dict[str, str], granted: int | None, limit: Callable[..., None]
) -> None:
    limit(own, limits)
    assert core_count() == min(granted or MACHINE, MACHINE)
    assert core_limit() == (None if granted is None else min(granted, MACHINE))


@pytest.mark.parametrize(
    ("own", "folder", "quota", "granted"),
    [
        ("1:cpu:/", "cpu", "200000\n", 2),
        ("4:cpu,cpuacct:/docker/abc", "cpu,cpuacct/docker/abc", "150000\n", 2),
        ("4:cpu,cpuacct:/docker/abc", "cpu,cpuacct", "300000\n", 3),
        ("1:cpu:/", "cpu", "-1\n", None),
        ("1:cpuset:/", "cpuset", "200000\n", None),
    ],
)
def test_the_older_groups_are_read_too(
    own: str,
    folder: str,
    quota: str,
    granted: int | None,
    limit: Callable[..., None],
    tmp_path: Path,
) -> None:
    limit(own, {})
    group = tmp_path / "cgroup" / folder
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert core_limit() == granted


def test_a_system_without_groups_has_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "missing")
    assert core_limit() is None
