"""The file that ships is the file that is scored: a GGUF answers the rows of a run's report with its own weights.

It answers in free text, as other programs let it, and where there are labels also held to them, as predict and serve
do; each way is paired with the adapter's answers of that way, row by row. What comes out is a figure and decides
nothing: the rows are test rows, and whatever was chosen on them would be judged on the rows that chose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sg_local import prompts
from sg_local.evaluate.answering import Greedy, Restricted, Way, segments
from sg_local.evaluate.job import EvalQuestion, Evaluation, OnEvent
from sg_local.evaluate.journal import AnswerJournal, Ask
from sg_local.evaluate.scoreboard import Scoreboard
from sg_local.evaluate.systems import SYSTEMS, System
from sg_local.prompts import Form, Room
from sg_local.records import Answer, Sampling, Segments, SgError
from sg_local.report.records import ADAPTERS, FILE, FILE_RESTRICTED, TUNED, FileScore, Gain, Report, SystemResult
from sg_local.run import ANSWERS, FILE_ANSWERS

RUNS, CHAT = "run", "chat"
PROMPTS = (RUNS, CHAT)
"""In which prompts a file is asked: the run's, or those that its own chat template makes of a user's message."""


@dataclass(frozen=True)
class AskedFile:
    """A GGUF that is to answer: what it is called, where it lies, its type as a whole, its bytes, its SHA-256."""

    name: str
    path: Path
    type: str
    size_bytes: int
    sha256: str
    prompt: str = RUNS


@dataclass(frozen=True)
class Carried(Greedy):
    """Free text to a bare input, through a template that brings the task along: what a client of the file sends."""

    def _sampling(self, job: Evaluation, drawn: Sampling) -> Sampling:
        return drawn

    def _segments(self, job: Evaluation, question: EvalQuestion, room: Room) -> Segments:
        """The bare input; where the demonstrations that come along leave it no room, the whole prompt with fewer."""
        bare = prompts.render(self.form, [{"role": "user", "content": question.input}])
        return bare if room.holds(bare) else segments(job, self.form, question, room)


def score_file(job: Evaluation, file: AskedFile, report: Report, on_event: OnEvent = lambda event: None) -> FileScore:
    """The file's score on the rows of a report, paired with the adapter's; `job.generator` has the file open.

    Answers that the same file gave before are used again. Raises SgError where the report's own answers are gone, and
    where a file without a chat template is to be asked by it.
    """
    questions = [EvalQuestion(row.index, row.input, job.task.examples, row.outputs) for row in report.rows]
    journal = AnswerJournal(job, on_event, file=FILE_ANSWERS)
    texts, ways = _texts_of_report(job, report), _ways(job, file)
    asks = {system: Ask(f"{system.name}_{file.prompt}", system.title, way) for system, way in ways.items()}
    journal.bind(reversed(asks.values()))  # held to labels first: what that reads serves the free text
    for system, one in asks.items():
        given = journal.ask(one.name, one.title, one.way, questions)
        texts[system] = [answer.text for answer in given]
    _forget_other_rows(journal, questions)
    inputs, wanted = ([getattr(one, name) for one in questions] for name in ("input", "wanted"))
    board = Scoreboard(job.task, texts, inputs, wanted, job.settings.seed, job.settings.resamples)
    return _scored(board, file)


def with_file(report: Report, score: FileScore) -> Report:
    """The report with a file's figures, in place of earlier ones of the same file and prompts."""
    others = [one for one in report.files or () if (one.file, one.prompt) != (score.file, score.prompt)]
    return replace(report, files=(*others, score))


@dataclass(frozen=True)
class FileFigures:
    """What a gate on a file is held against: its systems and gains beside those of the report."""

    report: Report
    score: FileScore

    @property
    def systems(self) -> dict[str, SystemResult]:
        """By name."""
        return {**self.report.systems, **self.score.systems}

    @property
    def gains(self) -> dict[str, Gain]:
        """Under `ONE-OTHER`."""
        return {**self.report.gains, **self.score.gains}


def _ways(job: Evaluation, file: AskedFile) -> dict[System, Way]:
    """How the file answers: in the prompts of its template in free text alone, for a client knows of no labels."""
    free = System(FILE, "tuned", "free", file.name, "greedy", TUNED)
    if file.prompt == CHAT:
        form = _own_form(job, file)
        way = Carried(form) if _carries(job, form) else Greedy(form)
        return {replace(free, form=form.name, title=f"{file.name}, its own chat template"): way}
    found: dict[System, Way] = {replace(free, form=job.form.name): Greedy(job.form)}
    if job.task.labels:
        title = f"{file.name}, labels only"
        held = System(FILE_RESTRICTED, "tuned", "restricted", title, "restricted", TUNED, job.form.name)
        found[held] = Restricted(job.form)
    return found


def _own_form(job: Evaluation, file: AskedFile) -> Form:
    info = job.generator.info
    if not info.chat_template:
        raise SgError(f"{file.path} has no chat template.", "Ask it in the run's own prompts.", exit_code=2)
    return prompts.form_of(info, "chat")


def _carries(job: Evaluation, form: Form) -> bool:
    """Whether the template puts the task's instruction before a bare user message."""
    bare = prompts.render(form, [{"role": "user", "content": "?"}])
    return job.task.instruction in "".join(segment.text for segment in bare)


def _texts_of_report(job: Evaluation, report: Report) -> dict[System, list[str]]:
    """What the adapter and the base answered to the report's rows, in each way that a file answers."""
    texts = {(row.system, row.index): row.text for row in job.run.read(ANSWERS, Answer)}
    names = [name for name in ADAPTERS.values() if name in report.systems]
    names += [report.systems[name].against for name in names]
    found = {}
    for system in (one for one in SYSTEMS if one.name in names):
        try:
            found[system] = [texts[system.name, row.index] for row in report.rows]
        except KeyError as error:
            hint = f"Run `eval {job.run.typed}` with `redo`: the report is of other answers."
            raise SgError(f"{job.run.path(ANSWERS)} lacks answers of {system.name}.", hint) from error
    return found


def _forget_other_rows(journal: AnswerJournal, questions: Sequence[EvalQuestion]) -> None:
    """Drop the answers to rows that are no test rows any more; other files' answers to today's stay."""
    asked = {(one.index, one.input) for one in questions}
    journal.used |= {row.id for row in journal.known.values() if (row.index, row.input) in asked}
    journal.prune()


def _scored(board: Scoreboard, file: AskedFile) -> FileScore:
    by_name = {system.name: system for system in board.texts}
    files = [system for system in board.texts if system.name in ADAPTERS]
    pairs = [(one, by_name[ADAPTERS[one.name]]) for one in files]
    against = [*pairs, *((one, by_name[tuned.against]) for one, tuned in pairs if tuned.against in by_name)]
    return FileScore(
        file=file.name,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        type=file.type,
        prompt=file.prompt,
        systems={one.name: board.result(one) for one in files},
        gains={f"{one.name}-{other.name}": board.gain(one, other) for one, other in against},
        same={one.name: _share_equal(board.texts[one], board.texts[tuned]) for one, tuned in pairs},
    )


def _share_equal(ours: Sequence[str], theirs: Sequence[str]) -> float:
    return round(100 * sum(map(str.__eq__, ours, theirs)) / len(ours), 2)
