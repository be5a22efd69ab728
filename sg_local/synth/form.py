"""Which prompt form suits a model and a task: the one in which it finds the demonstrations' outputs likeliest."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.prompts import Form
from sg_local.records import Pair, ScoredPrompt, Task
from sg_local.synth.job import in_order


def choose_form(task: Task, forms: Sequence[Form], generator: Generator) -> Form:
    """The form with the highest log-probability of each demonstration's output after the other demonstrations.

    One form needs no model. The first of equals wins.
    """
    if len(forms) == 1:
        return forms[0]
    asks = [_ask(task, form, pair) for form in forms for pair in task.examples]
    scores = [score.logprobs[0] for score in in_order(asks, generator.score(asks))]
    n = len(task.examples)
    totals = {form.name: sum(scores[i * n : (i + 1) * n]) for i, form in enumerate(forms)}
    return max(forms, key=lambda form: totals[form.name])


def _ask(task: Task, form: Form, pair: Pair) -> ScoredPrompt:
    others = [other for other in task.examples if other != pair]
    segments = prompts.answer_prompt(task, form, pair.input, others)
    return ScoredPrompt(f"{form.name} {pair.input}", segments, (prompts.answer_text(form, pair.output),), end=True)
