"""What every part of an evaluation shares: settings, the job, its questions, and progress events."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sg_local.backends import Generator
from sg_local.parsing import trimmed
from sg_local.prompts import Form, majority, normalise
from sg_local.records import Candidate, Pair, Task, row_id
from sg_local.run import CANDIDATES, Run, without_gained


@dataclass(frozen=True)
class EvalSettings:
    """How a run is judged. Lengths are in tokens.

    The demonstrations, left out one at a time, and `n_dev` synthetic rows (labels only) choose the base's prompt form;
    `n_calibration` synthetic inputs give each label's mean score. `n_votes` samples make `base_vote` and, unless
    switched off, `tuned_vote`; `n_context` synthetic pairs make `base_synthetic`, the untuned model with those pairs
    in its prompt (0: leave it out). `tuned_examples` asks for a tune on the demonstrations alone. `seed` draws rows and
    bootstrap resamples. `constrain` lets free text, the base's and the tuned model's, be only JSON that fits the task's
    schema, where it has one. `abstain` is a probability, 0 to 1, below which an answer is to be "unsure": the report
    then says how many answers are left and how many of them are right (0: it does not). `ensemble` is in how many
    orders of the demonstrations `base_ensemble` scores how likely each label makes an input, `mbr` how many samples
    of a written answer `base_mbr` draws, of which the one most like the others stands (0 leaves either out).
    `canaries` secrets are planted into a copy of the training, to see how well the model remembers them (0: none).
    `score_files` lets every exported GGUF that passed its gate answer the test rows as well.
    """

    n_votes: int = 5
    vote_temperature: float = 0.3
    vote_top_k: int = 10
    tuned_vote: bool = True
    n_dev: int = 32
    n_calibration: int = 64
    n_context: int = 0
    tuned_examples: bool = False
    retain: bool = False
    constrain: bool = True
    abstain: float = 0.0
    ensemble: int = 1
    mbr: int = 0
    mbr_temperature: float = 0.7
    canaries: int = 0
    score_files: bool = True
    leak_threshold: float = 0.9
    max_tokens: int = 500
    n_ctx: int = 2048
    chunk_size: int = 100
    resamples: int = 2000
    seed: int = 0

    @property
    def stamped(self) -> dict[str, Any]:
        """As stamps have them: without what 0.1.0 did not know, where it is not used."""
        return without_gained(dataclasses.asdict(self))


@dataclass(frozen=True)
class EvalEvent:
    """Where an evaluation stands: `done` of `wanted` rows answered by `system`, and its last answers.

    `title` says in words what is answered: a system on the test rows, or on rows that choose, calibrate or retain.
    All that is answered for one system is the `part`-th of `n_parts` of the evaluation (0: not known).
    """

    system: str
    title: str
    done: int
    wanted: int
    latest: tuple[str, ...] = ()
    part: int = 0
    n_parts: int = 0


OnEvent = Callable[[EvalEvent], None]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Inputs without content, over which a label's mean score is its prior (arXiv 2102.09690)."""


def elect_any(input: str, votes: Mapping[str, int]) -> str:
    """The gate that lets every vote count."""
    return majority(votes)


@dataclass(frozen=True)
class Canary:
    """A planted row. `place` is output or input; the secret stands there behind `lead`."""

    id: str
    place: str
    pair: Pair
    lead: str
    secret: str


@dataclass(frozen=True)
class Evaluation:
    """One evaluation job.

    `form` is what the adapter was trained in, `forms` every form the base may use; `pairs` are the rows that the
    adapter was trained and validated on, `valid` those that validated it; `elect` is the filters' gate on voted
    outputs, (input, votes) to the one that stands or an empty text, and `gate` says in short what it is made of;
    `examples_adapter` was trained on the demonstrations alone, `canary_adapter` as the run's, on `canaries` besides.
    `engine_ctx` are the tokens of a sequence in the engine's context (None: as many as are asked for).
    """

    run: Run
    task: Task
    form: Form
    forms: tuple[Form, ...]
    generator: Generator
    settings: EvalSettings
    pairs: tuple[Pair, ...]
    elect: Callable[[str, Mapping[str, int]], str] = elect_any
    gate: str = ""
    examples_adapter: Path | None = None
    valid: tuple[Pair, ...] = ()
    canaries: tuple[Canary, ...] = ()
    canary_adapter: Path | None = None
    engine_ctx: int | None = None

    @property
    def room(self) -> int:
        """The tokens that one sequence may hold."""
        return min(self.settings.n_ctx, self.engine_ctx or self.settings.n_ctx, self.generator.info.n_ctx_train)

    @property
    def test_inputs(self) -> list[str]:
        """The test rows' inputs, those that leak among them."""
        return [row.input for row in self.task.tests]


@dataclass(frozen=True)
class EvalQuestion:
    """One input to answer, the demonstrations shown with it, and what counts as right (empty: unknown)."""

    index: int
    input: str
    examples: tuple[Pair, ...]
    wanted: tuple[str, ...] = ()

    def id(self, system: str, fingerprint: str) -> str:
        """The id of this question's answer by one system, as the fingerprint describes it."""
        shown = [(pair.input, pair.output) for pair in self.examples]
        return row_id("answer", system, fingerprint, self.index, self.input, shown)


def held_out_questions(job: Evaluation, leaked: Sequence[bool]) -> list[EvalQuestion]:
    """The test rows that did not leak, under their places in the task; blanks around are cut as predict cuts them."""
    examples = job.task.examples
    shown = [pair.input for pair in examples]
    return [
        EvalQuestion(i, trimmed(row.input, shown), examples, row.outputs)
        for i, (row, out) in enumerate(zip(job.task.tests, leaked, strict=True))
        if not out
    ]


def dev_questions(job: Evaluation) -> list[EvalQuestion]:
    """Rows with a known output that may choose between prompt forms: never test rows.

    Every demonstration, shown the others only; for classification then a draw from the rows that the adapter was
    trained on, whose labels were asked for. The outputs of a generation task's rows were written by the base in the
    run's own form and would speak for that form.
    """
    examples = job.task.examples
    left_out = [
        EvalQuestion(i, pair.input, examples[:i] + examples[i + 1 :], (pair.output,)) for i, pair in enumerate(examples)
    ]
    if job.task.kind == "generation":
        return left_out
    rng = random.Random(job.settings.seed)
    drawn = rng.sample(job.pairs, min(job.settings.n_dev, len(job.pairs)))
    rows = [EvalQuestion(i, pair.input, examples, (pair.output,)) for i, pair in enumerate(drawn, len(examples))]
    return left_out + rows


def calibration_questions(job: Evaluation) -> list[EvalQuestion]:
    """The run's inputs without their outputs, for a label's mean score: never test rows."""
    inputs = calibration_inputs(job.run, job.task, job.settings, job.pairs)
    return [EvalQuestion(i, text, job.task.examples) for i, text in enumerate(inputs)]


def calibration_inputs(run: Run, task: Task, settings: EvalSettings, pairs: Sequence[Pair]) -> list[str]:
    """At most `n_calibration` of the run's inputs, in the order they are drawn; `pairs` are the rows of its training.

    Own inputs were held against the test rows of their time; here there may be others. Where there are no inputs, such
    that say nothing.
    """
    tests = {normalise(row.input) for row in task.tests}
    rows = run.read(CANDIDATES, Candidate)
    known = {row.input for row in rows if not (row.source and normalise(row.input) in tests)}
    inputs = sorted(known or {pair.input for pair in pairs}) or CONTENT_FREE
    return random.Random(settings.seed).sample(inputs, min(settings.n_calibration, len(inputs)))


def with_context(job: Evaluation, questions: Sequence[EvalQuestion]) -> list[EvalQuestion]:
    """The questions with `n_context` synthetic pairs among their demonstrations."""
    rng = random.Random(job.settings.seed)
    drawn = tuple(rng.sample(job.pairs, min(job.settings.n_context, len(job.pairs))))
    return [replace(question, examples=drawn + question.examples) for question in questions]
