"""Where sg-local keeps models, caches and settings on this machine, by the environment's word or by custom.

SG_LOCAL_HOME holds everything where it is set; else the XDG folders do, as on any Unix machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """`config` holds config.toml; `data` holds downloaded models and what can be made again."""

    config: Path
    data: Path


def folders(environ: Mapping[str, str]) -> Folders:
    """The folders that an environment names. Nothing is made."""
    own = environ.get("SG_LOCAL_HOME")
    if own:
        return Folders(Path(own), Path(own))
    home = Path(environ.get("HOME") or "~").expanduser()
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Folders(config / "sg-local", cache / "sg-local")
