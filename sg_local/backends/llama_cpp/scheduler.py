"""Continuous batching: many rows decoded together, sequences refilled as rows end, common prefixes computed once.

One step is one llama_decode over all running rows: the last token of those that write, and as much of the prompts
of those that have just joined as the batch holds. What prompts share is computed once, in three ways: the longest
prefix of all waiting prompts lives on sequence 0; a prompt that shares more with a running row starts from that
row's cells; prompts with the very same tokens that join together are one group of sequences until their first draw.

When the pool has no room the younger half of the rows goes back to the queue with what it has written, and fewer
rows run until others have ended. No row is lost, and each goes on with its own sampler.

The same prompt and seed draw the same random numbers whatever runs beside them. The logits are the same only as far
as the engine's arithmetic allows: kernels sum in another order for other batch sizes, so that logits differ by
about 1e-3 of their range (more with quantised weights) and a draw that is that close may fall the other way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sg_local.backends import available
from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.prefix import Prefix, common_length
from sg_local.backends.llama_cpp.rows import Row, Writer
from sg_local.records import Completion, SgError


@dataclass
class RowGroup:
    """Rows with the same tokens, of which `n_done` are in the pool; more than one row only before the first draw."""

    rows: list[Row]
    n_done: int

    @property
    def tokens(self) -> list[int]:
        return self.rows[0].tokens

    @property
    def sequences(self) -> list[int]:
        return [row.sequence for row in self.rows]


class Scheduler:
    """Completes the rows of one iterator, which is read at most two batches of rows ahead."""

    def __init__(self, context: Context, prefix: Prefix, writer: Writer, rows: Iterable[Row | None]) -> None:
        self._context = context
        self._prefix = prefix
        self._writer = writer
        self._source = iter(rows)
        self._n_parallel = self._limit = context.plan.n_parallel
        self._free = list(range(self._n_parallel, 0, -1))
        self._queue: deque[Row] = deque()
        self._groups: list[RowGroup] = []

    def run(self) -> Iterator[Completion]:
        """Completions as rows end. However it is left, the pool keeps nothing but the shared prefix."""
        self._prefix.begin()
        try:
            while self._fill():
                yield from self._step()
        except KeyboardInterrupt:
            self._prefix.clear()
            raise
        finally:
            self._abandon()

    def _fill(self) -> bool:
        """Read ahead; True while there is work."""
        wanted = 2 * self._n_parallel - len(self._queue)
        if len(self._queue) <= self._n_parallel:
            self._queue.extend(available(self._source, wanted))
        return bool(self._queue or self._groups)

    def _step(self) -> list[Completion]:
        if self._queue and self._has_room():
            self._prefix.cover([row.tokens for row in self._queue])
            self._admit()
        batch = self._batch()
        if not self._context.decode():
            self._make_room()
            return []
        return self._draw(batch)

    def _has_room(self) -> bool:
        return bool(self._free) and self._n_running() < self._limit

    def _n_running(self) -> int:
        return sum(len(group.rows) for group in self._groups)

    def _admit(self) -> None:
        """Move rows from the queue into the pool while sequences, cells and this step's batch last."""
        room = self._context.n_batch - len(self._groups)
        while self._queue and self._has_room() and room > 0 and self._fits(self._queue[0]):
            group = self._join()
            room -= len(group.tokens) - group.n_done
            self._groups.append(group)

    def _fits(self, row: Row) -> bool:
        """Whether the row's own cells fit beside what runs, with shared cells counted again for each row."""
        if not self._groups:
            return True
        shared = len(self._prefix)
        used = shared + sum(len(group.tokens) - shared + len(group.rows) for group in self._groups)
        return used + len(row.tokens) - shared + 1 <= self._context.n_cells

    def _join(self) -> RowGroup:
        """The queue's first row with those behind it that have the same tokens, given sequences and a start."""
        group = RowGroup([self._take()], 0)
        while self._queue and self._queue[0].tokens == group.tokens and self._has_room_beside(group):
            group.rows.append(self._take())
        donor, group.n_done = self._donor(group.tokens)
        for sequence in group.sequences:
            if group.n_done:
                self._context.share(donor, sequence, group.n_done)
        return group

    def _has_room_beside(self, group: RowGroup) -> bool:
        return bool(self._free) and self._n_running() + len(group.rows) < self._limit

    def _take(self) -> Row:
        row = self._queue.popleft()
        row.sequence = self._free.pop()
        return row

    def _donor(self, tokens: list[int]) -> tuple[int, int]:
        """The sequence that shares most with these tokens, and how much; the last token is left to compute."""
        most = len(tokens) - 1
        best, length = 0, min(most, self._prefix.common(tokens))
        for group in self._groups:
            limit = min(most, group.n_done)
            if limit > length and tokens[length] == group.tokens[length]:
                common = common_length(tokens, group.tokens, limit)
                if common > length:
                    best, length = group.rows[0].sequence, common
        return best, length

    def _batch(self) -> list[tuple[RowGroup, int, int | None]]:
        """Put this step's tokens: (group, tokens put, row of logits where the group's tokens are complete)."""
        put, room = [], self._context.n_batch
        for group in self._groups:
            pending = group.tokens[group.n_done : group.n_done + room]
            if not pending:
                break
            complete = group.n_done + len(pending) == len(group.tokens)
            row = self._context.put(pending, group.n_done, group.sequences, wants_logits=complete)
            put.append((group, len(pending), row))
            room -= len(pending)
        return put

    def _draw(self, batch: list[tuple[RowGroup, int, int | None]]) -> list[Completion]:
        logits = self._context.logits()
        done: list[Completion] = []
        groups: list[RowGroup] = []
        for group, n_put, row in batch:
            group.n_done += n_put
            if row is None:
                groups.append(group)
                continue
            self._writer.write(group.rows, logits[row])
            done.extend(self._release(row) for row in group.rows if row.finish is not None)
            groups.extend(RowGroup([row], group.n_done) for row in group.rows if row.finish is None)
        self._groups = groups + self._groups[len(batch) :]
        return done

    def _release(self, row: Row) -> Completion:
        self._context.forget(row.sequence)
        self._free.append(row.sequence)
        self._limit = min(self._n_parallel, self._limit + 1)
        row.sampler.close()
        return row.completion()

    def _make_room(self) -> None:
        """Send the younger half of the rows back to the queue; with one row left, give up the shared prefix."""
        rows = [row for group in self._groups for row in group.rows]
        if len(rows) == 1:
            if not len(self._prefix):
                raise SgError(
                    f"Prompt {rows[0].prompt.id}: the engine has no room for it.",
                    "Use a smaller `engine.n_ctx`.",
                )
            self._prefix.clear()
        self._limit = max(1, len(rows) // 2)
        young = rows[self._limit :]
        self._groups = [self._without(group, young) for group in self._groups]
        self._groups = [group for group in self._groups if group.rows]
        for row in reversed(young):
            self._context.forget(row.sequence)
            self._free.append(row.sequence)
            self._queue.appendleft(row)

    @staticmethod
    def _without(group: RowGroup, rows: list[Row]) -> RowGroup:
        left = [row for row in group.rows if not any(row is other for other in rows)]
        return RowGroup(left, group.n_done)

    def _abandon(self) -> None:
        """Free what unfinished rows hold."""
        self._context.discard()
        for row in [row for group in self._groups for row in group.rows]:
            self._context.forget(row.sequence)
            row.sampler.close()
        for row in self._queue:
            row.sampler.close()
