"""What a new task can begin from: a file with its fields, a decision request, or a file of labelled rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sg_local.reading import read_json
from sg_local.records import SgError, from_dict
from sg_local.tables import Columns, read_table
from sg_local.tasks.decision import draft_from_request, is_request
from sg_local.tasks.draft import Draft
from sg_local.tasks.propose import Proposal, propose
from sg_local.words import did_you_mean

FIELDS = ("kind", "instruction", "labels", "examples", "schema", "tests")
HINT = 'It needs "kind", "instruction", "examples" [{"input": ..., "output": ...}], and "labels" for classes.'
NAME = "name"


def begun(path: Path, draft: Draft, columns: Columns | None = None, question: str | None = None) -> Proposal:
    """The draft with what it lacks taken from the file. Raises SgError (usage) for a file that makes no task."""
    if path.suffix == ".json":
        data = read_json(path, HINT)
        if is_request(data):
            return Proposal(draft_from_request(data, path, draft, question), ())
        if isinstance(data, dict) and "Instances" not in data:
            return Proposal(_over(draft_from(data, path, draft.name), draft), ())
        draft = replace(draft, instruction=draft.instruction or _definition(data))
    if question is not None:
        raise SgError(f"{path} is not a decision request: it has no questions.", "Leave out `question`.", exit_code=2)
    return propose(read_table(path, columns or Columns()), draft)


def draft_from(data: dict[str, Any], path: Path, name: str) -> Draft:
    """A draft from JSON: kind, instruction, labels, schema, examples as objects or pairs, tests. SgError (usage)."""
    unknown = next((key for key in data if key not in (*FIELDS, NAME)), None)
    if unknown is not None:
        hint = f"{did_you_mean(unknown, FIELDS)} {HINT}".strip()
        raise SgError(f"{path} does not describe a task: it has an unknown key {unknown!r}.", hint, exit_code=2)
    examples = [
        (row.get("input"), row.get("output")) if isinstance(row, dict) else row for row in _rows(data, "examples")
    ]
    tests = [
        {"input": row.get("input"), "outputs": _outputs(row)} for row in _rows(data, "tests") if isinstance(row, dict)
    ]
    schema = json.dumps(data["schema"], ensure_ascii=False) if "schema" in data else ""
    known = {key: data[key] for key in ("kind", "instruction", "labels", NAME) if key in data}
    try:
        if not data.keys() & {*FIELDS}:
            raise SgError("it has none of a task's fields")
        return from_dict(Draft, {"name": name, **known, "examples": examples, "tests": tests, "schema": schema})
    except SgError as error:
        raise SgError(f"{path} does not describe a task ({error.message}).", HINT, exit_code=2) from error


def _over(draft: Draft, given: Draft) -> Draft:
    """The draft, but for what was given beside it."""
    return replace(draft, **{key: getattr(given, key) for key in FIELDS if getattr(given, key)})


def _rows(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key, [])
    return value if isinstance(value, list) else [value]


def _outputs(row: dict[str, Any]) -> Any:
    return row["outputs"] if "outputs" in row else [row.get("output")]


def _definition(data: object) -> str | None:
    """The instruction of a Super-NI task; None where there is none."""
    found = data.get("Definition") if isinstance(data, dict) else None
    text = found[0] if isinstance(found, list) and found else found
    return text.strip() if isinstance(text, str) else None
