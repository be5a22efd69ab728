"""Two texts side by side with the words in which they differ. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from sg_local.splitting import stretches


@dataclass(frozen=True)
class Piece:
    """A stretch of text, and whether the other text lacks it."""

    text: str
    differs: bool


def compare(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces that join to the text again; words and punctuation are compared whole."""
    a, b = stretches(one), stretches(other)
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for pieces, text in ((left, "".join(a[a0:a1])), (right, "".join(b[b0:b1]))):
            if text:
                pieces.append(Piece(text, tag != "equal" and not text.isspace()))
    return left, right
