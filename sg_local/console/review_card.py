"""The card of the review screen, and what stands in its place: menus, the keys, thresholds in play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table

from sg_local.console.cards import HEADING, bar
from sg_local.console.text import Text
from sg_local.views.records import CardView, PlayView, ReviewView

DECISIONS = {
    "open": ("\u25cb", "not judged", ""),
    "accepted": ("\u2714", "accepted", "green"),
    "rejected": ("\u2718", "rejected", "red"),
    "conflict": ("\u2260", "in conflict", "magenta"),
}
SIGNS = {
    "+": ("+", "green", "comes in "),
    "-": ("-", "red", "goes out "),
    "<": ("+", "dim", "next in  "),
    ">": ("-", "dim", "next out "),
}
RULE = Style(color="cyan")
SHOWN = 4
"""Answers, and labels, that a card shows."""
WAYS = "both ways       label input"
"""What stands above the shares of labels that were scored in two ways."""
TYPING = " typing: enter saves, esc leaves"


def main(view: ReviewView, width: int) -> RenderableType:
    """What stands on the left: the card, below the menu of the mode where there is one, or what takes its place."""
    if view.mode == "help":
        return Group(menu(view, width), Text(""), Text("The card", "bold"), _page(view.page))
    if view.mode in ("task", "confirm"):
        return Group(Text(view.heading, "bold"), _page(view.page))
    if view.mode == "thresholds" and view.play is not None:
        return _play(view.play, width)
    parts: list[RenderableType] = [menu(view, width), Text("")] if view.mode == "filter" else []
    if view.card is None:
        return Group(
            *parts, Text("\nNo row matches this view.", "bold"), Text("Press f to change it, esc for all kept rows.")
        )
    return Group(*parts, *_card(view.card, view, width))


def _page(page: Sequence[tuple[str, str]]) -> Table:
    """Headings with their texts beside them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(ratio=1)
    for heading, text in page:
        table.add_row(Text(heading), Text(text))
    return table


def _card(card: CardView, view: ReviewView, width: int) -> Iterator[RenderableType]:
    mark, word, style = DECISIONS[card.decision]
    head = Text.assemble((f"{mark} ", style), (f"#{card.number} {word}", "bold"))
    if card.source:
        head.append(f" \u00b7 {card.source}", "cyan")
    if card.who:
        head.append(f" \u00b7 {card.who}", "dim")
    yield head
    yield from _text("INPUT", card.input, "input", card, view)
    yield from _text("OUTPUT", card.output, "output", card, view)
    yield Text("")
    yield _facts(card, width)
    if card.neighbour is not None:
        number, similarity, stretches = card.neighbour
        text = Text.assemble((f"nearest, {similarity:.0%} of the words alike, is #{number}: ", "dim"))
        for part, differs in stretches:
            text.append(part, "bold underline" if differs else "dim")
        yield Text("")
        yield text


def _text(title: str, text: str, field: str, card: CardView, view: ReviewView) -> Iterator[RenderableType]:
    editing = view.mode == "edit" and view.edits == field
    note = TYPING if editing else " edited" if field in card.edited else ""
    yield Text("")
    yield Text.assemble((title, HEADING), (note, "dim"))
    body = with_caret(view.buffer, view.caret) if editing else Text(text)
    if view.find and not editing:
        body.highlight_words([view.find], "reverse", case_sensitive=False)
    yield _Ruled(body, "bold" if field == "output" and not editing else "")


class _Ruled:
    """Text with a rule down its left side."""

    def __init__(self, text: Text, style: str) -> None:
        self.text = text
        self.style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.stylize_before(self.style)
        for line in console.render_lines(self.text, options.update(width=max(8, options.max_width - 2)), pad=False):
            yield Segment("\u258f ", RULE)
            yield from line
            yield Segment.line()


def _facts(card: CardView, width: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    _add(table, "votes", _votes(card, width - 10))
    if card.labels:
        table.add_row("label", _labels(card.labels))
    if card.asked:
        table.add_row("asked", Text(card.asked))
    if card.rule:
        table.add_row("rules", Text.assemble(("\u2718 ", "red"), (card.rule, "bold"), f": {card.reason}"))
    else:
        table.add_row("rules", Text.assemble(("\u2714 ", "green"), "all passed"))
    for i, (kind, text) in enumerate(card.personal):
        table.add_row("" if i else "personal", Text.assemble(("! ", "magenta"), f"likely {kind}: ", (text, "bold")))
    if card.doubts:
        table.add_row("doubt", Text.assemble(("! ", "magenta"), " \u00b7 ".join(card.doubts)))
    if card.facts:
        table.add_row("model", Text(" \u00b7 ".join(card.facts), "dim"))
    for judge, note in card.notes:
        table.add_row("note", Text.assemble((f"{judge}: ", "dim"), note))
    _add(table, "scores", _scores(card, width - 10))
    return table


def _labels(labels: Sequence[tuple[str, str]]) -> Text:
    """One label that all agree on, or each way's own."""
    if len(labels) == 1:
        how, label = labels[0]
        return Text.assemble(("\u2714 ", "green"), (label, "bold"), f", {how}")
    text = Text.assemble(("\u2260 ", "magenta"))
    for i, (how, label) in enumerate(labels):
        text.append(" \u00b7 " if i else "").append(f"{how} ").append(label, "bold")
    return text


def _add(table: Table, name: str, lines: Iterable[Text]) -> None:
    """Lines of which the first has the name before it."""
    for i, line in enumerate(lines):
        table.add_row("" if i else name, line)


def _votes(card: CardView, width: int) -> Iterator[Text]:
    """A line for each of the most frequent answers."""
    for answer, count in card.votes[:SHOWN]:
        yield _vote(answer, count, card.n_samples, width)
    if (more := len(card.votes) - SHOWN) > 0:
        yield Text(f"and {more} other answer{'s' if more > 1 else ''}", "dim")


def _scores(card: CardView, width: int) -> Iterator[Text]:
    """A line for each of the likeliest labels, below a heading where they were scored in more than one way."""
    if card.scores and card.scores[0][2]:
        yield Text(WAYS, "dim", no_wrap=True)
    for label, share, ways in card.scores[:SHOWN]:
        line = Text.assemble(_track(share), f"{share:5.0%}", *(f"{way:6.0%}" for way in ways), "  ", no_wrap=True)
        line.append(label, "bold" if label == card.output else "")
        line.truncate(max(12, width), overflow="ellipsis")
        yield line
    if (more := len(card.scores) - SHOWN) > 0:
        yield Text(f"and {more} less likely label{'s' if more > 1 else ''}", "dim")


def _track(share: float) -> Text:
    """A share as a bar of ten columns."""
    text = bar(share, 10, "cyan")
    return text.append("\u2500" * (10 - text.cell_len), "dim")


def _vote(answer: str, count: int, n_samples: int, width: int) -> Text:
    text = _track(count / max(1, n_samples))
    text.append(f" {count}/{n_samples}  ")
    text.append(" ".join(answer.split()))
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(max(12, width), overflow="ellipsis")
    return text


def menu(view: ReviewView, width: int) -> RenderableType:
    """The mode's keys with their values; without values in two columns, so that the card stays in sight."""
    table = Table.grid(padding=(0, 2, 0, 0))
    n = 1 if any(value for _, _, value in view.menu) or width < 44 else 2
    for _ in range(n):
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(style="bold" if view.mode == "filter" else "", no_wrap=n == 2)
    half = -(-len(view.menu) // n)
    for i in range(half):
        table.add_row(*(cell for line in view.menu[i::half] for cell in map(Text, line)))
    return Group(Text(view.heading, "bold"), table)


def _play(play: PlayView, width: int) -> RenderableType:
    names = max(len(name) for name, _, _ in play.thresholds)
    values = max(len(value) for _, now, was in play.thresholds for value in (now, was))
    parts: list[RenderableType] = [Text("Move a threshold and see what it does", "bold"), Text("")]
    for i, (name, value, saved) in enumerate(play.thresholds):
        mark, style = ("\u25b8", "bold reverse") if i == play.selected else (" ", "")
        was = f" was {saved}" if saved != value else ""
        parts.append(Text.assemble((f"{mark} {name:<{names}}  {value:>{values}} ", style), (was, "italic")))
    parts += [Padding(Text(play.meaning, "italic"), (0, 0, 0, 2)), Text(""), _kept(play)]
    parts += [Text(play.note, "italic")] if play.note else []
    for label, before, now in play.labels:
        change = f"  {now - before:+d}" if now != before else ""
        most = max(1, *(n for _, *both in play.labels for n in both))
        line = Text.assemble(f"  {now:4d} ", bar(now / most, 20, "green"), no_wrap=True)
        line.pad_right(28 - line.cell_len)
        parts.append(line.append(f"{label}{change}"))
    if play.edge:
        parts += [Text(""), Text("Rows at the edge", "bold")]
        parts += [_edge(sign, text, width) for sign, text in play.edge]
    return Group(*parts)


def _kept(play: PlayView) -> Text:
    """How many rows pass now, before, and with one more step either way."""
    text = Text.assemble(("past the filters ", "bold"), str(play.kept_before))
    if play.kept_now is not None and play.kept_now != play.kept_before:
        text.append(f" \u2192 {play.kept_now} ({play.kept_now - play.kept_before:+d})", "bold")
    if play.kept_beside is not None:
        text.append(f"   one step: \u25c2 {play.kept_beside[0]}  {play.kept_beside[1]} \u25b8", "dim")
    return text


def _edge(sign: str, text: str, width: int) -> Text:
    mark, style, word = SIGNS[sign]
    line = Text.assemble(
        (f"{mark} ", style), (word, "dim" if style == "dim" else "bold"), " ".join(text.split()), no_wrap=True
    )
    line.truncate(width, overflow="ellipsis")
    return line


def with_caret(text: str, caret: int) -> Text:
    """Text with the character at the caret set off."""
    under = text[caret : caret + 1]
    if under in ("", "\n"):
        return Text.assemble(text[:caret], (" ", "reverse"), text[caret:])
    return Text.assemble(text[:caret], (under, "reverse"), text[caret + 1 :])
