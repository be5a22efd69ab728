"""Rows of a run that the adapter was not trained on, for the gate; what chooses a type is never a test row."""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.export.job import Export
from sg_local.prompts import normalise
from sg_local.records import Candidate, Pair
from sg_local.run import CANDIDATES, TRAIN

MOST_ROWS = 256


@dataclass(frozen=True)
class OwnRow:
    """A row that the adapter was not trained on; None where nobody knows the right output."""

    input: str
    wanted: str | None


def own_rows(job: Export) -> list[OwnRow]:
    """Validation rows first; for a task with labels then synthesised inputs that were not trained on."""
    found = [OwnRow(pair.input, pair.output) for pair in job.valid]
    if job.task.labels:
        trained = {row["input"] for row in job.run.lines(TRAIN)}
        rows = (row.input for row in job.run.read(CANDIDATES, Candidate))
        found += [OwnRow(text, None) for text in rows if text not in trained]
    tests = {normalise(row.input) for row in job.task.tests}
    by_input = {row.input: row for row in reversed(found) if normalise(row.input) not in tests}
    return list(reversed(by_input.values()))[:MOST_ROWS]


def held_out_inputs(job: Export) -> list[str]:
    """Inputs that the adapter was not trained on, at most `n_answers`: validation rows, then synthesised ones that
    were not kept. Answers are compared between two systems, so nobody needs to know the right ones.
    """
    trained = {row["input"] for row in job.run.lines(TRAIN)}
    spare = (row.input for row in job.run.read(CANDIDATES, Candidate))
    inputs = dict.fromkeys([*(pair.input for pair in job.valid), *(text for text in spare if text not in trained)])
    return list(inputs)[: job.settings.n_answers]


def held_out_rows(job: Export) -> tuple[Pair, ...]:
    """The rows whose loss is measured."""
    return job.valid[: job.settings.n_rows]
