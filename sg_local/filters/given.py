"""Which rules hold for rows that people gave. Real inputs are what the model will meet: most rules are not for them.

Length windows and noise phrases guard against a model that wanders off; a real e-mail may be long, and may well say
`Thanks for asking`. What teaches nothing new still goes: an empty input, one of the demonstrations, one that was
accepted before. Real inputs that share a form (`order 3 pears`, `order 5 figs`) are different inputs, so only what is
all but equal counts as near here. Labelled rows are right by their writer's word: no rule rejects them, but for
`personal` where it is on. No row may be a test row, whose answer would be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sg_local.filters.rules import (
    INPUT_RULES,
    Rule,
    RuleContext,
    RuleInput,
    copied_example,
    empty_input,
    first_reason,
    personal,
)
from sg_local.filters.settings import FilterSettings
from sg_local.filters.similarity import nearest
from sg_local.metrics import Words, nearly_equal
from sg_local.prompts import normalise
from sg_local.records import LABELLED, OWN, Task

NEAR = 0.9
"""ROUGE-L over words from which on two own inputs are one; between invented ones `near_duplicate.threshold` decides."""


def near_own_duplicate(row: RuleInput, context: RuleContext) -> str:
    """The input is all but one that was accepted."""
    share, found = nearest(row.input, context.accepted, max(NEAR, context.settings.near_duplicate.threshold))
    return f"{share:.2f} like {found[:40]!r}" if found else ""


OWN_RULES: tuple[tuple[str, Rule], ...] = (
    ("empty", empty_input),
    ("copied_example", copied_example),
    ("near_duplicate", near_own_duplicate),
    ("personal", personal),
)
"""The rules on own inputs, in place of INPUT_RULES."""

LABELLED_RULES: tuple[tuple[str, Rule], ...] = (("personal", personal),)
"""The rules on labelled rows."""


def input_rules(source: str) -> tuple[tuple[str, Rule], ...]:
    """The rules on inputs of this source."""
    return OWN_RULES if source == OWN else INPUT_RULES


def given_gate(task: Task, settings: FilterSettings, leak: float) -> Callable[[str, str, Sequence[str]], str]:
    """The rules on rows that stand before stage A: (input, source, accepted so far) -> `rule: reason`, or empty.

    `leak` is the likeness from which on a row is a test row.
    """
    leaks = leak_check(task, leak)
    shown = {normalise(pair.input) for pair in task.examples}

    def gate(text: str, source: str, accepted: Sequence[str]) -> str:
        if leaks(text):
            return "test_row: it is one of the test rows, or all but"
        if source == LABELLED:
            return "copied_example: it is one of the examples" if normalise(text) in shown else ""
        rule, reason = first_reason(input_rules(source), RuleInput(text, ""), RuleContext(task, settings, accepted))
        return f"{rule}: {reason}" if rule else ""

    return gate


def leak_check(task: Task, leak: float) -> Callable[[str], bool]:
    """Whether a text is one of the task's test inputs, or nearly: as the evaluation decides it for training rows."""
    tests = {Words.of(row.input) for row in task.tests}
    equal = {normalise(row.input) for row in task.tests} - {""}

    def leaks(text: str) -> bool:
        if normalise(text) in equal:
            return True
        mine = Words.of(text)
        return any(nearly_equal(mine, other, leak) for other in tests)

    return leaks
