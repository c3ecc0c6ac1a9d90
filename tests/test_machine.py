"""Which cores and libraries a run uses."""

import os
import subprocess
import sys

import pytest

from vggnorm.machine import core_count, describe_machine

SETTING = "import os, vggnorm; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_only_the_cores_that_the_process_may_use_are_counted() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import vggnorm.machine as m; "
    said = subprocess.run([sys.executable, "-c", f"{code} print(m.core_count())"], capture_output=True, check=True)
    assert said.stdout == b"1\n"


def test_the_system_that_cannot_pin_is_asked_for_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert core_count() == 7


@pytest.mark.parametrize(("own", "taken"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_onednn_is_on_unless_the_user_says_otherwise(own: str | None, taken: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if own is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = own
    said = subprocess.run([sys.executable, "-c", SETTING], env=environment, capture_output=True, check=True, text=True)
    assert said.stdout.strip() == taken


@pytest.mark.parametrize(("setting", "words"), [("1", "with oneDNN"), ("0", "without oneDNN")])
def test_the_machine_is_described_in_one_line(monkeypatch: pytest.MonkeyPatch, setting: str, words: str) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    described = describe_machine("tensorflow")
    assert described.endswith(words)
    assert f"{core_count()} core" in described
    assert "\n" not in described
