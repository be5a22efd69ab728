"""What the screens are given: plain records of what to show, made by the command line."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where a stage stands: `done` of `wanted` `unit`. `facts` are short figures, `latest` the last rows as text."""

    phase: str
    done: int
    wanted: int
    unit: str = "rows"
    facts: dict[str, str] = field(default_factory=dict)
    latest: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemScore:
    """One system's score with its interval, in percent. `role` is base, tuned or trivial."""

    name: str
    score: float
    low: float
    high: float
    role: str = "base"
    chosen: bool = False


@dataclass(frozen=True)
class VerdictCard:
    """The end of a run: scores, what they mean, the files that came out, what to do next."""

    title: str
    metric: str
    n: int
    systems: tuple[SystemScore, ...]
    sentences: tuple[str, ...]
    outcome: str
    stages: tuple[tuple[str, str], ...]
    artefacts: tuple[tuple[str, str, str], ...]
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FunnelCard:
    """The filters' account: steps (name, rows), rules (name, rejected, example), labels (name, asked, kept)."""

    steps: tuple[tuple[str, int], ...]
    rules: tuple[tuple[str, int, str], ...]
    labels: tuple[tuple[str, int, int], ...] = ()
    note: str = ""
