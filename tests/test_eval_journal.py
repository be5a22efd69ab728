"""Ways that read the same prompts answer a chunk together, all of them or none."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tiny_runs import SETTINGS, TASK, job_of

from sg_local.evaluate.answering import Reply
from sg_local.evaluate.job import EvalQuestion
from sg_local.evaluate.journal import AnswerJournal, Ask
from sg_local.run import ANSWERS

CALLS: list[tuple[str, int]] = []
QUESTIONS = [EvalQuestion(i, row.input, TASK.examples, row.outputs) for i, row in enumerate(TASK.tests)]


@dataclass(frozen=True)
class Told:
    """Answers with its own name, and tells that it was asked."""

    name: str

    def replies(self, job, questions, ids) -> list[Reply]:
        CALLS.append((self.name, len(questions)))
        return [Reply(self.name) for _ in questions]


ASKS = [Ask(name, name, Told(name)) for name in ("scores", "greedy", "votes")]


def asked(journal: AnswerJournal, name: str) -> list[str]:
    one = next(one for one in ASKS if one.name == name)
    return [row.text for row in journal.ask(one.name, one.title, one.way, QUESTIONS)]


def journal_of(folder) -> AnswerJournal:
    CALLS.clear()
    settings = dataclasses.replace(SETTINGS, chunk_size=len(QUESTIONS))
    journal = AnswerJournal(job_of(folder, settings=settings), lambda event: None)
    journal.bind(ASKS)
    return journal


def test_who_is_asked_first_lets_all_answer_in_their_order(tmp_path):
    journal = journal_of(tmp_path)
    n = len(QUESTIONS)
    assert asked(journal, "greedy") == ["greedy"] * n
    assert CALLS == [("scores", n), ("greedy", n), ("votes", n)]
    assert asked(journal, "votes") == ["votes"] * n and asked(journal, "scores") == ["scores"] * n
    assert len(CALLS) == 3 and "greedy" in journal.given


def test_where_a_way_was_interrupted_all_are_asked_again_and_the_rest_is_appended(tmp_path):
    journal = journal_of(tmp_path)
    asked(journal, "scores")
    path = journal.job.run.path(ANSWERS)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(QUESTIONS) + 1]))  # ended while the second way was written
    journal = journal_of(tmp_path)
    for one in ASKS:
        asked(journal, one.name)
    assert [name for name, _ in CALLS] == ["scores", "greedy", "votes"]
    assert path.read_bytes() == whole


def test_wherever_the_writing_ended_all_are_asked_again_together(tmp_path):
    journal = journal_of(tmp_path)
    asked(journal, "scores")
    path = journal.job.run.path(ANSWERS)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for n_left in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:n_left]))
        journal = journal_of(tmp_path)
        for one in ASKS:
            asked(journal, one.name)
        assert [name for name, _ in CALLS] == ["scores", "greedy", "votes"], n_left
        assert path.read_bytes() == whole


def test_what_was_answered_before_asks_nobody(tmp_path):
    asked(journal_of(tmp_path), "scores")
    journal = journal_of(tmp_path)
    assert [asked(journal, one.name)[0] for one in ASKS] == [one.name for one in ASKS] and CALLS == []


def test_a_way_that_is_asked_otherwise_asks_alone(tmp_path):
    asked(journal_of(tmp_path), "scores")
    journal = journal_of(tmp_path)
    other = Ask("votes", "votes", Told("other"))
    journal.bind((*ASKS[:2], other))
    assert [row.text for row in journal.ask(other.name, other.title, other.way, QUESTIONS)] == ["other"] * 4
    assert [name for name, _ in CALLS] == ["other"] and asked(journal, "scores") == ["scores"] * 4
