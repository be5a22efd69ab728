"""The export's gates as tables: what was checked on each file and folder, found, wanted, and whether it holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from sg_local.cli import output
from sg_local.cli.output import Column
from sg_local.facts import RESTORE, read_json
from sg_local.records import SgError
from sg_local.run import Run

RESULTS = "export.json"
_COLUMNS = (Column("check"), Column("found"), Column("wanted"), Column("passed"))


def show_gates(run: Run, as_json: bool = False) -> None:
    """Every exported file's table on stdout; nothing where there was no export."""
    path = run.path(RESULTS)
    found = read_json(path) if path.exists() else {}
    if as_json:
        output.show_json(found)
        return
    for row in (*found.get("fused", ()), *found.get("folders", ())):
        try:
            title = row.get("file") or row["path"]
            cells = [(c["name"], c["value"], c["wanted"], _verdict(c)) for c in row["checks"]]
        except (AttributeError, KeyError, TypeError) as error:
            raise SgError(f"{path} is damaged: a file's checks are not what an export writes.", RESTORE) from error
        if not sys.stdout.isatty():
            output.say(title)
        output.show_table(title, _COLUMNS, cells)


def _verdict(check: Mapping[str, Any]) -> str:
    if not check.get("measured", True):
        return "not measured"
    return "yes" if check["passed"] else "NO"
