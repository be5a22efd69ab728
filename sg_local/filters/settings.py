"""The filters' settings: one group for each rule, its fields the only home of their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

POLICIES = ("auto", "voted", "asked", "calibrated", "ensemble", "agree", "ranked", "mbr")
EVIDENCE = ("direct", "both")


@dataclass(frozen=True)
class Switch:
    """A rule without a parameter."""

    on: bool = True


@dataclass(frozen=True)
class Threshold:
    """A rule with one threshold: a share in [0, 1], or for `relevance` nats a token."""

    threshold: float
    on: bool = True


@dataclass(frozen=True)
class Window:
    """Allowed lengths: the demonstrations' mean with `sigmas` each way, at least mean / `widest` to mean * `widest`."""

    sigmas: float = 2.0
    widest: float = 3.0
    on: bool = True


@dataclass(frozen=True)
class Balance:
    """Class balance: no label keeps more than `ratio` times the rows of the rarest, `at_least` rows excepted."""

    ratio: float = 1.5
    at_least: int = 10
    on: bool = True


@dataclass(frozen=True)
class FilterSettings:
    """Which rules run and how strict they are.

    `policy` says which label of a row is trained on (labels.py), `evidence` by which scores rows are judged that have
    both: how likely the label is after the input (`direct`), or also the input after the label (`both`).

    `personal` rejects rows with likely personal data; while it is off they are counted and shown, and kept.
    """

    policy: str = "auto"
    evidence: str = "both"
    agreement: Threshold = Threshold(0.5)
    empty: Switch = Switch()
    noise: Switch = Switch()
    input_length: Window = Window()
    output_length: Window = Window()
    copied_example: Threshold = Threshold(0.9)
    duplicate: Switch = Switch()
    near_duplicate: Threshold = Threshold(0.7)
    named_label: Switch = Switch()
    refusal: Switch = Switch()
    label: Switch = Switch()
    schema: Switch = Switch()
    vote_share: Threshold = Threshold(0.3)
    consistency: Switch = field(default=Switch(on=False))
    relevance: Threshold = Threshold(0.1)
    grounding: Threshold = Threshold(0.1)
    copied_input: Switch = Switch()
    copied_output: Switch = Switch()
    personal: Switch = field(default=Switch(on=False))
    balance: Balance = Balance()
