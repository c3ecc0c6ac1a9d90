"""A short run of scripts/fuzz.py, and that it notices readers that fail, hang or die."""

import os
import time
from pathlib import Path
from typing import Any

import click
import fuzz
import pytest
from click.testing import CliRunner
from damage import damaged

from vggnorm.errors import MeansError


def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        fuzz.main, ["--cases", "200", "--seed", "1", "--keep", str(tmp_path / "failed")]
    )
    assert result.exit_code == 0, result.output
    rows = {
        line[:14].strip(): [int(number) for number in line[14:].split()]
        for line in result.output.splitlines()[1:]
    }
    assert sorted(rows) == sorted(fuzz.KINDS.values())
    for kind, (cases, success, refused, failed) in rows.items():
        assert (cases, success + refused, failed) == (20, 20, 0), kind
        assert refused, f"no {kind} was damaged"
    assert not (tmp_path / "failed").exists()


def test_the_same_seed_does_the_same_damage() -> None:
    content = bytes(range(256)) * 4
    for suffix in ".jpg", ".npy":
        cases = [damaged(suffix, content, f"0 {case}") for case in range(50)]
        assert cases == [damaged(suffix, content, f"0 {case}") for case in range(50)]
        assert len(set(cases)) > 20


def test_what_kind_a_file_is_stands_in_its_name() -> None:
    assert [fuzz.suffix_of(Path(name)) for name in ("a.h5", "a.weights.h5", "a.norm.h5")] == [
        ".h5",
        ".weights.h5",
        ".norm.h5",
    ]
    with pytest.raises(
        click.ClickException, match=r"a\.txt: is not a kind of file that vggnorm reads"
    ):
        fuzz.suffix_of(Path("a.txt"))


def misbehaving(channel: Any, _corpus: dict[str, Any]) -> None:
    """Replace `fuzz.work`: do what the seed of the case says."""
    while True:
        _, how = channel.recv()
        if how == "die":
            os._exit(7)
        if how == "hang":
            time.sleep(60)
        channel.send(how)


def test_a_worker_that_hangs_or_dies_is_told_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "work", misbehaving)
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    worker = fuzz.Worker({})
    assert worker.outcome("x", "refused") == "refused"
    assert worker.outcome("x", "hang") == "took more than 1 s"
    assert worker.outcome("x", "success") == "success"
    assert worker.outcome("x", "die") == "the process died (7)"
    assert worker.outcome("x", "success") == "success"
    worker.stop()


def test_the_readers_that_are_tried_are_vggnorms_own(tmp_path: Path) -> None:
    (tmp_path / "damaged.npy").write_bytes(b"no means")
    with pytest.raises(MeansError, match=r"damaged\.npy: cannot be read: it is not a file of"):
        fuzz.read(tmp_path / "damaged.npy", ".npy", None)
