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
    return [row for row in _untrained(job) if job.task.labels or row.wanted is not None][:MOST_ROWS]


def own_digest(job: Export) -> str:
    """Names the rows that a file may lose so much on and no more: a choice holds for these alone."""
    return digest([[row.input, row.wanted] for row in own_rows(job)])


def held_out_inputs(job: Export) -> list[str]:
    """Inputs that the adapter was not trained on, at most `n_answers`: validation rows, then synthesised ones that
    were not kept; no test rows. Answers are compared between two systems, so nobody needs to know the right ones.
    """
    return [row.input for row in _untrained(job)][: job.settings.n_answers]


def held_out_rows(job: Export) -> tuple[Pair, ...]:
    """The rows whose loss is measured: validation rows, but no test rows."""
    tests = _tests(job)
    return tuple(pair for pair in job.valid if normalise(pair.input) not in tests)[: job.settings.n_rows]


def _untrained(job: Export) -> list[OwnRow]:
    """Each input once that the adapter was not trained on and that is no test row: first those that validated it.

    A validation row is a synthesised one, too: it stays in front, with its output.
    """
    trained, tests = {row["input"] for row in job.run.lines(TRAIN)}, _tests(job)
    found = [OwnRow(pair.input, pair.output) for pair in job.valid]
    spare = (row.input for row in job.run.read(CANDIDATES, Candidate))
    found += [OwnRow(text, None) for text in spare if text not in trained]
    kept: dict[str, OwnRow] = {}
    for row in found:
        kept.setdefault(row.input, row)
    return [row for row in kept.values() if normalise(row.input) not in tests]


def _tests(job: Export) -> set[str]:
    """Inputs of the test rows, whoever wrote them: a type is chosen by others, and measured by these."""
    return {normalise(row.input) for row in job.task.tests}
