"""The filters' funnel, for reading."""

from __future__ import annotations

import sys
from typing import Any

from sg_local.cli import output
from sg_local.cli.output import Column
from sg_local.console.views import FunnelCard


def funnel_card(found: Any) -> FunnelCard:
    """A funnel as the screen wants it."""
    rules = tuple(
        (rule, count, next((f"{text}  ({why})" for text, why in found.examples.get(rule, ())), ""))
        for rule, count in found.rules.items()
    )
    steps = (
        ("inputs asked for", found.asked),
        ("inputs parsed", found.parsed),
        ("inputs accepted", found.accepted),
        ("pairs kept", found.kept),
    )
    note = f"labels: {found.policy}, {found.why}" if found.policy and found.labels else ""
    judged = f"{found.by_person} rows judged by people" if found.by_person else ""
    labels = tuple((label, asked, kept) for label, (asked, kept) in found.labels.items())
    return FunnelCard(steps, rules, labels, "; ".join(filter(None, (note, judged))))


def show_funnel(found: Any) -> None:
    """The funnel on stdout."""
    card = funnel_card(found)
    if sys.stdout.isatty():
        from sg_local.console import cards

        cards.show_funnel(card)
        return
    output.show_table("", [Column("step"), Column("rows", True)], [(name, str(n)) for name, n in card.steps])
    if card.rules:
        rows = [(rule, str(n), " ".join(example.split())[:90]) for rule, n, example in card.rules]
        output.show_table("", [Column("rule"), Column("rejected", True), Column("such as")], rows)
    if card.labels:
        rows = [(label, str(asked), str(kept)) for label, asked, kept in card.labels]
        output.show_table("", [Column("label"), Column("asked", True), Column("kept", True)], rows)
    if card.note:
        sys.stdout.write(card.note + "\n")
