"""The review screen: one card, side panels, a line for messages, a line of keys. Draws a ReviewView, decides nothing.

Made for 80x24 and everything above; below 70 columns the side panels give way. Only the terminal's own sixteen
colours are used, and nothing is told by colour alone, so that it reads in light and dark themes and with NO_COLOR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from sg_local.console import review_card
from sg_local.console.cards import HEADING, bar
from sg_local.console.text import Text
from sg_local.views.records import ReviewView

SIDE = 23
RULE = Segment(" \u2502 ", Style(dim=True))


class ReviewScreen:
    """The alternate screen while a review goes on. Leaving it gives the terminal back, whatever happened."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live: Live | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_usable(self) -> bool:
        """False on a terminal that cannot move its cursor."""
        return not self.console.is_dumb_terminal

    def open(self) -> None:
        """Take the screen."""
        self.live = Live(console=self.console, screen=True, auto_refresh=False, redirect_stdout=False)
        self.live.start()

    def close(self) -> None:
        """Give the screen back."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def show(self, view: ReviewView) -> int:
        """Draw the view at the terminal's present size; how far the card is scrolled, at most to its end."""
        assert self.live is not None
        screenful = Screenful(view)
        self.live.update(screenful, refresh=True)
        return screenful.scroll


class Screenful:
    """A view at the size of the console that prints it. `scroll` is set by printing: the first line shown."""

    def __init__(self, view: ReviewView) -> None:
        self.view = view
        self.scroll = view.scroll

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        body = max(1, height - 3)
        side = SIDE if width >= 70 else 0
        main = width - side - (3 if side else 0)
        keys, n_keys = _keys(self.view, width)
        left = self._window(console, main, body)
        panels = _side(self.view, side, body, n_keys) if side else Text("")
        right = _lines(console, panels, max(1, side), body)
        lines = [*_lines(console, _header(self.view, width), width, 1)]
        lines += [[*one, RULE, *other] if side else one for one, other in zip(left, right, strict=True)]
        lines += [*_lines(console, _message(self.view, width), width, 1), *_lines(console, keys, width, 1)]
        for i, line in enumerate(lines[:height]):
            yield from line
            if i < height - 1:
                yield Segment.line()

    def _window(self, console: Console, width: int, height: int) -> list[list[Segment]]:
        """The card's lines that fit, scrolled, with a mark where more follows. While typing the caret is in sight."""
        options = console.options.update(width=width, height=None)
        lines = console.render_lines(review_card.main(self.view, width), options, pad=True)
        self.scroll = max(0, min(self.scroll, len(lines) - height + 1 if len(lines) > height else 0))
        if len(lines) <= height:
            return Segment.set_shape(lines, width, height)
        if self.view.mode == "edit":
            self.scroll = _in_sight(lines, self.scroll, height - 1)
        shown = lines[self.scroll : self.scroll + height - 1]
        more = len(lines) - self.scroll - len(shown)
        hint = ": the down key" if self.view.mode == "cards" else ""
        text = f"\u2193 {more} more line{'s' if more > 1 else ''}{hint}" if more else "\u2191 the up key scrolls back"
        mark = console.render_lines(Text(text, "dim"), options)
        return Segment.set_shape([*shown, *mark][:height], width, height)


def _in_sight(lines: Sequence[Sequence[Segment]], scroll: int, height: int) -> int:
    """The scroll that shows the line with the caret, which is the reversed character."""
    caret = next((i for i, line in enumerate(lines) if any(s.style and s.style.reverse for s in line)), 0)
    return min(max(scroll, caret - height + 1), caret)


def _lines(console: Console, what: RenderableType, width: int, height: int) -> list[list[Segment]]:
    """The renderable as exactly so many lines of that width."""
    options = console.options.update(width=width, height=None)
    lines = console.render_lines(what, options, pad=True)
    return Segment.set_shape(lines[:height], width, height)


def _header(view: ReviewView, width: int) -> Text:
    left = f" {view.title}"
    right = f"{view.conditions}  {view.position} " if view.conditions else f"{view.position} "
    room = width - cell_len(right) - 1
    title = Text(left, no_wrap=True)
    title.truncate(max(8, room), overflow="ellipsis")
    gap = " " * max(1, width - title.cell_len - cell_len(right))
    text = Text(title.plain + gap + right, "reverse bold", no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _message(view: ReviewView, width: int) -> Text:
    text = view.message
    if view.mode in ("search", "jump", "reason_text"):
        return _field(f"{view.prompt} ", view.buffer, view.caret, width)
    return Text(f" {text}", "bold" if view.mode == "confirm" else "italic", no_wrap=True, overflow="ellipsis")


def _field(prompt: str, buffer: str, caret: int, width: int) -> Text:
    """A prompt and one line of typed text with its caret, scrolled so that the caret is seen."""
    room = max(4, width - cell_len(prompt) - 2)
    start = max(0, caret - room + 1)
    shown = buffer[start : start + room].replace("\n", "\u23ce")
    text = Text.assemble((f" {prompt}", "bold"), no_wrap=True)
    text.append_text(review_card.with_caret(shown, caret - start))
    return text


def _keys(view: ReviewView, width: int) -> tuple[Text, int]:
    """The first keys of the mode, as many as fit on a line, and how many those are."""
    text, n = Text(" ", no_wrap=True), 0
    for key, what in view.keys:
        part = Text.assemble((key, "bold"), f" {what}")
        if text.cell_len + part.cell_len > width:
            break
        text.append_text(part.append("  "))
        n += 1
    return text, n


def _side(view: ReviewView, width: int, height: int, n_keys: int) -> RenderableType:
    """Progress, labels, funnel; and in the room that is left the keys that did not fit at the bottom."""
    done, total = view.judged
    track = bar(done / max(1, total), width, "green")
    track.append("\u2500" * (width - track.cell_len), "dim")
    parts: list[Text] = [_title("Progress"), track, Text(f"{done} of {total} judged")]
    parts += [_count(name, n, width) for name, n in view.progress]
    if view.sample:
        parts += [Text(""), _title("Sample"), *(Text(line) for line in view.sample)]
    funnel = [Text(""), _title("Funnel"), *(_count(name, n, width) for name, n in view.funnel)]
    if view.labels:
        parts += [Text(""), _title("Kept by label")]
        parts += _labels(view.labels, width, height - len(parts) - len(funnel))
    parts += funnel
    room, rest = height - len(parts) - 2, view.keys[n_keys:]
    if room > 0 and rest:
        parts += [Text(""), _title("Keys"), *_more_keys(rest, width, room)]
    return Group(*parts)


def _more_keys(keys: Sequence[tuple[str, str]], width: int, height: int) -> list[Text]:
    """Keys one below the other where there is room for all, else as many on a line as fit."""
    parts = [Text.assemble((key, "bold"), f" {what}") for key, what in keys]
    if len(parts) <= height:
        return parts
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1].append("  ").append_text(part)
        else:
            lines.append(part)
    return lines[:height]


def _title(text: str) -> Text:
    return Text(text, HEADING)


def _count(name: str, n: int, width: int) -> Text:
    return Text(f"{name}{n:>{max(1, width - cell_len(name))}}", no_wrap=True, overflow="ellipsis")


def _labels(labels: Sequence[tuple[str, int]], width: int, height: int) -> list[Text]:
    """A line for each label; where they are too many for the height, for the first ones."""
    most = max(n for _, n in labels) or 1
    n_shown = len(labels) if len(labels) <= height else max(1, height - 1)
    lines = [_label(i, name, n, most, width) for i, (name, n) in enumerate(labels[:n_shown], 1)]
    more = len(labels) - n_shown
    return [*lines, Text(f"and {more} more", "dim")] if more else lines


def _label(number: int, name: str, n: int, most: int, width: int) -> Text:
    """A label with the digit that relabels, a bar and its count, on one line."""
    digit = str(number) if number < 10 else " "
    room = width - 19
    shown = Text(name, no_wrap=True)
    shown.truncate(11, overflow="ellipsis", pad=True)
    line = Text.assemble((digit, "bold"), " ", shown, " ", bar(n / most, room, "green"), no_wrap=True)
    line.append(" " * (room - (line.cell_len - 14)))
    line.append(f"{n:5d}")
    return line
