"""The card at the end of a run. Its first lines say the outcome with its figures; all below is the evidence."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from sg_local.console.cards import TITLE, WIDTH, add_columns, grid, stdout
from sg_local.console.text import Text
from sg_local.views.records import ConfusionView, GainView, SystemScore, VerdictCard

MARKS = {"better": ("\u2714", "green"), "worse": ("\u2718", "red"), "open": ("~", "magenta")}
HEADLINES = {
    "better": "The tuned model is better than {rival}",
    "worse": "The tuned model is worse than {rival}",
    "open": "Not shown to differ from {rival}",
}
MARKED = "The tuned model is better, but a trivial baseline does as well"
CHOSEN = "\u25b8"
ROLES = {"base": "", "tuned": "bold", "trivial": "dim"}
COLOURS = {"base": "cyan", "tuned": "green", "trivial": "magenta"}


def show_verdict(card: VerdictCard) -> None:
    """The end of a run, on stdout."""
    console = stdout()
    console.print(verdict(card, min(console.width, WIDTH)))


def verdict(card: VerdictCard, width: int) -> RenderableType:
    """The outcome, scores with interval bars, gains, notes, confusion table, files, next commands."""
    mark, style = MARKS["open" if card.marked else card.outcome]
    parts = _measured(card, width, mark, style)
    if card.unmeasured:
        parts = [Text.assemble((f"{mark} ", style), (card.unmeasured, "bold"))]
    parts += [Text(""), *_files(card), Text(""), *_commands(card, width - 6)]
    return Panel(
        Group(*parts),
        title=Text(card.title, TITLE),
        title_align="left",
        border_style=style,
        width=width,
        padding=(1, 2),
    )


def _measured(card: VerdictCard, width: int, mark: str, style: str) -> list[RenderableType]:
    """What the evaluation found."""
    main = next((gain for gain in card.gains if gain.chosen), None)
    headline = MARKED if card.marked else HEADLINES[card.outcome].format(rival=_rival(main))
    figure = f": {main.gain:+.1f} points" if main is not None else ""
    parts: list[RenderableType] = [Text(card.headline, "bold")] if card.headline else []
    parts += [
        Text.assemble((f"{mark} ", style), (f"{headline}{figure}", "bold")),
        Text(f"{card.metric} on {card.n} test rows, percent, 95 % intervals; {CHOSEN} is served", "dim"),
        Text(""),
        _scores(card.systems, width),
    ]
    parts += [Text(""), _gains(card.gains)] if card.gains else []
    parts += [
        Text(f"~ {gain.tuned}: a trivial baseline does as well ({', '.join(gain.reached_by)}).", "dim")
        for gain in card.gains
        if gain.reached_by
    ]
    parts += [Text(""), *(Text(note, "dim") for note in card.notes)] if card.notes else []
    parts += [Text(""), _confusion(card.confusion)] if card.confusion is not None else []
    return parts


def _rival(main: GainView | None) -> str:
    """What the tuned model is held against, in words: where asked for, a tune on the examples may be the strongest."""
    return "the best untuned setup" if main is None or main.over_untuned else "training on the examples alone"


def _scores(systems: tuple[SystemScore, ...], width: int) -> Table:
    """A line for each system; marked is the one that answers in `predict` and `serve`."""
    longest = max((len(system.name) for system in systems), default=0)
    room = max(8, width - longest - 46)
    table = grid("left", "right", "left", "left", "right")
    table.add_row(*(Text(heading, "dim") for heading in ("", "score", "interval", "", "irrelevant")))
    for system in systems:
        style = ROLES.get(system.role, "")
        interval = Text(f"{system.low:5.1f} \u2013 {system.high:5.1f}", "dim")
        name = Text(f"{CHOSEN if system.chosen else ' '} {system.name}", style)
        irrelevant = "" if system.irrelevant is None else f"{system.irrelevant:.1f}"
        score, bar = Text(f"{system.score:.1f}", style), interval_bar(system, room)
        table.add_row(name, score, interval, bar, Text(irrelevant, "dim"))
    return table


def interval_bar(system: SystemScore, width: int) -> Text:
    """A line from 0 to 100 with the interval thick and the score as a dot."""

    def place(value: float) -> int:
        return min(width - 1, max(0, round(value / 100 * (width - 1))))

    low, at, high = place(system.low), place(system.score), place(system.high)
    colour = COLOURS.get(system.role, "cyan")
    text = Text("\u2508" * low, "dim")
    text.append("\u2501" * (at - low), colour)
    text.append("\u25cf", colour)
    text.append("\u2501" * (high - at), colour)
    text.append("\u2508" * (width - 1 - high), "dim")
    return text


def _gains(gains: tuple[GainView, ...]) -> Table:
    """Each tuned system against the strongest untuned one that answers in the same way."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    add_columns(table, ("gain of", "left"), ("over", "left"), ("points", "right"), ("interval", "left"), no_wrap=False)
    for gain in gains:
        mark, style = MARKS["open" if gain.reached_by else gain.outcome]
        name = Text.assemble((f"{mark} ", style), (gain.tuned, "bold"), no_wrap=True, overflow="ellipsis")
        base = Text(gain.base, no_wrap=True, overflow="ellipsis")
        interval = Text(f"{gain.low:+.1f} to {gain.high:+.1f}", "dim", no_wrap=True)
        table.add_row(name, base, Text(f"{gain.gain:+.1f}", "bold", no_wrap=True), interval)
    return table


def _confusion(view: ConfusionView) -> Table:
    """Right labels down, answers across; what is right is bold."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title=None)
    table.add_column(Text(f"right \u2193  {view.title} \u2192"), justify="left")
    for label in (*view.labels, "no label"):
        table.add_column(Text(label), justify="right")
    for i, (label, row) in enumerate(zip(view.labels, view.rows, strict=True)):
        cells = [Text(str(n), "bold" if i == j else "dim" if n == 0 else "") for j, n in enumerate(row)]
        table.add_row(Text(label), *cells)
    return table


def _files(card: VerdictCard) -> list[RenderableType]:
    """The folder once, then each file's name, size and the beginning of its hash; the stages' times."""
    table = grid("left", "right", "left")
    for path, size, digest in card.artefacts:
        table.add_row(Text(PurePath(path).name), Text(size), Text(f"sha256 {digest}", "dim"))
    folders = dict.fromkeys(str(PurePath(path).parent) for path, _, _ in card.artefacts)
    times = "   ".join(f"{stage} {seconds}" for stage, seconds in card.stages)
    return [*(Text(f"{folder}/", "dim") for folder in folders), table, Text(times, "dim")]


def _commands(card: VerdictCard, width: int) -> list[RenderableType]:
    """A line for each, whole, so that it can be copied; what it does stands behind it where there is room."""
    longest = max((len(line) for line, _ in card.commands), default=0)
    fits = all(longest + len(what) + 4 <= width for _, what in card.commands)
    return [
        Text.assemble((f"{line:<{longest}}", "bold"), (f"  # {what}" if fits else "", "dim"))
        for line, what in card.commands
    ]
