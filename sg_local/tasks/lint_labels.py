"""What is doubtful about a task's labels: shown nowhere, alike, or in letters that only look like the right ones."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator

from sg_local.splitting import unclosed
from sg_local.tasks.advice import Advice, Subject
from sg_local.tasks.labels import unnamed_labels
from sg_local.words import counted

LOOKALIKES = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u04bb"  # Cyrillic
    "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",  # Greek
    "abekmhopctyxijsh" + "abeikvoptux",
)
"""Lower-case letters that look like Latin ones, in either case."""

ALPHABETS = {"LATIN", "CYRILLIC", "GREEK"}
EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"}


def unshown_labels(subject: Subject) -> Iterator[Advice]:
    """Labels that no example has, or that the prompt names nowhere."""
    task = subject.task
    shown = {pair.output for pair in task.examples}
    missing = [label for label in task.labels if label not in shown]
    if task.labels and len(shown) == 1:
        finding = f"All examples have the label {task.examples[0].output}."
        yield subject.warning(finding, "Show different labels.", ("examples",))
    elif missing and len(task.labels) <= 3:
        finding = f"No example has the label {', '.join(missing)}."
        yield subject.warning(finding, "Show each label once.", ("labels",))
    elif unnamed := unnamed_labels(task):
        finding = (
            f"Neither examples nor a list of all labels name {counted(len(unnamed), 'label')}, such as {unnamed[0]}."
        )
        yield subject.warning(finding, "A new run adds a line with all labels: say what each means.", ("instruction",))
    elif missing:
        finding = f"No example has {counted(len(missing), 'label')}, such as {missing[0]}."
        yield subject.warning(finding, "Show each label once: there may be more than three examples.", ("labels",))


def alike_labels(subject: Subject) -> Iterator[Advice]:
    """Labels that answers cannot be told apart by, or that no output can equal."""
    labels = subject.task.labels
    advice = "Answers are compared without them: rename one."
    yield from _same(subject, unclosed, "but for letter case or punctuation", advice)
    if len({unclosed(label) for label in labels}) == len(labels):
        yield from _same(subject, _as_it_looks, "to the eye", "Write both with letters of one script, or rename one.")
    for label in labels:
        if label != label.strip():
            finding = f"The label {label!r} has blanks around it."
            yield subject.error(finding, "Outputs have none, so none equals it: take them off.", ("labels",))


def _same(subject: Subject, form: Callable[[str], str], how: str, advice: str) -> Iterator[Advice]:
    by_form: dict[str, list[str]] = defaultdict(list)
    for label in subject.task.labels:
        by_form[form(label)].append(label)
    same = next((labels for labels in by_form.values() if len(labels) > 1), None)
    if same is not None:
        yield subject.error(f"Two labels are the same {how}: {same[0]!r} and {same[1]!r}.", advice, ("labels",))


def odd_scripts(subject: Subject) -> Iterator[Advice]:
    """Labels that mix look-alike letters, and labels in a script that neither inputs nor instruction use."""
    task = subject.task
    for label in task.labels:
        mixed = next((word for word in label.split() if len(_scripts(word) & ALPHABETS) > 1), None)
        if mixed is not None:
            strange = next(char for char in mixed if char.isalpha() and "LATIN" not in _scripts(char))
            finding = f"The label {label!r} mixes scripts in one word: {strange} is {_named(strange)}."
            yield subject.warning(finding, "Type it again in one script.", ("labels",))
    texts = [task.instruction, *(pair.input for pair in task.examples), *(row.input for row in task.tests[:100])]
    known = set().union(*map(_scripts, texts))
    foreign = [label for label in task.labels if _scripts(label) and not _scripts(label) & known]
    if foreign:
        script = min(_scripts(foreign[0])).title()
        finding = f"The label {foreign[0]!r} is in {script} letters, which neither inputs nor instruction use."
        yield subject.warning(
            finding, "Is it meant? A label in the inputs' own script is easier to learn.", ("labels",)
        )


def _as_it_looks(label: str) -> str:
    return unclosed(label).translate(LOOKALIKES)


def _scripts(text: str) -> set[str]:
    """The scripts of a text's letters by the first word of their names; those of East Asia, written mixed, are one."""
    found = {unicodedata.name(char, "").partition(" ")[0] for char in set(text) if char.isalpha()}
    return (found - EAST_ASIAN) | ({"CJK"} if found & EAST_ASIAN else set())


def _named(char: str) -> str:
    return f"{unicodedata.name(char).title()}, U+{ord(char):04X}"
