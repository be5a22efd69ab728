"""Formula cells: spreadsheets run a cell that begins with = + - @, and texts are data.

Such a cell leaves with an apostrophe in front and loses it on the way back; so does one that had apostrophes there
before, so that every text comes back as it was.
"""

from __future__ import annotations

import re

FORMULA = re.compile(r"'*[=+\-@\t\r]")
ARMOURED = re.compile(r"''*[=+\-@\t\r]")


def armoured(cell: str) -> str:
    """The cell as a spreadsheet takes it for text."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def bared(cell: str) -> str:
    """The cell without the apostrophe that `armoured` put there."""
    return cell[1:] if cell[:1] == "'" and ARMOURED.match(cell) else cell
