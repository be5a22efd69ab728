"""Text as the screens of this room draw it: whatever steers a terminal is a mark in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from rich.console import Console
from rich.style import StyleType
from rich.text import Text as RichText

from sg_local.words import shown


class Text(RichText):
    """Rich's text, made safe to show. The only one that this room uses."""

    def __init__(self, text: str = "", style: StyleType = "", **options: Any) -> None:
        super().__init__(shown(text), style, **options)

    def append(self, text: RichText | str, style: StyleType | None = None) -> Self:
        """Add text, as Rich does."""
        super().append(shown(text) if isinstance(text, str) else text, style)
        return self

    def append_text(self, text: RichText) -> Self:
        """Add a text with its styles, as Rich does."""
        super().append_text(text)
        return self

    @classmethod
    def assemble(cls, *parts: str | RichText | tuple[str, StyleType], **options: Any) -> Self:
        """One text of several parts, as Rich does."""
        text = cls(**options)
        for part in parts:
            text.append(*part) if isinstance(part, tuple) else text.append(part)
        return text


def flowing(parts: Iterable[RichText], room: int, gap: int = 3) -> Iterator[Text]:
    """The parts in lines of at most `room` cells, none broken; a part that is longer has a line of its own."""
    line = Text()
    for part in parts:
        if line and line.cell_len + gap + part.cell_len > room:
            yield line
            line = Text()
        line = Text.assemble(line, " " * gap, part) if line else Text.assemble(part)
    if line:
        yield line


def broken(text: Text, width: int, console: Console) -> list[RichText]:
    """The text in lines of at most `width` cells, broken between words, and in one only where it is longer."""
    return list(text.wrap(console, width, overflow="fold"))
