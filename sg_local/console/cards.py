"""Cards on the terminal: an error, the funnel, a prompt, the verdict at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sg_local.console.views import ConfusionView, FindingView, FunnelCard, SystemScore, VerdictCard

WIDTH = 100
OUTCOMES = {
    "better": ("green", "\u2714 The tuned model is better"),
    "worse": ("red", "\u2718 The tuned model is worse"),
    "open": ("yellow", "~ No difference is shown"),
}
MARKED = "~ The tuned model is better, but a trivial system reaches it too,"
STATUS = {"ok": ("\u2714", "green"), "warning": ("!", "bold yellow"), "missing": ("\u2718", "bold red")}
ROLES = {"base": "", "tuned": "bold", "trivial": "dim"}


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False)


def stderr() -> Console:
    """The console for narration."""
    return Console(stderr=True, highlight=False)


def show_error(message: str, hint: str) -> None:
    """One sentence and a hint, on stderr."""
    console = stderr()
    lines = [Text(message)]
    if hint:
        lines += [Text(""), Text.assemble(("Hint: ", "bold"), hint)]
    width = min(console.width, WIDTH)
    console.print(Panel(Group(*lines), title="Error", title_align="left", border_style="red", width=width))


def show_prompt(title: str, text: str) -> None:
    """A prompt as it will be sent, on stderr."""
    console = stderr()
    console.print(
        Panel(Text(text), title=title, title_align="left", border_style="dim", width=min(console.width, WIDTH))
    )


def show_funnel(card: FunnelCard) -> None:
    """The filters' account, on stdout."""
    console = stdout()
    width = min(console.width, WIDTH)
    console.print(Panel(funnel(card, width - 4), title="Funnel", title_align="left", width=width))


def funnel(card: FunnelCard, width: int) -> RenderableType:
    """Steps with bars, rules with an example each, labels."""
    parts: list[RenderableType] = [_steps(card)]
    if card.rules:
        parts += [Text(""), _rules(card, width)]
    if card.labels:
        parts += [Text(""), _labels(card)]
    if card.note:
        parts += [Text(""), Text(card.note, "dim")]
    return Group(*parts)


def _grid(*justify: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in justify:
        table.add_column(justify=side, no_wrap=True)
    return table


def _steps(card: FunnelCard) -> Table:
    most = max((n for _, n in card.steps), default=1) or 1
    table = _grid("left", "right", "left")
    for name, n in card.steps:
        table.add_row(name, str(n), bar(n / most, 40, "green" if name == card.steps[-1][0] else "cyan"))
    return table


def bar(share: float, width: int, style: str) -> Text:
    """A share in [0, 1] as a bar of block characters, to an eighth of a cell."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    blocks = "\u2588" * full + (" \u258f\u258e\u258d\u258c\u258b\u258a\u2589"[rest] if rest else "")
    return Text(blocks, style)


def _rules(card: FunnelCard, width: int) -> Table:
    longest = max(len(name) for name, _, _ in card.rules)
    room = max(20, width - longest - 12)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, justify in (("rejected by", "left"), ("rows", "right"), ("such as", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)
    for name, n, example in card.rules:
        shown = Text(" ".join(example.split()), "dim")
        shown.truncate(room, overflow="ellipsis")
        table.add_row(name, str(n), shown)
    return table


def _labels(card: FunnelCard) -> Table:
    most = max((kept for _, _, kept in card.labels), default=1) or 1
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, justify in (("label", "left"), ("asked", "right"), ("kept", "right"), ("", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)
    for label, asked, kept in card.labels:
        table.add_row(Text(label), str(asked), str(kept), bar(kept / most, 30, "green"))
    return table


def show_findings(findings: Sequence[FindingView], verdict: str) -> None:
    """The doctor's findings by topic, on stdout; under each lack, what mends it."""
    console = stdout()
    table = _grid("left", "left", "left")
    table.columns[2].no_wrap = False
    table.columns[2].overflow = "fold"
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            table.add_row("", Text(topic, "bold cyan"), "")
        mark, style = STATUS[finding.status]
        table.add_row(Text(mark, style), Text(finding.name), Text(finding.found))
        if finding.mend:
            table.add_row("", "", Text.assemble(("to mend it: ", "dim"), (finding.mend, "bold")))
    console.print(
        Panel(
            Group(table, Text(""), Text(verdict, "bold")),
            title="Doctor",
            title_align="left",
            width=min(console.width, WIDTH),
        )
    )


def show_verdict(card: VerdictCard) -> None:
    """The end of a run, on stdout."""
    console = stdout()
    console.print(verdict(card, min(console.width, WIDTH)))


def verdict(card: VerdictCard, width: int) -> RenderableType:
    """Scores with interval bars, sentences, confusion table, files, next commands."""
    style, headline = ("yellow", MARKED) if card.marked else OUTCOMES[card.outcome]
    parts: list[RenderableType] = [
        Text(f"{headline} at {card.title.partition(' on ')[0]}.", f"bold {style}"),
        Text(f"{card.metric} on {card.n} test rows, percent, with 95 % intervals", "dim"),
        Text(""),
        _scores(card.systems, width),
    ]
    if card.sentences:
        parts += [Text(""), *(Padding(Text(sentence), (0, 0, 0, 0)) for sentence in card.sentences)]
    parts += [Text(note, "dim") for note in card.notes]
    if card.confusion is not None:
        parts += [Text(""), _confusion(card.confusion)]
    parts += [Text(""), _files(card), Text(""), _commands(card)]
    return Panel(Group(*parts), title=card.title, title_align="left", border_style=style, width=width, padding=(1, 2))


def _scores(systems: tuple[SystemScore, ...], width: int) -> Table:
    room = max(10, width - 72)
    table = _grid("left", "right", "left", "left", "right")
    table.add_row(*(Text(heading, "dim") for heading in ("", "score", "interval", "", "irrelevant")))
    for system in systems:
        style = ROLES.get(system.role, "")
        interval = Text(f"{system.low:5.1f} \u2013 {system.high:5.1f}", "dim")
        name = Text(("\u25b8 " if system.chosen else "  ") + system.name, style)
        irrelevant = "" if system.irrelevant is None else f"{system.irrelevant:.1f}"
        table.add_row(
            name, Text(f"{system.score:.1f}", style), interval, interval_bar(system, room), Text(irrelevant, "dim")
        )
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


def interval_bar(system: SystemScore, width: int) -> Text:
    """A line from 0 to 100 with the interval thick and the score as a dot."""

    def place(value: float) -> int:
        return min(width - 1, max(0, round(value / 100 * (width - 1))))

    low, at, high = place(system.low), place(system.score), place(system.high)
    colour = {"base": "cyan", "tuned": "green", "trivial": "yellow"}.get(system.role, "cyan")
    text = Text("\u2508" * low, "dim")
    text.append("\u2501" * (at - low), colour)
    text.append("\u25cf", f"bold {colour}")
    text.append("\u2501" * (high - at), colour)
    text.append("\u2508" * (width - 1 - high), "dim")
    return text


def _files(card: VerdictCard) -> Table:
    table = _grid("left", "right", "left")
    for path, size, digest in card.artefacts:
        table.add_row(Text(path), Text(size), Text(digest, "dim"))
    times = "   ".join(f"{stage} {seconds}" for stage, seconds in card.stages)
    outer = Table.grid()
    outer.add_column()
    outer.add_row(table)
    outer.add_row(Text(times, "dim"))
    return outer


def _commands(card: VerdictCard) -> Table:
    table = _grid("left", "left")
    for line, what in card.commands:
        table.add_row(Text(line, "bold"), Text(what, "dim"))
    return table
