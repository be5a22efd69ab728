"""What this machine offers: processor name, cores that are ours, free memory."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import platform
import subprocess
from pathlib import Path
from typing import NoReturn

from sg_local import limits
from sg_local.records import SgError
from sg_local.words import size

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
NO_MEMORY = (*OUT_OF_MEMORY, "failed to allocate", "cannot allocate", "insufficient memory", "out of memory")
"""How programs say that memory has run out; the first are those of Python's libraries, in their errors."""
MORE_MEMORY = "Close other programs, raise the limit (`ulimit -v`, a container's), or take a smaller model."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says in Python's way, in a library's or in the system's that memory has run out."""
    is_libraries = isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)
    is_systems = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or is_libraries or is_systems


def tells_of_memory(text: str) -> bool:
    """Whether what a program said last is that memory has run out."""
    return any(word.lower() in text.lower() for word in NO_MEMORY)


def refuse_to_open(path: Path, n_bytes: int) -> NoReturn:
    """Raise SgError where memory ran out while a file was opened, which takes so many bytes at least."""
    needed = f"the memory is too small for it. It takes at least {size(n_bytes)}"
    raise SgError(f"{path} could not be opened: {needed}{_left()}.", MORE_MEMORY)


def out_of_memory() -> SgError:
    """What is said where memory ran out and nobody knows how much it would have taken."""
    return SgError(f"Memory ran out{_left()}.", MORE_MEMORY)


def _left() -> str:
    free = free_memory()
    return "" if free is None else f", and {size(free)} is free now"


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
