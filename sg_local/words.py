"""Small words that people read: suggestions, counts, sizes, times, values cut short, and any text made safe to show."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

SINGULAR = {"are": "is", "were": "was", "have": "has"}

HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal or turns a line around: C0 but tab and line end, DEL, C1, U+2028 and U+2029, bidi embeddings,
overrides and isolates; and lone surrogates, which no stream can write."""


def did_you_mean(word: str, known: Sequence[str], before: str = "") -> str:
    """A question that names the known word that was begun, else the nearest one; or an empty string.

    `before` is what has to be typed before any of them. Letter case is no matter; of several that begin alike, the
    first in the order given.
    """
    begun = [one for one in known if word and one.lower().startswith(word.lower())]
    near = begun or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean {before}{near[0]}?" if near else ""


def counted(n: int, noun: str, verb: str = "") -> str:
    """A count with its noun, and its verb: 1 row, 12 rows; 1 row stands, 12 rows stand."""
    if n == 1:
        return f"1 {noun} {SINGULAR.get(verb, f'{verb}s') if verb else ''}".rstrip()
    return f"{n:d} {noun}s {verb}".rstrip()


def size(n_bytes: float) -> str:
    """Bytes for reading: 98.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit in ("B", "kB") else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for reading: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def brief(value: Any, length: int = 200) -> str:
    """A value as one line of text, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "\u2026"


def shown(text: str) -> str:
    """Text of users, models, files and servers as it may stand on a screen, in a log or in a table.

    Each harmful character becomes one mark, so that widths and places stay: a control picture for C0 and DEL, `\u2424`
    for the two line separators, `\ufffd` for the rest. A carriage return before a line end goes.
    """
    return HARMFUL.sub(_mark, text.replace("\r\n", "\n"))


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return {0x7F: "\u2421", 0x2028: "\u2424", 0x2029: "\u2424"}.get(code, "\ufffd")
