"""Rows of an instruction, an input and an output, as instruction tuners keep them.

One instruction over all rows is that of the task, and the inputs stay as they are. Where it differs from row to row it
belongs to the input: both are joined, by a blank line.
"""

from __future__ import annotations

import dataclasses

from sg_local.tables.grid import Grid, GridRow

INSTRUCTION = "instruction"
NOTE = "the instruction is part of each input"


def with_instructions(grid: Grid) -> Grid:
    """The grid with an instruction that differs from row to row in front of its input; the same grid otherwise."""
    by_name = {name.lower(): name for name in grid.columns}
    instruction, text = by_name.get(INSTRUCTION), by_name.get("input")
    if grid.roles or instruction is None or text is None or not by_name.keys() & {"output", "outputs", "response"}:
        return grid
    told = {row.cells[instruction].strip() for row in grid.rows if not row.error}
    if len(told) < 2 and all(row.cells[text].strip() for row in grid.rows if not row.error):
        return grid
    rows = tuple(_joined(row, instruction, text) for row in grid.rows)
    return dataclasses.replace(grid, rows=rows, note=NOTE)


def _joined(row: GridRow, instruction: str, text: str) -> GridRow:
    parts = [row.cells[name] for name in (instruction, text) if row.cells[name].strip()]
    if row.values.get(text) is not None:  # no text: an error to be told
        return row
    return dataclasses.replace(row, cells={**row.cells, text: "\n\n".join(parts)})
