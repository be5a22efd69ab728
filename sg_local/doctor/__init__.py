"""What this machine can do for sg-local, what `auto` would choose on it, and the command that fixes each lack.

Facts come from the system's own files and tools and from package metadata; no engine is imported here. Says nothing
about speed: that is measured, not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from sg_local.doctor import engines, machine
from sg_local.doctor.findings import Finding, Output, Status, command_output
from sg_local.home import ModelFolders

__all__ = ["Finding", "examine", "worst"]


def examine(
    home: Path, runs: Path, output: Output | None = None, model: str | None = None, places: ModelFolders | None = None
) -> list[Finding]:
    """Every check, in the order to read them. `output` runs a command and gives its stdout, None where it fails.

    `home` is the user's sg-local folder, `runs` the folder of runs; neither needs to exist. `model` is what runs take,
    None: the default; it is looked for in `places`, None: in `home`.
    """
    output = output or command_output
    loads = engines.probe_all(output)
    return [
        machine.check_system(runs),
        engines.check_python(sys.version_info[:3]),
        machine.check_cpu(output),
        *machine.check_amx(output),
        machine.check_cores(),
        machine.check_memory(*machine.memory(output)),
        machine.check_gpu(output),
        machine.check_disk("disk for models", home),
        machine.check_disk("disk for runs", runs),
        machine.check_openblas(),
        *(engines.check_engine(name, loads) for name in engines.ENGINES),
        *engines.check_compiler(),
        engines.check_serving(),
        *engines.check_choices(loads),
        engines.check_model(model, places or ModelFolders.of(home)),
    ]


def worst(checks: Iterable[Finding]) -> Status:
    """The worst status: what the exit code follows from."""
    found = {check.status for check in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"
