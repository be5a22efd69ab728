"""The evaluation stage: leak check, answers from every system, report.json, stamp."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from sg_local import metrics
from sg_local.evaluate.job import Evaluation, OnEvent, Question, test_questions
from sg_local.evaluate.journal import Desk
from sg_local.evaluate.scoreboard import Scoreboard
from sg_local.evaluate.systems import Outcome, answer_all
from sg_local.records import Answer, SgError, digest
from sg_local.run import ADAPTER, CANDIDATES, REPORT, STAGES, file_digest, read_json

READS = (ADAPTER, CANDIDATES)


def evaluate(job: Evaluation, on_event: OnEvent = lambda event: None) -> dict[str, Any]:
    """Answer the test rows with every system and write report.json; a finished evaluation is read back.

    The base answers first, then the adapter is switched on, and off again. Raises SgError for a run without an
    adapter and for a task without usable test rows.
    """
    asked = _stamped(job)
    if job.run.path(REPORT).exists() and job.run.is_done("eval", asked, READS):
        return read_json(job.run.path(REPORT))
    started = time.monotonic()
    questions, leaked = clean_questions(job)
    desk = Desk(job, on_event)
    outcome = answer_all(desk, questions)
    desk.prune()
    seconds = time.monotonic() - started
    report = build_report(job, questions, leaked, desk.public, outcome)
    report["stages"]["eval"] = round(seconds, 1)
    job.run.write_json(REPORT, report)
    job.run.write_stamp("eval", asked, READS, seconds=round(seconds, 1), n=len(questions))
    return report


def _stamped(job: Evaluation) -> dict[str, Any]:
    """The settings that the stamp holds, test rows and prompt forms among them."""
    tests = [dataclasses.asdict(row) for row in job.task.tests]
    examples = job.examples_adapter
    forms = [dataclasses.asdict(form.stamped) for form in (job.form, *job.forms)]
    return {
        **dataclasses.asdict(job.settings),
        "tests": digest(tests),
        "forms": digest(forms),
        "gate": job.gate,
        "examples adapter": file_digest(examples) if examples is not None else None,
    }


def clean_questions(job: Evaluation) -> tuple[list[Question], dict[str, list[int]]]:
    """The test rows that nobody has seen, and the places of those that leaked, by where from."""
    if not job.task.tests:
        hint = "Add [[tests]] to the task, or give `--tests FILE`."
        raise SgError(f"Task {job.task.name} has no test rows.", hint, exit_code=2)
    threshold = job.settings.leak_threshold
    shown = metrics.leaks(job.test_inputs, [pair.input for pair in job.task.examples], threshold)
    trained = metrics.leaks(job.test_inputs, [pair.input for pair in job.pairs], threshold)
    questions = test_questions(job, [a or b for a, b in zip(shown, trained, strict=True)])
    if not questions:
        hint = "Write test rows that differ from the examples and from the training rows."
        raise SgError(f"Every test row of task {job.task.name} leaked.", hint)
    leaked = {
        "examples": [i for i, one in enumerate(shown) if one],
        "training": [i for i, one in enumerate(trained) if one and not shown[i]],
    }
    return questions, leaked


def build_report(
    job: Evaluation,
    questions: Sequence[Question],
    leaked: dict[str, list[int]],
    public: dict[str, list[Answer]],
    outcome: Outcome,
) -> dict[str, Any]:
    """report.json: every figure, in percent, and each test row's scores."""
    board = Scoreboard(
        job.task,
        {name: [answer.text for answer in answers] for name, answers in public.items()},
        [question.wanted for question in questions],
        job.settings.seed,
        job.settings.resamples,
    )
    systems = {name: board.system(name) for name in public}
    report = {
        **_facts(job),
        "metric": job.task.metric,
        "n": len(questions),
        "excluded": leaked,
        "chosen": outcome.chosen,
        "retain": outcome.retain,
        **{name: systems[name] for name in ("base", "base_vote", "tuned")},
        "systems": systems,
        "gains": board.gains(),
        "verdicts": board.verdicts(),
        "rows": [_row(board, i, question) for i, question in enumerate(questions)],
    }
    if job.task.kind == "classification":
        tables = {name: board.confusion(name) for name in public}
        report["confusion"] = {"labels": list(job.task.labels), "tables": tables}
    return report


def _row(board: Scoreboard, i: int, question: Question) -> dict[str, Any]:
    scores = {name: round(100 * board.primary(name)[i], 2) for name in board.texts}
    return {"index": question.index, "input": question.input, "outputs": list(question.wanted), "scores": scores}


def _facts(job: Evaluation) -> dict[str, Any]:
    """Whose report it is: task, model, adapter, form, stage seconds and the filters' funnel."""
    info = job.generator.info
    stamps = {stage: job.run.stamp(stage) or {} for stage in STAGES}
    return {
        "run": job.run.name,
        "task": job.task.name,
        "task_digest": job.task.digest,
        "kind": job.task.kind,
        "model": {"name": info.name, "sha256": info.digest, "size_bytes": info.size_bytes},
        "adapter": {"sha256": file_digest(job.run.path(ADAPTER))},
        "form": job.form.name,
        "n_training": len(job.pairs),
        "stages": {stage: stamp["seconds"] for stage, stamp in stamps.items() if "seconds" in stamp},
        "funnel": stamps["filter"].get("funnel", {}),
        "versions": {stage: stamp["version"] for stage, stamp in stamps.items() if "version" in stamp},
    }
