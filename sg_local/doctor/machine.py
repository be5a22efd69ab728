"""The machine: processor, memory, GPU, disk, BLAS, from the system's own files and tools (Linux and macOS)."""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sg_local import backends, limits
from sg_local.backends import machine as here
from sg_local.doctor.engines import ENGINES, versions
from sg_local.doctor.findings import Finding, Output, gib

LITTLE_MEMORY, LITTLE_DISK = 2 << 30, 2 << 30  # the default model's whole job stays below both
FEATURES = ("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


def check_system(runs: Path) -> Finding:
    """The operating system; for WSL, which counts as Linux, also its version and whether runs lie on Windows' disk."""
    value, release = f"{platform.system()}, {platform.machine()}", _read("/proc/sys/kernel/osrelease").lower()
    if "microsoft" not in release:
        return Finding("system", "operating system", "ok", value)
    if "wsl2" not in release:
        why = "WSL 1 is slow and not tested"
        return Finding("system", "operating system", "warn", f"{value}, in WSL 1", why, "wsl --set-version Ubuntu 2")
    if re.match(r"/mnt/[a-z](/|$)", str(runs.absolute())):
        why, fix = "Windows' own disk is slow from here", f"work in a folder below {Path.home()}"
        return Finding("system", "operating system", "warn", f"{value}, in WSL 2", why, fix)
    return Finding("system", "operating system", "ok", f"{value}, in WSL 2", "everything works as on Linux")


def check_cpu(output: Output) -> Finding:
    """The processor and the instruction sets that matrix products gain from."""
    name, features = cpu(_read("/proc/cpuinfo"), output)
    value = f"{name}: {' '.join(features) or 'no known vector instructions'}"
    if platform.machine() in ("x86_64", "AMD64") and "avx2" not in features:
        return Finding("system", "CPU", "warn", value, "without AVX2 everything is several times slower")
    return Finding("system", "CPU", "ok", value)


def cpu(cpuinfo: str, output: Output) -> tuple[str, list[str]]:
    """The processor's name and those of FEATURES that it has, from /proc/cpuinfo's text or sysctl (macOS)."""
    fields = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", cpuinfo, re.MULTILINE))
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or platform.processor() or platform.machine()
    if platform.system() == "Darwin":
        name = output(("sysctl", "-n", "machdep.cpu.brand_string")) or name
        arm = {"FEAT_DotProd": "asimddp", "FEAT_I8MM": "i8mm", "AdvSIMD": "asimd"}
        flags = {ours for key, ours in arm.items() if output(("sysctl", "-n", f"hw.optional.arm.{key}")) == "1"}
    return name, [feature for feature in FEATURES if feature in flags]


def check_amx(output: Output) -> Iterator[Finding]:
    """Whether llama.cpp's AMX kernels compute here; no finding where the processor or llama.cpp is not there."""
    if "amx_tile" not in _read("/proc/cpuinfo").split() or not versions(ENGINES["llama.cpp"]):
        return
    found = output((sys.executable, "-m", "sg_local.backends.llama_cpp.amx"))
    if found is not None:
        yield Finding("system", "AMX", "ok", found)
        return
    why = "the AMX kernels of this llama.cpp build crash, so sg-local does not use them"
    yield Finding("system", "AMX", "ok", "not used", why)


def check_cores() -> Finding:
    """Logical cores that this process may use within a container's quota, and what the machine has."""
    value = f"{limits.usable_cores()} of {os.cpu_count()} logical cores"
    return Finding("system", "cores", "ok", value, "other busy programs slow everything down")


def check_memory(total: int | None, available: int | None) -> Finding:
    """Memory in bytes, total and what can be had now; None where the system does not say."""
    if total is None or available is None:
        return Finding("system", "memory", "warn", "unknown", "the system does not say how much is free")
    value = f"{gib(available)} free of {gib(total)}"
    if available < LITTLE_MEMORY:
        return Finding("system", "memory", "warn", value, "the default model needs 2 GiB", "close other programs")
    return Finding("system", "memory", "ok", value)


def memory(output: Output) -> tuple[int | None, int | None]:
    """Total and available memory in bytes. A container's limit and `ulimit -v` count where they are lower."""
    if platform.system() == "Darwin":
        return darwin_memory(output(("sysctl", "-n", "hw.memsize")), output(("vm_stat",)))
    return here.total_memory(), here.free_memory()


def darwin_memory(memsize: str | None, vm_stat: str | None) -> tuple[int | None, int | None]:
    """Total and available memory from `sysctl -n hw.memsize` and `vm_stat`; free, inactive and purgeable pages."""
    total = int(memsize) if memsize is not None and memsize.isdigit() else None
    page = re.search(r"page size of (\d+) bytes", vm_stat or "")
    if page is None:
        return total, None
    pages = re.findall(r"^Pages (?:free|inactive|purgeable|speculative):\s+(\d+)\.", vm_stat or "", re.MULTILINE)
    return total, int(page[1]) * sum(map(int, pages))


def check_gpu(output: Output) -> Finding:
    """NVIDIA and Apple GPUs. None is no lack: everything runs on the CPU."""
    if backends.on_apple_silicon():
        return Finding("system", "GPU", "ok", "Apple GPU", "MLX trains on it, llama.cpp generates on it")
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    found = output(query)
    if not found:
        return Finding("system", "GPU", "ok", "none", "everything runs on the CPU")
    return Finding(
        "system", "GPU", "ok", "; ".join(found.splitlines()), "torch trains on it where its CUDA build is installed"
    )


def check_openblas() -> Finding:
    """OpenBLAS, without which MLX on Linux computes tens of times more slowly."""
    mlx_here = platform.system() == "Linux" and bool(versions(ENGINES["mlx"]))
    names = sorted(path.name for path in Path(sys.prefix, "lib").glob("libopenblas*.so*"))
    found = ctypes.util.find_library("openblas") or next(iter(names), None)
    if found is not None or not mlx_here:
        return Finding("system", "OpenBLAS", "ok", found or "none", "only MLX on Linux needs it")
    why = "MLX is tens of times slower without it"
    return Finding("system", "OpenBLAS", "warn", "none", why, "sudo apt install libopenblas0-pthread")


def check_disk(name: str, folder: Path) -> Finding:
    """Free space where the folder is, or will be."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    value = f"{gib(free)} free at {folder}"
    if free < LITTLE_DISK:
        why = "the default model needs 2 GiB, larger ones more"
        return Finding("system", name, "warn", value, why, "free some space, or name another folder")
    return Finding("system", name, "ok", value)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
