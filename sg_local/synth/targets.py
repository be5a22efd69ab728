"""What each place of a round asks an input for: a label, an output that the model wrote first, or nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sg_local import prompts
from sg_local.records import InputRow, Pair, Prompt, Sampling, row_id, seed_of
from sg_local.synth import asking
from sg_local.synth.job import Synthesis, fitted, in_order


@dataclass(frozen=True)
class Target:
    """What an input is to be written for (None: anything), and what the prompt that asked for it had no room for."""

    text: str | None
    dropped: str = ""


@dataclass(frozen=True)
class Round:
    """One round: its number, from 0, how many inputs it asks for, and at what temperature."""

    index: int
    size: int
    temperature: float


def targets_of_round(job: Synthesis, round: Round, accepted: Sequence[InputRow]) -> list[Target]:
    """One target for each place of the round."""
    if job.settings.steer and job.task.labels:
        return [Target(label) for label in _labels(job, round, accepted)]
    if job.settings.steer and job.settings.style == "continue":
        return _outputs(job, round, accepted)
    return [Target(None)] * round.size


def _labels(job: Synthesis, round: Round, accepted: Sequence[InputRow]) -> list[str]:
    """Labels drawn uniformly, or each time the one with the fewest accepted inputs."""
    labels, index, size = job.task.labels, round.index, round.size
    rng = random.Random(seed_of(row_id(job.task.digest, "labels", index, job.seed)))
    if not job.settings.balance:
        return [rng.choice(labels) for _ in range(size)]
    counts = Counter(dict.fromkeys(labels, 0))
    counts.update(row.label_asked for row in accepted if row.label_asked)
    asked = []
    for _ in range(size):
        rarest = min(labels, key=lambda label: (counts[label], rng.random()))
        counts[rarest] += 1
        asked.append(rarest)
    return asked


def _outputs(job: Synthesis, round: Round, accepted: Sequence[InputRow]) -> list[Target]:
    """New outputs in the model's own words, each going on from the demonstrations' and some earlier ones.

    Where the model wrote nothing the input is asked for freely.
    """
    sampling = job.sampling(round.temperature, job.output_room.n_new, asking.output_stops(job.task))
    built = [_output_ask(job, round.index, place, accepted, sampling) for place in range(round.size)]
    asks = [ask for ask, _ in built]
    return [
        Target(asking.parse_target(job.task, done.text) or None, dropped and f"when its output was written: {dropped}")
        for (_, dropped), done in zip(built, in_order(asks, job.generator.generate(asks)), strict=True)
    ]


def _output_ask(
    job: Synthesis, index: int, place: int, accepted: Sequence[InputRow], sampling: Sampling
) -> tuple[Prompt, str]:
    """The prompt for one new output, and what it had no room for."""
    id = row_id(job.task.digest, "target", index, place, job.seed)
    drawn = drawn_pool(job, accepted, random.Random(seed_of(id)))
    shown = shuffled_examples(job, index, place)
    segments, dropped = fitted(
        job,
        job.output_room,
        drawn,
        shown,
        lambda pool, examples: prompts.continue_output_prompt(job.task, [*examples, *pool]),
    )
    return Prompt(id, segments, sampling, seed_of(id)), dropped


def shuffled_examples(job: Synthesis, index: int, place: int) -> list[Pair]:
    """The demonstrations in an order drawn for each prompt as published, or for each round, a prefix to share."""
    alone = place if job.settings.style == "paper" else "all"
    shown = list(job.task.examples)
    random.Random(seed_of(row_id(job.task.digest, "order", index, alone, job.seed))).shuffle(shown)
    return shown


def drawn_pool(job: Synthesis, pool: Sequence[InputRow], rng: random.Random) -> list[Pair]:
    """One to `n_pool` accepted rows, without replacement, as pairs of input and what it was asked for."""
    n_drawn = rng.randint(min(1, len(pool)), min(job.settings.n_pool, len(pool)))
    return [Pair(row.input, row.label_asked or "") for row in rng.sample(pool, n_drawn)]
