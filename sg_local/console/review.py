"""The review screen: one card, side panels, a line for messages, a line of keys. Draws a ReviewView, decides nothing.

Made for 80x24 and everything above; below 70 columns the side panels give way to a line of progress and one of labels.
Only the terminal's own sixteen colours are used, and nothing is told by colour alone, so that it reads in light and
dark themes and with NO_COLOR.
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

SIDE, WITH_SIDE = 23, 70  # columns of the panels, and of a window that has room for them
LOW = 12  # lines of a window that has room for a message of several lines
MESSAGE = 3  # lines of a message, at most
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

    def show(self, view: ReviewView) -> tuple[int, int]:
        """Draw the view at the terminal's present size; how many of its lines are above the window, and below."""
        assert self.live is not None
        screenful = Screenful(view)
        self.live.update(screenful, refresh=True)
        return screenful.scroll, screenful.below


class Screenful:
    """A view at the size of the console that prints it. Printing sets `scroll`, the first line shown, and `below`, the
    lines after the last one."""

    def __init__(self, view: ReviewView) -> None:
        self.view = view
        self.scroll = view.scroll
        self.below = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        keys, n_keys = _keys(self.view, width)
        above = [*_lines(console, _header(self.view, width), width, 1)]
        below = [*_message(console, self.view, width, height), *_lines(console, keys, width, 1)]
        if width < WITH_SIDE and height >= LOW:
            above += _lines(console, _status(self.view, width), width, 1)
            below = [*_digits(console, self.view, width), *below]
        middle = self._middle(console, width, max(1, height - len(above) - len(below)), n_keys)
        lines = [*above, *middle, *below]
        for i, line in enumerate(lines[:height]):
            yield from line
            if i < height - 1:
                yield Segment.line()

    def _middle(self, console: Console, width: int, height: int, n_keys: int) -> list[list[Segment]]:
        """The card, and beside it the panels where there is room."""
        if width < WITH_SIDE:
            return self._left(console, width, height)
        left = self._left(console, width - SIDE - 3, height)
        right = _lines(console, _side(self.view, SIDE, height, n_keys), SIDE, height)
        return [[*one, RULE, *other] for one, other in zip(left, right, strict=True)]

    def _left(self, console: Console, width: int, height: int) -> list[list[Segment]]:
        """The card, which stays in place, and under it the reasons that may be given; in a low window their heading."""
        if self.view.mode != "reason":
            return self._window(console, width, height)
        options = console.options.update(width=width, height=None)
        menu = console.render_lines(review_card.menu(self.view, width), options, pad=True)
        menu = menu if len(menu) <= height // 2 else menu[: min(1, height - 1)]
        return [*self._window(console, width, height - len(menu)), *Segment.set_shape(menu, width, len(menu))]

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
        self.below = len(lines) - self.scroll - len(shown)
        hint = ": the down key" if self.view.mode in ("cards", "help", "task", "confirm") else ""
        text = f"\u2193 {self.below} more line{'s' if self.below > 1 else ''}{hint}"
        mark = console.render_lines(Text(text if self.below else "\u2191 the up key scrolls back", "dim"), options)
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
    """The run, what is shown, and the place in it, which is never cut."""
    position = f" {view.position} "
    room = max(0, width - cell_len(position))
    conditions = Text(f"{view.conditions} " if view.conditions else "", no_wrap=True)
    conditions.truncate(max(0, room - 16), overflow="ellipsis")
    title = Text(f" {view.title}", no_wrap=True)
    title.truncate(max(0, room - conditions.cell_len - 1), overflow="ellipsis")
    gap = " " * max(0, room - title.cell_len - conditions.cell_len)
    text = Text(title.plain + gap + conditions.plain + position, "reverse bold", no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _status(view: ReviewView, width: int) -> Text:
    """In a narrow window: how far the review is, on one line."""
    done, total = view.judged
    told = [f"{n} {name}" for name, n in view.progress if n and name != "accepted"]
    parts = (f"{done} of {total} judged", *(view.sample or (*told, *view.pace)))
    return Text(" " + " \u00b7 ".join(parts), "dim", no_wrap=True, overflow="ellipsis")


def _digits(console: Console, view: ReviewView, width: int) -> list[list[Segment]]:
    """In a narrow window: the labels behind the digits, on one line; none where digits mean something else."""
    if view.mode != "cards" or not view.labels or view.card is None:
        return []
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    for i, (label, _) in enumerate(view.labels[:9], 1):
        text.append(f"{i} ", "bold").append(f"{label}  ")
    return _lines(console, text, width, 1)


def _message(console: Console, view: ReviewView, width: int, height: int) -> list[list[Segment]]:
    """What the last key came to, on as many lines as it needs, within reason; or the line that is being typed."""
    if view.mode in ("search", "jump", "reason_text", "note"):
        return _lines(console, _field(f"{view.prompt} ", view.buffer, view.caret, width), width, 1)
    text = Text(view.message, "bold" if view.mode == "confirm" else "italic")
    lines = list(text.wrap(console, max(1, width - 2))) or [Text("")]
    n = min(len(lines), MESSAGE) if height >= LOW else 1
    if len(lines) > n:
        lines[n - 1].append("\u2026")
    return [line for one in lines[:n] for line in _lines(console, Text.assemble(" ", one, no_wrap=True), width, 1)]


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
    parts += map(Text, view.pace)
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
