"""Which column is the input and which the output: as the user says, as the form fixes it, or by their names."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.records import SgError
from sg_local.tables.grid import KNOWN, OURS, Grid, shown
from sg_local.tables.records import BY_NAME, Columns, Unclear
from sg_local.words import did_you_mean

MAX_LISTED = 20
N_LOOKED_AT = 100


def roles_of(grid: Grid, wanted: Columns, *, needs_output: bool) -> tuple[str, str | None]:
    """The columns of inputs and outputs. Raises SgError (usage) where that cannot be told, with all columns."""
    fixed = grid.roles if grid.roles and wanted == BY_NAME else None
    if fixed:
        return fixed
    found_input = _named(grid, "input", wanted.input) or _known(grid, "input", wanted.output)
    if found_input is None and len(grid.columns) == 1 and not needs_output:
        found_input = grid.columns[0]
    if found_input is None:
        raise _unclear(grid, "input", [])
    found_output = _named(grid, "output", wanted.output) or _known(grid, "output", found_input, must=needs_output)
    if found_output is None and needs_output:
        raise _unclear(grid, "output", [], found_input)
    if found_output == found_input:
        message = f"{grid.path}: the column {shown(found_input)!r} cannot be both."
        raise Unclear(message, _suggested(grid, "output", (), found_input))
    return found_input, found_output


def _named(grid: Grid, role: str, name: str | None) -> str | None:
    """The column that the user names, in any case; SgError where there is none."""
    if name is None:
        return None
    alike = [column for column in grid.columns if column.lower() == name.lower()]
    if name in alike or len(alike) == 1:
        return name if name in alike else alike[0]
    near = did_you_mean(name, [shown(column) for column in grid.columns])
    message = f"{grid.path} has no column {shown(name)!r} for the {role}. {near}".strip()
    raise SgError(message, f"Its columns are: {_listed(grid.columns)}.", exit_code=2)


def _known(grid: Grid, role: str, taken: str | None, *, must: bool = True) -> str | None:
    """The one column with a name that is known for its role. SgError for several, where it must be told."""
    by_name = {column.lower(): column for column in grid.columns if column != taken}
    ours = [by_name[name] for name in OURS[role] if name in by_name]
    if ours:
        return ours[0]
    found = [column for name, column in by_name.items() if name in KNOWN[role]]
    if len(found) > 1 and must:
        raise _unclear(grid, role, found, taken)
    return found[0] if len(found) == 1 else None


def _unclear(grid: Grid, role: str, found: Sequence[str], other: str | None = None) -> Unclear:
    """The error for a role that several columns may have, or none; `other` is the column of the other role."""
    message = f"{grid.path}: no column has a name that tells the {role}. Its columns are: {_listed(grid.columns)}."
    if found:
        message = f"{grid.path}: its {role} may be {_listed(found, ' or ')}."
    return Unclear(message, _suggested(grid, role, found, other))


def _suggested(grid: Grid, role: str, found: Sequence[str] = (), other: str | None = None) -> Columns:
    """The file's own columns as far as they can be guessed: inputs are long, and outputs come last."""
    free = [column for column in found or grid.columns if column != other]
    lengths = {column: sum(len(row.cells.get(column, "")) for row in grid.rows[:N_LOOKED_AT]) for column in free}
    guess = max(free, key=lengths.__getitem__, default="") if role == "input" else next(reversed(free), "")
    name = guess if guess and guess == shown(guess) else "NAME"
    return Columns(name, other) if role == "input" else Columns(other, name)


def _listed(names: Sequence[str], last: str = ", ") -> str:
    """Names for reading, cut where there are many."""
    texts = [shown(name) for name in names[:MAX_LISTED]]
    return last.join([*texts, "..."] if len(names) > MAX_LISTED else texts)
