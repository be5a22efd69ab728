"""Prompts that calls of one piece of work share, read once: their cells stay on sequences of their own until it ends.

A call's numbers must not depend on the calls before it, or a resumed job would differ from an uninterrupted one. So
nothing stays unless somebody says which calls belong together, and makes all of them again where one is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.backends.llama_cpp.context import MAX_SEQUENCES, Context

FIRST = MAX_SEQUENCES // 2  # of the sequences that keep prompts while calls belong together; the others work


class Kept:
    """The prompts that are kept, none unless it is open."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._places: list[int] = []
        self._found: dict[tuple[int, ...], int] = {}
        self.is_open = False

    def open(self) -> None:
        """Calls that belong together begin."""
        self.is_open = True
        first = max(FIRST, self._context.plan.n_parallel + 1)
        self._places = list(range(first, MAX_SEQUENCES))

    def close(self) -> None:
        """They have ended."""
        self.clear()
        self.is_open = False

    def keep(self, tokens: Sequence[int], sequence: int) -> None:
        """Let a prompt stay that has been computed on this sequence, while there are sequences left."""
        key = tuple(tokens)
        if self._places and key not in self._found:
            place = self._found[key] = self._places.pop()
            self._context.share(sequence, place, len(key))

    def donor(self, tokens: Sequence[int]) -> tuple[int, int]:
        """The sequence that holds these tokens, and how many to take, 0 for none: the last is left to compute."""
        place = self._found.get(tuple(tokens)) if self._found else None
        return (0, 0) if place is None else (place, len(tokens) - 1)

    def give_up(self) -> bool:
        """Free the cells of the younger half of the prompts, and keep no more; False where there are none."""
        prompts = list(self._found)
        for tokens in prompts[len(prompts) // 2 :]:
            self._context.forget(self._found.pop(tokens))
        self._places = []
        return bool(prompts)

    def clear(self) -> None:
        """Free the cells of all prompts, and keep no more."""
        while self.give_up():
            pass
