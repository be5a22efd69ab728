"""A person's own data in a job: unlabelled inputs in the place of stage A, labelled rows that train, show and test.

The files are read when a job is opened. Their rows are copied into the run, `own/DIGEST.jsonl`, before work begins, so
that going on needs no file; run.json names the files with their SHA-256, counts and that digest. What a row is for is
settled then: `input` and `row` go into synthesis and training, an `example` is shown in every prompt, a `test` row is
held back for the evaluation, an `earlier` one is an input that was synthesised for another version of the task.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sg_local import tasks
from sg_local.files import file_digest, remove
from sg_local.job.options import Options
from sg_local.parsing import indented
from sg_local.prompts import match_label, normalise
from sg_local.records import EARLIER, InputRow, Pair, SgError, Task, TestRow, digest
from sg_local.run import INPUTS, Run
from sg_local.schemas import misfit
from sg_local.tables import Columns, Table, TableRow, parse_columns, read_table
from sg_local.words import counted

logger = logging.getLogger(__name__)

Part = Literal["input", "row", "example", "test", "earlier"]
FOLDER = "own"
FEWEST_TESTS = 5
"""Held-back rows below this tell nothing: they train instead."""


@dataclass(frozen=True)
class OwnSettings:
    """What own labelled rows are used for.

    Together they weigh `share` of the training rows where they are few: each as much as `weight` synthetic ones at
    most, and never less than one. The rows are right, the synthetic ones mostly; beyond a few times the weight a
    handful of rows would be learnt by heart. `valid` is the share of them that may validate. Where the task has no test
    rows, `tests` is the share held back for the evaluation.
    """

    share: float = 0.3
    weight: float = 4.0
    valid: float = 0.2
    tests: float = 0.3


@dataclass(frozen=True)
class OwnRow:
    """One row and what it is for. `output` is the right one of a labelled row, what an earlier input was written for,
    or empty.
    """

    input: str
    output: str
    part: Part


@dataclass(frozen=True)
class OwnData:
    """All own rows of a run, and what run.json says of them."""

    rows: tuple[OwnRow, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def of(self, *parts: Part) -> list[OwnRow]:
        """The rows for these purposes, in order."""
        return [row for row in self.rows if row.part in parts]

    @property
    def digest(self) -> str:
        """Changes with every row and what it is for; empty without rows."""
        return digest([dataclasses.astuple(row) for row in self.rows]) if self.rows else ""

    @property
    def by_people(self) -> OwnData:
        """The data without what the model wrote for an earlier version of the task."""
        return dataclasses.replace(self, rows=tuple(row for row in self.rows if row.part != EARLIER))

    @property
    def record(self) -> dict[str, Any]:
        """What run.json keeps."""
        parts = Counter(row.part for row in self.rows)
        return {**self.facts, "digest": self.digest, "parts": dict(sorted(parts.items()))}

    def save(self, run: Run) -> None:
        """Copy the rows into the run, whole or not at all."""
        if self.rows and not run.path(_file(self.digest)).exists():
            run.replace(_file(self.digest), self.rows)

    def prune(self, run: Run) -> None:
        """Take away copies of rows that the run no longer uses."""
        for path in run.path(FOLDER).glob("*.jsonl"):
            if path.stem != self.digest:
                remove(path)

    def with_earlier(self, run: Run, *, with_outputs: bool = True) -> OwnData:
        """The data and the inputs that the run has accepted so far: a pool for the task's new version.

        `with_outputs`: what they were written for still holds.
        """
        kept = [row for row in run.read(INPUTS, InputRow) if not row.rejected and row.source in ("", EARLIER)]
        earlier = (OwnRow(row.input, (with_outputs and row.label_asked) or "", "earlier") for row in kept)
        return dataclasses.replace(self, rows=(*self.by_people.rows, *earlier))


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.jsonl"


def stored(run: Run, data: Mapping[str, Any]) -> OwnData:
    """The own rows of a run with this run.json. Raises SgError where their copy is gone."""
    facts = data.get("own") or {}
    if not facts.get("digest"):
        return OwnData()
    path = run.path(_file(facts["digest"]))
    if not path.exists():
        raise SgError(f"{path}, the run's copy of its own rows, is gone.", "Give the files again with `redo`.")
    kept = {key: value for key, value in facts.items() if key in ("inputs", "rows")}
    return OwnData(tuple(run.read(_file(facts["digest"]), OwnRow)), kept)


# Reading


def read_own(options: Options, task: Task, before: OwnData, settings: OwnSettings, seed: int) -> OwnData:
    """The files that were given, read and checked; what `before` has of a file that was not given again stays.

    Raises SgError (usage) for a file that cannot be read, and for a label that the task does not have, with its line.
    """
    columns = parse_columns(options.own_columns) if options.own_columns else Columns()
    facts, said = dict(before.facts), []
    rows: list[OwnRow] = before.of("row", "example", "test")
    inputs = before.of("input")
    if options.rows is not None:
        table = read_table(options.rows, columns, needs_output=True)
        pairs, note = distinct([pair_of(task, table, row) for row in table.rows])
        rows, more = settle(pairs, task, settings, seed)
        facts["rows"], said = _facts(options.rows, len(pairs)), [table.told + note, *more]
    if options.inputs is not None:
        table = read_table(options.inputs, dataclasses.replace(columns, output=None))
        inputs = [OwnRow(indented(row.input), "", "input") for row in table.rows]
        facts["inputs"] = _facts(options.inputs, len(inputs))
        said.append(table.told)
    return OwnData((*rows, *inputs), facts, tuple(said))


def _facts(path: Path, n: int) -> dict[str, Any]:
    return {"file": path.name, "sha256": file_digest(path), "n": n}


def pair_of(task: Task, table: Table, row: TableRow) -> Pair:
    """A labelled row in the task's spelling. Raises SgError (usage) for what is none of its outputs."""
    output = row.outputs[0].strip()
    if task.labels:
        label = match_label(task.labels, output)
        if label is None:
            message = f"{table.place(row)}: {output[:60]!r} is not a label of task {task.name}."
            raise SgError(message, f"The labels are: {', '.join(task.labels)}.", exit_code=2)
        return Pair(indented(row.input), label)
    if task.schema and (reason := misfit(task.schema, output)):
        message = f"{table.place(row)}: the output does not fit the task's schema: {reason[:120]}."
        raise SgError(message, "Fix the row, or take it out.", exit_code=2)
    return Pair(indented(row.input), indented(row.outputs[0]))


def distinct(pairs: Sequence[Pair]) -> tuple[list[Pair], str]:
    """The rows without those whose input stood before, and how many these were, in words."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        found.setdefault(normalise(pair.input) or pair.input, pair)
    n_twice = len(pairs) - len(found)
    return list(found.values()), f"; {counted(n_twice, 'row')} with the input of an earlier row left out" * bool(
        n_twice
    )


# What each labelled row is for


def settle(pairs: Sequence[Pair], task: Task, settings: OwnSettings, seed: int) -> tuple[list[OwnRow], list[str]]:
    """What each labelled row is for, and what a person should know of it.

    The first of each label that no demonstration shows become demonstrations, and others up to three in all.
    """
    from sg_local.filters import leak_check

    leaks = leak_check(task, LEAK)
    shown = list(_examples([pair for pair in pairs if not leaks(pair.input)], task))
    rest = [pair for pair in pairs if pair not in shown]
    tests = [] if task.tests else held_back(rest, settings.tests, seed, is_labelled=bool(task.labels))
    rows = [OwnRow(pair.input, pair.output, _part(pair, shown, tests)) for pair in pairs]
    return rows, list(_told(rows, bool(task.tests)))


LEAK = 0.9
"""How alike an input may be to a test row, as in the evaluation's own leak check (eval.leak_threshold)."""


def _part(pair: Pair, shown: Sequence[Pair], tests: Sequence[Pair]) -> Part:
    return "example" if pair in shown else "test" if pair in tests else "row"


def _examples(pairs: Sequence[Pair], task: Task) -> Iterator[Pair]:
    """The rows that become demonstrations."""
    missing = [label for label in task.labels if label not in {pair.output for pair in task.examples}]
    known = {normalise(pair.input) for pair in task.examples}
    n = len(task.examples)
    for pair in pairs:
        if normalise(pair.input) not in known and pair.output in missing:
            missing.remove(pair.output)
            n += 1
            yield pair
    if not task.labels:
        yield from [pair for pair in pairs if normalise(pair.input) not in known][: max(0, tasks.FEW - n)]


def held_back(pairs: Sequence[Pair], share: float, seed: int, *, is_labelled: bool) -> list[Pair]:
    """The rows that test: this share, of each label in proportion; none where they would be fewer than FEWEST_TESTS."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.output if is_labelled else "", []).append(pair)
    draw = random.Random(seed)
    found = [pair for group in groups.values() for pair in draw.sample(group, round(share * len(group)))]
    return found if len(found) >= FEWEST_TESTS else []


def _told(rows: Iterable[OwnRow], has_tests: bool) -> Iterator[str]:
    """What the labelled rows are used for, in one sentence."""
    parts = Counter(row.part for row in rows)
    words: dict[Part, str] = {"row": "train or validate", "example": "become examples in the prompt"}
    if not has_tests:
        words["test"] = "are held back to measure with"
    said = [f"{parts[part]} {what}" for part, what in words.items() if parts[part] or part == "test"]
    yield f"Of the labelled rows {', '.join(said)}."


def check_outputs(task: Task, own: OwnData) -> None:
    """Raises SgError (usage) where a labelled row that the run keeps has an output that the task no longer has."""
    lost = [row.output for row in own.of("row", "example", "test") if task.labels and row.output not in task.labels]
    if lost:
        message = f"The run's own labelled rows have the label {lost[0]!r}, which task {task.name} no longer has."
        raise SgError(message, "Give `rows` again with `redo`, their labels as the task has them now.", exit_code=2)


def with_own(task: Task, own: OwnData) -> Task:
    """The task with the examples and test rows that come from own rows."""
    examples = tuple(Pair(row.input, row.output) for row in own.of("example"))
    tests = tuple(TestRow(row.input, (row.output,)) for row in own.of("test"))
    return dataclasses.replace(task, examples=(*task.examples, *examples), tests=task.tests or tests)


def weight_of(n_labelled: int, n_others: int, settings: OwnSettings) -> float:
    """What one labelled row weighs against a synthetic one, so that together they have their share."""
    if not n_labelled or not n_others or settings.share >= 1:
        return settings.weight if n_others else 1.0
    wanted = settings.share * n_others / ((1 - settings.share) * n_labelled)
    return round(min(max(1.0, wanted), settings.weight), 2)
