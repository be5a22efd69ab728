"""What ends a text that a model writes, and what of it counts, as the demonstrations show it: pure functions of texts.

Where no demonstration holds a blank line, a cue, leading blanks, quotes or a fence, stops stay whole,
and all that stands around a text is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

QUOTES = {
    **dict(zip("\"'`", "\"'`", strict=True)),
    "\u201c": "\u201d",  # English
    "\u2018": "\u2019",
    "\u201e": "\u201c\u201d",  # German, Polish
    "\u201a": "\u2018\u2019",
    "\u201d": "\u201d",  # Swedish
    "\u00ab": "\u00bb",  # French, Russian
    "\u00bb": "\u00ab",
    "\u2039": "\u203a",
    "\u203a": "\u2039",
    "\u300c": "\u300d",  # Japanese, Chinese
    "\u300e": "\u300f",
}
"""What opens a quotation, and what may close it."""
THOUGHTS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
"""How models and their templates open and close a block of thinking."""
FENCE = re.compile(r"```[\w+#.-]*\n(.*?)\n?```", re.DOTALL)


def unthought(text: str, shown: Iterable[str]) -> str | None:
    """What stands behind the model's thoughts; None where it is still thinking. Marks that a shown text holds stay.

    All before a closing mark is a thought, since a prompt may have opened it.
    """
    held = list(shown)
    for opening, closing in THOUGHTS:
        if any(mark in one for one in held for mark in (opening, closing)):
            continue
        text = text.rpartition(closing)[2]
        if opening in text:
            return None
    return text


def unheld(stops: Iterable[str], shown: Sequence[str]) -> tuple[str, ...]:
    """The stops that none of the shown texts holds; a cue that one holds ends a text behind a blank line only."""
    found = []
    for stop in stops:
        longer = f"\n{stop}" if stop.strip() else stop
        found += [text for text in (stop, longer) if not any(text in one for one in shown)][:1]
    return tuple(dict.fromkeys(found))


def indented(text: str) -> str:
    """A text as its writer means it: nothing blank around it, but for an indentation of its first line.

    One blank alone counts where more lines follow, as in a patch.
    """
    body = re.sub(r"^(?:[^\S\n]*\n)+", "", text).rstrip()
    return body if "\n" in body or re.match(r"\t|  ", body) else body.strip()


def trimmed(text: str, shown: Iterable[str], lead: str = "") -> str:
    """The text without what is blank around it; where a shown text begins with blanks, those of its first line stay.

    `lead` is what a layout puts before it, and no part of it.
    """
    if not any(one[:1].isspace() for one in shown):
        return text.strip()
    return re.sub(r"^(?:[^\S\n]*\n)+", "", text.removeprefix(lead)).rstrip()


def uncued(text: str, cue: str, shown: Iterable[str]) -> str:
    """The text without a cue (a pattern) that it repeats at its start; as it is where a shown text starts so."""
    pattern = re.compile(cue, re.IGNORECASE)
    found = pattern.match(text)
    return text if found is None or any(pattern.match(one) for one in shown) else text[found.end() :]


def unquote(text: str) -> str:
    """The text without one pair of quotes that encloses all of it."""
    if len(text) >= 2 and text[-1] in QUOTES.get(text[0], "") and not {text[0], text[-1]} & set(text[1:-1]):
        return text[1:-1].strip()
    return text


def unquoted(text: str, shown: Iterable[str]) -> str:
    """The text without quotes around it; as it is where a shown text stands in quotes."""
    return text if any(unquote(one) != one for one in shown) else unquote(text)


def unfenced(text: str, shown: Iterable[str]) -> str:
    """The inside of a code fence that is all of the text; as it is where a shown text holds a fence."""
    found = FENCE.fullmatch(text)
    if found is None or "```" in found[1] or any("```" in one for one in shown):
        return text
    return found[1]
