"""How fast a sitting goes, and how long the rest takes: from the times between judgements, breaks cut short."""

from __future__ import annotations

from dataclasses import dataclass, replace

BREAK_S = 120.0  # whoever thinks longer about a row than this has left the keyboard
FEWEST = 3  # judgements before a pace is told
LATEST = 30  # judgements that it is the mean of


@dataclass(frozen=True)
class Pace:
    """The judgements of one sitting. `last` is when the last one was made, or the sitting began, in seconds.

    `gaps` are the seconds that each judgement took; many rows judged at once are one judgement.
    """

    last: float
    gaps: tuple[float, ...] = ()

    def judged(self, now: float) -> Pace:
        """With one more judgement."""
        return Pace(now, (*self.gaps, min(BREAK_S, now - self.last)))

    def taken_back(self) -> Pace:
        """Without the last judgement; its time counts for the next one."""
        if not self.gaps:
            return self
        return replace(self, last=self.last - self.gaps[-1], gaps=self.gaps[:-1])

    @property
    def seconds(self) -> float | None:
        """Seconds that a judgement takes of late, in the mean; None before there are a few."""
        latest = self.gaps[-LATEST:]
        return sum(latest) / len(latest) if len(latest) >= FEWEST else None
