"""A text in the user's editor."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

from sg_local.reading import read_text
from sg_local.records import SgError


def edited(text: str, editor: str, name: str = "text.txt") -> str:
    """The text after the user's editor. Raises SgError where that cannot be started or ends with an error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SgError(f"{editor} cannot be started: {reason}.", "Set EDITOR to another editor.") from error
        if done.returncode != 0:
            raise SgError(f"{editor} exited with an error, so nothing was changed.", "Set EDITOR to another editor.")
        return read_text(path)
