"""What this machine offers: processor name, cores that are ours, free memory."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


def physical_cores() -> int:
    """Cores that this process may use, hyperthreads counted once, a container's quota respected.

    llama.cpp waits busily at every barrier, so one thread more than there are cores costs far more than it brings.
    """
    if platform.system() == "Darwin":
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or 1
    usable = _usable_cpus()
    cores = {_core_of(cpu) for cpu in usable}
    quota = _quota()
    return max(1, min(len(cores), quota)) if quota is not None else max(1, len(cores))


def cpu_name() -> str:
    """The processor's name, for telling machines apart."""
    if platform.system() == "Darwin":
        return _sysctl_text("machdep.cpu.brand_string") or platform.machine()
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Hardware", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory() -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not say."""
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            left = _cgroup_memory_left()
            return available if left is None else min(available, left)
    total = _sysctl("hw.memsize")
    return None if total is None else total // 2  # macOS: half is a safe reading of "free"


def has_nvidia() -> bool:
    """Whether there is an NVIDIA GPU, whose memory is not the machine's."""
    return Path("/dev/nvidia0").exists()


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _core_of(cpu: int) -> tuple[str, str]:
    topology = CPUS / f"cpu{cpu}" / "topology"
    core = _read(topology / "core_id").strip() or str(cpu)
    return _read(topology / "physical_package_id").strip(), core


def _quota() -> int | None:
    """Whole cores that a cgroup v2 quota allows."""
    quota, _, period = _read(CGROUP / "cpu.max").strip().partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else None


def _cgroup_memory_left() -> int | None:
    limit, used = _read(CGROUP / "memory.max").strip(), _read(CGROUP / "memory.current").strip()
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _sysctl(name: str) -> int | None:
    text = _sysctl_text(name)
    return int(text) if text.isdigit() else None


def _sysctl_text(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()
