"""What a stage took: seconds, and the most memory that was resident at once, its child processes' among it.

On Linux the mark of the most memory is set back when a stage begins. Elsewhere it is that of the whole process, so that
a stage after a larger one shows that one's.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
SET_BACK = "5"  # proc(5): sets VmHWM back to what is resident now


@dataclass(frozen=True)
class Took:
    """What a stage took: `peak_bytes` of memory of this process or of one child, the larger of the two."""

    seconds: float
    peak_bytes: int


@dataclass
class Meter:
    """Begins to measure when it is made."""

    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        with contextlib.suppress(OSError):
            CLEAR.write_text(SET_BACK)
        self._children = _most_of(resource.RUSAGE_CHILDREN)

    def read(self) -> Took:
        """What was taken since it began."""
        children = _most_of(resource.RUSAGE_CHILDREN)
        peak = max(_own_peak(), children if children > self._children else 0)
        return Took(time.monotonic() - self.began, peak)


def _own_peak() -> int:
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return _most_of(resource.RUSAGE_SELF)


def _most_of(whose: int) -> int:
    peak = resource.getrusage(whose).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes on macOS, kilobytes on Linux
