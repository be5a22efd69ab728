"""What a finished stage made stays beside as NAME.before while it is made again, and comes back when that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sg_local.files import remove
from sg_local.run import Run


@contextlib.contextmanager
def put_away(run: Run, stage: str, makes: Iterable[str]) -> Iterator[None]:
    """Move what a finished stage made to NAME.before while it is made again; a failure brings it back.

    Work that was never finished is deleted: an earlier NAME.before is better than that. An interrupted stage keeps
    its new work, to go on from.
    """
    stamps = (f"stages/{stage}.json", f"stages/{stage}.seal")
    files = [run.path(file) for file in (*makes, *stamps)]
    if run.stamp(stage) is None:
        for path in files:
            remove(path)
        yield
        return
    for path in files:
        remove(_beside(path))
        if path.exists():
            path.rename(_beside(path))
    try:
        yield
    except Exception:
        for path in files:
            remove(path)
            if _beside(path).exists():
                _beside(path).rename(path)
        raise
    for name in stamps:
        remove(_beside(run.path(name)))


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")
