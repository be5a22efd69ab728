"""The rows that chat tools train on: {"messages": [...]}, {"conversations": [...]}, and prompts that are messages.

A row is one question with its answer: a system message is left out, and told; a conversation of several turns is no
row of a task.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sg_local.tables.extent import check_extent
from sg_local.tables.grid import Grid, GridRow

KEYS = ("messages", "conversations", "prompt")
ASKS, ANSWERS, SYSTEM = ("user", "human"), ("assistant", "gpt", "model"), ("system", "developer")
HINT = "Write its input and its output as a row of their own."


def chat_grid(placed: list[tuple[int, object]], path: Path, form: str) -> Grid | None:
    """Rows of conversations as a grid; None where the first row is none."""
    first = next((data for _, data in placed if isinstance(data, dict)), None)
    key = next((key for key in KEYS if first and isinstance(first.get(key), list)), None)
    if key is None:
        return None
    others = {
        name: ""
        for _, data in placed
        if isinstance(data, dict)
        for name in data
        if name not in (key, "input", "output", *(["completion"] if key == "prompt" else []))
    }
    check_extent(len(placed), len(others) + 2, path)
    rows = tuple(_row(line, data, key, others) for line, data in placed)
    has_system = any(_roles(data, key) & {*SYSTEM} for _, data in placed)
    described = "JSON lines of messages" if form == "jsonl" else "a JSON list of messages"
    note = "system messages are left out" if has_system else ""
    return Grid(path, "messages", described, ("input", "output", *others), rows, ("input", "output"), note)


def _roles(data: object, key: str) -> set[str]:
    return {_role(turn) for turn in _turns(data, key) or ()}


def _turns(data: object, key: str) -> list[Any] | None:
    """The messages of a row; a prompt's are followed by those of its completion."""
    if not isinstance(data, dict) or not isinstance(turns := data.get(key), list):
        return None
    more = data.get("completion") if key == "prompt" else None
    return [*turns, *more] if isinstance(more, list) else turns


def _row(line: int, data: object, key: str, others: dict[str, str]) -> GridRow:
    cells = {"input": "", "output": "", **others}
    if isinstance(data, ValueError):
        return GridRow(line, cells, "this is not JSON", HINT)
    turns = _turns(data, key)
    if not isinstance(data, dict) or turns is None:
        return GridRow(line, cells, f"this row has no {key}", HINT)
    for name in others:
        value = data.get(name, "")
        cells[name] = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    found = _pair(turns)
    if isinstance(found, str):
        return GridRow(line, cells, found, HINT)
    return GridRow(line, {**cells, "input": found[0], "output": found[1]})


def _pair(turns: list[Any]) -> tuple[str, str] | str:
    """The question and its answer ('' where there is none yet), or why the turns are not that."""
    said = [(_role(turn), _content(turn)) for turn in turns]
    if any(content is None for _, content in said):
        return "a message has no text"
    told = [(role, content or "") for role, content in said if role not in SYSTEM]
    roles = [role for role, _ in told]
    if not roles or roles[0] not in ASKS or (len(roles) > 1 and roles[1] not in ANSWERS):
        return "its messages are not a user's and then an assistant's"
    if len(told) > 2:
        return f"a conversation of {len(told)} messages is not one question with its answer"
    return told[0][1], told[1][1] if len(told) == 2 else ""


def _role(turn: Any) -> str:
    return str(turn.get("role", turn.get("from", ""))) if isinstance(turn, dict) else ""


def _content(turn: Any) -> str | None:
    """A message's text; that of its parts where it has parts; None for pictures and the like."""
    value = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in value]
        return "".join(part for part in parts if isinstance(part, str)) if parts and all(parts) else None
    return value if isinstance(value, str) else None
