"""What is doubtful about a task's examples and test rows: leaks, repeats, contradictions, and how many there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from sg_local.metrics import leaks
from sg_local.prompts import normalise
from sg_local.tasks.advice import Advice, Subject
from sg_local.tasks.examples import FEW
from sg_local.words import brief, counted

FEW_TESTS = 30


def leaked_tests(subject: Subject) -> Iterator[Advice]:
    """Test rows whose answer the model is shown, or nearly."""
    task = subject.task
    shown = {normalise(pair.input) for pair in task.examples}
    same = [i for i, row in enumerate(task.tests, 1) if normalise(row.input) in shown]
    if same:
        finding = f"{counted(len(same), 'test row', 'stand')} among the examples, such as test row {same[0]}."
        advice = "Take them out: the model sees their answers."
        yield subject.error(finding, advice, *(("tests", i) for i in same))
    near = leaks([row.input for row in task.tests], [pair.input for pair in task.examples])
    alike = [i for i, is_near in enumerate(near, 1) if is_near and i not in {*same}]
    if alike:
        finding = f"{counted(len(alike), 'test row', 'are')} nearly an example, such as test row {alike[0]}."
        yield subject.warning(finding, "Take them out: they are easier than the rest.", *(("tests", i) for i in alike))


def repeated_inputs(subject: Subject) -> Iterator[Advice]:
    """Inputs that stand twice: with the same output a waste, with another one a contradiction."""
    task = subject.task
    for numbers in _alike([pair.input for pair in task.examples]):
        parts = [("examples", i) for i in numbers]
        if len({task.examples[i - 1].output for i in numbers}) > 1:
            finding = f"Examples {numbers[0]} and {numbers[1]} have the same input and other outputs."
            yield subject.error(finding, "Take out the wrong one.", *parts)
        else:
            yield subject.warning("Two examples have the same input.", "Give different ones.", *parts)
    same = _alike([row.input for row in task.tests])
    if same:
        finding = f"{counted(len(same), 'test input', 'stand')} more than once, such as "
        finding += f"{brief(task.tests[same[0][0] - 1].input, 50)!r}."
        yield subject.warning(finding, "Each test row should be new.", *(("tests", numbers[1]) for numbers in same))
    apart = [numbers for numbers in same if not set.intersection(*(set(task.tests[i - 1].outputs) for i in numbers))]
    if apart:
        finding = f"{counted(len(apart), 'test input', 'have')} several rows that contradict each other, such as "
        finding += f"test rows {apart[0][0]} and {apart[0][1]}."
        advice = "No answer is right for all: correct them, or give one row with all right outputs."
        yield subject.warning(finding, advice, *(("tests", i) for numbers in apart for i in numbers))


def _alike(texts: list[str]) -> list[list[int]]:
    """The numbers, from 1, of the texts that are the same when normalised, for each that stands more than once."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts, 1):
        numbers[normalise(text)].append(number)
    return [same for same in numbers.values() if len(same) > 1]


def few_examples(subject: Subject) -> Iterator[Advice]:
    """No examples, or fewer than are always shown."""
    n = len(subject.task.examples)
    if not n:
        yield subject.error("It has no examples.", "Add `[[examples]]`, best three, or give labelled `rows` to a run.")
    elif n < FEW:
        finding = f"Only {counted(n, 'example', 'are')} given."
        yield subject.warning(finding, "Three varied examples steer the model much better.", ("examples", n))


def few_tests(subject: Subject) -> Iterator[Advice]:
    """Too few test rows to show a gain, in all or for a label."""
    task = subject.task
    if not task.tests:
        yield subject.warning(
            "There are no test rows.", "Without them no improvement can be shown: add [[tests]].", ("tests",)
        )
        return
    if len(task.tests) < FEW_TESTS:
        finding = f"Only {counted(len(task.tests), 'test row', 'are')} given."
        yield subject.warning(finding, f"With fewer than {FEW_TESTS} the intervals are wide.", ("tests",))
    counts = Counter(output for row in task.tests for output in row.outputs)
    untested = sorted(set(task.labels) - set(counts))
    if untested:
        yield subject.warning(f"No test row has the label {', '.join(untested)}.", "Test every label.", ("tests",))
