"""How many threads compute, followed by what is measured while they work: fewer where neighbours need the processor.

llama.cpp's threads wait for each other at every operation, so one that a neighbour keeps from running stops them all:
beside two busy processes on two cores one thread is faster than two. The rule is pure: observations in, a number out.
A number is tried for a moment and kept where it is clearly faster. Fewer are only tried where the threads do not get
the processor time that they ask for; so nothing is lost on a quiet machine. More are tried again and again, ever more
seldom while they bring nothing, since nobody can see a core that has become free.
"""

from __future__ import annotations

from dataclasses import dataclass

PERIOD_S, TRIAL_S = 0.5, 0.2  # between decisions, and for a number on trial
BUSY_SHARE = 0.9  # of the threads' time: below, others have it
BETTER = 1.06  # times as fast as before, to be kept
LONGEST_REST = 16  # periods between trials that bring nothing
STEP_TOKENS = 8  # what a decode costs beside its tokens, in tokens


@dataclass(frozen=True)
class Observation:
    """One decode: its tokens, the seconds it took, and the processor seconds that the process got meanwhile."""

    n_tokens: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Span:
    """Some decodes together. `work` counts tokens, and some for each decode."""

    work: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def with_one(self, seen: Observation) -> Span:
        """The span and one decode more."""
        return Span(self.work + seen.n_tokens + STEP_TOKENS, self.seconds + seen.seconds, self.cpu_s + seen.cpu_s)

    @property
    def pace(self) -> float:
        """Work a second."""
        return self.work / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Before:
    """What a trial is held against."""

    n: int
    pace: float


class ThreadCount:
    """The number of threads for the next decode, at most `most`, as many as there are processors."""

    def __init__(self, most: int) -> None:
        self.n = self.most = most
        self._span = Span()
        self._before: Before | None = None
        self._rest = self._wait = 1
        self._turn = 0

    def observe(self, seen: Observation) -> int:
        """The number for the next decode, after this one."""
        self._span = self._span.with_one(seen)
        if self._span.seconds >= (PERIOD_S if self._before is None else TRIAL_S):
            done, self._span = self._span, Span()
            if self._before is None:
                self._decide(done)
            else:
                self._judge(done, self._before)
        return self.n

    def _decide(self, done: Span) -> None:
        """Begin a trial where one is due and there is another number to try."""
        if self._wait > 0:
            self._wait -= 1
            return
        numbers = self._candidates(done.cpu_s / max(done.seconds, 1e-9))
        if numbers:
            self._before = Before(self.n, done.pace)
            self.n = numbers[self._turn % len(numbers)]
            self._turn += 1

    def _judge(self, done: Span, before: Before) -> None:
        """Keep the number on trial where it is clearly faster; else go back, and rest longer before the next."""
        self._before = None
        if done.pace > BETTER * before.pace:
            self._rest = self._wait = 1
            self._turn = 0
            return
        self.n = before.n
        self._rest = self._wait = min(LONGEST_REST, 2 * self._rest)

    def _candidates(self, got: float) -> list[int]:
        """Other numbers worth a trial, where the threads get the time of so many processors: the likeliest first.

        Beside k busy neighbours n threads get n / (n + k) of the processors; those that the neighbours leave are free.
        """
        is_busy, step = got < BUSY_SHARE * self.n, max(1, self.n // 4)
        neighbours = self.n * (self.most / max(got, 1e-3) - 1)
        fewer = [round(self.most - neighbours), self.n - step] if is_busy else []
        found = [*fewer[:1], self.most, *fewer[1:], self.n + step]
        bounded = [max(1, min(self.most, n)) for n in found]
        return [n for n in dict.fromkeys(bounded) if n < self.n and is_busy or n > self.n]
