"""What this machine offers: processor name, cores that are ours, free memory."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
from pathlib import Path

from sg_local import limits

CPUS = Path("/sys/devices/system/cpu")
SPINS = "5000"
"""How often a thread of an engine should look whether the others are ready before it sleeps, as GOMP_SPINCOUNT.

About 250 microseconds: longer than torch takes from one operation to the next, where a fifth of it cost training a
fifth of the speed. The library's default is many times as long, in which a neighbour could have worked: beside one busy
process on two cores the engine wrote 53 tokens a second instead of 13."""


def physical_cores() -> int:
    """Cores that this process may use, hyperthreads counted once, a container's quota respected.

    llama.cpp waits busily at every barrier, so one thread more than there are cores costs far more than it brings.
    """
    if platform.system() == "Darwin":
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or 1
    usable = _usable_cpus()
    cores = {_core_of(cpu) for cpu in usable}
    quota = limits.whole_cores()
    return max(1, min(len(cores), quota)) if quota is not None else max(1, len(cores))


def cpu_name() -> str:
    """The processor's name, for telling machines apart."""
    if platform.system() == "Darwin":
        return _sysctl_text("machdep.cpu.brand_string") or platform.machine()
    for line in limits.text_of(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Hardware", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory() -> int | None:
    """Bytes of memory that this process can have without swapping, within a container's limit and `ulimit -v`.

    None where the system does not say.
    """
    known = [one for one in (_available(), limits.memory_left()) if one is not None]
    return min(known) if known else None


def total_memory() -> int | None:
    """Bytes of memory of the machine, or fewer where a container or `ulimit -v` bounds this process."""
    known = [one for one in (_meminfo("MemTotal") or _sysctl("hw.memsize"), limits.memory_limit()) if one is not None]
    return min(known) if known else None


def give_back_memory() -> None:
    """Return what a piece of work has let go of to the system: cycles of objects first, then what glibc keeps."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Unable to allocate", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says in Python's way, or in a library's, that memory has run out."""
    is_libraries = isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or is_libraries


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    words = set(limits.text_of(Path("/proc/cpuinfo")).split())
    return bool(words & {"avx512_bf16", "amx_bf16"})


def has_nvidia() -> bool:
    """Whether there is an NVIDIA GPU, whose memory is not the machine's."""
    return Path("/dev/nvidia0").exists()


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _core_of(cpu: int) -> tuple[str, str]:
    topology = CPUS / f"cpu{cpu}" / "topology"
    core = limits.text_of(topology / "core_id").strip() or str(cpu)
    return limits.text_of(topology / "physical_package_id").strip(), core


def _available() -> int | None:
    """What the whole machine has left."""
    available, total = _meminfo("MemAvailable"), _sysctl("hw.memsize")
    if available is not None or total is None:
        return available
    return total // 2  # macOS: half is a safe reading of "free"


def _meminfo(name: str) -> int | None:
    """Bytes under a name of /proc/meminfo; None where there is none."""
    for line in limits.text_of(Path("/proc/meminfo")).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _sysctl(name: str) -> int | None:
    text = _sysctl_text(name)
    return int(text) if text.isdigit() else None


def _sysctl_text(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()
