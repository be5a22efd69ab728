"""Write the locks: what constraints.txt pins, with the SHA-256 of every file that each version has on PyPI.

    pip install uv && python locks/make.py

Nothing is chosen here: every version is that of constraints.txt, and what it leaves open (a platform's own packages) is
the newest that fits. Run it after a change of constraints.txt or of setup.cfg.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = {"demo": ("demo",), "dev": ("dev",)}
"""Each lock's name and the extras of setup.cfg that it installs."""

HEAD = """# All that sg-local[{extras}] installs, as tested, with the SHA-256 of every file. Made by locks/make.py.
#     pip install --require-hashes -r locks/{name}.txt && pip install --no-deps --no-build-isolation .
"""


def lock(name: str, extras: tuple[str, ...]) -> str:
    """The text of one lock."""
    asked = [part for extra in extras for part in ("--extra", extra)]
    command = [
        *("uv", "pip", "compile", "setup.cfg", *asked, "--constraint", "constraints.txt", "--python-version", "3.11"),
        *("--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return HEAD.format(name=name, extras=",".join(extras)) + done.stdout


if __name__ == "__main__":
    for name, extras in LOCKS.items():
        (ROOT / "locks" / f"{name}.txt").write_text(lock(name, extras), encoding="utf-8")
