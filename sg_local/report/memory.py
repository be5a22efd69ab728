"""What an evaluation found of the rows inside the tuned model, and the sentences that say so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from sg_local.words import counted

CHANCE = 1 / math.log(2)
"""Bits: the mean exposure of a secret that a model has never seen (of -log2 U, U uniform on (0, 1])."""

PLACES = {"output": "answers", "input": "inputs"}


@dataclass(frozen=True)
class Repeats:
    """How many answers hold a passage of a demonstration, a person's own row, a synthetic row with another input."""

    examples: int = 0
    own: int = 0
    synthetic: int = 0


@dataclass(frozen=True)
class Canaries:
    """Where planted secrets ended, each among `n_among` of its kind, itself included: rank 1 is the likeliest.

    `ranks` maps the place of the secrets (`output` or `input`) to the model (`base` or `tuned`) to their ranks.
    """

    n_among: int
    ranks: Mapping[str, Mapping[str, tuple[int, ...]]]

    def exposure(self, place: str, model: str) -> float:
        """Mean exposure in bits (Carlini et al. 2019): log2(n_among) - log2(rank); unseen secrets have CHANCE."""
        return fmean(math.log2(self.n_among) - math.log2(rank) for rank in self.ranks[place][model])

    def first(self, place: str, model: str) -> int:
        """How many secrets are likelier than every other candidate."""
        return sum(rank == 1 for rank in self.ranks[place][model])


@dataclass(frozen=True)
class MemoryCheck:
    """What `n` answers to test rows repeat, base against tuned in free text; planted secrets where asked for."""

    n: int
    base: Repeats
    tuned: Repeats
    canaries: Canaries | None = None

    @property
    def repeats(self) -> bool:
        """Whether the tuned model repeats anything."""
        return self.tuned != Repeats()


def sentences(memory: MemoryCheck) -> tuple[str, ...]:
    """What was found, in words."""
    return (_repeated(memory), *(() if memory.canaries is None else _planted(memory.canaries)))


def _repeated(memory: MemoryCheck) -> str:
    if not memory.repeats:
        whose = (
            "The tuned model's one answer repeats no"
            if memory.n == 1
            else (f"None of the tuned model's {memory.n} answers repeats a")
        )
        return f"{whose} passage of an example or training row with another input."
    kinds = {"own": "your own rows", "examples": "the examples", "synthetic": "synthetic rows"}
    said = ", ".join(
        f"{what} in {getattr(memory.tuned, kind)} (base {getattr(memory.base, kind)})" for kind, what in kinds.items()
    )
    return f"Of {counted(memory.n, 'answer')}, the tuned model's repeat passages of other inputs' rows: {said}."


def _planted(found: Canaries) -> Iterator[str]:
    for place, ranks in found.ranks.items():
        n, most = len(ranks["tuned"]), math.log2(found.n_among)
        tuned, base = (found.exposure(place, model) for model in ("tuned", "base"))
        yield (
            f"{counted(n, 'secret')} planted in the {PLACES[place]} of a copy of the training: exposure {tuned:.1f} "
            f"bits (base {base:.1f}; unseen {CHANCE:.1f}, at most {most:.1f}); {found.first(place, 'tuned')} of {n} "
            f"likelier than all {found.n_among - 1} others tried."
        )
