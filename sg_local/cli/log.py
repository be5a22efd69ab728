"""What was decided, as lines: on stderr with `--verbose`, in the file that SG_LOCAL_LOG names.

Every room tells its decisions to Python's logging, under its own module's name below `sg_local`; without these
switches nobody listens. No line holds a text of the user's, unless asked for: prompts and completions go to a log
of their own (backends.wire), which stays shut otherwise.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sg_local import __version__
from sg_local.words import shown

FORMAT = "%(asctime)s %(name)s: %(message)s"
SHORT = "%(name)s: %(message)s"

logger = logging.getLogger(__name__)


class _Line(logging.Formatter):
    """One record as text that steers no terminal; further lines of it are set in, so that none passes for a record."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record)).replace("\n", "\n    ")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: the live view puts another in its place, to keep lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


@contextmanager
def told(command: str, *, verbose: bool, path: Path | None, texts: bool) -> Iterator[None]:
    """Tell what is decided meanwhile. The file is added to; OSError where it cannot be written."""
    handlers = [_shown(_Stderr(), SHORT, logging.INFO)] if verbose else []
    handlers += [_shown(logging.FileHandler(path, encoding="utf-8"), FORMAT, logging.DEBUG)] if path else []
    if not handlers:
        yield
        return
    from sg_local.backends.wire import TEXTS

    ours, theirs = logging.getLogger("sg_local"), logging.getLogger(TEXTS)
    before = ours.level, theirs.level
    ours.setLevel(logging.DEBUG)
    theirs.setLevel(logging.DEBUG if texts else before[1])
    for handler in handlers:
        ours.addHandler(handler)
    try:
        logger.info("sg-local %s, Python %s on %s: %s", __version__, platform.python_version(), sys.platform, command)
        yield
    finally:
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()
        ours.setLevel(before[0])
        theirs.setLevel(before[1])


def _shown(handler: logging.Handler, form: str, level: int) -> logging.Handler:
    handler.setFormatter(_Line(form))
    handler.setLevel(level)
    return handler
