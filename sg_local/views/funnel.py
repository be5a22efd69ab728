"""The filters' funnel, for reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sg_local.personal import sentence
from sg_local.views.records import FunnelCard
from sg_local.words import counted

if TYPE_CHECKING:
    from sg_local.filters import Funnel
    from sg_local.synth import SynthEvent

Examples = tuple[Any, ...]


def funnel_card(found: Funnel) -> FunnelCard:
    """A funnel as the screen wants it."""
    rules = rule_lines(found.rules, found.examples)
    given = (("your labelled rows", found.labelled), ("your inputs", found.own))
    steps = (
        *((name, n) for name, n in given if n),
        ("inputs asked for", found.asked),
        ("inputs parsed", found.parsed),
        ("inputs accepted", found.accepted),
        ("pairs kept", found.kept),
    )
    what = "labels" if found.labels else "outputs"
    note = f"{what} by policy {found.policy}: {found.why}" if found.policy else ""
    judged = f"{counted(found.by_person, 'row')} judged by people" if found.by_person else ""
    labels = tuple((label, asked, kept) for label, (asked, kept) in found.labels.items())
    notes = ("; ".join(filter(None, (note, judged))), sentence(found.flagged, found.personal))
    return FunnelCard(steps, rules, labels, "\n".join(filter(None, notes)))


def rule_lines(rules: Mapping[str, int], examples: Mapping[str, Examples]) -> tuple[tuple[str, int, Examples], ...]:
    """Each rule with its rejections and up to two rejected texts, the reason behind each."""
    return tuple(
        (rule, count, tuple(f"{text}  ({why})" for text, why in examples.get(rule, ())))
        for rule, count in rules.items()
    )


def live_card(event: SynthEvent) -> FunnelCard | None:
    """What synthesis tells of itself while inputs are written, as a funnel; None where it tells nothing."""
    if event.phase != "inputs":
        return None
    accepted = event.asked - sum(event.rejected.values())
    steps = (("asked", event.asked), ("parsed", event.parsed), ("accepted", accepted))
    labels = tuple((label, asked, kept) for label, (asked, kept) in event.labels.items())
    return FunnelCard(steps, rule_lines(event.rejected, event.examples), labels)
