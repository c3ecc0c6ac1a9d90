"""Which cores and libraries a run uses, and how the recipe names them."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from measuring import measure

from vggnorm import FilterMeans, StoppedError, load_means, save_means
from vggnorm.cli import main
from vggnorm.means.machines import join_machines
from vggnorm.photos.cores import core_count
from vggnorm.processor import tensorflow_settings
from vggnorm.run.machine import describe_machine

SETTING = "import os, vggnorm; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores"
)
def test_only_the_cores_that_the_process_may_use_are_counted() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from vggnorm.photos.cores import core_count; print(core_count())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert said.stdout == b"1\n"


def test_the_system_that_cannot_pin_is_asked_for_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert core_count() == 7


@pytest.mark.parametrize("own", [None, "0", "1"])
def test_onednn_is_as_the_user_says_or_as_the_processor_needs_it(own: str | None) -> None:
    by_rule = tensorflow_settings(None).get("TF_ENABLE_ONEDNN_OPTS")
    assert print_with(own, SETTING).strip() == str(own or by_rule)


def print_with(setting: str | None, program: str) -> str:
    """Run a program with or without TF_ENABLE_ONEDNN_OPTS, and return what it prints."""
    environment = dict(os.environ)
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    if setting is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = setting
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return done.stdout


# On a CPU, TensorFlow needs oneDNN for a convolution whose channels come first.
ONEDNN = """
import sys
import vggnorm
import tensorflow as tf
from vggnorm.run.machine import describe_machine
try:
    with tf.device("CPU"):
        tf.nn.conv2d(tf.zeros((1, 3, 8, 8)), tf.zeros((3, 3, 3, 2)), 1, "VALID", data_format="NCHW")
    print("with oneDNN")
except tf.errors.UnimplementedError:
    print("without oneDNN")
print(describe_machine("tensorflow"))
"""


# Without a setting, it is as the processor needs it.
@pytest.mark.parametrize("setting", [None, "0", "false", "true"])
def test_the_machine_is_described_in_one_line_as_it_is(setting: str | None) -> None:
    words, described = print_with(setting, ONEDNN).splitlines()
    assert described.endswith(f" {words}")
    assert f"{core_count()} core" in described


def test_each_machine_is_named_once() -> None:
    assert join_machines(["", "b, 2 cores", "a", "a; b, 2 cores", "c"]) == "b, 2 cores; a; c"
    assert not join_machines(["", ""])


def on_another(means: FilterMeans) -> FilterMeans:
    return replace(means, recipe=replace(means.recipe, machine="an abacus"))


def test_the_recipe_names_the_machine(make_chain: Callable[[], Any], photo_folder: Path) -> None:
    means = measure(make_chain(), photo_folder, size=32)
    assert f"{core_count()} core" in means.recipe.machine


def test_going_on_elsewhere_is_said_in_one_line(
    make_chain: Callable[[], Any], photo_folder: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "kept"
    options: dict[str, Any] = {"size": 32, "batch_size": 4}
    stops = iter([False, True])
    with pytest.raises(StoppedError):
        measure(
            make_chain(), photo_folder, checkpoint=checkpoint, stop=lambda: next(stops), **options
        )
    save_means(on_another(load_means(checkpoint)), checkpoint, force=True)
    said: list[str] = []
    means = measure(make_chain(), photo_folder, checkpoint=checkpoint, say=said.append, **options)
    (line,) = [line for line in said if "the last bits may differ" in line]
    assert "begun on an abacus, continued on " in line
    assert means.recipe.machine == f"an abacus; {describe_machine('tensorflow')}"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_merging_from_several_machines_is_said_in_one_line(
    make_chain: Callable[[], Any], photo_folder: Path, tmp_path: Path, elsewhere: bool
) -> None:
    files = []
    for number in 1, 2:
        means = measure(make_chain(), photo_folder, size=32, shard=(number, 2))
        files.append(str(tmp_path / f"{number}.npy"))
        save_means(on_another(means) if elsewhere and number == 2 else means, files[-1])
    result = CliRunner().invoke(main, ["merge-means", *files, "-o", str(tmp_path / "all.npy")])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("the last bits may differ from those of one run") == elsewhere
    here = describe_machine("tensorflow")
    merged = load_means(tmp_path / "all.npy").recipe.machine
    assert merged == (f"{here}; an abacus" if elsewhere else here)
    assert f"machine   {merged}\n" in result.stdout
