"""Python and the engines: what is installed, whether it loads, and what `auto` makes of it.

Versions come from package metadata. Whether an engine loads is asked in a process of its own, so that one that
crashes is a finding, not an end.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from sg_local import backends, models
from sg_local.backends import Backend
from sg_local.doctor.findings import Finding, Output, Status
from sg_local.home import ModelFolders
from sg_local.records import SgError

OLDEST_PYTHON = (3, 11)  # setup.cfg, python_requires
ENGINES = {name: backend for name, backend in backends.BACKENDS.items() if backend.packages}


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return Finding("system", "Python", "ok", text, sys.executable)
    return Finding(
        "system", "Python", "fail", text, "sg-local needs Python 3.11 or newer", "install Python 3.11 or newer"
    )


def versions(engine: Backend) -> dict[str, str]:
    """The installed versions of an engine's packages, by name; those that are missing are left out."""
    found = {}
    for package in engine.packages.values():
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def probe_all(output: Output) -> dict[str, str | None]:
    """What each installed engine's probe prints, None where it fails; the probes run side by side.

    A probe imports the compiled package, which is what breaks; its pure Python companions would double the time.
    """
    installed = [name for name in ENGINES if len(versions(ENGINES[name])) == len(ENGINES[name].packages)]
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        printed = pool.map(lambda name: output((sys.executable, "-c", ENGINES[name].probe)), installed)
        return dict(zip(installed, printed, strict=True))


def check_engine(name: str, loads: dict[str, str | None]) -> Finding:
    """Whether an engine is installed and loads; `loads` holds what each engine's probe printed."""
    engine, found = ENGINES[name], versions(ENGINES[name])
    first, *_ = packages = list(engine.packages.values())
    fix = f"pip install 'sg-local[{engine.extra}]'"
    if len(found) < len(packages):
        return Finding("engine", name, "fail" if _is_chosen(name) else "ok", "not installed", engine.use, fix)
    value = ", ".join(f"{package} {version}" for package, version in found.items())
    device = loads.get(name)
    if device is None:
        again = f"pip install --force-reinstall --no-cache-dir {first}"
        status: Status = "fail" if _is_chosen(name) else "warn"
        return Finding("engine", name, status, value, "installed, but cannot be imported", again)
    return Finding("engine", name, "ok", f"{value} ({device})", engine.use)


def check_compiler() -> Iterator[Finding]:
    """The C++ compiler, which only installing llama-cpp-python needs: no finding where that is installed."""
    if versions(ENGINES["llama.cpp"]):
        return
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    why = "pip builds llama-cpp-python from source: about seven minutes on two cores"
    if compiler is not None:
        yield Finding("engine", "C++ compiler", "ok", compiler, why)
        return
    fix = "xcode-select --install" if platform.system() == "Darwin" else "sudo apt install build-essential"
    yield Finding("engine", "C++ compiler", "fail", "none", why, fix)


def check_choices(loads: dict[str, str | None]) -> Iterator[Finding]:
    """Which generator and trainer `auto` takes here, and why."""
    generator, trainer = backends.choose_generator(), backends.choose_trainer()
    why = "it reads every quantisation, and its tokenizer is the reference"
    yield Finding("choice", "--backend auto", "ok" if loads.get(generator) else "fail", generator, why)
    if trainer == "mlx":
        why = "MLX uses the Apple GPU" if backends.on_apple_silicon() else "torch is not installed, MLX is"
    else:
        why = f"it trains on {'CUDA' if loads.get('torch') == 'CUDA' else 'the CPU'} here"
    yield Finding("choice", "--trainer auto", "ok" if loads.get(trainer) else "fail", trainer, why)


def check_model(name: str | None, places: ModelFolders) -> Finding:
    """Whether the model that runs take is on this machine, and can be trained; None: the default one."""
    what = "default model" if name is None else "model"
    card = models.find_card(name or models.DEFAULT, places)
    if card is not None and models.locate(card, places) is None:
        why = "any other GGUF works, too: --model PATH.gguf"
        return Finding("model", what, "warn", "not here", why, card.get)
    try:
        found = models.find_model(name or models.DEFAULT, places)
        reason = models.why_not_trainable(found.path)
    except SgError as error:
        return Finding("model", what, "fail", name or models.DEFAULT, error.message, error.hint)
    if reason:
        why = f"it can be used here, but not trained: {reason}"
        return Finding("model", what, "fail", found.name, why, "sg-local models ls")
    return Finding("model", what, "ok", found.name, str(found.path))


def check_serving() -> Finding:
    """Whether `sg-local serve` has its HTTP packages."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        return Finding(
            "engine",
            "server",
            "warn",
            f"{missing[0]} is missing",
            "`sg-local serve` needs it",
            "pip install 'sg-local[serve]'",
        )
    return Finding("engine", "server", "ok", f"uvicorn {importlib.metadata.version('uvicorn')}")


def _is_chosen(name: str) -> bool:
    """Whether `auto` takes this engine: without one of those the main job cannot run."""
    return name in (backends.choose_generator(), backends.choose_trainer())
