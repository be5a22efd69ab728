"""Stage B: several answers to every accepted input, the majority kept, and every label scored."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from sg_local import prompts
from sg_local.backends.together import together
from sg_local.channel import Channel, backward_scores, channel_scores, orders_of
from sg_local.records import (
    LABELLED,
    Candidate,
    Completion,
    InputRow,
    Prompt,
    Sampling,
    ScoredPrompt,
    Segment,
    Segments,
    row_id,
    seed_of,
)
from sg_local.run import CANDIDATES, INPUTS
from sg_local.synth.job import DEMONSTRATIONS, OnEvent, Synthesis, SynthEvent, in_order

logger = logging.getLogger(__name__)

N_OTHERS = 3
"""Other inputs that an output is held against to see whether it belongs to its own."""


def write_candidates(job: Synthesis, on_event: OnEvent) -> None:
    """Stage B: votes, and label scores for classification, for every accepted input, chunk by chunk."""
    inputs = [row for row in job.run.read(INPUTS, InputRow) if not row.rejected]
    done = {row.id: row for row in job.run.read(CANDIDATES, Candidate)}
    rows: list[Candidate] = []
    for chunk in _chunks(inputs, job.settings.chunk_size):
        missing = not all(candidate_id(row) in done for row in chunk)
        for row in _answered(job, chunk) if missing else (done[candidate_id(row)] for row in chunk):
            rows.append(row)
            if row.id not in done:
                job.run.append(CANDIDATES, [row])
            on_event(_output_event(rows, len(inputs)))
    _tell(rows)


def _chunks(inputs: Sequence[InputRow], size: int) -> Iterator[Sequence[InputRow]]:
    """Inputs in chunks of one source each: given rows are answered alike, whether or not stage A has written more."""
    for _, part in groupby(inputs, lambda row: row.source):
        rows = list(part)
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _answered(job: Synthesis, chunk: Sequence[InputRow]) -> Iterator[Candidate]:
    """The pairs of a chunk. A labelled row has its answer: nothing is asked, and one vote stands for the person's."""
    if chunk[0].source != LABELLED:
        yield from answer(job, chunk)
        return
    for row in chunk:
        output = row.label_asked or ""
        yield Candidate(candidate_id(row), row.input, output, {output: 1}, 1, 1.0, seed=row.seed, source=LABELLED)


def _tell(rows: Sequence[Candidate]) -> None:
    """Log what became of the outputs, without their texts."""
    logger.info("%d inputs answered, %d without a usable vote", len(rows), sum(not row.output for row in rows))
    if shortened := sum(bool(row.dropped) for row in rows):
        logger.info("%d pairs have a prompt that was shortened to fit the context", shortened)


def candidate_id(row: InputRow) -> str:
    """The id of the pair that an input becomes."""
    return row_id(row.id, "output")


def answer(job: Synthesis, inputs: Sequence[InputRow]) -> Iterator[Candidate]:
    """Candidates for these inputs in order: `n_votes` samples each, the majority kept."""
    fitted = [prompts.fitted_answer(job.output_room, job.task, job.form, row.input) for row in inputs]
    built = [prompt.segments for prompt in fitted]
    channel = _channel_scores(job, inputs)
    with together(job.generator):
        scores = _label_scores(job, inputs, built)
        relevance = _relevance(job, inputs, built)
        asks = list(_vote_prompts(job, inputs, built))
        answers = in_order(asks, job.generator.generate(asks))
        drawn = (_drawn(job, votes) for votes in _grouped(answers, job.settings.n_votes))
        rows = zip(inputs, _settled(job, inputs, drawn), fitted, scores, channel, strict=True)
        for row, votes, prompt, label_scores, by_label in rows:
            candidate = _candidate(job, row, votes, label_scores, prompt.n_dropped)
            yield replace(candidate, relevance=relevance.get(row.id), channel_scores=by_label)


def _grouped(answers: Iterable[Completion], n: int) -> Iterator[list[Completion]]:
    """The answers in lists of n. Reads on behind the last one, so that an engine knows that it is done."""
    group: list[Completion] = []
    for one in answers:
        group.append(one)
        if len(group) == n:
            yield group
            group = []


def _vote_prompts(job: Synthesis, inputs: Sequence[InputRow], built: Sequence[Segments]) -> Iterator[Prompt]:
    sampling = Sampling(
        temperature=job.settings.vote_temperature,
        top_k=job.settings.vote_top_k,
        max_tokens=job.output_room.n_new,
        stop=prompts.answer_stops(job.task, job.form),
        grammar=label_grammar(job.task.labels, job.form.lead) if job.settings.constrain and job.task.labels else None,
        schema=job.task.schema or None if job.settings.constrain else None,
    )
    for row, segments in zip(inputs, built, strict=True):
        for vote_index in range(job.settings.n_votes):
            id = row_id(candidate_id(row), vote_index)
            yield Prompt(id, segments, sampling, seed_of(id))


def _label_scores(job: Synthesis, inputs: Sequence[InputRow], built: Sequence[Segments]) -> Iterable[tuple[float, ...]]:
    if not (job.task.labels and job.settings.score_labels):
        return [()] * len(inputs)
    continuations = tuple(prompts.answer_text(job.form, label) for label in job.task.labels)
    asks = [
        ScoredPrompt(row.id, segments, continuations, end=True, ending=job.form.end)
        for row, segments in zip(inputs, built, strict=True)
    ]
    return [tuple(round(value, 4) for value in score.logprobs) for score in in_order(asks, job.generator.score(asks))]


def _channel_scores(job: Synthesis, inputs: Sequence[InputRow]) -> Iterable[tuple[float, ...]]:
    if not (job.task.labels and job.settings.channel):
        return [()] * len(inputs)
    channel = Channel(job.task, job.output_room, orders_of(job.task.examples, job.settings.n_orders))
    found = channel_scores(job.generator, channel, [row.input for row in inputs])
    return [tuple(round(value, 4) for value in scores) for scores in found]


def _relevance(job: Synthesis, inputs: Sequence[InputRow], built: Sequence[Segments]) -> dict[str, float]:
    """How much an input speaks for the output it was written for: log P(output | input) minus its mean over other
    inputs of the chunk, per token, by row id. Empty for classification, where `label_scores` tell the same.
    """
    asked = [(i, row.label_asked) for i, row in enumerate(inputs) if row.label_asked and not job.task.labels]
    if not (asked and job.settings.score_labels) or len(built) <= N_OTHERS:
        return {}
    by_prompt: dict[int, list[int]] = {}  # what is asked behind each input: each is read once
    for place, (i, _) in enumerate(asked):
        for k in range(N_OTHERS + 1):
            by_prompt.setdefault((i + k) % len(built), []).append(place)
    said = [prompts.answer_text(job.form, text) for _, text in asked]
    asks = [
        ScoredPrompt(inputs[j].id, built[j], tuple(said[place] for place in places), end=True, ending=job.form.end)
        for j, places in by_prompt.items()
    ]
    scores: dict[tuple[int, int], float] = {}
    for (j, places), score in zip(by_prompt.items(), in_order(asks, job.generator.score(asks)), strict=True):
        scores |= {(place, j): value for place, value in zip(places, score.logprobs, strict=True)}
    found = {}
    for place, (i, text) in enumerate(asked):
        own, *others = (scores[place, (i + k) % len(built)] for k in range(N_OTHERS + 1))
        n_tokens = 1 + len(job.generator.tokenize((Segment(text, False),), bos=False))
        found[inputs[i].id] = round((own - sum(others) / N_OTHERS) / n_tokens, 4)
    return found


@dataclass(frozen=True)
class Drawn:
    """The answers drawn for one input, what each says (empty: nothing usable), and scores that settle a tie."""

    completions: Sequence[Completion]
    outputs: Sequence[str]
    backward: dict[str, float] = field(default_factory=dict)

    @property
    def votes(self) -> Counter[str]:
        return Counter(output for output in self.outputs if output)

    @property
    def is_tied(self) -> bool:
        """Whether two outputs have equally many votes and none has more than half: a gate may come down to them."""
        counts = self.votes.values()
        return len(set(counts)) < len(counts) and 2 * max(counts) <= sum(counts)


def _drawn(job: Synthesis, completions: Sequence[Completion]) -> Drawn:
    read = [prompts.parse_output(job.task, c.text, job.form.lead) if c.finish == "stop" else "" for c in completions]
    return Drawn(completions, read)


def _settled(job: Synthesis, inputs: Sequence[InputRow], drawn: Iterable[Drawn]) -> Iterable[Drawn]:
    """The answers with scores for those that tie: how likely each makes the input. As drawn where nobody asked."""
    if job.task.labels or not job.settings.backward:
        return drawn
    found = list(drawn)
    tied = [i for i, one in enumerate(found) if one.is_tied]
    channel = Channel(job.task, job.output_room, orders_of(job.task.examples, job.settings.n_orders))
    scores = backward_scores(job.generator, channel, [(inputs[i].input, list(found[i].votes)) for i in tied])
    for i, by_output in zip(tied, scores, strict=True):
        rounded = {output: round(value, 4) for output, value in by_output.items()}
        found[i] = replace(found[i], backward=rounded)
    return found


def _candidate(job: Synthesis, row: InputRow, drawn: Drawn, scores: tuple[float, ...], n_dropped: int) -> Candidate:
    votes = drawn.votes
    output = prompts.majority(votes, drawn.backward)
    answers = zip(drawn.completions, drawn.outputs, strict=True)
    chosen = next((c for c, text in answers if text and text == output), drawn.completions[0])
    return Candidate(
        id=candidate_id(row),
        input=row.input,
        output=output,
        votes=dict(votes.most_common()),
        n_samples=len(drawn.completions),
        vote_share=round(votes[output] / len(drawn.completions), 4) if output else 0.0,
        label_asked=row.label_asked,
        label_scores=scores,
        seed=row.seed,
        model=job.generator.info.digest[:12],
        n_tokens=chosen.n_tokens,
        logprob=round(chosen.logprob, 4),
        dropped=", ".join(filter(None, (row.dropped, f"{n_dropped} {DEMONSTRATIONS}" if n_dropped else ""))),
        source=row.source,
        backward=drawn.backward,
    )


def label_grammar(labels: Sequence[str], lead: str) -> str:
    """GBNF that allows exactly one of the labels after the prompt."""
    choices = " | ".join('"' + (lead + label).replace("\\", "\\\\").replace('"', '\\"') + '"' for label in labels)
    return f"root ::= {choices}"


def _output_event(rows: Sequence[Candidate], wanted: int) -> SynthEvent:
    return SynthEvent(
        phase="outputs",
        done=len(rows),
        wanted=wanted,
        asked=wanted,
        n_tokens=sum(row.n_tokens for row in rows),
        latest=tuple(f"{row.input} -> {row.output}" for row in rows[-3:]),
    )
