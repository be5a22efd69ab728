"""The columns of answers beside a table's own, and what stands in them for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sg_local.calibration import UNSURE, shares
from sg_local.job.answering import Asking
from sg_local.records import Task
from sg_local.tables import TableRow

if TYPE_CHECKING:
    from sg_local.serve import RowAnswer

DIGITS = 6  # of a probability, more than an engine holds to: what is computed beside a row changes the third


@dataclass(frozen=True)
class KeptAnswer:
    """One answer in the journal, under an id made of its text and of how it was asked for. See serve.RowAnswer."""

    id: str
    text: str
    scores: tuple[float, ...] = ()
    share: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Sheet:
    """The columns of answers beside a table's own, by what stands in them."""

    asking: Asking
    labels: tuple[str, ...]
    names: Mapping[str, str]
    temperature: float = 1.0

    @classmethod
    def beside(cls, columns: Sequence[str], asking: Asking, task: Task, temperature: float = 1.0) -> Sheet:
        """The sheet of answers to rows with these columns; a name that is taken gets a number.

        `temperature` is what scores are divided by before they become probabilities.
        """
        labels = task.labels if asking.probabilities else ()
        wanted = ["answer", *(f"p({label})" for label in labels), *(["share"] if asking.votes else [])]
        names: dict[str, str] = {}
        for name in (*wanted, "seconds", "error"):
            tries = (name, *(f"{name} {number}" for number in range(2, 1000)))
            names[name] = next(one for one in tries if one not in columns and one not in names.values())
        return cls(asking, labels, names, temperature)

    def row(self, row: TableRow, answer: RowAnswer | KeptAnswer | None, error: str = "") -> dict[str, object]:
        """A row's own cells, values as they were in JSON, and its answer's behind them, or why it has none."""
        failed = getattr(answer, "failed", None)
        error = row.error or error or (failed.message if failed is not None else "")
        if error or answer is None:
            cells: dict[str, object] = {"error": f"line {row.line}: {error}"}
        else:
            cells = self.cells(answer)
        return {**row.cells, **row.values, **{name: cells.get(key, "") for key, name in self.names.items()}}

    def cells(self, answer: RowAnswer | KeptAnswer) -> dict[str, object]:
        """The cells of an answer, under the names that they have where none is taken."""
        found: dict[str, object] = {"answer": answer.text, "seconds": round(answer.seconds, 3)}
        likely = shares(answer.scores, self.temperature) if answer.scores and self.asking.weighs else ()
        for label, share in zip(self.labels, likely, strict=False):
            found[f"p({label})"] = round(share, DIGITS)
        if likely and max(likely) < self.asking.abstain:
            found["answer"] = UNSURE
        if self.asking.votes:
            found["share"] = round(answer.share or 0.0, DIGITS)
        return found
