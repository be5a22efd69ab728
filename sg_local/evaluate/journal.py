"""The journal of answers: questions go to a way of answering chunk by chunk, and every answer is kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.backends.together import together
from sg_local.evaluate.answering import Ids, Reply, Way
from sg_local.evaluate.job import EvalEvent, EvalQuestion, Evaluation, OnEvent
from sg_local.evaluate.systems import System
from sg_local.files import file_digest
from sg_local.records import Answer, digest
from sg_local.run import ANSWERS


@dataclass(frozen=True)
class Ask:
    """A way of answering, the name that its answers get, and a title for people."""

    name: str
    title: str
    way: Way


class AnswerJournal:
    """Every answer of an evaluation. `given` holds this evaluation's by name, `public` those of the report's systems.

    Without `keeps` the journal on disk is read, and stays as it is. `file` is its name in the run folder.

    A chunk that an earlier try left unfinished is asked for again as a whole and only its missing rows are
    appended, so that a resumed evaluation ends with the same bytes as an uninterrupted one. The rows of ways that
    answer a chunk together are appended at once, question by question, and asked for again together: wherever the
    writing ended, each of the ways lacks some.
    """

    def __init__(self, job: Evaluation, on_event: OnEvent, *, keeps: bool = True, file: str = ANSWERS) -> None:
        self.job, self.on_event, self.keeps, self.file = job, on_event, keeps, file
        self.known = {row.id: row for row in job.run.read(file, Answer)}
        self.used: set[str] = set()
        self.given: dict[str, list[Answer]] = {}
        self.public: dict[System, list[Answer]] = {}
        self.bound: dict[str, tuple[Ask, ...]] = {}
        self.adapter = ""
        self.part = self.n_parts = 0

    def use_adapter(self, path: Path | None) -> None:
        """Answer with this adapter from now on, or with the base alone."""
        self.adapter = (file_digest(path) or "") if path else ""
        self.job.generator.use_adapter(path)

    def ask(self, name: str, title: str, way: Way, questions: Sequence[EvalQuestion]) -> list[Answer]:
        """One answer for each question, in order, from the journal where it has them; `title` is for people."""
        own = Ask(name, title, way)
        asks = self.bound.get(name, (own,))
        ids = self._ids(own, questions)
        size = self.job.settings.chunk_size
        self._tell(name, title, 0, len(ids))
        for start in range(0, len(ids), size):
            chunk, chunk_ids = questions[start : start + size], ids[start : start + size]
            if not all(id in self.known for id in chunk_ids):
                self._answer(asks, chunk)
            self._tell(name, title, start + len(chunk), len(ids), self._latest(chunk_ids))
        return self._give(name, ids)

    def knows(self, name: str, title: str, way: Way, questions: Sequence[EvalQuestion]) -> bool:
        """Whether all of these were answered before."""
        return all(id in self.known for id in self._ids(Ask(name, title, way), questions))

    def bind(self, asks: Iterable[Ask]) -> None:
        """Let these answer together whenever one of them is asked: they read the same prompts of the same questions."""
        found = tuple(asks)
        self.bound |= dict.fromkeys((one.name for one in found), found)

    def _answer(self, asks: Sequence[Ask], chunk: Sequence[EvalQuestion]) -> None:
        """Let those answer that have not; where one has to some of the chunk only, they were interrupted: all again."""
        ids = {one: self._ids(one, chunk) for one in asks}
        n_known = {one: sum(id in self.known for id in ids[one]) for one in asks}
        is_torn = any(0 < n < len(chunk) for n in n_known.values())
        wanted = [one for one in asks if is_torn or not n_known[one]]
        rows: list[Answer] = []
        with together(self.job.generator) if len(wanted) > 1 else contextlib.nullcontext():
            for one in wanted:
                replies = one.way.replies(self.job, chunk, ids[one])
                rows += self._rows(one.name, chunk, ids[one], replies)
        place = {id: i for one in wanted for i, id in enumerate(ids[one])}
        self._append(sorted(rows, key=lambda row: place[row.id]))

    def _ids(self, ask: Ask, questions: Sequence[EvalQuestion]) -> list[str]:
        shape = [self.job.task.schema] if self.job.task.schema and self.job.settings.constrain else []
        made_by = digest([_name(ask.way), _shape(ask.way), self.job.generator.info.digest, *shape])
        return [question.id(ask.name, f"{made_by} {self.adapter}") for question in questions]

    def _tell(self, name: str, title: str, done: int, wanted: int, latest: tuple[str, ...] = ()) -> None:
        self.on_event(EvalEvent(name, title, done, wanted, latest, self.part, self.n_parts))

    def derive(self, name: str, questions: Sequence[EvalQuestion], replies: Sequence[Reply]) -> list[Answer]:
        """Journal answers that were worked out from others, or from no model at all."""
        ids = [q.id(name, digest([r.text, *r.scores])) for q, r in zip(questions, replies, strict=True)]
        self._append(self._rows(name, questions, ids, replies))
        return self._give(name, ids)

    def publish(self, system: System, answers: Sequence[Answer]) -> None:
        """Let these answers to the test rows count as a system of the report."""
        self.public[system] = list(answers)

    def prune(self) -> None:
        """Drop answers that other settings, another adapter or other rows left behind."""
        if set(self.known) - self.used:
            self.job.run.replace(self.file, [row for row in self.known.values() if row.id in self.used])

    def _rows(self, name: str, questions: Sequence[EvalQuestion], ids: Ids, replies: Sequence[Reply]) -> list[Answer]:
        """The answers that are not known yet."""
        return [
            Answer(id, name, question.index, question.input, reply.text, reply.scores)
            for id, question, reply in zip(ids, questions, replies, strict=True)
            if id not in self.known
        ]

    def _append(self, rows: Sequence[Answer]) -> None:
        if self.keeps:
            self.job.run.append(self.file, rows)
        self.known.update({row.id: row for row in rows})

    def _give(self, name: str, ids: Ids) -> list[Answer]:
        self.used.update(ids)
        self.given[name] = [self.known[id] for id in ids]
        return self.given[name]

    def _latest(self, ids: Ids) -> tuple[str, ...]:
        return tuple(f"{row.input} -> {row.text}" for row in (self.known[id] for id in ids[-3:]))


def _name(way: Way) -> str:
    """What ids call a way: one whose near ties fall as they may is the same way."""
    name: str = getattr(way, "known_as", type(way).__name__)
    return name


def _shape(way: Way) -> dict[str, Any]:
    """What of a way shapes its answers, its form as stamps have it, so that answers of 0.1.0 still count."""
    shape, form = dataclasses.asdict(way), getattr(way, "form", None)
    return shape if form is None else {**shape, "form": form.stamped}
