"""Where tasks lie: a path as given, or one that came with sg-local."""

from __future__ import annotations

from pathlib import Path

from sg_local.records import SgError
from sg_local.words import did_you_mean


def shipped_folder(kind: str) -> Path:
    """The folder of `tasks`, `models` or `docs` that came with sg-local: inside a wheel, or beside the package."""
    here = Path(__file__).parent.parent
    installed = here / "shipped" / kind
    return installed if installed.is_dir() else here.parent / kind


def shipped_tasks() -> list[Path]:
    """The task files that came with sg-local, by name."""
    return sorted(shipped_folder("tasks").glob("*.toml"))


def is_shipped(name: str) -> bool:
    """Whether a task of this name came with sg-local."""
    return any(path.stem == name for path in shipped_tasks())


def find_task(name: str) -> Path:
    """A path as given, or a shipped task by its name; SgError with the nearest names otherwise."""
    path = Path(name)
    if path.suffix in (".toml", ".json") or path.exists():
        if not path.is_file():
            raise SgError(f"There is no task file at {path}.", "See `tasks ls`.", exit_code=2)
        return path
    known = {path.stem: path for path in shipped_tasks()}
    if name in known:
        return known[name]
    hint = did_you_mean(name, list(known)) or "See `tasks ls`, or give the path of a .toml or .json file."
    raise SgError(f"There is no task named {name!r}.", hint, exit_code=2)
