"""The filters' funnel, for reading."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sg_local.cli import output
from sg_local.cli.output import Column
from sg_local.cli.words import counted
from sg_local.console.views import FunnelCard
from sg_local.records import NoRows
from sg_local.run import Run

Examples = tuple[Any, ...]
REMEDIES = {
    "label": "Let votes be nothing but labels, `--set synth.constrain=true` in a new run, or train on the labels asked "
    "for: `sg-local filter {run} --set policy=asked`.",
    "consistency": "Train on the labels as asked for: `sg-local filter {run} --set policy=asked`.",
    "vote_share": "Let fewer votes do: `sg-local filter {run} --set vote_share.threshold=0.2`.",
    "output_length": "Give examples of typical length, or: `sg-local filter {run} --set output_length.sigmas=4`.",
    "schema": "Let nothing but fitting JSON be written: `--set synth.constrain=true` in a new run.",
    "review": "Keep more of them: `sg-local review {run}`.",
}
OTHER_REMEDY = "Say more in the instruction, give other examples, or: `sg-local filter {run} --set {rule}.on=false`."


def funnel_card(found: Any) -> FunnelCard:
    """A funnel as the screen wants it."""
    rules = rule_lines(found.rules, found.examples)
    steps = (
        ("inputs asked for", found.asked),
        ("inputs parsed", found.parsed),
        ("inputs accepted", found.accepted),
        ("pairs kept", found.kept),
    )
    what = "labels" if found.labels else "outputs"
    note = f"{what}: {found.policy}, {found.why}" if found.policy else ""
    judged = f"{counted(found.by_person, 'row')} judged by people" if found.by_person else ""
    labels = tuple((label, asked, kept) for label, (asked, kept) in found.labels.items())
    return FunnelCard(steps, rules, labels, "; ".join(filter(None, (note, judged))))


def rule_lines(rules: Mapping[str, int], examples: Mapping[str, Examples]) -> tuple[tuple[str, int, Examples], ...]:
    """Each rule with its rejections and up to two rejected texts, the reason behind each."""
    return tuple(
        (rule, count, tuple(f"{text}  ({why})" for text, why in examples.get(rule, ())))
        for rule, count in rules.items()
    )


def live_card(event: Any) -> FunnelCard | None:
    """What synthesis tells of itself while inputs are written, as a funnel; None where it tells nothing."""
    if event.phase != "inputs":
        return None
    accepted = event.asked - sum(event.rejected.values())
    steps = (("asked", event.asked), ("parsed", event.parsed), ("accepted", accepted))
    labels = tuple((label, asked, kept) for label, (asked, kept) in event.labels.items())
    return FunnelCard(steps, rule_lines(event.rejected, event.examples), labels)


def starved(error: NoRows, run: Run) -> NoRows:
    """An error about too few pairs with the rule that took most of them, one of these, and what to change."""
    from sg_local import filters

    lost = [verdict for verdict in filters.final_verdicts(run).values() if not verdict.keep]
    if not lost:
        return error
    rule, count = Counter(verdict.rule or "review" for verdict in lost).most_common(1)[0]
    reason = next(verdict.reason for verdict in lost if (verdict.rule or "review") == rule)
    told = f"{counted(len(lost), 'pair')} fell out, {count} by rule {rule}" + (f" ({reason})" if reason else "")
    hint = REMEDIES.get(rule, OTHER_REMEDY).format(run=run.name, rule=rule)
    return NoRows(f"{error.message.rstrip('.')}: {told}.", hint)


def show_funnel(found: Any) -> None:
    """The funnel on stdout."""
    card = funnel_card(found)
    if sys.stdout.isatty():
        from sg_local.console import cards

        cards.show_funnel(card)
        return
    output.show_table("", [Column("step"), Column("rows", True)], [(name, str(n)) for name, n in card.steps])
    if card.rules:
        rows = [
            ("" if i else rule, "" if i else str(n), " ".join(example.split())[:90])
            for rule, n, examples in card.rules
            for i, example in enumerate(examples or ("",))
        ]
        output.show_table("", [Column("rule"), Column("rejected", True), Column("such as")], rows)
    if card.labels:
        rows = [(label, str(asked), str(kept)) for label, asked, kept in card.labels]
        output.show_table("", [Column("label"), Column("asked", True), Column("kept", True)], rows)
    if card.note:
        sys.stdout.write(card.note + "\n")
