"""Files that answer the run's test rows: what was exported, by itself once there is a report, and any GGUF on request.

An export may come before the evaluation or after it, so a file is scored by whichever stage finds both a report of the
run's adapter and the file. Its own answers are kept in file_answers.jsonl, its figures in report.json.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends import EngineSettings, Generator, engine_here, makes_weights, open_generator
from sg_local.files import file_digest
from sg_local.job.engine import held_engine
from sg_local.job.events import Listener, Moved
from sg_local.job.job import OpenRun
from sg_local.models.alike import check_alike
from sg_local.records import SgError
from sg_local.run import ADAPTER, REPORT

if TYPE_CHECKING:
    from sg_local.evaluate import AskedFile
    from sg_local.report import FileScore, Report

logger = logging.getLogger(__name__)


def asked_file(job: OpenRun, path: Path, prompt: str) -> AskedFile:
    """A GGUF that is to answer. Raises SgError (usage) for one that cannot stand in for the run's base."""
    from sg_local.evaluate import PROMPTS, AskedFile

    if prompt not in PROMPTS:
        hint = f"Give one of: {', '.join(PROMPTS)}."
        raise SgError(f"A file is not asked in {prompt!r} prompts.", hint, exit_code=2)
    facts = check_alike(path, job.base.path)
    ours = path.resolve().parent == job.run.root.resolve()
    name = path.name if ours else str(path)
    digest = file_digest(path, job.plan["engine"].cache) or ""
    return AskedFile(name, path, facts.type, facts.size_bytes, digest, prompt)


def score_file(job: OpenRun, file: AskedFile, tell: Listener) -> FileScore:
    """Score any GGUF; the run's evaluation must be done, and stays so. What an export made of these bytes says so."""
    from sg_local import evaluate, export
    from sg_local.job.export import export_job
    from sg_local.job.stages import still_sealed

    with still_sealed(job, "eval"):
        found = score(job, file, tell)
        if file.prompt == evaluate.RUNS and makes_weights(job.trainer):
            export.add_scores(export_job(job))
    return found


def score(job: OpenRun, file: AskedFile, tell: Listener, stage: str = "eval") -> FileScore:
    """Let the file answer the rows of the run's report, and keep its score there. Lets go of the base's engine."""
    from sg_local import evaluate as room
    from sg_local.job.evaluate import evaluation_of
    from sg_local.report import read_report, write_report

    report = read_report(job.run)
    _ = job.forms, job.form  # the base's, known before its engine closes
    job.close()
    with opened(job, file.path) as generator:
        work = evaluation_of(job, generator=generator)
        found = room.score_file(work, file, report, lambda event: tell(Moved(stage, event)))
    write_report(job.run, room.with_file(read_report(job.run), found))
    logger.info("file %s, sha256 %s, scored on %d rows", file.name, file.sha256, report.n)
    return found


def score_exported(job: OpenRun, tell: Listener, stage: str) -> None:
    """Score every exported file that passed its gate and has not answered yet; their papers say how well."""
    from sg_local import evaluate as room
    from sg_local import export
    from sg_local.job.export import export_job

    report = current_report(job)
    if report is None or not job.plan["eval"].score_files:
        return
    known = {one.sha256 for one in report.files or () if one.prompt == room.RUNS}
    paths = [path for path, digest in export.passed_files(export_job(job)) if digest not in known]
    for path in paths:
        score(job, asked_file(job, path, room.RUNS), tell, stage)
    if paths:
        export.add_scores(export_job(job))


def current_report(job: OpenRun) -> Report | None:
    """The run's report, where it is of the adapter as it is now."""
    from sg_local.report import read_report

    if not job.run.path(REPORT).exists():
        return None
    report = read_report(job.run)
    return report if report.adapter.sha256 == file_digest(job.run.path(ADAPTER)) else None


@contextlib.contextmanager
def opened(job: OpenRun, path: Path) -> Iterator[Generator]:
    """An engine on the very file, never on a faster copy of it, with as many sequences as the run's own has."""
    held: EngineSettings = held_engine(job.backend, job.plan["engine"], job.record)
    generator = open_generator(engine_here(job.backend), path, replace(held, fast_copy=False, format=None))
    try:
        yield generator
    finally:
        generator.close()
