"""A run's name and tags: renamed with everything inside its folder that says the name, and marked with words.

A run is named by its folder, so what serves and lists runs needs nothing; report.json and paths into the folder are
written anew. Files outside the run stay as they are: a folder for llama-server is to be written again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sg_local.files import file_digest
from sg_local.records import SgError
from sg_local.run import REPORT, RUN, Run, check_name, read_json

TAGS = "tags"
SEALS = "stages/*.seal"


def rename(run: Run, name: str) -> Run:
    """The run under another name. Raises SgError where the name is taken or cannot be one, and where the run is in use.

    Every file is written before the folder gets its name: a kill in between leaves a run that can be renamed again.
    """
    new = Run(run.root.parent / check_name(name))
    if new.root.exists():
        raise SgError(f"There is a run or folder {new.root} already.", "Choose another name.", exit_code=2)
    with run.lock():
        changed = {}
        for path in _files(run):
            before = read_json(path)
            after = _mapped(before, lambda text: _moved(text, run.root, new.root))
            if path.name == REPORT:
                after["run"] = new.name
            if after != before:
                digest = file_digest(path) or ""
                run.write_json(str(path.relative_to(run.root)), after)
                changed[digest] = file_digest(path) or ""
        _reseal(run, changed)
        run.root.rename(new.root)
    return new


def _files(run: Run) -> list[Path]:
    """The JSON files that may name the run or paths in it; stamps come behind what they hold digests of."""
    named = [run.path(name) for name in (RUN, "export.json", REPORT)]
    return [path for path in (*named, *sorted(run.root.glob("stages/*.json"))) if path.is_file()]


def _moved(text: str, old: Path, new: Path) -> str:
    """A path into the folder `old` as one into `new`, as it was written: relative or absolute. Others stay."""
    for before, after in ((str(old), str(new)), (str(old.absolute()), str(new.absolute()))):
        if text == before or text.startswith(f"{before}/"):
            return after + text.removeprefix(before)
    return text


def _mapped(data: Any, change: Callable[[str], str]) -> Any:
    """Plain data with every text in it changed, keys apart."""
    if isinstance(data, dict):
        return {key: _mapped(value, change) for key, value in data.items()}
    if isinstance(data, list):
        return [_mapped(value, change) for value in data]
    return change(data) if isinstance(data, str) else data


def _reseal(run: Run, changed: dict[str, str]) -> None:
    """Let seals know the files that were written anew, so that no stage is taken for one made from others."""
    for path in run.root.glob(SEALS):
        before = read_json(path)
        after = _mapped(before, lambda text: changed.get(text, text))
        if after != before:
            run.write_json(str(path.relative_to(run.root)), after)


def tag(run: Run, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """The run's tags after some were added and others taken away. Raises SgError (usage) for what cannot be a tag."""
    add, remove = list(add), set(remove)
    for one in add:
        if not re.fullmatch(r"[\w.+-]{1,40}", one):
            raise SgError(
                f"{one!r} cannot be a tag.", "Use letters, digits, dots, dashes and underscores.", exit_code=2
            )
    with run.lock():
        data = dict(run.settings)
        tags = [one for one in dict.fromkeys((*data.get(TAGS, ()), *add)) if one not in remove]
        run.write_json(RUN, {**data, TAGS: tags})
    return tuple(tags)
