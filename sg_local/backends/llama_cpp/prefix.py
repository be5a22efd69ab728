"""What many prompts begin with, computed once and kept on a sequence of its own, 0 unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.backends.llama_cpp.context import Context

WORTH_TOKENS = 32  # tokens saved that pay for an extra llama_decode


class Prefix:
    """The tokens on that sequence. They outlive a call, so that the next one with the same beginning starts there.

    A call's numbers must not depend on the calls before it, or a resumed job would differ from an uninterrupted one:
    what an earlier call left is taken over only where this call would have computed the very same, in one go.
    """

    def __init__(self, context: Context, sequence: int = 0) -> None:
        self._context = context
        self.sequence = sequence
        self._tokens: list[int] = []
        self._untouched = True  # nothing but one computation from the first token has been here
        self._first = True  # this call has not yet said what it wants

    def __len__(self) -> int:
        return len(self._tokens)

    def common(self, tokens: Sequence[int]) -> int:
        """How many of these tokens are in the pool already."""
        return common_length(self._tokens, tokens, len(tokens))

    def begin(self) -> None:
        """A new call begins."""
        self._first = True

    def cover(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute what all the prompts share, less a last token for each, where that saves enough."""
        wanted = prompts[0][: shared_length(prompts)]
        if self._first:
            self._first = False
            if not (self._untouched and wanted == self._tokens):
                self.clear()
        kept = self.common(wanted)
        if (len(wanted) - kept) * (len(prompts) - 1) < WORTH_TOKENS:
            return
        self._untouched = not self._tokens
        self._context.forget(self.sequence, kept)
        self._tokens = self._tokens[:kept]
        self._extend(wanted)

    def take_over(self, other: Prefix) -> None:
        """Hold what another context's prefix holds on the same sequence, without computing it; nothing without room."""
        if self._tokens == other._tokens and self._untouched and other._untouched:
            return
        self.clear()
        if other._tokens and self._context.copy(other._context, self.sequence):
            self._tokens, self._untouched = list(other._tokens), other._untouched

    def clear(self) -> None:
        """Forget everything on the sequence."""
        self._context.forget(self.sequence)
        self._tokens = []
        self._untouched = True

    def _extend(self, wanted: Sequence[int]) -> None:
        """Decode the rest of `wanted`, as far as the pool has room."""
        step = self._context.n_batch
        for start in range(len(self._tokens), len(wanted), step):
            tokens = list(wanted[start : start + step])
            self._context.put(tokens, start, [self.sequence], wants_logits=False)
            if not self._context.decode():
                return
            self._tokens += tokens


class FixedPrefix(Prefix):
    """A prefix that never changes: computed from its first token when it is first of use, and kept from then on.

    So what a prompt is answered does not depend on the prompts that came before it.
    """

    def __init__(self, context: Context, sequence: int, tokens: Sequence[int]) -> None:
        super().__init__(context, sequence)
        self._wanted = list(tokens)

    def begin(self) -> None:
        """Nothing begins anew."""

    def cover(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute the prefix, where it is not there yet and one of the prompts shares enough of it."""
        common = (common_length(self._wanted, tokens, len(tokens)) for tokens in prompts)
        if not self._tokens and any(length >= WORTH_TOKENS for length in common):
            self._extend(self._wanted)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """The length of the longest prefix of all prompts that leaves each at least one token."""
    length = min(len(tokens) for tokens in prompts) - 1
    for tokens in prompts[1:]:
        length = common_length(prompts[0], tokens, length)
    return length


def common_length(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    """How many leading tokens two sequences share, at most `limit`."""
    low, high = 0, min(len(a), len(b), limit)
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
