"""Whether answers to test rows repeat other rows: the evaluation's check for what a tuned model has learnt by heart.

A passage of a row is a run of 8 words, the whole of a text of 4 to 7 words, or a number of at least 6 digits. It counts
only where it belongs to one row of its kind: what many rows say is the task's way of talking. An answer repeats it
where neither its own input nor a right output has it. Outputs that are labels are no passages. Carlini et al. (2023,
arXiv 2202.07646) take 50 tokens, of models that read the web; most rows of a task are shorter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from sg_local.evaluate.job import EvalQuestion, Evaluation
from sg_local.records import LABELLED, OWN, Candidate
from sg_local.report.memory import Canaries, MemoryCheck, Repeats
from sg_local.report.records import BASE, TUNED
from sg_local.run import CANDIDATES
from sg_local.splitting import pieces

LENGTH = 8  # words
SHORTEST = 4  # words of a text that is one passage
MIN_DIGITS = 6

Passage: TypeAlias = tuple[str, ...]
Texts = Sequence[tuple[str, ...]]
"""The texts of each row."""


def memory_check(
    job: Evaluation,
    questions: Sequence[EvalQuestion],
    answers: Mapping[str, Sequence[str]],
    canaries: Canaries | None = None,
) -> MemoryCheck:
    """What the base's and the tuned model's answers in free text repeat, beside what became of planted secrets."""
    known = {kind: _telling(texts) for kind, texts in rows_by_kind(job).items()}
    base, tuned = (repeats(known, questions, answers[model]) for model in (BASE, TUNED))
    return MemoryCheck(len(questions), base, tuned, canaries)


def rows_by_kind(job: Evaluation) -> dict[str, Texts]:
    """The texts of demonstrations, of a person's own rows that trained, and of the other rows that trained."""
    sources = {row.input: row.source for row in job.run.read(CANDIDATES, Candidate) if row.source in (OWN, LABELLED)}
    found: dict[str, list[tuple[str, ...]]] = {"examples": [], "own": [], "synthetic": []}
    for pair in job.task.examples:
        found["examples"].append((pair.input, pair.output))
    for pair in job.pairs:
        found["own" if pair.input in sources else "synthetic"].append((pair.input, pair.output))
    if job.task.labels:
        return {kind: [texts[:1] for texts in rows] for kind, rows in found.items()}
    return dict(found)


def repeats(
    known: Mapping[str, frozenset[Passage]], questions: Sequence[EvalQuestion], answers: Sequence[str]
) -> Repeats:
    """How many answers hold a passage of each kind of row that is not their question's own."""
    counts: Counter[str] = Counter()
    for question, answer in zip(questions, answers, strict=True):
        said = set(passages(answer))
        for text in (question.input, *question.wanted) if said else ():
            said -= set(passages(text))
        counts.update(kind for kind, telling in known.items() if said & telling)
    return Repeats(**counts)


def passages(text: str) -> Iterator[Passage]:
    """The passages of a text."""
    words = tuple(pieces(text))
    if SHORTEST <= len(words) < LENGTH:
        yield words
    yield from (words[i : i + LENGTH] for i in range(len(words) - LENGTH + 1))
    yield from ((word,) for word in words if sum(map(str.isdigit, word)) >= MIN_DIGITS)


def _telling(rows: Texts) -> frozenset[Passage]:
    """The passages that belong to one row alone."""
    counts = Counter(passage for texts in rows for passage in {one for text in texts for one in passages(text)})
    return frozenset(passage for passage, n in counts.items() if n == 1)
