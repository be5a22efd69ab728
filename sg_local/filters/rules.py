"""The named rules: each looks at one row and gives the reason to reject it, or an empty string. Pure.

Rules marked [P] are SELF-GUIDE's (arXiv 2407.12874 and its code), with the mends that the docs name: length windows
never collapse, a phrase that the task itself uses is not noise, labels compare after normalising.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sg_local.filters.settings import FilterSettings, Window
from sg_local.filters.similarity import nearest, words
from sg_local.prompts import match_label, normalise
from sg_local.records import Task
from sg_local.schemas import misfit

OPENERS = (  # the authors' list of assistant openers, from their released code
    "Sure, I'd be happy to help!",
    "Of course!",
    "Let me check on that.",
    "I'm here to help.",
    "Great question!",
    "Let me see.",
    "That's a good question.",
    "Thanks for asking.",
    "Let me help you with that.",
    "No problem, here's the answer.",
    "I'm glad you asked.",
    "Alright, let me explain.",
    "Absolutely!",
    "I understand your question.",
)
LEAKS = ("input", "output", "Input", "Output", "\n\n", "\\_")
REASONING = ("therefore", "Therefore", "Hence")
REFUSALS = (
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "as an ai",
    "as a language model",
    "i cannot",
    "i can't",
    "i am unable",
    "i'm unable",
)


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


def empty_input(row: RuleInput, context: RuleContext) -> str:
    """An input without a letter or digit. [P]"""
    return "" if re.search(r"\w", row.input) else "nothing in it"


def empty_output(row: RuleInput, context: RuleContext) -> str:
    """No vote brought an output. [P]"""
    return "" if row.output.strip() else "no usable answer"


def noise(text: str, context: RuleContext) -> str:
    """An assistant's opener or a piece of the prompt in the text, case-sensitive. [P]"""
    own = " ".join([*(f"{pair.input} {pair.output}" for pair in context.task.examples), *context.task.labels])
    phrases = OPENERS + LEAKS + (REASONING if context.task.labels else ())
    found = next((phrase for phrase in phrases if phrase in text and phrase not in own), None)
    return "" if found is None else f"it holds {found!r}"


def noise_in_input(row: RuleInput, context: RuleContext) -> str:
    return noise(row.input, context)


def noise_in_output(row: RuleInput, context: RuleContext) -> str:
    return noise(row.output, context)


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
    """The model talks about itself instead of answering."""
    text = row.output.lower().replace("\u2019", "'")
    found = next((phrase for phrase in REFUSALS if phrase in text), None)
    return "" if found is None else f"it says {found!r}"


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
    """The label that was asked for and the label that was voted differ (as in CoT-Self-Instruct, 2507.23751)."""
    if row.label_asked is None or row.label_asked == row.label_voted:
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
    return "" if share >= least else f"{share:.0%} of its words stand in the input; {least:.0%} needed"


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
    """The output is a demonstration's output; generation only."""
    if context.task.labels:
        return ""
    mine = normalise(row.output)
    return "the output is an example's" if any(normalise(p.output) == mine for p in context.task.examples) else ""


INPUT_RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty_input),
    ("noise", noise_in_input),
    ("input_length", input_length),
    ("copied_example", copied_example),
    ("duplicate", duplicate),
    ("near_duplicate", near_duplicate),
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


def first_reason(rules: Iterable[tuple[str, Rule]], row: RuleInput, context: RuleContext) -> tuple[str, str]:
    """The first rule that is on and rejects the row, with its reason; two empty strings when none does."""
    for name, rule in rules:
        if getattr(context.settings, name).on:
            reason = rule(row, context)
            if reason:
                return name, reason
    return "", ""
