"""Rows in files that people keep: one reader and one writer for every place that takes or gives rows.

`read_table` takes CSV and TSV, JSON lines, a JSON list, Super-NaturalInstructions, the chat forms of other tools and
plain lines, and says which column is the input and which the output: by their names, or as `Columns` has it.
`read_grid` gives the cells alone. `write_table` writes what these read again, whole or not at all; only rows without
any text are left out. A row that cannot be used is named by file, line and column. Everything is held in memory:
MAX_TABLE_BYTES bounds a file, compressed ones by what they unfold to.
"""

from sg_local.tables.encoding import control_in
from sg_local.tables.grid import Grid, GridRow
from sg_local.tables.read import parse_grid, read_grid, read_table, table_of
from sg_local.tables.records import BY_NAME, Columns, Table, TableRow, Unclear, parse_columns
from sg_local.tables.write import FORMS, form_of, write_rows, write_table

__all__ = [
    "BY_NAME",
    "FORMS",
    "Columns",
    "Grid",
    "GridRow",
    "Table",
    "TableRow",
    "Unclear",
    "control_in",
    "form_of",
    "parse_columns",
    "parse_grid",
    "read_grid",
    "read_table",
    "table_of",
    "write_rows",
    "write_table",
]
