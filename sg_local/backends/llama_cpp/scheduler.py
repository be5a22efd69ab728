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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sg_local.backends import available
from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.kept import Kept
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


@dataclass
class Share:
    """What schedulers on one context share: the free sequences, and how one asks the others for cells.

    `yields` is called when the pool is full; True when that has made room. `kept` are prompts of earlier calls.
    """

    free: list[int]
    yields: Callable[[], bool] = lambda: False
    kept: Kept | None = None


class Scheduler:
    """Completes the rows of one iterator, which is read at most two batches of rows ahead."""

    def __init__(
        self,
        context: Context,
        prefix: Prefix,
        writer: Writer,
        rows: Iterable[Row | None],
        share: Share | None = None,
        n_parallel: int | None = None,
    ) -> None:
        self._context = context
        self._prefix = prefix
        self._writer = writer
        self._source = iter(rows)
        self._n_parallel = self._limit = n_parallel or context.plan.n_parallel
        share = share or Share(list(range(self._n_parallel, 0, -1)))
        self._free, self._yields, self._kept = share.free, share.yields, share.kept
        self._queue: deque[Row] = deque()
        self._groups: list[RowGroup] = []

    def run(self, *, begins: bool = True) -> Iterator[Completion]:
        """Completions as rows end. However it is left, the pool keeps nothing but the shared prefix.

        Unless it `begins` a call, what the prefix holds is this call's own.
        """
        if begins:
            self._prefix.begin()
        try:
            while self.fill():
                yield from (row.completion() for row in self.step())
        except KeyboardInterrupt:
            self._prefix.clear()
            raise
        finally:
            self.abandon()

    @property
    def running(self) -> list[Row]:
        """The rows in the pool, the oldest first."""
        return [row for group in self._groups for row in group.rows]

    @property
    def waiting(self) -> list[Row]:
        """The rows in the queue, the next first."""
        return list(self._queue)

    def fill(self) -> bool:
        """Read ahead; True while there is work."""
        wanted = 2 * self._n_parallel - len(self._queue)
        if len(self._queue) <= self._n_parallel:
            self._queue.extend(available(self._source, wanted))
        return bool(self._queue or self._groups)

    def step(self) -> list[Row]:
        """One decode over all running rows; the rows that ended with it."""
        if self._queue and self._has_room():
            self._prefix.cover([row.tokens for row in self._queue])
            self._admit()
        if not self._groups:  # others have all the sequences
            return []
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
        best, length = self._prefix.sequence, min(most, self._prefix.common(tokens))
        if self._kept is not None and (kept := self._kept.donor(tokens))[1] > length:
            return kept
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

    def drop(self, id: str) -> None:
        """Give up a row, wherever it is."""
        for row in [row for row in self._queue if row.prompt.id == id]:
            row.sampler.close()
            self._queue.remove(row)
        for row in [row for row in self.running if row.prompt.id == id]:
            self._groups = self._left([row])
            self._release(row)

    def retreat(self, limit: int | None = None) -> None:
        """Send all rows back to the queue with what they have written; at most `limit` run again at first."""
        self._context.discard()
        self._send_back(self.running)
        self._limit = limit or self._limit

    def _draw(self, batch: list[tuple[RowGroup, int, int | None]]) -> list[Row]:
        logits = self._context.logits()
        done: list[Row] = []
        groups: list[RowGroup] = []
        for group, n_put, row in batch:
            group.n_done += n_put
            if row is None:
                groups.append(group)
                continue
            if self._kept is not None and not group.rows[0].n_new:
                self._kept.keep(group.tokens, group.rows[0].sequence)
            self._writer.write(group.rows, logits[row])
            done.extend(self._release(row) for row in group.rows if row.finish is not None)
            groups.extend(RowGroup([row], group.n_done) for row in group.rows if row.finish is None)
        self._groups = groups + self._groups[len(batch) :]
        return done

    def _release(self, row: Row) -> Row:
        self._context.forget(row.sequence)
        self._free.append(row.sequence)
        self._limit = min(self._n_parallel, self._limit + 1)
        row.sampler.close()
        return row

    def _make_room(self) -> None:
        """Send the younger half of the rows back to the queue; with one row left, give up the shared prefix."""
        if self._yields():
            return
        rows = self.running
        if len(rows) == 1:
            if not len(self._prefix):
                raise SgError(
                    f"Prompt {rows[0].prompt.id}: the engine has no room for it.",
                    "Use a smaller `engine.n_ctx`.",
                )
            self._prefix.clear()
        self._limit = max(1, len(rows) // 2)
        self._send_back(rows[self._limit :])

    def _send_back(self, rows: list[Row]) -> None:
        """Running rows go to the front of the queue, in their order."""
        self._groups = self._left(rows)
        for row in reversed(rows):
            self._context.forget(row.sequence)
            self._free.append(row.sequence)
            self._queue.appendleft(row)

    def _left(self, gone: list[Row]) -> list[RowGroup]:
        """The groups without some rows."""
        ids = {id(row) for row in gone}
        groups = [RowGroup([row for row in group.rows if id(row) not in ids], group.n_done) for group in self._groups]
        return [group for group in groups if group.rows]

    def abandon(self) -> None:
        """Free what unfinished rows hold, and forget them."""
        self.retreat()
        for row in self._queue:
            row.sampler.close()
        self._queue.clear()
