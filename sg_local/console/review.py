"""The review screen: one card, side panels, a line for messages, a line of keys. Draws a ReviewView, decides nothing.

Made for 80x24 and everything above. Only the terminal's own sixteen colours are used, and nothing is told by
colour alone, so that it reads in light and dark themes and with NO_COLOR.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sg_local.console.cards import bar
from sg_local.console.views import CardView, PlayView, ReviewView

SIDE = 23
RULE = Segment(" \u2502 ", Style(dim=True))
DECISIONS = {
    "open": ("\u25cb", "not judged", "bold"),
    "accepted": ("\u2714", "accepted", "bold green"),
    "rejected": ("\u2718", "rejected", "bold red"),
    "conflict": ("\u2260", "in conflict", "bold magenta"),
}
SIGNS = {"+": ("in  ", "green"), "-": ("out ", "red"), "<": ("next in ", "dim green"), ">": ("next out", "dim red")}


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

    def open(self) -> None:
        """Take the screen."""
        self.live = Live(console=self.console, screen=True, auto_refresh=False, redirect_stdout=False)
        self.live.start()

    def close(self) -> None:
        """Give the screen back."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def show(self, view: ReviewView) -> None:
        """Draw the view at the terminal's present size."""
        assert self.live is not None
        self.live.update(Screenful(view), refresh=True)


class Screenful:
    """A view at the size of the console that prints it."""

    def __init__(self, view: ReviewView) -> None:
        self.view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        lines = [*_lines(console, _header(self.view, width), width, 1)]
        body = max(1, height - 3)
        side = SIDE if width >= 70 else 0
        main = width - side - (3 if side else 0)
        left = _window(console, _main(self.view, main), main, body, self.view.scroll)
        right = _lines(console, _side(self.view, side), side, body) if side else [[]] * body
        for one, other in zip(left, right, strict=True):
            lines.append([*one, RULE, *other] if side else one)
        lines += _lines(console, _message(self.view, width), width, 1)
        lines += _lines(console, _keys(self.view, width), width, 1)
        for i, line in enumerate(lines[:height]):
            yield from line
            if i < height - 1:
                yield Segment.line()


def _lines(console: Console, what: RenderableType, width: int, height: int) -> list[list[Segment]]:
    """The renderable as exactly so many lines of that width."""
    options = console.options.update(width=width, height=None)
    lines = console.render_lines(what, options, pad=True)
    return Segment.set_shape(lines, width, height)


def _window(console: Console, what: RenderableType, width: int, height: int, scroll: int) -> list[list[Segment]]:
    """So many lines of a longer renderable, scrolled, with a mark where more follows."""
    lines = console.render_lines(what, console.options.update(width=width, height=None), pad=True)
    if len(lines) <= height:
        return Segment.set_shape(lines, width, height)
    start = min(scroll, len(lines) - height + 1)
    shown = lines[start : start + height - 1]
    more = len(lines) - start - len(shown)
    mark = Text(f"\u2193 {more} more lines" if more else "\u2191 scroll back with the up key", "dim")
    return Segment.set_shape([*shown, *console.render_lines(mark, console.options.update(width=width))], width, height)


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
    text.append_text(_with_caret(shown, caret - start))
    return text


def _with_caret(text: str, caret: int) -> Text:
    under = text[caret : caret + 1]
    if under in ("", "\n"):
        return Text.assemble(text[:caret], (" ", "reverse"), text[caret:])
    return Text.assemble(text[:caret], (under, "reverse"), text[caret + 1 :])


def _keys(view: ReviewView, width: int) -> Text:
    text = Text(" ", no_wrap=True)
    for key, what in view.keys:
        part = Text.assemble((key, "bold"), f" {what}  ")
        if text.cell_len + part.cell_len > width:
            break
        text.append_text(part)
    return text


# The card


def _main(view: ReviewView, width: int) -> RenderableType:
    if view.mode == "help":
        return _menu("Keys", view, width)
    if view.mode == "thresholds" and view.play is not None:
        return _play(view.play, width)
    parts: list[RenderableType] = []
    if view.mode == "reason":
        parts += [_menu("Why reject it?", view, width), Text("")]
    if view.mode == "filter":
        parts += [_menu("Show which rows?", view, width), Text("")]
    if view.card is None:
        return Group(
            *parts, Text("\nNo row matches this view.", "bold"), Text("Press f to change it, esc for all kept rows.")
        )
    return Group(*parts, *_card(view.card, view, width))


def _card(card: CardView, view: ReviewView, width: int) -> Iterator[RenderableType]:
    mark, word, style = DECISIONS[card.decision]
    head = Text.assemble((f"{mark} ", style), (f"#{card.number} {word}", style))
    if card.who:
        head.append(f" \u00b7 {card.who}", "dim")
    yield head
    yield from _text("INPUT", card.input, "input", card, view)
    yield from _text("OUTPUT", card.output, "output", card, view)
    yield Text("")
    yield _facts(card, width)
    if card.neighbour is not None:
        number, similarity, stretches = card.neighbour
        text = Text.assemble((f"nearest is #{number}, {similarity:.0%} of the words: ", "dim"))
        for part, differs in stretches:
            text.append(part, "bold underline" if differs else "dim")
        yield Text("")
        yield text


def _text(title: str, text: str, field: str, card: CardView, view: ReviewView) -> Iterator[RenderableType]:
    editing = view.mode == "edit" and view.edits == field
    note = (
        " (typing: enter saves, esc leaves, ctrl-j new line)"
        if editing
        else " (edited)"
        if field in card.edited
        else ""
    )
    yield Text("")
    yield Text.assemble((title, "bold cyan"), (note, "dim"))
    body = _with_caret(view.buffer, view.caret) if editing else Text(text)
    yield _Ruled(body, "bold" if field == "output" and not editing else "")


class _Ruled:
    """Text with a rule down its left side."""

    def __init__(self, text: Text, style: str) -> None:
        self.text = text
        self.style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.stylize(self.style)
        for line in console.render_lines(self.text, options.update(width=max(8, options.max_width - 2)), pad=False):
            yield Segment("\u258f ")
            yield from line
            yield Segment.line()


def _facts(card: CardView, width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    for i, (answer, count) in enumerate(card.votes[:4]):
        table.add_row("votes" if i == 0 else "", _vote(answer, count, card.n_samples, width - 10))
    if len(card.votes) > 4:
        table.add_row("", Text(f"and {len(card.votes) - 4} other answers", "dim"))
    if card.labels:
        table.add_row("label", Text(" \u00b7 ".join(f"{how} {label}".strip() for how, label in card.labels)))
    if card.rule:
        table.add_row("rules", Text.assemble(("\u2718 ", "red"), (card.rule, "bold"), f": {card.reason}"))
    else:
        table.add_row("rules", Text.assemble(("\u2714 ", "green"), "all passed"))
    if card.doubts:
        table.add_row("doubt", Text(" \u00b7 ".join(card.doubts), "yellow"))
    table.add_row("row", Text(" \u00b7 ".join(card.facts), "dim"))
    return table


def _vote(answer: str, count: int, n_samples: int, width: int) -> Text:
    text = bar(count / max(1, n_samples), 10, "cyan")
    text.append("\u2500" * (10 - text.cell_len), "dim")
    text.append(f" {count}/{n_samples}  ")
    text.append(" ".join(answer.split()))
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(max(12, width), overflow="ellipsis")
    return text


def _menu(title: str, view: ReviewView, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for key, name, value in view.menu:
        table.add_row(Text(key), Text(name), Text(value, "bold cyan"))
    return Group(Text(title, "bold"), table)


def _play(play: PlayView, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for i, (name, value, saved) in enumerate(play.thresholds):
        chosen = i == play.selected
        style = "bold reverse" if chosen else ""
        was = f"was {saved}" if saved != value else ""
        table.add_row(
            Text(f"{chr(0x25B8) if chosen else ' '} {name} ", style), Text(f" {value} ", style), Text(was, "yellow")
        )
    kept = Text.assemble(("kept ", "bold"), f"{play.kept_before}")
    if play.kept_now is not None and play.kept_now != play.kept_before:
        kept.append(f" \u2192 {play.kept_now} ({play.kept_now - play.kept_before:+d})", "bold")
    parts: list[RenderableType] = [
        Text("Move a threshold and see what it does", "bold"),
        Text(""),
        table,
        Text(""),
        kept,
    ]
    for label, before, now in play.labels:
        change = f"  {now - before:+d}" if now != before else ""
        parts.append(
            Text.assemble(f"  {now:4d} ", bar(now / max(1, play.kept_before), 20, "green"), f" {label}{change}")
        )
    if play.edge:
        parts += [Text(""), Text("Rows at the edge", "bold")]
        parts += [_edge(sign, text, width) for sign, text in play.edge]
    return Group(*parts)


def _edge(sign: str, text: str, width: int) -> Text:
    word, style = SIGNS[sign]
    line = Text.assemble((f"{word} ", style), " ".join(text.split()), no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line


# The side


def _side(view: ReviewView, width: int) -> RenderableType:
    done, total = view.judged
    track = bar(done / max(1, total), width, "green")
    track.append("\u2500" * (width - track.cell_len), "dim")
    parts: list[RenderableType] = [_title("Progress"), track, Text(f"{done} of {total} judged")]
    parts += [_count(name, n, width) for name, n in view.progress]
    if view.sample:
        parts += [Text(""), _title("Sample"), Text(view.sample)]
    if view.labels:
        most = max(n for _, n in view.labels) or 1
        parts += [Text(""), _title("Kept by label")]
        parts += [_label(name, n, most, width) for name, n in view.labels]
    parts += [Text(""), _title("Funnel"), *(_count(name, n, width) for name, n in view.funnel)]
    return Group(*parts)


def _title(text: str) -> Text:
    return Text(text, "bold cyan")


def _count(name: str, n: int, width: int) -> Text:
    return Text(f"{name}{n:>{max(1, width - cell_len(name))}}", no_wrap=True, overflow="ellipsis")


def _label(name: str, n: int, most: int, width: int) -> Text:
    room = width - 17
    shown = Text(name, no_wrap=True)
    shown.truncate(11, overflow="ellipsis", pad=True)
    line = Text.assemble(shown, " ", bar(n / most, room, "green"))
    line.append(" " * (room - (line.cell_len - 12)))
    line.append(f"{n:5d}")
    return line


def snapshot(view: ReviewView, width: int = 80, height: int = 24, title: str = "sg-local review") -> str:
    """The screen as SVG text, drawn by Rich's recorder."""
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=width, height=height, file=nowhere, highlight=False, force_terminal=True)
        console.print(Screenful(view), height=height)
        return console.export_svg(title=title)
