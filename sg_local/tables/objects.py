"""Rows as JSON: lines of objects, a list of them, Super-NaturalInstructions, and what chat tools train on.

A file that begins with [ is a list; one that begins with { holds an object a line, or is one Super-NI task, which none
that is called .jsonl is. A list of texts as output means that each of them is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sg_local.reading import MAX_BYTES, lines_of, loads, parse_json
from sg_local.records import SgError
from sg_local.tables.chat import chat_grid
from sg_local.tables.extent import check_extent, check_marks
from sg_local.tables.grid import Grid, GridRow
from sg_local.words import brief, size

HINT = 'Each row is an object such as {"input": "...", "output": "..."}.'
Placed = tuple[int, object]
"""A row's line and its data, or the ValueError that it ended in."""


def read_objects(text: str, path: Path) -> Grid:
    """The rows of JSON text. SgError (usage) for a file that is none; a malformed line is an error of its row."""
    check_marks(text, path)
    begins = text.lstrip()[:1]
    if begins == "[" and not _is_line(text, list):
        return grid_of(enumerate(_whole(text, path), 1), path, "json", "a JSON list")
    are_lines = path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    whole = None if are_lines or _is_line(text, dict) else _whole(text, path)
    if whole is None:
        return grid_of(_lines(text), path, "jsonl", "JSON lines")
    if isinstance(whole, dict) and isinstance(whole.get("Instances"), list):
        grid = grid_of(enumerate(whole["Instances"], 1), path, "superni", "a Super-NaturalInstructions task")
        return Grid(path, grid.form, grid.described, grid.columns, grid.rows, ("input", "output"))
    hint = "Write a list of objects, or an object on each line."
    raise SgError(f"{path}: this JSON holds no rows.", hint, exit_code=2)


def grid_of(placed: Iterable[Placed], path: Path, form: str, described: str) -> Grid:
    """Rows of plain data as a grid: its columns are all keys, in the order in which they first stand."""
    found = list(placed)
    check_extent(len(found), 1, path)
    chat = chat_grid(found, path, form)
    if chat is not None:
        return chat
    columns = {key: "" for _, data in found if isinstance(data, dict) for key in data}
    check_extent(len(found), len(columns), path)
    return Grid(path, form, described, tuple(columns), tuple(_row(line, data, columns) for line, data in found))


def _row(line: int, data: object, columns: dict[str, str]) -> GridRow:
    if isinstance(data, ValueError):
        return GridRow(line, dict(columns), f"this is not JSON ({brief(str(data), 120)})", HINT)
    if not isinstance(data, dict):
        return GridRow(line, dict(columns), "this row is not an object", HINT)
    values = {key: data.get(key) for key in columns if not isinstance(data.get(key), str)}
    texts = {key: cell(value) for key, value in values.items()}
    return GridRow(line, {**columns, **data, **texts}, values=values)


def cell(value: object) -> str:
    """A JSON value as the text of a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> Iterator[Placed]:
    for number, line in lines_of(text):
        try:
            yield number, loads(line)
        except ValueError as error:
            yield number, error


def _is_line(text: str, kind: type) -> bool:
    """True where the text is JSON lines of this kind: the first is a value, and not all that there is."""
    lines = lines_of(text)
    _, first = next(lines, (0, ""))
    try:
        data = loads(first)
    except ValueError:
        return not first.lstrip().startswith(("{", "[")) or _is_cut(first)
    alone = next(lines, None) is None
    is_whole = alone and (isinstance(data, list) or (isinstance(data, dict) and "Instances" in data))
    return isinstance(data, kind) and not is_whole


def _is_cut(line: str) -> bool:
    """True for a first line that is malformed by itself, not the beginning of JSON over many lines."""
    return line.strip() not in ("{", "[") and line.rstrip().endswith("}")


def _whole(text: str, path: Path) -> Any:
    if len(text) > MAX_BYTES:
        hint = "Write JSON lines: an object on each line."
        raise SgError(f"{path}: JSON of more than {size(MAX_BYTES)} in one piece.", hint, exit_code=2)
    return parse_json(text, str(path), HINT)
