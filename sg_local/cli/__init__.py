"""The command line: options become settings, one stage is called, the result is rendered.

This package is the only importer of Click and of `sg_local.console`, and the only reader of the environment.
Engines, Rich and NumPy are imported inside the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

ON_WINDOWS = """sg-local does not run on Windows itself, but in WSL, which is Linux: type `wsl --install` in PowerShell,
restart, open Ubuntu, and install sg-local there as on Linux."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 ok, 1 failure, 2 usage, 3 gate not met, 130 interrupted."""
    if sys.platform == "win32":  # before anything is imported that needs Unix
        sys.exit(ON_WINDOWS)
    from sg_local.cli.app import app

    # Python's last collections go through all that is loaded: nearly a second, where that is torch and transformers.
    atexit.register(gc.freeze)
    sys.exit(app.main(args=None if argv is None else list(argv), prog_name="sg-local"))
