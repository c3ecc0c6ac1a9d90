"""What is read of a processor, and the settings that follow, with excerpts of real systems."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measuring import measure

from vggnorm import StoppedError, processor
from vggnorm.processor import (
    lacks_bfloat16_units,
    processor_features,
    processor_name,
    tensorflow_settings,
)

IVY_BRIDGE = """processor\t: 0
model name\t: Intel(R) Xeon(R) CPU E5-2670 v2 @ 2.50GHz
flags\t\t: fpu sse4_1 sse4_2 avx f16c rdrand
"""
ZEN_3 = """processor\t: 0
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse4_1 sse4_2 avx avx2 fma

processor\t: 1
model name\t: another
flags\t\t: avx512_bf16
"""
ZEN_4 = """processor\t: 0
model name\t: AMD EPYC 9R14
flags\t\t: fpu avx avx2 fma avx512f avx512_bf16 avx512_vnni
"""
SAPPHIRE_RAPIDS = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu avx avx2 fma avx512f avx512_vnni amx_bf16 amx_tile
"""
GRAVITON_2 = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd aes crc32 asimddp
CPU implementer\t: 0x41
"""
GRAVITON_3 = GRAVITON_2.replace("asimddp", "asimddp sve i8mm bf16")
POWER = """processor\t: 0
cpu\t\t: POWER9, altivec supported
"""

ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}

Pretend = Callable[[str], None]


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Have the processor described by another text of /proc/cpuinfo."""

    def describe(text: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(processor, "CPUINFO", path)
        monkeypatch.setattr(platform, "system", lambda: "Linux")

    return describe


@pytest.mark.parametrize(
    ("text", "settings", "lacks"),
    [
        (IVY_BRIDGE, {}, True),
        (ZEN_3, ONEDNN, True),
        (ZEN_4, ONEDNN, False),
        (SAPPHIRE_RAPIDS, ONEDNN, False),
        (GRAVITON_2, {}, True),
        (GRAVITON_3, {}, False),
        (POWER, {}, False),  # not known
        ("", {}, False),
    ],
)
def test_the_settings_follow_from_the_features(
    text: str, settings: dict[str, str], lacks: bool, pretend: Pretend
) -> None:
    pretend(text)
    assert tensorflow_settings(None) == settings
    assert lacks_bfloat16_units() is lacks


def test_only_the_first_core_is_read(pretend: Pretend) -> None:
    pretend(ZEN_3)
    assert processor_name() == "AMD EPYC 7763 64-Core Processor"
    assert processor_features() == frozenset(["fpu", "sse4_1", "sse4_2", "avx", "avx2", "fma"])


def test_a_processor_without_a_name_has_that_of_its_kind(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(GRAVITON_2)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert processor_name() == "aarch64"


def test_a_limited_process_has_as_many_threads_as_cores(pretend: Pretend) -> None:
    pretend(ZEN_3)
    threads = {"TF_NUM_INTRAOP_THREADS": "4", "TF_NUM_INTEROP_THREADS": "4"}
    assert tensorflow_settings(4) == ONEDNN | threads


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pretend that this is another system than Linux."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "missing")
    return lambda name: monkeypatch.setattr(platform, "system", lambda: name)


@pytest.mark.parametrize(
    ("said", "lacks"),
    [
        ("hw.optional.arm.FEAT_BF16: 0\nhw.optional.neon: 1\n", True),
        ("hw.optional.arm.FEAT_BF16: 1\nhw.optional.neon: 1\n", False),
        ("hw.optional.avx2_0: 1\nhw.optional.avx512f: 0\n", True),
    ],
)
def test_macos_is_asked(
    said: str, lacks: bool, elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere("Darwin")
    answer = subprocess.CompletedProcess[str]([], 0, stdout=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert lacks_bfloat16_units() is lacks
    assert tensorflow_settings(None) == {}


def test_what_macos_does_not_answer_is_not_known(
    elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError

    elsewhere("Darwin")
    monkeypatch.setattr(subprocess, "run", fail)
    assert processor_features() is None


def test_windows_is_left_to_tensorflow(elsewhere: Callable[[str], None]) -> None:
    elsewhere("Windows")
    assert processor_features() is None
    assert tensorflow_settings(None) == {}
    assert not lacks_bfloat16_units()


Measure = Callable[..., list[str]]


@pytest.fixture
def measure_and_say(make_chain: Callable[..., Any], photo_folder: Path) -> Measure:
    """Measure, and give what was said of bfloat16."""

    def run(precision: str, **options: Any) -> list[str]:
        said: list[str] = []
        options = {"size": 32, "batch_size": 4, "control": 4, **options}
        measure(make_chain(), photo_folder, precision=precision, say=said.append, **options)
        return [line for line in said if "bfloat16" in line]

    return run


def test_slow_bfloat16_is_said_and_the_advice_holds(
    pretend: Pretend, measure_and_say: Measure, tmp_path: Path
) -> None:
    pretend(ZEN_3)
    begun = {"checkpoint": tmp_path / "kept", "checkpoint_every": 0}
    with pytest.raises(StoppedError):
        measure_and_say("bfloat16", stop=lambda: True, **begun)
    (line,) = measure_and_say("bfloat16", **begun)
    assert line == (
        "precision bfloat16 is slower than float32 on this processor, which has no units for it; "
        "use --precision float32, with --fresh if a run has begun"
    )
    assert not measure_and_say("float32", fresh=True, **begun)


def test_nothing_is_said_of_bfloat16_where_there_are_units_for_it(
    pretend: Pretend, measure_and_say: Measure
) -> None:
    pretend(ZEN_4)
    assert not measure_and_say("bfloat16")
