"""The card at the end of a run. Its first lines say the outcome with its figures; all below is the evidence."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from sg_local.console.cards import TITLE, WIDTH, add_columns, grid, stdout
from sg_local.console.text import Text, flowing
from sg_local.views.records import ConfusionView, GainView, SystemScore, VerdictCard

MARKS = {"better": ("\u2714", "green"), "worse": ("\u2718", "red"), "open": ("~", "magenta")}
HEADLINES = {
    "better": "The tuned model is better than {rival}",
    "worse": "The tuned model is worse than {rival}",
    "open": "Not shown to differ from {rival}",
}
MARKED = "The tuned model is better, but a trivial baseline does as well"
CHOSEN = "\u25b8"
IRRELEVANT, IS_IRRELEVANT = "irrelevant  ", "names no label, or says nothing"
ROLES = {"base": "", "tuned": "bold", "trivial": "dim"}
FRAME = len("\u2502    \u2502")
NARROW, LEAST_BAR = 80 - FRAME, 8
COLOURS = {"base": "cyan", "tuned": "green", "trivial": "magenta"}


def show_verdict(card: VerdictCard) -> None:
    """The end of a run, on stdout. Where it is taller than the terminal, the outcome stands at its end, too."""
    console = stdout()
    width = min(console.width, WIDTH)
    whole = verdict(card, width)
    if len(console.render_lines(whole)) > console.height:
        whole = verdict(card, width, outcome_again=True)
    console.print(whole)


def verdict(card: VerdictCard, width: int, *, outcome_again: bool = False) -> RenderableType:
    """The outcome, scores with interval bars, gains, notes, confusion table, files, next commands."""
    mark, style = MARKS["open" if card.marked else card.outcome]
    room = width - FRAME
    outcome = _outcome(card, mark, style)
    parts = [*outcome, *([] if card.unmeasured else _evidence(card, room)), Text(""), *_files(card, room)]
    parts += [Text(""), *outcome] if outcome_again else []
    parts += [Text(""), *_commands(card, room)]
    return Panel(
        Group(*parts),
        title=Text(card.title, TITLE),
        title_align="left",
        border_style=style,
        width=width,
        padding=(1, 2),
    )


def _outcome(card: VerdictCard, mark: str, style: str) -> list[RenderableType]:
    """What tuning came to, and whether it beats its strongest rival; or why nothing was measured."""
    if card.unmeasured:
        return [Text.assemble((f"{mark} ", style), (card.unmeasured, "bold"))]
    main = next((gain for gain in card.gains if gain.chosen), None)
    said = MARKED if card.marked else HEADLINES[card.outcome].format(rival=card.rival)
    figure = f": {main.gain:+.1f} points" if main is not None else ""
    rival = Text.assemble((f"{mark} ", style), (f"{said}{figure}", "bold"))
    return [*([Text(card.headline, "bold")] if card.headline else []), rival]


def _evidence(card: VerdictCard, room: int) -> list[RenderableType]:
    """What the evaluation found."""
    parts: list[RenderableType] = [
        Text(f"{card.metric} on {card.n} test rows, percent, 95 % intervals; {CHOSEN} is served", "dim"),
        Text(""),
        _scores(card.systems, room),
        *_irrelevant(card.systems, room),
    ]
    parts += [Text(""), _gains(card.gains)] if card.gains else []
    parts += [
        Text(f"~ {gain.tuned}: a trivial baseline does as well ({', '.join(gain.reached_by)}).", "dim")
        for gain in card.gains
        if gain.reached_by
    ]
    parts += [Text(""), *(Text(note, "dim") for note in card.notes)] if card.notes else []
    parts += [Text(""), _confusion(card.confusion, room)] if card.confusion is not None else []
    return parts


def _scores(systems: tuple[SystemScore, ...], room: int) -> Table:
    """A line for each system; marked is the one that answers in `predict` and `serve`.

    Scores and intervals are always whole: where there is little room, bars go, then the share of irrelevant answers,
    which `_irrelevant` then tells in words, then long names are broken.
    """
    left = _left(systems, room)
    has_irrelevant = left >= len(IRRELEVANT)
    bar_width = left - len(IRRELEVANT) - 2 if room > NARROW else 0
    headings = ["", "score", "interval", *([""] if bar_width >= LEAST_BAR else [])]
    headings += ["irrelevant"] if has_irrelevant else []
    table = grid(*("right" if heading in ("score", "irrelevant") else "left" for heading in headings))
    table.columns[0].no_wrap = False
    table.add_row(*(Text(heading, "dim") for heading in headings))
    for system in systems:
        style = ROLES.get(system.role, "")
        interval = Text(f"{system.low:5.1f} \u2013 {system.high:5.1f}", "dim")
        name = Text(f"{CHOSEN if system.chosen else ' '} {system.name}", style)
        cells = [name, Text(f"{system.score:.1f}", style), interval]
        cells += [interval_bar(system, bar_width)] if bar_width >= LEAST_BAR else []
        told = "" if system.irrelevant is None else f"{system.irrelevant:.1f}"
        table.add_row(*cells, *([Text(told, "dim")] if has_irrelevant else []))
    return table


def _left(systems: tuple[SystemScore, ...], room: int) -> int:
    """The cells that names, scores and intervals leave."""
    longest = max((len(system.name) for system in systems), default=0)
    return room - longest - len(f"{CHOSEN}   00.0  00.0 \u2013 100.0  ")


def _irrelevant(systems: tuple[SystemScore, ...], room: int) -> list[Text]:
    """What an irrelevant answer is, where there is one; and whose are, where the table has no room for it."""
    found = [(system.name, system.irrelevant) for system in systems if system.irrelevant]
    if not found:
        return []
    if _left(systems, room) >= len(IRRELEVANT):
        return [Text(f"irrelevant: {IS_IRRELEVANT}", "dim")]
    told = "; ".join(f"{name} {share:.1f}" for name, share in found)
    return [Text(f"irrelevant ({IS_IRRELEVANT}), percent: {told}", "dim")]


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
    add_columns(table, ("gain of", "left"), ("over", "left"), no_wrap=False)
    add_columns(table, ("points", "right"), ("interval", "left"))
    for gain in gains:
        mark, style = MARKS["open" if gain.reached_by else gain.outcome]
        name = Text.assemble((f"{mark} ", style), (gain.tuned, "bold"))
        interval = Text(f"{gain.low:+.1f} to {gain.high:+.1f}", "dim")
        table.add_row(name, Text(gain.base), Text(f"{gain.gain:+.1f}", "bold"), interval)
    return table


def _confusion(view: ConfusionView, room: int) -> Table:
    """Right labels down, answers across; what is right is bold. Columns that have no room have the labels' numbers."""
    labels = (*view.labels, "no label")
    numbered = max(map(len, view.labels)) + sum(len(label) + 2 for label in labels) > room
    heads = [str(i) for i in range(1, len(labels))] + ["none"] if numbered else labels
    sides = [f"{i} {label}" if numbered else label for i, label in enumerate(view.labels, 1)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title=None)
    table.add_column(Text(f"right \u2193  {view.title} \u2192"), justify="left")
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True)
    for i, (side, row) in enumerate(zip(sides, view.rows, strict=True)):
        cells = [Text(str(n), "bold" if i == j else "dim" if n == 0 else "") for j, n in enumerate(row)]
        table.add_row(Text(side), *cells)
    return table


def _files(card: VerdictCard, room: int) -> list[RenderableType]:
    """The folder once, then each file's name, size and, where there is room, the beginning of its hash; the times."""
    names = [PurePath(path).name for path, _, _ in card.artefacts]
    has_digest = max(map(len, names), default=0) + len("  000.0 MB  sha256 000000000000") <= room
    table = grid("left", "right", "left") if has_digest else grid("left", "right")
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for name, (_, size, digest) in zip(names, card.artefacts, strict=True):
        table.add_row(Text(name), Text(size), *([Text(f"sha256 {digest}", "dim")] if has_digest else []))
    folders = dict.fromkeys(str(PurePath(path).parent) for path, _, _ in card.artefacts)
    times = flowing((Text(f"{stage} {seconds}", "dim") for stage, seconds in card.stages), room)
    return [*(Text(f"{folder}/", "dim") for folder in folders), table, *times]


def _commands(card: VerdictCard, width: int) -> list[RenderableType]:
    """A line for each, whole, so that it can be copied; what it does stands behind it where there is room."""
    longest = max((len(line) for line, _ in card.commands), default=0)
    fits = all(longest + len(what) + 4 <= width for _, what in card.commands)
    return [
        Text.assemble((f"{line:<{longest}}", "bold"), (f"  # {what}" if fits else "", "dim"))
        for line, what in card.commands
    ]
