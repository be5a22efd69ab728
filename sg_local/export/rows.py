"""Rows of a run that the adapter was not trained on, for the gate; what chooses a type is never a test row."""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.export.job import Export
from sg_local.prompts import normalise
from sg_local.records import Candidate, Pair, digest
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
    tests = _tests(job)
    kept: dict[str, OwnRow] = {}
    for row in found:
        kept.setdefault(row.input, row)  # a validation row is a candidate, too: it stays in front, with its output
    return [row for row in kept.values() if normalise(row.input) not in tests][:MOST_ROWS]


def own_digest(job: Export) -> str:
    """Names the rows that a file may lose so much on and no more: a choice holds for these alone."""
    return digest([[row.input, row.wanted] for row in own_rows(job)])


def held_out_inputs(job: Export) -> list[str]:
    """Inputs that the adapter was not trained on, at most `n_answers`: validation rows, then synthesised ones that
    were not kept; no test rows. Answers are compared between two systems, so nobody needs to know the right ones.
    """
    trained, tests = {row["input"] for row in job.run.lines(TRAIN)}, _tests(job)
    spare = (row.input for row in job.run.read(CANDIDATES, Candidate))
    inputs = dict.fromkeys([*(pair.input for pair in job.valid), *(text for text in spare if text not in trained)])
    return [text for text in inputs if normalise(text) not in tests][: job.settings.n_answers]


def held_out_rows(job: Export) -> tuple[Pair, ...]:
    """The rows whose loss is measured: validation rows, but no test rows."""
    tests = _tests(job)
    return tuple(pair for pair in job.valid if normalise(pair.input) not in tests)[: job.settings.n_rows]


def _tests(job: Export) -> set[str]:
    """Inputs of the test rows, whoever wrote them: a type is chosen by others, and measured by these."""
    return {normalise(row.input) for row in job.task.tests}
