"""The evaluation stage: leak check, answers from every system, report.json, stamp."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sg_local import metrics
from sg_local.evaluate.calibrating import reliabilities
from sg_local.evaluate.job import EvalQuestion, Evaluation, OnEvent, held_out_questions
from sg_local.evaluate.journal import AnswerJournal
from sg_local.evaluate.memory import memory_check
from sg_local.evaluate.rounds import Settled, answer_all
from sg_local.evaluate.scoreboard import Scoreboard
from sg_local.evaluate.systems import served
from sg_local.files import file_digest
from sg_local.records import SgError, digest
from sg_local.report.file import read_funnel, read_report, write_report
from sg_local.report.records import AdapterFacts, BaseFacts, Confusion, Excluded, Report, ScoredRow, SystemResult
from sg_local.run import ADAPTER, ANSWERS, CANDIDATES, REPORT, STAGES

logger = logging.getLogger(__name__)

READS = (ADAPTER, CANDIDATES)


def evaluate(job: Evaluation, on_event: OnEvent = lambda event: None) -> Report:
    """Answer the test rows with every system and write report.json; a finished evaluation is read back.

    The base answers first, then the adapter is switched on, and off again. Raises SgError for a run without an
    adapter and for a task without usable test rows.
    """
    asked = _stamped(job)
    if job.run.path(REPORT).exists() and job.run.is_done("eval", asked, READS):
        return read_report(job.run)
    started = time.monotonic()
    questions, leaked = clean_questions(job)
    n_examples, n_training = len(leaked.examples), len(leaked.training)
    logger.info("%d test rows; left out: %d like examples, %d as in training", len(questions), n_examples, n_training)
    journal = AnswerJournal(job, on_event)
    settled = answer_all(journal, questions)
    journal.prune()
    seconds = round(time.monotonic() - started, 1)
    report = build_report(journal, questions, leaked, settled, seconds)
    write_report(job.run, report)
    job.run.write_stamp("eval", asked, READS, (ANSWERS,), seconds=seconds, n=len(questions))
    return report


def _stamped(job: Evaluation) -> dict[str, Any]:
    """The settings that the stamp holds, test rows and prompt forms among them."""
    tests = [dataclasses.asdict(row) for row in job.task.tests]
    examples = job.examples_adapter
    forms = [form.stamped for form in (job.form, *job.forms)]
    return {
        **job.settings.stamped,
        "tests": digest(tests),
        "forms": digest(forms),
        "gate": job.gate,
        "examples adapter": file_digest(examples) if examples is not None else None,
        **({"canary adapter": file_digest(job.canary_adapter)} if job.canary_adapter is not None else {}),
    }


def clean_questions(job: Evaluation) -> tuple[list[EvalQuestion], Excluded]:
    """The test rows that nobody has seen, and the places of those that leaked, by where from."""
    if not job.task.tests:
        hint = "Add [[tests]] to the task, or give `tests=FILE`."
        raise SgError(f"Task {job.task.name} has no test rows.", hint, exit_code=2)
    threshold = job.settings.leak_threshold
    shown = metrics.leaks(job.test_inputs, [pair.input for pair in job.task.examples], threshold)
    trained = metrics.leaks(job.test_inputs, [pair.input for pair in job.pairs], threshold)
    questions = held_out_questions(job, [a or b for a, b in zip(shown, trained, strict=True)])
    if not questions:
        hint = "Write test rows that differ from the examples and from the training rows."
        raise SgError(f"Every test row of task {job.task.name} leaked.", hint)
    leaked = Excluded(
        tuple(i for i, one in enumerate(shown) if one),
        tuple(i for i, one in enumerate(trained) if one and not shown[i]),
    )
    return questions, leaked


def build_report(
    journal: AnswerJournal, questions: Sequence[EvalQuestion], leaked: Excluded, settled: Settled, seconds: float
) -> Report:
    """Every figure, in percent, and each test row's scores; `seconds` is what the answers took."""
    job = journal.job
    texts = {system: [answer.text for answer in answers] for system, answers in journal.public.items()}
    inputs, wanted = ([getattr(one, name) for one in questions] for name in ("input", "wanted"))
    board = Scoreboard(job.task, texts, inputs, wanted, job.settings.seed, job.settings.resamples)
    info, stamps = job.generator.info, {stage: job.run.stamp(stage) or {} for stage in STAGES}
    return Report(
        run=job.run.name,
        task=job.task.name,
        task_digest=job.task.digest,
        kind=job.task.kind,
        model=BaseFacts(info.name, info.digest, info.size_bytes),
        adapter=AdapterFacts(file_digest(job.run.path(ADAPTER))),
        form=job.form.name,
        n_training=len(job.pairs),
        stages={**{name: stamp["seconds"] for name, stamp in stamps.items() if "seconds" in stamp}, "eval": seconds},
        funnel=read_funnel(job.run),
        versions={name: stamp["version"] for name, stamp in stamps.items() if "version" in stamp},
        metric=job.task.metric,
        n=len(questions),
        excluded=leaked,
        chosen=settled.chosen,
        retain=settled.retain,
        served=served(job.task.kind),
        systems=with_reliability(board.results(), journal, questions, settled),
        gains=board.gains(),
        outcomes=board.outcomes(),
        rows=tuple(_row(board, i, question) for i, question in enumerate(questions)),
        confusion=_confusion(board),
        memory=memory_check(job, questions, {one.name: said for one, said in texts.items()}, settled.canaries),
    )


def with_reliability(
    systems: Mapping[str, SystemResult], journal: AnswerJournal, questions: Sequence[EvalQuestion], settled: Settled
) -> dict[str, SystemResult]:
    """The systems' figures; where their answers have probabilities, also how far those mean what they say."""
    found = reliabilities(journal, questions, settled.calibrations)
    return {name: dataclasses.replace(one, reliability=found.get(name)) for name, one in systems.items()}


def _row(board: Scoreboard, i: int, question: EvalQuestion) -> ScoredRow:
    scores = {system.name: round(100 * board.primary(system)[i], 2) for system in board.texts}
    return ScoredRow(question.index, question.input, question.wanted, scores)


def _confusion(board: Scoreboard) -> Confusion | None:
    if board.task.kind != "classification":
        return None
    return Confusion(board.task.labels, {system.name: board.confusion(system) for system in board.texts})
