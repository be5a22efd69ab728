"""What tuning cost elsewhere: perplexity on a neutral text and answers to general questions, base against tuned.

The text and the questions are our own and say nothing about any task. This is a smoke alarm, no benchmark: a jump in
perplexity, or answers that all look like the task's outputs, mean that the model forgot how to do anything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sg_local import prompts
from sg_local.evaluate.answering import Ids, Reply
from sg_local.evaluate.job import EvalQuestion, Evaluation
from sg_local.evaluate.journal import AnswerJournal
from sg_local.prompts import Form
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment, Segments
from sg_local.report.records import Perplexity, RetainedAnswer, RetainResult

PASSAGES = (
    (
        "The harbour lies at the mouth of a slow river. In the morning the fishing boats come back, and the gulls "
        "follow them over the breakwater. Most of the catch is sold on the quay before noon; the rest goes by train "
        "to the towns inland, where it arrives before the evening meal."
    ),
    (
        "Bread needs four things: flour, water, salt and time. The flour gives the dough its strength, the water "
        "wakes the yeast, and the salt slows it down. Whoever waits a whole night gets a loaf with a darker crust "
        "and a deeper taste than anyone who bakes after an hour."
    ),
    (
        "A bicycle stays upright because its rider keeps steering into the fall. When the frame leans to the left, "
        "the front wheel turns a little to the left as well, and the wheels come back under the weight. At walking "
        "pace this takes attention; at speed it happens by itself."
    ),
    (
        "The library opens at nine and closes at six. Children may borrow ten books at a time and keep them for "
        "three weeks. If nobody else is waiting for a book, it can be renewed twice, either at the desk or over the "
        "telephone. Late books cost a small fee for each day."
    ),
)
QUESTIONS = (
    "What is the capital of France?",
    "Name three animals that lay eggs.",
    "Why do leaves fall in autumn?",
    "How many minutes are there in two hours?",
    "Write one sentence about the sea.",
    "What is the opposite of warm?",
)
N_CONTEXT_WORDS = 6
N_NEW_TOKENS = 48


@dataclass(frozen=True)
class Memory:
    """What one model still knows: each passage's (log-probability, tokens), and its answers to the questions."""

    passages: tuple[tuple[float, ...], ...]
    answers: tuple[str, ...]


def remember(journal: AnswerJournal, name: str) -> Memory:
    """Ask the model as it stands; the journal keeps it under `retain_text_NAME` and `retain_answer_NAME`."""
    title = f"texts outside the task: {name}"
    texts = journal.ask(f"retain_text_{name}", title, Passages(), _questions(PASSAGES))
    answers = journal.ask(f"retain_answer_{name}", title, Chat(journal.job.forms[0]), _questions(QUESTIONS))
    return Memory(tuple(row.scores for row in texts), tuple(row.text for row in answers))


def retained(base: Memory, tuned: Memory) -> RetainResult:
    """Perplexity per token and the answers, base against tuned."""
    return RetainResult(
        Perplexity(perplexity(base.passages), perplexity(tuned.passages)),
        tuple(map(RetainedAnswer, QUESTIONS, base.answers, tuned.answers)),
    )


def perplexity(rows: Sequence[tuple[float, ...]]) -> float:
    """exp of the mean negative log-probability per token, from (log-probability in nats, tokens) of each passage."""
    return round(math.exp(-sum(row[0] for row in rows) / sum(row[1] for row in rows)), 3)


@dataclass(frozen=True)
class Passages:
    """Scores each passage after its first words; the reply holds (log-probability, tokens)."""

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each passage, in order."""
        parts = [split_passage(question.input) for question in questions]
        asked = [ScoredPrompt(id, text(head), (rest,)) for id, (head, rest) in zip(ids, parts, strict=True)]
        found = {one.prompt_id: one.logprobs[0] for one in job.generator.score(asked)}
        sizes = [
            len(job.generator.tokenize(text(head + rest))) - len(job.generator.tokenize(text(head)))
            for head, rest in parts
        ]
        return [Reply("", (round(found[id], 4), float(n))) for id, n in zip(ids, sizes, strict=True)]


@dataclass(frozen=True)
class Chat:
    """Answers a question by itself, without the task, in the model's own layout."""

    form: Form

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        sampling = Sampling(max_tokens=N_NEW_TOKENS, stop=("\n\n", "\nQuestion:"))
        asked = [Prompt(id, self._segments(q.input), sampling) for id, q in zip(ids, questions, strict=True)]
        found = {one.prompt_id: one.text.strip() for one in job.generator.generate(asked)}
        return [Reply(found[id]) for id in ids]

    def _segments(self, question: str) -> Segments:
        if self.form.template is None:
            return text(f"Question: {question}\nAnswer:")
        return prompts.render(self.form, [{"role": "user", "content": question}])


def split_passage(passage: str) -> tuple[str, str]:
    """The first words of a passage, and the rest with the space before it."""
    words = passage.split(" ")
    return " ".join(words[:N_CONTEXT_WORDS]), " " + " ".join(words[N_CONTEXT_WORDS:])


def text(words: str) -> Segments:
    """Plain text as a prompt."""
    return (Segment(words, trusted=False),)


def _questions(texts: Sequence[str]) -> list[EvalQuestion]:
    return [EvalQuestion(i, one, ()) for i, one in enumerate(texts)]
