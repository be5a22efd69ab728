"""Something to see from the first moment: what is being waited for, before a stage can tell where it stands."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sg_local.cli.output import say

PATIENCE_S = 1.0
OPENING = "loading the model (10 s longer the first time)"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Name what is being waited for: turning at once on a terminal, elsewhere one line if it takes over a second."""
    if sys.stderr.isatty():
        from sg_local.console.live import turning

        with turning(what):
            yield
        return
    timer = threading.Timer(PATIENCE_S, lambda: say(f"{what}\u2026", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
