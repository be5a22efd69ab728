"""A row's text as it is told while the row is written."""

from __future__ import annotations

import codecs
from typing import Protocol

from sg_local.records import Prompt


class WrittenRow(Protocol):
    """A row on its way: its bytes so far, and what has ended it, if anything."""

    @property
    def prompt(self) -> Prompt: ...
    @property
    def data(self) -> bytearray: ...
    @property
    def finish(self) -> str | None: ...


class Tail:
    """A row's text as it is told: what may be the beginning of a stop string is held back, and half a character."""

    def __init__(self, row: WrittenRow) -> None:
        self.row = row
        self._stops = [stop.encode("utf-8", "surrogatepass") for stop in row.prompt.sampling.stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n_told = 0

    def fresh(self) -> str:
        """The text that is certain by now and was not told before."""
        data = self.row.data
        n_held = 0 if self.row.finish is not None else max((_overlap(data, stop) for stop in self._stops), default=0)
        end = max(self._n_told, len(data) - n_held)
        text = self._decoder.decode(bytes(data[self._n_told : end]))
        self._n_told = end
        return text


def _overlap(data: bytearray, stop: bytes) -> int:
    """How many bytes at the end could be the beginning of a stop string."""
    return next((n for n in range(min(len(stop) - 1, len(data)), 0, -1) if data.endswith(stop[:n])), 0)
