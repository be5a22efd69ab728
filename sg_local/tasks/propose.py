"""A task proposed from rows that somebody labelled: kind, labels, examples, test rows, and rows left to train on.

The outputs are labels where few different short ones stand against many rows. The examples show every label, at
typical lengths. Of the rest, part becomes test rows, drawn by label with a fixed seed, and part is left over; no input
stands in two of these places. Pure: the rows are read elsewhere, the instruction is asked for elsewhere.
"""

from __future__ import annotations

import difflib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sg_local.metrics import Words, nearly_equal
from sg_local.parsing import indented
from sg_local.prompts import match_label, normalise
from sg_local.records import SgError, TestRow
from sg_local.splitting import unclosed
from sg_local.tables import Table
from sg_local.tasks.draft import Draft
from sg_local.tasks.examples import FEW
from sg_local.words import counted

MAX_LABELS, MAX_LABEL_CHARS, ROWS_A_LABEL = 30, 60, 3
MAX_SHOWN, MAX_SHOWN_CHARS = 12, 6000
"""How many examples are proposed at most, and how long they should be together: about 1,500 tokens."""
FEWEST_TESTS, MOST_TESTS = 30, 200
"""Below 30 the intervals are wide; beyond 200 rows do more good in training."""
WORTH_KEEPING = 10


@dataclass(frozen=True)
class Proposal:
    """A draft filled from rows, and what was decided, one line each."""

    draft: Draft
    told: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row as it may go into a task. `label` is its output, or the label it stands for."""

    line: int
    input: str
    outputs: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.outputs[0]


def propose(table: Table, draft: Draft) -> Proposal:
    """The draft with what it lacks taken from the rows. Raises SgError (usage) where they make no task."""
    rows, told = _usable(table)
    instruction = draft.instruction or _instruction(table)
    kind = draft.kind or ("classification" if draft.labels or are_labels(_outputs(rows)) else "generation")
    if kind == "classification":
        labels, spelt, more = _labelled(table, rows, draft.labels)
        told += more
    else:
        labels, spelt = (), rows
        told.append(
            f"generation: {counted(len(set(_outputs(rows))), 'different output')} in {counted(len(rows), 'row')}"
        )
    unique, more = _without_repeats(table, spelt, kind)
    told += more
    shown = [] if draft.examples else _examples(unique, labels)
    examples = draft.examples or tuple((row.input, row.label) for row in shown)
    if not examples:
        raise SgError(f"{table.path} has no row to show as an example.", "Label more rows.", exit_code=2)
    left, more = _without_leaks([row for row in unique if row not in shown], [text for text, _ in examples])
    tests, rest = _divided(left)
    told += [*more, _counts(shown, tests, rest)]
    filled = replace(draft, kind=kind, labels=labels, examples=examples, tests=_as_tests(tests), rows=_as_tests(rest))
    filled = replace(filled, instruction=instruction, tests_beside=True)
    return Proposal(filled, (table.told, *told))


def are_labels(outputs: Sequence[str]) -> bool:
    """True where the outputs are few, short and often repeated."""
    different = {unclosed(output) for output in outputs}
    short = all(len(output) <= MAX_LABEL_CHARS and "\n" not in output for output in outputs)
    return short and 2 <= len(different) <= MAX_LABELS and len(outputs) >= ROWS_A_LABEL * len(different)


def _instruction(table: Table) -> str | None:
    """The instruction that stands in a column of its own, the same in every row; None where there is none."""
    name = next((column for column in table.columns if column.lower() == "instruction"), None)
    if name is None or name in (table.input_column, table.output_column):
        return None
    found = {row.cells.get(name, "").strip() for row in table.rows}
    return found.pop() or None if len(found) == 1 else None


def _as_tests(rows: Iterable[Row]) -> tuple[TestRow, ...]:
    return tuple(TestRow(row.input, row.outputs) for row in rows)


def _outputs(rows: Iterable[Row]) -> list[str]:
    return [output for row in rows for output in row.outputs]


def _usable(table: Table) -> tuple[list[Row], list[str]]:
    """The rows that have an output; those without are told."""
    rows = [
        Row(row.line, indented(row.input), tuple(output.strip() for output in row.outputs))
        for row in table.rows
        if row.outputs and row.input.strip()
    ]
    if not rows:
        hint = "Fill in some outputs by hand, or say which column holds them: `columns=input=Body,output=Team`."
        raise SgError(f"{table.path} has no row with an output.", hint, exit_code=2)
    n_without = len(table.rows) - len(rows)
    return rows, [f"{counted(n_without, 'row', 'have')} no output: left out"] if n_without else []


def _labelled(table: Table, rows: list[Row], given: tuple[str, ...]) -> tuple[tuple[str, ...], list[Row], list[str]]:
    """The labels, the rows in their spelling, and what is told of them. SgError for an output that is none of them."""
    labels = given or _labels(_outputs(rows))
    if len(given) == 1:
        raise SgError(f"Only the label {given[0]!r} is given.", "Give all, or none to take them all.", exit_code=2)
    if len(labels) < 2:
        hint = "Is it the right column? Say `columns=input=Body,output=Team`, or `kind=generation` for free text."
        raise SgError(f"{table.path}: all rows have the output {labels[0]!r}.", hint, exit_code=2)
    spelt = [replace(row, outputs=tuple(dict.fromkeys(_spelt(table, row, labels)))) for row in rows]
    counts = Counter(_outputs(spelt))
    told = [f"classification, {counted(len(labels), 'label')}: {', '.join(f'{one} ({counts[one]})' for one in labels)}"]
    respelt = len({*_outputs(rows)} - {*labels})
    told += [f"{counted(respelt, 'other spelling', 'are')} read as the commonest one"] if respelt else []
    for label in labels:
        near = difflib.get_close_matches(label, [one for one in labels if counts[one] > 2], n=1, cutoff=0.8)
        if counts[label] == 1 and near:
            line = next(row.line for row in spelt if label in row.outputs)
            told.append(
                f"{table.path}:{line}: the label {label!r} occurs once: if you mean {near[0]!r}, correct it there"
            )
    return labels, spelt, told


def _labels(outputs: Sequence[str]) -> tuple[str, ...]:
    """The different outputs in the order in which they first stand, each in its commonest spelling."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for output in outputs:
        spellings[unclosed(output)][output] += 1
    return tuple(counts.most_common(1)[0][0] for counts in spellings.values())


def _spelt(table: Table, row: Row, labels: tuple[str, ...]) -> Iterable[str]:
    for output in row.outputs:
        label = match_label(labels, output)
        if label is None:
            hint = f"The labels are: {', '.join(labels)}."
            raise SgError(
                f"{table.path}:{row.line}: the output {output!r} is not one of the labels.", hint, exit_code=2
            )
        yield label


def _without_repeats(table: Table, rows: list[Row], kind: str) -> tuple[list[Row], list[str]]:
    """Each input once: with all its outputs where the text is free, not at all where its labels disagree."""
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        alike[normalise(row.input)].append(row)
    kept, told, n_again = [], [], 0
    for same in alike.values():
        outputs = tuple(dict.fromkeys(output for row in same for output in row.outputs))
        if kind == "classification" and len({row.outputs for row in same}) > 1:
            lines = ", ".join(str(row.line) for row in same)
            told.append(f"{table.path}:{same[0].line}: lines {lines} have one input and other labels: left out")
            continue
        n_again += len(same) - 1
        kept.append(replace(same[0], outputs=outputs))
    return kept, told + ([f"{counted(n_again, 'row', 'repeat')} an input: each is taken once"] if n_again else [])


def _examples(rows: list[Row], labels: tuple[str, ...]) -> list[Row]:
    """Rows to show: one of each label, the commonest first where there are too many; else of three lengths."""
    counts = Counter(row.label for row in rows)
    common = [label for label, _ in counts.most_common()] if labels else []
    n_shown = min(max(FEW, len(common)), MAX_SHOWN)
    wanted = [*common, *common][:n_shown] if labels else [""] * n_shown
    shown: list[Row] = []
    for number, label in enumerate(wanted):
        of_label = [row for row in rows if row.label == label] if labels else rows
        part = 0.5 if labels else (number + 1) / (n_shown + 1)
        found = _typical(of_label, part, MAX_SHOWN_CHARS // n_shown, shown)
        shown += [found] if found else []
    return shown


def _typical(rows: list[Row], part: float, most_chars: int, taken: list[Row]) -> Row | None:
    """The row whose length is nearest to this quantile, within the limit, and that is unlike those taken."""
    lengths = sorted(len(row.input) for row in rows)
    wanted = min(lengths[int(part * (len(lengths) - 1))], most_chars) if lengths else 0
    others = [Words.of(row.input) for row in taken]
    for row in sorted(rows, key=lambda row: abs(len(row.input) - wanted)):
        words = Words.of(row.input)
        if row not in taken and not any(nearly_equal(words, other) for other in others):
            return row
    return None


def _without_leaks(rows: list[Row], shown: list[str]) -> tuple[list[Row], list[str]]:
    """The rows that do not nearly repeat an example."""
    known = [Words.of(text) for text in shown]
    left = [row for row in rows if not any(nearly_equal(Words.of(row.input), one) for one in known)]
    n_out = len(rows) - len(left)
    return left, [f"{counted(n_out, 'row', 'are')} nearly an example: left out"] if n_out else []


def _divided(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Test rows and the rest, both in the order of the file; of every label its share of either."""
    n_tests = min(max(FEWEST_TESTS, len(rows) // 2), MOST_TESTS)
    if len(rows) - n_tests < WORTH_KEEPING:
        n_tests = min(len(rows), MOST_TESTS)
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in random.Random(0).sample(rows, len(rows)):
        by_label[row.label if len(row.label) <= MAX_LABEL_CHARS else ""].append(row)
    ranked = [(place / len(same), row) for same in by_label.values() for place, row in enumerate(same)]
    drawn = {row.line for _, row in sorted(ranked, key=lambda pair: pair[0])[:n_tests]}
    return [row for row in rows if row.line in drawn], [row for row in rows if row.line not in drawn]


def _counts(shown: list[Row], tests: list[Row], rest: list[Row]) -> str:
    lines = ", ".join(str(row.line) for row in shown)
    said = [f"{counted(len(shown), 'example')} (lines {lines})" if shown else "the examples given"]
    said += [counted(len(tests), "test row")] if tests else []
    said += [f"{counted(len(rest), 'row')} left to train on"] if rest else []
    return ", ".join(said)
