"""Cards on the terminal: an error, the funnel, a prompt, the doctor's findings.

Here as on every screen of this room: words stand in the terminal's own foreground, and colour is for marks and bars,
whose meaning a word or a number says too. Yellow and anything bold and coloured is left out: on white they vanish.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table

from sg_local.console.text import Text, flowing
from sg_local.views.records import FindingView, FunnelCard

WIDTH = 100
N_LIVE_RULES = 3
HEADING = "bold underline"
TITLE = "bold default"  # on a coloured border
STATUS = {"ok": ("\u2714", "green"), "warning": ("!", "magenta"), "missing": ("\u2718", "red")}


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False)


def stderr() -> Console:
    """The console for narration."""
    return Console(stderr=True, highlight=False)


def show_error(message: str, hint: str, more: str) -> None:
    """One sentence, a hint, and the command that tells more, on stderr."""
    console = stderr()
    lines = [Text(message)]
    if hint:
        lines += [Text(""), Text.assemble(("Hint: ", "bold"), hint)]
    lines.append(Text.assemble(("More: ", "bold"), more))
    width = min(console.width, WIDTH)
    console.print(Panel(Group(*lines), title=Text("Error", TITLE), title_align="left", border_style="red", width=width))


def show_prompt(title: str, text: str) -> None:
    """A prompt as it will be sent, on stderr."""
    console = stderr()
    console.print(
        Panel(Text(text), title=Text(title), title_align="left", border_style="dim", width=min(console.width, WIDTH))
    )


def show_funnel(card: FunnelCard) -> None:
    """The filters' account, on stdout."""
    console = stdout()
    width = min(console.width, WIDTH)
    console.print(Panel(funnel(card, width - 4), title="Funnel", title_align="left", width=width))


def funnel(card: FunnelCard, width: int) -> RenderableType:
    """Steps with bars, rules with up to two examples each, labels."""
    parts: list[RenderableType] = [_steps(card, width)]
    if card.rules:
        parts += [Text(""), _rules(card, width)]
    if card.labels:
        parts += [Text(""), _labels(card, width)]
    if card.note:
        parts += [Text(""), Text(card.note, "dim")]
    return Group(*parts)


def grid(*justify: JustifyMethod) -> Table:
    """A table without lines or headings, its columns set to these sides."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in justify:
        table.add_column(justify=side, no_wrap=True)
    return table


def add_columns(table: Table, *columns: tuple[str, JustifyMethod], no_wrap: bool = True) -> None:
    """Give a table its headings, each set to a side."""
    for heading, side in columns:
        table.add_column(heading, justify=side, no_wrap=no_wrap)


def _steps(card: FunnelCard, width: int) -> Table:
    most = max((n for _, n in card.steps), default=1) or 1
    room = min(40, width - max((len(f"{name}  {n}    ") for name, n in card.steps), default=0))
    table = grid("left", "right", "left")
    for name, n in card.steps:
        table.add_row(name, str(n), bar(n / most, room, "green" if name == card.steps[-1][0] else "cyan"))
    return table


def bar(share: float, width: int, style: str) -> Text:
    """A share in [0, 1] as a bar of block characters, to an eighth of a cell."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    blocks = "\u2588" * full + (" \u258f\u258e\u258d\u258c\u258b\u258a\u2589"[rest] if rest else "")
    return Text().append(blocks, style)


def flow(card: FunnelCard, width: int, n_examples: int = 2, n_rules: int = N_LIVE_RULES) -> RenderableType:
    """The funnel in few lines, for the live view: steps, the rules that reject most, labels as kept of asked."""
    steps = " \u2192 ".join(f"{name} {n}" for name, n in card.steps)
    parts: list[RenderableType] = [Text(steps, "dim", no_wrap=True, overflow="ellipsis")]
    if card.rules:
        most = sorted(card.rules, key=lambda rule: -rule[1])[:n_rules]
        rules = tuple((name, n, examples[:n_examples]) for name, n, examples in most)
        parts.append(_rules(replace(card, rules=rules), width))
    if card.labels:
        labels = "   ".join(f"{label} {kept} of {asked}" for label, asked, kept in card.labels)
        parts.append(Text(labels, "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _rules(card: FunnelCard, width: int) -> Table:
    longest = max(len(name) for name, _, _ in card.rules)
    room = max(20, width - longest - 12)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    add_columns(table, ("rejected by", "left"), ("rows", "right"), ("such as", "left"))
    for name, n, examples in card.rules:
        for i, example in enumerate(examples or ("",)):
            shown = Text(" ".join(example.split()), "dim")
            shown.truncate(room, overflow="ellipsis")
            table.add_row("" if i else name, "" if i else str(n), shown)
    return table


def _labels(card: FunnelCard, width: int) -> Table:
    most = max((kept for _, _, kept in card.labels), default=1) or 1
    room = min(30, width - max(len(label) for label, _, _ in card.labels) - len("  asked  kept    "))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    add_columns(table, ("label", "left"), ("asked", "right"), ("kept", "right"), ("", "left"))
    for label, asked, kept in card.labels:
        table.add_row(Text(label), str(asked), str(kept), bar(kept / most, max(0, room), "green"))
    return table


def show_findings(findings: Sequence[FindingView], verdict: str) -> None:
    """The doctor's findings, on stdout."""
    console = stdout()
    console.print(doctor(findings, verdict, min(console.width, WIDTH)))


def doctor(findings: Sequence[FindingView], verdict: str, width: int) -> RenderableType:
    """The doctor's findings by topic; under each lack, what fixes it."""
    table = grid("left", "left", "left")
    table.columns[2].no_wrap = False
    table.columns[2].overflow = "fold"
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            table.add_row("", Text.assemble((topic, HEADING)), "")
        mark, style = STATUS[finding.status]
        found = Text.assemble(finding.found, (f"  {finding.why}" if finding.why else "", "dim"))
        table.add_row(Text(mark, style), Text(finding.name), found)
        if finding.fix:
            table.add_row("", "", Text.assemble(("fix: ", "dim"), (finding.fix, "bold")))
    sentences = (Text(sentence, "bold") for sentence in re.split(r"(?<=\.) ", verdict))
    body = Group(table, Text(""), *flowing(sentences, width - len("\u2502  \u2502"), 1))
    return Panel(body, title="Doctor", title_align="left", width=width)
