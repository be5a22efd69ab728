"""Stage A: the model writes new inputs in rounds, each shown some of what earlier rounds brought."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sg_local import prompts
from sg_local.records import LABELLED, OWN, Completion, InputRow, NoRows, Pair, Prompt, Segments, row_id, seed_of
from sg_local.run import INPUTS
from sg_local.synth import asking
from sg_local.synth.given import is_enough, n_asked
from sg_local.synth.job import ACCEPTED, OnEvent, Synthesis, SynthEvent, SynthSettings, fitted, in_order, rule_of
from sg_local.synth.targets import Round, Target, drawn_pool, shuffled_examples, targets_of_round

logger = logging.getLogger(__name__)

SPARE, FEWEST = 1.1, 4
"""Inputs that a last round asks for, in what it is likely to need; and at least so many."""


def write_inputs(job: Synthesis, on_event: OnEvent, given: Sequence[InputRow] = ()) -> None:
    """Stage A: rounds of new inputs until enough are accepted or asked for, the given ones among them.

    A round that an earlier try left unfinished is asked for again; its rows on disk stay as they are.
    """
    on_disk: dict[int, dict[str, InputRow]] = {}
    for row in job.run.read(INPUTS, InputRow):
        on_disk.setdefault(row.round, {})[row.id] = row
    rows: list[InputRow] = []
    index = 0
    while not is_enough(job.settings, [*given, *rows]):
        rows += _finish_round(job, index, [*given, *rows], on_disk.get(index, {}), on_event)
        try:
            _check_yield(job, rows)
        except NoRows as error:
            if not any(row.source == OWN and not row.rejected for row in given):
                raise
            logger.warning("the own inputs must do: %s", error.message)
            break
        index += 1
    _tell(rows)


def _tell(rows: Sequence[InputRow]) -> None:
    """Log what became of the inputs, without their texts."""
    rejected = Counter(rule_of(row.rejected) for row in rows if row.rejected)
    rules = ", ".join(f"{rule} {n}" for rule, n in rejected.most_common()) or "none"
    logger.info("%d inputs asked for, %d accepted; rejected: %s", len(rows), len(rows) - rejected.total(), rules)
    if shortened := sum(bool(row.dropped) for row in rows):
        logger.info("%d prompts for inputs were shortened to fit the context", shortened)


def _finish_round(
    job: Synthesis, index: int, before: Sequence[InputRow], known: dict[str, InputRow], on_event: OnEvent
) -> list[InputRow]:
    """The rows of one round, those missing on disk appended in order."""
    size = _size(job.settings, before)
    if len(known) >= size:
        return list(known.values())
    rows: list[InputRow] = []
    for row in _round(job, index, size, before, known):
        if row.id not in known:
            job.run.append(INPUTS, [row])
        rows.append(row)
        on_event(_input_event(job, [*before, *rows]))
    return rows


def _size(settings: SynthSettings, before: Sequence[InputRow]) -> int:
    """How many inputs a round asks for: the last one no more than are likely to be needed, judged by those before,
    nor than may still be asked for.
    """
    rows = [row for row in before if not row.source]
    n_accepted, n_inputs = sum(not row.rejected for row in before if row.source != LABELLED), settings.n_inputs
    most = min(settings.round_size, settings.n_asked - n_asked(before))
    if n_inputs is None:
        return most
    told = len(rows) >= settings.round_size
    share = max(sum(not row.rejected for row in rows), 1) / len(rows) if told else ACCEPTED
    likely = math.ceil(SPARE * (n_inputs - n_accepted) / share)
    return min(most, max(FEWEST, likely))


def _round(
    job: Synthesis, index: int, size: int, before: Sequence[InputRow], known: dict[str, InputRow]
) -> Iterator[InputRow]:
    """One round of asked inputs, judged in order against everything accepted so far."""
    accepted = [row for row in before if not row.rejected]
    pool = [row.input for row in accepted]
    if job.settings.steer and job.settings.style == "continue":
        accepted = [row for row in accepted if not row.source or row.label_asked]  # the list shows pairs
    temperature = job.settings.temperature + (job.settings.hotter if _is_repeating(job, before) else 0.0)
    logger.debug("round %d: %d accepted so far, temperature %g", index, len(accepted), temperature)
    targets = targets_of_round(job, Round(index, size, temperature), accepted)
    draws = _draws(job, targets)
    asks = [_ask(job, (index, i, draws[i]), target, accepted, temperature) for i, target in enumerate(targets)]
    alike = sorted(asks, key=lambda ask: draws[ask.index])  # the engine reads neighbours of one text once
    for ask, completion in zip(
        asks, in_order(asks, job.generator.generate([ask.prompt for ask in alike])), strict=True
    ):
        row = known.get(ask.id) or _judged(job, ask, completion, pool)
        if not row.rejected:
            pool.append(row.input)
        yield row


def _judged(job: Synthesis, ask: InputAsk, completion: Completion, pool: Sequence[str]) -> InputRow:
    """The row that a completion makes, with the rule that rejects it, if any."""
    text = asking.parse_input(job.task, completion.text, job.lead)
    rejected = job.gate(text, pool) if completion.finish == "stop" else "unfinished: cut off at the token limit"
    if asking.is_thinking(job.task, completion.text):
        rejected = "unfinished: still thinking"
    return InputRow(
        id=ask.id,
        round=ask.round,
        index=ask.index,
        seed=ask.prompt.seed,
        input=text,
        label_asked=ask.target,
        raw=completion.text if completion.text != text else "",
        n_tokens=completion.n_tokens,
        logprob=round(completion.logprob, 4),
        rejected=rejected,
        dropped=ask.dropped,
    )


@dataclass(frozen=True)
class InputAsk:
    """What one place of a round asks, and what its prompt had no room for."""

    prompt: Prompt
    round: int
    index: int
    target: str | None
    dropped: str

    @property
    def id(self) -> str:
        return self.prompt.id


def _draws(job: Synthesis, targets: Sequence[Target]) -> list[int]:
    """Whose draw from the pool each place of a round shows: its own or, for the same label, an earlier place's."""
    most, found, last = job.settings.n_per_draw, list[int](), dict[str, list[int]]()
    for i, target in enumerate(targets):
        same = last.setdefault(target.text, []) if job.task.labels and target.text is not None else []
        if not same or len(same) >= most:
            same.clear()
        same.append(i)
        found.append(same[0])
    return found


def _ask(
    job: Synthesis, place: tuple[int, int, int], target: Target, accepted: Sequence[InputRow], temperature: float
) -> InputAsk:
    """The prompt for one new input, in its round and place: shuffled demonstrations and a draw from the accepted pool.

    The draw is that of a place in the same round.
    """
    round_index, index, draw = place
    id = row_id(job.task.digest, "input", round_index, index, job.seed)
    seed = seed_of(id)
    rng = random.Random(seed_of(row_id(job.task.digest, "input", round_index, draw, job.seed)))
    shown = shuffled_examples(job, round_index, index)
    by_label = bool(job.task.labels) and target.text is not None and job.settings.style == "continue"
    drawn = drawn_pool(job, [row for row in accepted if not by_label or row.label_asked == target.text], rng)
    sampling = job.sampling(temperature, job.input_room.n_new, asking.input_stops(job.task))
    segments, dropped = fitted(
        job, job.input_room, drawn, shown, lambda pool, examples: _input_segments(job, examples, pool, target.text)
    )
    dropped = ", ".join(filter(None, (dropped, target.dropped)))
    return InputAsk(Prompt(id, segments, sampling, seed), round_index, index, target.text, dropped)


def _input_segments(job: Synthesis, examples: Sequence[Pair], pool: Sequence[Pair], target: str | None) -> Segments:
    if job.settings.style == "paper":
        inputs = [pair.input for pair in examples]
        return asking.paper_input_prompt(job.task, job.form, inputs, [pair.input for pair in pool], target)
    return prompts.continue_input_prompt(job.task, [*examples, *pool], target)


def _is_repeating(job: Synthesis, before: Sequence[InputRow]) -> bool:
    last = [row for row in before if not row.source][-job.settings.round_size :]
    return bool(last) and sum("duplicate" in row.rejected for row in last) > len(last) / 3


def _check_yield(job: Synthesis, rows: Sequence[InputRow]) -> None:
    """Stop when hardly anything passes, or nothing of all that was asked for, naming the rule that eats the rows."""
    accepted = sum(not row.rejected for row in rows)
    is_early = len(rows) < job.settings.collapse_asked and (accepted or not is_enough(job.settings, rows))
    if is_early or accepted >= job.settings.collapse_share * len(rows):
        return
    rule, count = Counter(rule_of(row.rejected) for row in rows if row.rejected).most_common(1)[0]
    sample = next(row for row in rows if rule_of(row.rejected) == rule)
    raise NoRows(
        f"Only {accepted} of {len(rows)} synthesised inputs passed; rule {rule} rejected {count} "
        f"(such as {sample.input[:60]!r}: {sample.rejected}).",
        f"{ADVICE.get(rule, OTHER_ADVICE)} Use `name` for the new try: what was made stays in run {job.run.name}.",
    )


OTHER_ADVICE = "Look at the rows with `runs show RUN`, then change the instruction or the examples."
ADVICE = {
    "input_length": "Make the examples' lengths more typical, or widen it: `filter.input_length.sigmas=4`.",
    "noise": "Avoid words such as 'input' in the task, or switch the rule off: `filter.noise.on=false`.",
    "duplicate": "Raise the temperature: `synth.temperature=1.0`, or give more varied examples.",
    "near_duplicate": "Raise the temperature, or the threshold: `filter.near_duplicate.threshold=0.8`.",
    "copied_example": "Raise the temperature: `synth.temperature=1.0`, or give more varied examples.",
    "named_label": "Give an example whose input says a label, or switch the rule off: `filter.named_label.on=false`.",
    "unfinished": "Raise `synth.max_tokens`, or give examples that show where an input ends.",
    "empty": "Try another model or `synth.style=paper`.",
}


def _input_event(job: Synthesis, every: Sequence[InputRow]) -> SynthEvent:
    rows = [row for row in every if row.source != LABELLED]
    accepted = [row.input for row in rows if not row.rejected]
    asked, kept = (Counter(r.label_asked for r in rows if not (kept and r.rejected)) for kept in (False, True))
    wanted = job.settings.n_inputs
    return SynthEvent(
        phase="inputs",
        done=len(rows) if wanted is None else len(accepted),
        wanted=job.settings.n_asked if wanted is None else wanted,
        asked=len(rows),
        n_tokens=sum(row.n_tokens for row in rows),
        rejected=dict(Counter(rule_of(row.rejected) for row in rows if row.rejected)),
        latest=tuple(accepted[-3:]),
        parsed=sum(not row.rejected.startswith(("empty", "unfinished")) for row in rows),
        examples=_examples(rows),
        labels={label: (asked[label], kept[label]) for label in job.task.labels},
    )


def _examples(rows: Sequence[InputRow]) -> dict[str, tuple[tuple[str, str], ...]]:
    """The first two rejected texts of each rule, with the reason."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for row in rows:
        rule, _, reason = row.rejected.partition(": ")
        if rule and len(found.get(rule, ())) < 2:
            found[rule] = (*found.get(rule, ()), (row.input, reason))
    return found
