"""A task file's text, and the lines at which its parts stand, so that an error can name them.

A part is named by its path: ("labels",) is a key of the task, ("tests", 3) the third [[tests]], ("tests", 3, "output")
a key in it. `tomllib` keeps no positions, so the text is looked through once more, strings and comments passed over.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sg_local.records import SgError

Part = tuple[str | int, ...]

NAME = r"[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+'"
MARKS = re.compile(
    rf"""
      ^[ \t]*+(?P<brackets>\[\[?)[ \t]*+(?P<header>{NAME})[ \t]*+\]
    | ^[ \t]*+(?P<key>{NAME})[ \t]*+(?=[=.])
    | \"\"\"(?:\\.|[^\\])*?\"\"\"+ | '''.*?'''+
    | "(?:\\.|[^"\\\n])*+" | '[^'\n]*+' | \#[^\n]*+
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
"""A table's header, a key, or what may hold either and means neither."""


SUPERNI = re.compile(r'"(?P<section>Definition|(?:Posi|Nega)tive Examples|Instances)"\s*+:|"input"\s*+:')
"""Where the sections and the rows of a Super-NI file begin; quotes inside a text have a backslash before them."""
SECTIONS = {"Definition": "instruction", "Positive Examples": "examples", "Instances": "tests"}


@dataclass(frozen=True)
class TaskSource:
    """A task file's text, to say where in it something is wrong.

    `tests` and `examples` say where such rows stand that are in a file of their own.
    """

    path: Path
    text: str
    tests: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def error(self, message: str, hint: str, *part: str | int) -> SgError:
        """A usage error at this part of the file, or at the nearest part around it that has a line."""
        return SgError(f"{self.place(*part)}: {message}", hint, exit_code=2)

    def place(self, *part: str | int) -> str:
        """FILE:LINE of a part, or of what it stands in; FILE where neither has a line."""
        there = {"tests": self.tests, "examples": self.examples}.get(str(part[0])) if len(part) > 1 else None
        if there:
            return there[int(part[1]) - 1]
        while part:
            if part in self.lines:
                return f"{self.path}:{self.lines[part]}"
            part = part[:-1]
        return str(self.path)

    @functools.cached_property
    def lines(self) -> Mapping[Part, int]:
        """The line of every part of the task, numbered from 1."""
        return _superni_lines(self.text) if self.path.suffix == ".json" else _toml_lines(self.text)


def _toml_lines(text: str) -> dict[Part, int]:
    found: dict[Part, int] = {}
    rows: Counter[str] = Counter()
    inside: Part = ()
    line, counted = 1, 0
    for mark in MARKS.finditer(text):
        if mark["header"] is None and mark["key"] is None:
            continue
        start = mark.start("header") if mark["header"] is not None else mark.start("key")
        line, counted = line + text.count("\n", counted, start), start
        if mark["key"] is not None:
            found.setdefault((*inside, _bare(mark["key"])), line)
            continue
        name = _bare(mark["header"])
        rows[name] += 1
        inside = (name, rows[name]) if mark["brackets"] == "[[" else (name,)
        found.setdefault((name,), line)
        found.setdefault(inside, line)
    return found


def _superni_lines(text: str) -> dict[Part, int]:
    found: dict[Part, int] = {}
    rows: Counter[str] = Counter()
    section, line, counted = "", 1, 0
    for mark in SUPERNI.finditer(text):
        line, counted = line + text.count("\n", counted, mark.start()), mark.start()
        if mark["section"] is not None:
            section = SECTIONS.get(mark["section"], "")
            found.setdefault((section,), line)
        else:
            rows[section] += 1
            found[section, rows[section]] = line
    return found


def _bare(name: str) -> str:
    return name[1:-1] if name[:1] in "\"'" else name
