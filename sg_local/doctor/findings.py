"""A finding, and how facts are asked from other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]
Output = Callable[[tuple[str, ...]], str | None]

PROBE_S = 60  # a first import of torch reads hundreds of megabytes from a cold disk


@dataclass(frozen=True)
class Finding:
    """One finding. `why` is a clause on what it means for the job; `fix` is what helps, '' where nothing is due."""

    topic: str
    name: str
    status: Status
    value: str
    why: str = ""
    fix: str = ""


def command_output(command: tuple[str, ...]) -> str | None:
    """A command's stdout, stripped, or None where it is missing, fails or takes longer than PROBE_S."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 30):.1f} GiB"
