"""The processor: its name, its special units, and the settings of TensorFlow that suit it.

TensorFlow reads these settings when it is imported. They follow from rules: the winner of a trial
could change from run to run, and with it the last bits of the means.
"""

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # only Linux has it

# The units that multiply bfloat16 numbers, as Linux and macOS name them.
BFLOAT16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "FEAT_BF16"})


def processor_name() -> str:
    """Name the processor for people."""
    entries = dict(_first_entries())
    return entries.get("model name", "") or platform.processor() or platform.machine()


def processor_features() -> frozenset[str] | None:
    """Give the names of the processor's features, as its system has them; None if it tells none."""
    entries = dict(_first_entries())
    named = entries.get("flags") or entries.get("Features")  # of x86, of Arm
    if named:
        return frozenset(named.split())
    if platform.system() == "Darwin":
        return _features_on_macos()
    return None


def lacks_bfloat16_units() -> bool:
    """Tell whether the processor is known to have no units that multiply bfloat16 numbers."""
    features = processor_features()
    return features is not None and not features & BFLOAT16_UNITS


def tensorflow_settings(core_limit: int | None) -> dict[str, str]:
    """Give the environment variables with which TensorFlow is fastest on this processor.

    - oneDNN is on where the processor has AVX2. By itself, TensorFlow turns it on only where there
      are units for neural networks, such as AVX-512 VNNI. Without AVX2, this is left to TensorFlow.
    - Operations have as many threads as a limited process has cores. TensorFlow does not know of
      the limit. Without one, it counts the cores itself.

    Args:
        core_limit: how many cores a container may use; None if there is no limit.
    """
    settings = {}
    if "avx2" in (processor_features() or ()):
        settings["TF_ENABLE_ONEDNN_OPTS"] = "1"
    if core_limit is not None:
        settings["TF_NUM_INTRAOP_THREADS"] = str(core_limit)
        settings["TF_NUM_INTEROP_THREADS"] = str(core_limit)
    return settings


def _first_entries() -> Iterator[tuple[str, str]]:
    """Give what Linux says of the first core: all have the same name and features."""
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.strip():
                    return
                name, _, value = line.partition(":")
                yield name.strip(), value.strip()
    except OSError:
        return


def _features_on_macos() -> frozenset[str] | None:
    """Ask macOS, which answers in lines such as `hw.optional.arm.FEAT_BF16: 1`."""
    try:
        said = subprocess.run(
            ["/usr/sbin/sysctl", "hw.optional"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = [line.partition(":") for line in said.splitlines()]
    return frozenset(name.rpartition(".")[2] for name, _, value in found if value.strip() == "1")
