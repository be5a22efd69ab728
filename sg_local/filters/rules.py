"""The named rules: each looks at one row and gives the reason to reject it, or an empty string. Pure.

Rules marked [P] are SELF-GUIDE's (arXiv 2407.12874 and its code), with the fixes that the docs name: length windows
never collapse, a phrase that the task itself uses is not noise, labels compare after normalising.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sg_local import personal as private
from sg_local.filters.phrases import noise, refused
from sg_local.filters.settings import FilterSettings, Window
from sg_local.filters.similarity import nearest, words
from sg_local.prompts import match_label, normalise
from sg_local.records import Pair, Task
from sg_local.schemas import misfit
from sg_local.splitting import HAN, n_words


@dataclass(frozen=True)
class RuleInput:
    """What the rules see of a pair. `output` is the one that would be trained on; labels are empty in generation."""

    input: str
    output: str
    vote_share: float = 1.0
    label_asked: str | None = None
    label_voted: str | None = None
    relevance: float | None = None


@dataclass(frozen=True)
class RuleContext:
    """What a rule may hold a row against: the task, the settings, and the inputs accepted before it."""

    task: Task
    settings: FilterSettings
    accepted: Sequence[str] = field(default=())


Rule = Callable[[RuleInput, RuleContext], str]

SHORTEST_LABEL, SHORTEST_HAN = 4, 2
"""Letters of a label from which it counts as said where an input has it: shorter ones stand in any text.

Chinese words mostly have two characters.
"""
OF_ANY_TEXT = set(map(words, ("other", "others", "none", "both", "neither", "either", "其他", "其它", "その他")))
"""Longer labels that stand in any text as well, each as its words."""
EXTRACT = 0.5
"""The share of an output's words that stand in its input from which on it is picked out rather than written."""


def empty_input(row: RuleInput, context: RuleContext) -> str:
    """An input without a letter or digit, where the demonstrations have some. [P]"""
    own = all(re.search(r"\w", pair.input) for pair in context.task.examples)
    return "" if re.search(r"\w", row.input) or (row.input.strip() and not own) else "nothing in it"


def empty_output(row: RuleInput, context: RuleContext) -> str:
    """No vote brought an output. [P]"""
    return "" if row.output.strip() else "no usable answer"


def noise_in_input(row: RuleInput, context: RuleContext) -> str:
    return noise(row.input, context.task)


def noise_in_output(row: RuleInput, context: RuleContext) -> str:
    return noise(row.output, context.task)


def window(lengths: Sequence[int], settings: Window) -> tuple[float, float]:
    """The allowed lengths in characters: mean -+ sigmas x population sigma, never tighter than `widest` says."""
    mean, sigma = statistics.fmean(lengths), statistics.pstdev(lengths)
    low = min(mean - settings.sigmas * sigma, mean / settings.widest)
    high = max(mean + settings.sigmas * sigma, mean * settings.widest)
    return low, high


def _outside(text: str, lengths: Sequence[int], settings: Window) -> str:
    low, high = window(lengths, settings)
    if low <= len(text) < high:
        return ""
    return f"{len(text)} characters; examples allow {max(0, round(low))} to {round(high)}"


def input_length(row: RuleInput, context: RuleContext) -> str:
    """Too short or too long against the demonstrations' inputs. [P]"""
    lengths = [len(pair.input) for pair in context.task.examples]
    return _outside(row.input, lengths, context.settings.input_length)


def output_length(row: RuleInput, context: RuleContext) -> str:
    """Too short or too long against the demonstrations' outputs; generation only. [P]"""
    if context.task.labels:
        return ""
    lengths = [len(pair.output) for pair in context.task.examples]
    return _outside(row.output, lengths, context.settings.output_length)


def copied_example(row: RuleInput, context: RuleContext) -> str:
    """The input is a demonstration's input, or nearly so."""
    inputs = [pair.input for pair in context.task.examples]
    share, found = nearest(row.input, inputs, context.settings.copied_example.threshold)
    return f"{share:.2f} like the example {found[:40]!r}" if found else ""


def duplicate(row: RuleInput, context: RuleContext) -> str:
    """The input stands already among the accepted ones, letter case and punctuation aside. [P]"""
    mine = normalise(row.input)
    return "the same input was accepted before" if any(normalise(text) == mine for text in context.accepted) else ""


def near_duplicate(row: RuleInput, context: RuleContext) -> str:
    """The input is nearly one that was accepted (ROUGE-L over words, as in Self-Instruct)."""
    share, found = nearest(row.input, context.accepted, context.settings.near_duplicate.threshold)
    return f"{share:.2f} like {found[:40]!r}" if found else ""


def refusal(row: RuleInput, context: RuleContext) -> str:
    """The model talks about itself instead of answering.

    A phrase that a demonstration's output says is no refusal in this task, nor is one that the input goes on alike.
    """
    return refused(row.input, row.output, context.task)


def label(row: RuleInput, context: RuleContext) -> str:
    """The output is none of the labels; classification only. [P]"""
    if not context.task.labels or match_label(context.task.labels, row.output) is not None:
        return ""
    return f"{row.output[:40]!r} is not a label"


def schema(row: RuleInput, context: RuleContext) -> str:
    """The output is no JSON that fits the task's schema; only where the task has one."""
    return misfit(context.task.schema, row.output)[:120] if context.task.schema else ""


def vote_share(row: RuleInput, context: RuleContext) -> str:
    """Too few of the votes agree on the output. [P]"""
    least = context.settings.vote_share.threshold
    return "" if row.vote_share >= least else f"{row.vote_share:.0%} of the votes agree; {least:.0%} needed"


def consistency(row: RuleInput, context: RuleContext) -> str:
    """The label that was asked for and the label that was voted differ (as in CoT-Self-Instruct, 2507.23751).

    Written texts seldom come twice: generation has the policy `agree`.
    """
    if row.label_asked is None or row.label_voted is None or row.label_asked == row.label_voted:
        return ""
    return f"asked for {row.label_asked}, voted {row.label_voted}"


def relevance(row: RuleInput, context: RuleContext) -> str:
    """The output is hardly more likely after this input than after others; generation, output first."""
    least = context.settings.relevance.threshold
    if row.relevance is None or row.relevance >= least:
        return ""
    return f"{row.relevance:+.2f} nats a token over other inputs; {least:+.2f} needed"


def grounding(row: RuleInput, context: RuleContext) -> str:
    """Too few of the output's words stand in its input, against the demonstrations' outputs; generation only.

    The demonstration with the smallest share sets the measure; `threshold` is how far below it a row may fall.
    """
    if context.task.labels:
        return ""
    least = (
        min(overlap(pair.input, pair.output) for pair in context.task.examples) - context.settings.grounding.threshold
    )
    share = overlap(row.input, row.output)
    return "" if share >= least else f"{share:.0%} of its words are in the input; {least:.0%} needed"


def overlap(text: str, output: str) -> float:
    """The share of an output's words that stand in the text; 1 for an output without words."""
    known, asked = set(words(text)), words(output)
    return sum(word in known for word in asked) / len(asked) if asked else 1.0


def copied_input(row: RuleInput, context: RuleContext) -> str:
    """The output repeats the input although no demonstration does so; generation only."""
    if context.task.labels or any(normalise(p.input) == normalise(p.output) for p in context.task.examples):
        return ""
    return "the output is the input" if normalise(row.input) == normalise(row.output) else ""


def copied_output(row: RuleInput, context: RuleContext) -> str:
    """The output is a demonstration's output, and not one that other inputs have as well; generation only."""
    if context.task.labels:
        return ""
    mine = normalise(row.output)
    theirs = [pair for pair in context.task.examples if normalise(pair.output) == mine]
    return "the output is an example's" if theirs and not _recurs(theirs, row.input, context.task) else ""


def named_label(row: RuleInput, context: RuleContext) -> str:
    """The input says a label, as a model writes it to order, although no demonstration's input says one.

    A model trained on such inputs looks for the word, which real inputs seldom have. Where a label is short, all may be
    said: `no` and `C` stand in any text, and without `good` alone inputs would be rows for `bad`.
    """
    labels = [label for label in context.task.labels if words(label) not in OF_ANY_TEXT]
    if any(map(_is_short, labels)) or any(_says(pair.input, labels) for pair in context.task.examples):
        return ""
    found = _says(row.input, labels)
    return f"it says {found!r}" if found else ""


def _is_short(label: str) -> bool:
    letters = words(label)
    return len("".join(letters)) < (SHORTEST_HAN if all(map(HAN.fullmatch, letters)) else SHORTEST_LABEL)


def _says(text: str, labels: Iterable[str]) -> str:
    """The first of the labels whose words stand in the text one after the other; empty where none does."""
    spoken = f" {' '.join(words(text))} "
    return next((label for label in labels if f" {' '.join(words(label))} " in spoken), "")


def personal(row: RuleInput, context: RuleContext) -> str:
    """The input or the output holds likely personal data, whoever wrote it."""
    return ", ".join(private.kinds(row.input, row.output))


def _recurs(theirs: Sequence[Pair], input: str, task: Task) -> bool:
    """Whether an output, that of `theirs` among the demonstrations, may be right for this input as well.

    It stands under two demonstrations, or has no word; or it is picked out of its input, and this one has as many of
    its words; or it takes none from its input and is one word (a count, a weekday, yes), or another demonstration's
    takes some, as beside NONE.
    """
    if len(theirs) > 1 or not words(theirs[0].output):
        return True
    own = overlap(theirs[0].input, theirs[0].output)
    if own > 0:
        return own >= EXTRACT and overlap(input, theirs[0].output) >= own
    taken = [overlap(pair.input, pair.output) for pair in task.examples if pair not in theirs]
    return n_words(theirs[0].output) == 1 or max(taken, default=0.0) > 0


INPUT_RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty_input),
    ("noise", noise_in_input),
    ("input_length", input_length),
    ("copied_example", copied_example),
    ("duplicate", duplicate),
    ("near_duplicate", near_duplicate),
    ("named_label", named_label),
    ("personal", personal),
)
OUTPUT_RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty_output),
    ("noise", noise_in_output),
    ("refusal", refusal),
    ("output_length", output_length),
    ("label", label),
    ("schema", schema),
    ("vote_share", vote_share),
    ("consistency", consistency),
    ("relevance", relevance),
    ("grounding", grounding),
    ("copied_input", copied_input),
    ("copied_output", copied_output),
    ("personal", personal),
)


GATE_RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty_output),
    ("noise", noise_in_output),
    ("refusal", refusal),
    ("output_length", output_length),
    ("label", label),
    ("grounding", grounding),
    ("copied_input", copied_input),
    ("copied_output", copied_output),
)
"""The rules that look at one output and its input alone: what may take part in a vote on an answer."""

DOUBTS = ("refusal", "grounding", "copied_input", "copied_output")
"""Rules of the gate that are not SELF-GUIDE's."""


def first_reason(rules: Iterable[tuple[str, Rule]], row: RuleInput, context: RuleContext) -> tuple[str, str]:
    """The first rule that is on and rejects the row, with its reason; two empty strings when none does."""
    for name, rule in rules:
        if getattr(context.settings, name).on:
            reason = rule(row, context)
            if reason:
                return name, reason
    return "", ""
