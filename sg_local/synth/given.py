"""Rows that stand before stage A: people's own inputs and labelled rows, and inputs of an earlier version of the task.

They are journalled like synthesised inputs, before the first round, with their source on the row. Own inputs count
towards what is wanted, so that stage A writes only what is missing, or nothing; labelled rows do not. Stage A goes on
from them: an own input is answered first, since a list that is written output first can only show pairs.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sg_local import prompts
from sg_local.prompts import TooLong
from sg_local.records import (
    EARLIER,
    LABELLED,
    OWN,
    Candidate,
    InputRow,
    MadeOtherwise,
    row_id,
    seed_of,
)
from sg_local.run import CANDIDATES, INPUTS, Run
from sg_local.synth.job import Synthesis, SynthSettings

logger = logging.getLogger(__name__)

ROUND = -1
"""The round of rows that no round wrote."""


@dataclass(frozen=True)
class GivenRow:
    """An input and where it comes from. `output` is a labelled row's right answer, or what an earlier input was
    written for; empty for an own input.
    """

    input: str
    output: str = ""
    source: str = OWN


GivenGate = Callable[[GivenRow, Sequence[str]], str]
"""(row, inputs accepted so far) -> `rule: reason` that rejects it, or an empty string."""


@dataclass(frozen=True)
class Given:
    """Everything that stands before stage A. `answers` tells for answered own inputs, by the candidates' ids, the
    outputs that stage A may show; what it leaves out is not shown.
    """

    rows: tuple[GivenRow, ...] = ()
    gate: GivenGate = lambda row, accepted: ""
    answers: Callable[[Sequence[Candidate]], Mapping[str, str]] = lambda candidates: {}


def write_given(job: Synthesis, given: Given) -> list[InputRow]:
    """The rows before stage A, journalled. Raises MadeOtherwise where the journal holds other ones."""
    on_disk = job.run.read(INPUTS, InputRow)
    known = {row.id for row in on_disk if row.round == ROUND}
    rows = _judged(job, given) if given.rows else []
    missing = [row for row in rows if row.id not in known]
    begun = any(row.round != ROUND for row in on_disk)
    if known - {row.id for row in rows} or (missing and begun) or (begun and not _is_of_task(job, on_disk)):
        raise MadeOtherwise(
            f"Run {job.run.name} holds inputs that were begun with other own rows or another version of the task.",
            "Use `redo` to make them again, or another `name` for a new run.",
        )
    job.run.append(INPUTS, missing)
    return rows


def _is_of_task(job: Synthesis, on_disk: Sequence[InputRow]) -> bool:
    """Whether the first round was written for this task and seed."""
    first = row_id(job.task.digest, "input", 0, 0, job.seed)
    return any(row.id == first for row in on_disk)


def _judged(job: Synthesis, given: Given) -> list[InputRow]:
    """Labelled rows in their order; then own and earlier inputs, drawn until as many are accepted as are wanted."""
    rows: list[InputRow] = []
    accepted: list[str] = []
    seen: set[str] = set()
    for place, row in enumerate(_in_turn(job, given.rows)):
        if row.source != LABELLED and is_enough(job.settings, rows):
            logger.info("%d given rows are more than is wanted: not looked at", len(given.rows) - place)
            break
        text = prompts.normalise(row.input) or row.input
        rejected = "duplicate: the same input was given before" if text in seen else given.gate(row, accepted)
        found = _row(job, row, place, rejected or _too_long(job, row))
        seen.add(text)
        rows.append(found)
        if not found.rejected:
            accepted.append(row.input)
    return rows


def _in_turn(job: Synthesis, rows: Sequence[GivenRow]) -> list[GivenRow]:
    """Labelled rows, own inputs, earlier ones. Inputs are shuffled: files are often sorted by what they are about."""
    parts = {source: [row for row in rows if row.source == source] for source in (LABELLED, OWN, EARLIER)}
    random.Random(job.seed).shuffle(parts[OWN])
    return [row for part in parts.values() for row in part]


def _row(job: Synthesis, row: GivenRow, place: int, rejected: str) -> InputRow:
    id = row_id(job.task.digest, "given", row.source, place, row.input, row.output, job.seed)
    return InputRow(id, ROUND, place, seed_of(id), row.input, row.output or None, rejected=rejected, source=row.source)


def _too_long(job: Synthesis, row: GivenRow) -> str:
    """Why the context cannot hold the input; a synthesised one cannot come to that, its length is bounded."""
    try:
        prompts.fitted_answer(job.output_room, job.task, job.form, row.input, ())
    except TooLong:
        return f"context: with instruction and answer it is longer than {job.n_ctx} tokens"
    return ""


def is_enough(settings: SynthSettings, rows: Sequence[InputRow]) -> bool:
    """True when the rows hold what was wanted; labelled ones, and given ones that were refused, count nothing."""
    accepted = sum(not row.rejected for row in rows if row.source != LABELLED)
    return n_asked(rows) >= settings.n_asked or (settings.n_inputs is not None and accepted >= settings.n_inputs)


def n_asked(rows: Sequence[InputRow]) -> int:
    """How many rows count as asked for: not labelled ones, nor given ones that were refused."""
    return sum(row.source != LABELLED and not (row.source and row.rejected) for row in rows)


def as_pool(
    run: Run, given: Given, rows: Sequence[InputRow], candidate_id: Callable[[InputRow], str]
) -> list[InputRow]:
    """The rows as stage A shows them: own inputs with the output that they got, None where they got none.

    What was answered of stage A's own rows already, by a run that goes on, has no part in it.
    """
    answered = given.answers([row for row in run.read(CANDIDATES, Candidate) if row.source])
    return [
        replace(row, label_asked=answered.get(candidate_id(row))) if row.source == OWN and not row.rejected else row
        for row in rows
    ]
